//! An image is fetched while a person watches.

use std::io::{self, IsTerminal, Write};

use isolate::images::{Progress, Pull, Result, Source, Stage, Store};

/// Of a registry, unless it is here; a start would do it, too, and say nothing meanwhile.
pub(crate) fn pull(image: &str) -> Result<()> {
    let (Source::Registry(reference), store) = (image.parse()?, Store::of_user()?) else { return Ok(()) };
    if store.image(&reference).is_ok() {
        return Ok(());
    }
    println!("fetching {reference}");
    Pull::new(reference).progress(show).run(&store)?;
    Ok(())
}

/// A line a layer; on a terminal also what it is at.
fn show(layer: &Progress<'_>) {
    let what = match layer.stage {
        Stage::Downloading => "downloading",
        Stage::Unpacking => "unpacking",
        _ => "there",
    };
    let mut out = io::stdout().lock();
    let line = format!(
        "  layer {} of {}: {what}, {} of {} KiB",
        layer.number,
        layer.layers,
        layer.bytes >> 10,
        layer.size >> 10
    );
    let shown = match (layer.stage, out.is_terminal()) {
        (Stage::Done, true) => writeln!(out, "\r{line}\x1b[K"),
        (Stage::Done, false) => writeln!(out, "{line}"),
        (_, true) => write!(out, "\r{line}\x1b[K").and_then(|()| out.flush()),
        (_, false) => Ok(()),
    };
    shown.ok();
}
