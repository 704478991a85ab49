//! Taking a group down: kill, wait until it is empty, remove it and all below it, in every hierarchy.

use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::directory::Directory;
use crate::events::Events;
use crate::kill::{kill, pids, signal};
use crate::{Error, Result, v1};

/// Most are gone by then.
const SOON: Duration = Duration::from_millis(50);

/// Goes on after an error; the errors come back in the order they happened. cgroup v1 first: while the group of
/// cgroup v2 stands, [`Cgroup::open`](crate::Cgroup::open) finds the rest.
pub(crate) fn take_down(group: &Directory, v1: &v1::Groups, within: Duration) -> Vec<Error> {
    // Most are empty by now: nobody to kill, and nothing to wait for. The kernel refuses while anybody is there.
    if v1.directories().chain([group]).all(|group| group.remove().is_ok()) {
        return Vec::new();
    }
    let deadline = Instant::now() + within;
    let mut errors = Vec::new();
    let events = match Events::open(group) {
        Ok(events) => Some(events),
        // Removed by somebody else: so must the others be.
        Err(error) if is_gone(&error) => None,
        Err(error) => {
            errors.push(error);
            None
        }
    };
    if let Some(events) = &events {
        errors.extend(end_all(group, v1, events, within));
    }
    for group in v1.directories() {
        errors.extend(remove_tree(group, events.as_ref(), deadline, true).err());
    }
    errors.extend(remove_tree(group, events.as_ref(), deadline, false).err());
    errors
}

/// Kills all, and sees to it that they can die: who may hardly run takes seconds for that.
pub(crate) fn terminate(group: &Directory, v1: &v1::Groups) -> Result<()> {
    let events = match Events::open(group) {
        Err(error) if is_gone(&error) => return Ok(()),
        events => events?,
    };
    if !events.state()?.populated {
        return Ok(());
    }
    Error::all(end_all(group, v1, &events, SOON)).map_or(Ok(()), Err)
}

/// Waits for the last one's end, too, as long as that is given.
fn end_all(group: &Directory, v1: &v1::Groups, events: &Events, within: Duration) -> Vec<Error> {
    let mut errors = Vec::from_iter(kill(group).err());
    match events.wait(SOON.min(within), |state| !state.populated) {
        Ok(true) => {}
        Ok(false) => {
            hurry(group);
            v1.directories().for_each(hurry);
            errors.extend(events.wait(within.saturating_sub(SOON), |state| !state.populated).err());
        }
        Err(error) => errors.push(error),
    }
    errors
}

/// Who dies needs the processor for it: what is killed, and runs no program any more, may have as much as it takes.
fn hurry(group: &Directory) {
    for (file, value) in [("cpu.idle", "0"), ("cpu.max", "max"), ("cpu.cfs_quota_us", "-1")] {
        // Where the controller is not, nothing holds it back.
        let _ = group.try_write(file, value);
    }
    group.children().unwrap_or_default().iter().for_each(hurry);
}

fn is_gone(error: &Error) -> bool {
    [Errno::NOENT, Errno::NODEV].iter().any(|gone| error.raw_os_error() == Some(gone.raw_os_error()))
}

/// Removes a group and all below it. A dying process keeps its group busy for a moment.
fn remove_tree(group: &Directory, events: Option<&Events>, deadline: Instant, signals: bool) -> Result<()> {
    loop {
        // Most have no group below, and are gone at the first.
        let errno = match group.remove().or_else(|errno| match errno {
            Errno::BUSY | Errno::NOTEMPTY => remove_below(group).and_then(|()| group.remove()),
            _ => Err(errno),
        }) {
            Ok(()) => return Ok(()),
            Err(errno) => errno,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if !matches!(errno, Errno::BUSY | Errno::NOTEMPTY) || left.is_zero() {
            return Err(still_there(group, errno));
        }
        // On cgroup v1 a process can be in this hierarchy's group alone, where cgroup.kill does not reach it.
        if signals {
            for pid in pids(group).unwrap_or_default() {
                signal(pid)?;
            }
        }
        pause(events, left.min(Duration::from_millis(5)))?;
    }
}

fn pause(events: Option<&Events>, within: Duration) -> Result<()> {
    match events {
        Some(events) => events.wait_for_change(within),
        None => {
            std::thread::sleep(within);
            Ok(())
        }
    }
}

/// The groups that somebody made inside, the deepest first.
fn remove_below(group: &Directory) -> Result<(), Errno> {
    let children = match group.children() {
        Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
        children => children?,
    };
    for child in children {
        remove_below(&child)?;
        child.remove()?;
    }
    Ok(())
}

fn still_there(group: &Directory, errno: Errno) -> Error {
    let error = Error::os(format!("cannot remove {}", group.path().display()), errno);
    match pids(group) {
        Ok(left) if !left.is_empty() => {
            let left: Vec<String> = left.iter().take(8).map(u32::to_string).collect();
            error.with_hint(format!("still in it: process {}", left.join(", ")))
        }
        _ => error,
    }
}
