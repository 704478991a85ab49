//! The command `isolate`: containers as Docker's users know them. Each verb is a few lines over the library of that name.

mod arguments;
mod colour;
mod exit;
mod options;
mod output;
mod progress;
mod table;
mod terminal;
mod times;
mod verbs;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::arguments::Arguments;
use crate::exit::{FAILED, Failure};

fn main() -> ExitCode {
    let verb = match Arguments::try_parse() {
        Ok(arguments) => arguments.verb,
        // What was asked for: help, or the version.
        Err(e) if !e.use_stderr() => {
            return e.print().map_or_else(|e| Failure::from(e).tell(), |()| ExitCode::SUCCESS);
        }
        // Without a verb all are listed, and that is no success.
        Err(e) if e.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return e.print().map_or_else(|e| Failure::from(e).tell(), |()| ExitCode::from(FAILED));
        }
        Err(e) => return Failure::from(e).tell(),
    };
    match verb.run() {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.tell(),
    }
}
