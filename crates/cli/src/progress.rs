//! Long work, seen: a bar a layer, on a terminal alone.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use isolate::images::{Progress, Stage};

const BAR: &str = "{prefix}: {msg:11} [{bar:30}] {bytes:>10}/{total_bytes:10} {bytes_per_sec}";
const DONE: &str = "{prefix}: {msg}";

/// The bars of one pull, on standard error. Where that is no terminal nothing is drawn.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    all: MultiProgress,
    bars: Mutex<HashMap<usize, ProgressBar>>,
}

impl Layers {
    /// Told by several threads.
    pub(crate) fn told(&self, layer: &Progress<'_>) {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        // All at once, so that they stand in the image's order.
        for number in bars.len() + 1..=layer.layers {
            let bar = self.all.add(ProgressBar::new(0));
            bar.set_style(style(DONE));
            bar.set_prefix(format!("layer {number:>2}"));
            bar.set_message("Waiting");
            bars.insert(number, bar);
        }
        let Some(bar) = bars.get(&layer.number) else { return };
        let short: String = layer.layer.hex().chars().take(12).collect();
        bar.set_prefix(short);
        let words = words(layer.stage);
        if bar.message() != words {
            bar.set_style(style(if layer.stage == Stage::Done { DONE } else { BAR }));
            bar.set_message(words);
        }
        bar.set_length(layer.size);
        bar.set_position(layer.bytes);
        if layer.stage == Stage::Done {
            bar.abandon();
        }
    }
}

fn words(stage: Stage) -> &'static str {
    match stage {
        Stage::Downloading => "Downloading",
        Stage::Unpacking => "Unpacking",
        _ => "Complete",
    }
}

/// Both templates are known to be right: a test reads them.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_ones() {
        for template in [BAR, DONE] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
