//! Where launcher and keeper are born: in the caller's cgroup, or in one that outlasts it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};

use crate::clone::{self, Start};
use crate::error::{Error, Result};
use crate::kernel;

/// Starts it, and returns its pidfd. `what` is its name.
///
/// To be born into a cgroup takes no longer than to be born elsewhere; to be moved there waits for every processor, 10 ms and more at times
/// (cgroup_threadgroup_rwsem). Until it has executed, the child shares the caller's memory. The kernel never chooses such a child when
/// memory is short, but would end it, and the caller with it, along with a group that ends as one; and a frozen group would hold both.
pub(crate) fn start(start: &Start<'_>, cgroup: Option<BorrowedFd<'_>>, what: &str) -> Result<OwnedFd> {
    let failed = |e: io::Error| Error::io(format!("cannot start the {what}"), &e);
    let Some(cgroup) = cgroup else { return clone::start(start, None).map_err(failed) };
    if is_frozen(cgroup) {
        return Err(Error::invalid(format!("cannot start the {what} in a frozen cgroup")));
    }
    if !ends_as_one(cgroup) {
        match clone::start(start, Some(cgroup.as_raw_fd())) {
            Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => {}
            other => return other.map_err(failed),
        }
    }
    let pidfd = clone::start(start, None).map_err(failed)?;
    match enter(cgroup, pidfd.as_fd()) {
        Ok(()) => Ok(pidfd),
        Err(e) => {
            kernel::send_signal(pidfd.as_fd(), libc::SIGKILL).ok();
            kernel::reap(pidfd.as_fd(), true).ok();
            Err(Error::io(format!("cannot move the {what} to its cgroup"), &e))
        }
    }
}

fn enter(cgroup: BorrowedFd<'_>, process: BorrowedFd<'_>) -> io::Result<()> {
    let procs = openat(cgroup, "cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    // What has ended is in no group.
    let Some(number) = kernel::process_of(process) else { return Ok(()) };
    match rustix::io::write(procs, number.to_string().as_bytes()) {
        Ok(_) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Whether the group, or one above it, is killed as a whole for memory (`memory.oom.group`).
fn ends_as_one(cgroup: BorrowedFd<'_>) -> bool {
    let open = |at: BorrowedFd<'_>, name: &str| {
        openat(at, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
    };
    let mut next = open(cgroup, ".");
    while let Some(group) = next {
        if says(group.as_fd(), "memory.oom.group", "1") {
            return true;
        }
        // The topmost one has no such file.
        next = open(group.as_fd(), "..").filter(|above| exists(above.as_fd(), "cgroup.events"));
    }
    false
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
    fn a_group_that_ends_as_one_is_found_above_and_up_to_the_topmost() {
        let top = std::env::temp_dir().join(format!("isolate-birth-{}", std::process::id()));
        let group = top.join("above/group");
        fs::create_dir_all(&group).unwrap();
        let is_one = || ends_as_one(File::open(&group).unwrap().as_fd());
        let write = |at: &str, text: &str| fs::write(top.join(at), text).unwrap();
        write("above/cgroup.events", "populated 1\nfrozen 0\n");
        write("above/group/cgroup.events", "populated 0\nfrozen 0\n");
        // Above the topmost group there are other directories.
        write("memory.oom.group", "1\n");
        assert!(!is_one());
        write("above/group/memory.oom.group", "0\n");
        assert!(!is_one());
        write("above/memory.oom.group", "1\n");
        assert!(is_one());
        write("above/memory.oom.group", "0\n");
        write("above/group/memory.oom.group", "1\n");
        assert!(is_one());
        fs::remove_dir_all(top).unwrap();
    }
}
