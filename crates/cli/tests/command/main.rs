//! The command on a real kernel: each test in a world of its own, and nothing is left of it.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "tests execute the command")]

mod common;
mod files;
mod images;
mod lasting;
mod lists;
mod networks;
mod pods;
mod run;
mod terminal;
mod texts;
mod volumes;
mod walk;
