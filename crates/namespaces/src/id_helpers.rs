//! newuidmap(1) and newgidmap(1), the set-user-id programs that give an ordinary user the ids that subuid(5) lists.

use std::path::Path;

use crate::command::Command;
use crate::error::{Error, Result};
use crate::stdio::Stdio;

/// Their names, for user and for group ids.
pub(crate) const NAMES: [&str; 2] = ["newuidmap", "newgidmap"];

/// The first that is not installed.
pub(crate) fn missing() -> Option<&'static str> {
    let places = ["/usr/bin", "/usr/sbin", "/bin", "/usr/local/bin"].map(Path::new);
    NAMES.into_iter().find(|name| !places.iter().any(|place| place.join(name).exists()))
}

/// Writes both maps of a process that waits.
pub(crate) fn write(pid: u32, arguments: &[Vec<String>; 2]) -> Result<()> {
    for (name, arguments) in NAMES.into_iter().zip(arguments) {
        let mut helper = Command::new(name);
        helper.arg(pid.to_string()).args(arguments).stdin(Stdio::null());
        let output = helper.output().map_err(|e| {
            let hint = "install it (Debian: uidmap), or map one id alone: IdMap::root_is_caller";
            e.with_hint(hint)
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let why = format!("cannot write the id map by {name}: {}", said.trim());
            return Err(
                Error::invalid(why).with_hint("the ids must be listed in /etc/subuid and /etc/subgid")
            );
        }
    }
    Ok(())
}
