//! Running programs.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// What a task gives.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A program with its arguments.
pub(crate) fn command(argv: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]);
    command
}

/// Runs it; an error names it.
pub(crate) fn run(argv: &[impl AsRef<OsStr>]) -> Result<()> {
    check(&mut command(argv))
}

/// Runs it; an error names it.
pub(crate) fn check(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}

/// What it prints.
pub(crate) fn output(argv: &[impl AsRef<OsStr>]) -> Result<String> {
    let output = command(argv)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("{}: {e}", argv[0].as_ref().display()))?;
    if !output.status.success() {
        return Err(format!("{}: {}", argv[0].as_ref().display(), output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Whether this user may do everything.
pub(crate) fn is_root() -> bool {
    output(&["id", "-u"]).is_ok_and(|id| id.trim() == "0")
}

/// The Cargo that runs this task.
pub(crate) fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}
