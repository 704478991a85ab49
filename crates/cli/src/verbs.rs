//! What each verb does, and what several of them share.

pub(crate) mod check;
pub(crate) mod containers;
pub(crate) mod create;
pub(crate) mod exec;
pub(crate) mod files;
pub(crate) mod generate;
mod here;
pub(crate) mod images;
pub(crate) mod inspect;
pub(crate) mod lasting;
pub(crate) mod logs;
pub(crate) mod network;
pub(crate) mod pod;
pub(crate) mod ps;
pub(crate) mod pull;
pub(crate) mod run;
pub(crate) mod signals;
pub(crate) mod system;
pub(crate) mod usage;
pub(crate) mod volume;

use std::fmt::Display;
use std::io::{self, BufRead, Write};

use serde::Serialize;

use crate::exit::{Failure, Result};

/// A line on standard output.
pub(crate) fn print(line: impl Display) -> Result<()> {
    Ok(writeln!(io::stdout(), "{line}")?)
}

/// A line each.
pub(crate) fn print_each(lines: impl IntoIterator<Item = impl Display>) -> Result<()> {
    lines.into_iter().try_for_each(print)
}

/// JSON for people, too.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    print(serde_json::to_string_pretty(value).map_err(|e| Failure::new(e.to_string()))?)
}

/// Does it to each, whatever happens to one of them; prints what each gives.
pub(crate) fn each<T, D: Display>(
    all: impl IntoIterator<Item = T>,
    mut act: impl FnMut(T) -> Result<D>,
) -> Result<()> {
    let mut failed = false;
    for one in all {
        match act(one) {
            Ok(done) => print(done)?,
            Err(failure) => {
                failure.tell();
                failed = true;
            }
        }
    }
    if failed { Err(Failure::told()) } else { Ok(()) }
}

/// The same, and the values come as one JSON array, also where one is missing.
pub(crate) fn inspect_each<V: Serialize>(
    names: &[String],
    mut look: impl FnMut(&str) -> Result<V>,
) -> Result<()> {
    let mut values = Vec::new();
    let mut failed = false;
    for name in names {
        match look(name) {
            Ok(value) => values.push(value),
            Err(failure) => {
                failure.tell();
                failed = true;
            }
        }
    }
    print_json(&values)?;
    if failed { Err(Failure::told()) } else { Ok(()) }
}

/// Asks; anything but `y` is no.
pub(crate) fn confirmed(force: bool, what: &str) -> Result<bool> {
    if force {
        return Ok(true);
    }
    write!(io::stderr(), "{what} Go on? [y/N] ")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
