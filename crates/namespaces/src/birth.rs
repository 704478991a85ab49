//! Where launcher and keeper are born: in the caller's cgroup, or in one that outlasts it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{Mode, OFlags, openat};

use crate::clone::{self, Born, Start};
use crate::error::{Error, Result};
use crate::kernel;

/// Starts it. `what` is its name.
///
/// To be born into a cgroup takes no longer than to be born elsewhere; to be moved there waits for every processor, 10 ms and more at times
/// (cgroup_threadgroup_rwsem). But until it has executed, the child shares the caller's memory:
///
/// - The kernel does not choose such a child when memory is short (`in_vfork` in mm/oom_kill.c), but it would end it, and the caller with
///   it, along with a group that is killed as one. Into one of those it is moved.
/// - A frozen group would hold both. Who freezes it between the look and the exec holds the caller until it is thawed.
pub(crate) fn start(start: &Start<'_>, cgroup: Option<BorrowedFd<'_>>, what: &str) -> Result<Born> {
    let failed = |e: io::Error| Error::io(format!("cannot start the {what}"), &e);
    let Some(cgroup) = cgroup else { return clone::start(start, None).map_err(failed) };
    let chain = Chain::of(cgroup);
    if chain.freezes {
        return Err(frozen(what));
    }
    if !chain.ends_as_one {
        match clone::start(start, Some(cgroup.as_raw_fd())) {
            Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => {}
            other => return other.map_err(failed),
        }
    }
    let born = clone::start(start, None).map_err(failed)?;
    match enter(cgroup, born.pidfd.as_fd()) {
        Ok(()) => Ok(born),
        Err(e) => {
            end(&born);
            Err(Error::io(format!("cannot move the {what} to its cgroup"), &e))
        }
    }
}

/// Kills a child, which is waited for.
pub(crate) fn end(child: &Born) {
    kernel::send_signal(child.pidfd.as_fd(), libc::SIGKILL).ok();
    kernel::reap(child.pidfd.as_fd(), true).ok();
}

fn enter(cgroup: BorrowedFd<'_>, child: BorrowedFd<'_>) -> io::Result<()> {
    let procs = openat(cgroup, "cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    // What has ended is in no group.
    let Some(number) = kernel::process_of(child) else { return Ok(()) };
    match rustix::io::write(procs, number.to_string().as_bytes()) {
        Ok(_) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

pub(crate) fn frozen(what: &str) -> Error {
    Error::invalid(format!("cannot start a {what} in a frozen cgroup")).with_hint("thaw it first")
}

/// A group and all above it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Chain {
    /// Whether one is frozen, or is being frozen.
    freezes: bool,
    /// Whether one is killed as a whole for memory (`memory.oom.group`).
    ends_as_one: bool,
}

impl Chain {
    fn of(cgroup: BorrowedFd<'_>) -> Self {
        let open = |at: BorrowedFd<'_>, name: &str| {
            openat(at, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
        };
        let mut chain = Self::default();
        let mut next = open(cgroup, ".");
        while let Some(group) = next {
            chain.freezes |= says(group.as_fd(), "cgroup.freeze", "1");
            chain.ends_as_one |= says(group.as_fd(), "memory.oom.group", "1");
            // The topmost one has no such file.
            next = open(group.as_fd(), "..").filter(|above| exists(above.as_fd(), "cgroup.events"));
        }
        chain
    }
}

fn exists(group: BorrowedFd<'_>, name: &str) -> bool {
    rustix::fs::accessat(group, name, rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty()).is_ok()
}

/// Whether a file of the group has this line.
fn says(group: BorrowedFd<'_>, name: &str, wanted: &str) -> bool {
    let file = openat(group, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    file.is_ok_and(|file| {
        let mut text = String::new();
        File::from(file).read_to_string(&mut text).is_ok() && text.lines().any(|line| line == wanted)
    })
}

/// A child born into a frozen group never gets to the exec. One that is no cgroup v2 directory, or its root, cannot be frozen.
pub(crate) fn is_frozen(group: BorrowedFd<'_>) -> bool {
    says(group, "cgroup.events", "frozen 1")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_set_for_a_group_above_is_seen_and_up_to_the_topmost() {
        let top = std::env::temp_dir().join(format!("isolate-birth-{}", std::process::id()));
        let group = top.join("above/group");
        fs::create_dir_all(&group).unwrap();
        let seen = || Chain::of(File::open(&group).unwrap().as_fd());
        let write = |at: &str, text: &str| fs::write(top.join(at), text).unwrap();
        for group in ["above", "above/group"] {
            write(&format!("{group}/cgroup.events"), "populated 1\nfrozen 0\n");
        }
        // Above the topmost group there are other directories.
        for file in ["memory.oom.group", "cgroup.freeze"] {
            write(file, "1\n");
        }
        assert_eq!(seen(), Chain::default());
        for group in ["above", "above/group"] {
            write(&format!("{group}/memory.oom.group"), "1\n");
            assert_eq!(seen(), Chain { ends_as_one: true, freezes: false }, "{group}");
            write(&format!("{group}/cgroup.freeze"), "1\n");
            assert_eq!(seen(), Chain { ends_as_one: true, freezes: true }, "{group}");
            write(&format!("{group}/memory.oom.group"), "0\n");
            assert_eq!(seen(), Chain { ends_as_one: false, freezes: true }, "{group}");
            write(&format!("{group}/cgroup.freeze"), "0\n");
            assert_eq!(seen(), Chain::default());
        }
        fs::remove_dir_all(top).unwrap();
    }
}
