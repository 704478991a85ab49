//! How the command ends: an error in one line, and the code that Docker's users know it by.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use isolate::{ErrorKind, Outcome, images};

use crate::colour::{Colour, painted};

/// This command's result of anything.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// `isolate` itself failed: as of `docker run`.
pub(crate) const FAILED: u8 = 125;
/// The program is there and cannot be executed: as of a shell.
const NOT_EXECUTABLE: u8 = 126;
/// There is no such program: as of a shell.
const NOT_FOUND: u8 = 127;
/// What a shell adds to the number of a signal.
const SIGNALLED: i32 = 128;
const SIGKILL: i32 = 9;
const SIGPIPE: i32 = 13;

/// Why the command ends early.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Nothing, if it has been told.
    what: String,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    /// `isolate` itself failed.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None, code: FAILED }
    }

    /// What to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, said of something.
    pub(crate) fn of(mut self, whom: impl Display) -> Self {
        self.what = format!("{whom}: {}", self.what);
        self
    }

    /// One that has been told already.
    pub(crate) fn told() -> Self {
        Self::new("")
    }

    /// One line on standard error.
    pub(crate) fn tell(&self) -> ExitCode {
        if let Some(line) = self.line() {
            let begin = painted(&io::stderr(), Colour::Red, "isolate:");
            // Who has closed standard error wants to hear nothing.
            writeln!(io::stderr(), "{begin} {line}").ok();
        }
        ExitCode::from(self.code)
    }

    fn line(&self) -> Option<String> {
        let hint = self.hint.iter().map(|hint| format!(" (hint: {hint})"));
        let line = std::iter::once(self.what.clone()).chain(hint).collect::<String>();
        (!self.what.is_empty()).then(|| line.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

impl From<isolate::Error> for Failure {
    fn from(error: isolate::Error) -> Self {
        let code = match error.kind() {
            ErrorKind::ProgramNotFound => NOT_FOUND,
            ErrorKind::NotExecutable => NOT_EXECUTABLE,
            _ => FAILED,
        };
        Self { what: error.to_string(), hint: error.hint().map(str::to_owned), code }
    }
}

impl From<images::Error> for Failure {
    fn from(error: images::Error) -> Self {
        isolate::Error::from(error).into()
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // As a program that the signal ends: whoever read has heard enough.
            io::ErrorKind::BrokenPipe => Self { code: of_signal(SIGPIPE), ..Self::told() },
            _ => Self::new(error.to_string()),
        }
    }
}

impl From<clap::Error> for Failure {
    /// Its first words; the rest is in `--help`.
    fn from(error: clap::Error) -> Self {
        let text = error.to_string();
        let (said, tips): (Vec<_>, Vec<_>) = text
            .lines()
            .map(str::trim)
            .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
            .filter(|line| !line.is_empty())
            .partition(|line| !line.starts_with("tip:"));
        let what = said.join(" ");
        let hint = tips.first().map(|tip| tip.trim_start_matches("tip:").trim());
        Self::new(what.trim_start_matches("error: ")).hint(hint.unwrap_or("--help lists what there is"))
    }
}

/// The exit code that tells how a program ended.
pub(crate) fn of_outcome(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Exited(code) => u8::try_from(code).unwrap_or(FAILED),
        Outcome::Signaled(signal) => of_signal(signal.into()),
        Outcome::OutOfMemory | Outcome::TimedOut => of_signal(SIGKILL),
        _ => FAILED,
    }
}

/// The same, and in words where the code alone would be taken for something else.
pub(crate) fn told_outcome(outcome: Outcome) -> u8 {
    if !matches!(outcome, Outcome::Exited(_) | Outcome::Signaled(_)) {
        Failure::new(outcome.to_string()).tell();
    }
    of_outcome(outcome)
}

fn of_signal(number: i32) -> u8 {
    u8::try_from(SIGNALLED + number).unwrap_or(FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_ends_with_its_own_code_and_a_signal_with_128_more() {
        assert_eq!(of_outcome(Outcome::Exited(0)), 0);
        assert_eq!(of_outcome(Outcome::Exited(7)), 7);
        assert_eq!(of_outcome(Outcome::Signaled(isolate::Signal::TERM)), 143);
        assert_eq!(of_outcome(Outcome::OutOfMemory), 137);
        assert_eq!(of_outcome(Outcome::TimedOut), 137);
        assert_eq!(of_outcome(Outcome::NeverStarted), 125);
    }

    #[test]
    fn a_failure_is_one_line_whatever_is_in_it() {
        let failure = Failure::new("a\nb").of("c").hint("d");
        assert_eq!(failure.line().as_deref(), Some("c: a b (hint: d)"));
        assert_eq!(Failure::told().line(), None);
    }
}
