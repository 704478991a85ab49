//! Time namespaces: a new one is made with its offsets before anybody is in it (time_namespaces(7)).

use super::Namespaces;
use crate::command::{Command, Offset};
use crate::error::{Error, Result};
use crate::identity::{self, FILE};
use crate::namespace::Namespace;
use crate::plan::{Arg, Section};
use crate::steps::{CLOEXEC, HERE, Steps};

/// By the launcher, whose child is born into it; where that may not, by the child, which enters by its exec (Linux 6.3).
pub(super) fn steps(command: &Command, namespaces: &Namespaces, steps: &mut Steps) -> Result<()> {
    if !namespaces.time {
        return Ok(());
    }
    let section =
        if namespaces.user && !identity::is_privileged() { Section::Child } else { Section::Prepare };
    let flag = vec![Arg::Number(Namespace::Time.flag())];
    steps.call(section, "make a new time namespace", libc::SYS_unshare, flag);
    let lines: String = [("monotonic", command.clocks[0]), ("boottime", command.clocks[1])]
        .iter()
        .filter(|(_, offset)| *offset != (0, 0))
        .map(|(clock, (seconds, nanoseconds))| format!("{clock} {seconds} {nanoseconds}\n"))
        .collect();
    for (_, nanoseconds) in command.clocks {
        if nanoseconds >= 1_000_000_000 {
            return Err(Error::invalid(format!("clock offset: {nanoseconds} ns are a second or more")));
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    let words = format!("set the clocks: {}", lines.trim_end().replace('\n', ", "));
    let path = Arg::Text(c"/proc/self/timens_offsets".into());
    let open = vec![Arg::Number(HERE), path, Arg::Number(libc::O_WRONLY as u64 | CLOEXEC)];
    steps.call(section, words.clone(), libc::SYS_openat, open).save = Some(FILE);
    let length = Arg::Number(lines.len() as u64);
    let write = vec![Arg::Slot(FILE), Arg::Bytes(lines.into_bytes()), length];
    steps.call(section, words, libc::SYS_write, write);
    Ok(())
}

/// Whether a time that the child reads is no time of the caller's.
pub(super) fn foreign(command: &Command, namespaces: &Namespaces) -> bool {
    const NONE: Offset = (0, 0);
    let joined = command.process.as_ref().is_some_and(|(_, kinds)| kinds.contains(&Namespace::Time));
    joined || !command.join.is_empty() || (namespaces.time && command.clocks[0] != NONE)
}
