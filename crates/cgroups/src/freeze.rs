//! A group that stands still: `cgroup.freeze`, and `cgroup.events`, which says when it is so.

use std::time::Duration;

use crate::directory::Directory;
use crate::events::Events;
use crate::{Error, ErrorKind, Result};

/// How long the last process is waited for.
const WITHIN: Duration = Duration::from_secs(5);

/// All of it, or none.
pub(crate) fn freeze(group: &Directory) -> Result<()> {
    set(group, true).inspect_err(|_| {
        let _ = group.write("cgroup.freeze", "0");
    })
}

pub(crate) fn thaw(group: &Directory) -> Result<()> {
    set(group, false)
}

fn set(group: &Directory, frozen: bool) -> Result<()> {
    let events = Events::open(group)?;
    group.write("cgroup.freeze", if frozen { "1" } else { "0" })?;
    if events.wait(WITHIN, |state| state.frozen == frozen)? {
        return Ok(());
    }
    let done = if frozen { "frozen" } else { "thawed" };
    let error = Error::new(ErrorKind::TimedOut, format!("not {done} after {WITHIN:?}"));
    Err(match frozen {
        true => {
            error.with_hint("a process of it waits in the kernel, where it cannot be stopped (state D in ps)")
        }
        false => error.with_hint("a group above it is frozen: thaw that one"),
    })
}
