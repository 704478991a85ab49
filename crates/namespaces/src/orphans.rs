//! Children of this process that nobody waits for any more: monitors and keepers that go on without the caller.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

use crate::clone::Born;
use crate::kernel;

/// A zombie of ours, once it has ended.
enum Orphan {
    /// The child of this number, if it is still the one of this [`identity`]. A program may have thousands of them, so that a descriptor
    /// for each would reach its limit, and each start would copy and close them all.
    Number(Pid, u64),
    /// Where the kernel has no identities.
    Pidfd(OwnedFd),
}

static ORPHANS: Mutex<VecDeque<Orphan>> = Mutex::new(VecDeque::new());
/// A start looks at so many of them: it takes as long beside thousands, and leaves fewer zombies than it finds.
const SOME: usize = 32;

pub(crate) fn orphan(Born { pid, pidfd }: Born) {
    let orphan = match identity(pidfd.as_fd()) {
        Some(identity) => Orphan::Number(pid, identity),
        None => Orphan::Pidfd(pidfd),
    };
    ORPHANS.lock().unwrap_or_else(PoisonError::into_inner).push_back(orphan);
}

/// Of the next ones in turn, those that have ended.
pub(crate) fn reap_some() {
    reap_of(SOME);
}

/// Reaps what this process has [detached](crate::Child::detach) or [handed over](crate::Child::hand_over) and what has ended meanwhile, as
/// starts do with a part of it each: for a program that starts nothing for long, so that nothing of it stays a zombie. It takes a free
/// descriptor, while it runs; what it cannot reap without one the next call reaps.
pub fn reap_orphans() {
    reap_of(usize::MAX);
}

fn reap_of(most: usize) {
    let mut orphans = ORPHANS.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..most.min(orphans.len()) {
        let next = orphans.pop_front();
        orphans.extend(next.filter(|orphan| !orphan.is_reaped()));
    }
}

impl Orphan {
    /// Reaps it if it has ended; whether there is nothing to reap any more.
    fn is_reaped(&self) -> bool {
        let (pid, known) = match self {
            Self::Pidfd(pidfd) => return kernel::reap(pidfd.as_fd(), false).unwrap_or(true),
            Self::Number(pid, identity) => (*pid, *identity),
        };
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(pid), look) {
            Ok(Some(_)) => {}
            Ok(None) => return false,
            // Somebody else has reaped it, or the kernel has.
            Err(error) => return error == Errno::CHILD,
        }
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => match identity(pidfd.as_fd()) {
                Some(identity) if identity == known => kernel::reap(pidfd.as_fd(), false).unwrap_or(true),
                // The number is another child's by now, which is not ours to reap. Who cannot tell asks again.
                other => other.is_some(),
            },
            Err(error) => error == Errno::SRCH,
        }
    }
}

/// Which process a pidfd is of: no other one has this number while the machine runs (pidfd_open(2), Linux 6.9).
fn identity(pidfd: BorrowedFd<'_>) -> Option<u64> {
    /// `PID_FS_MAGIC` of linux/magic.h.
    const PIDFS: u64 = 0x5049_4446;
    let system = rustix::fs::fstatfs(pidfd).ok()?;
    if system.f_type as u64 != PIDFS {
        return None;
    }
    Some(rustix::fs::fstat(pidfd).ok()?.st_ino)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "children that stand for a monitor")]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn child() -> (Child, Pid) {
        let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        (child, pid)
    }

    fn orphans_of(pid: Pid) -> Vec<Orphan> {
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let by_number = identity(pidfd.as_fd()).map(|identity| Orphan::Number(pid, identity));
        by_number.into_iter().chain([Orphan::Pidfd(pidfd)]).collect()
    }

    #[test]
    fn one_is_reaped_when_it_has_ended_and_not_before() {
        let kinds = orphans_of(child().1).len();
        for kind in 0..kinds {
            let (mut child, pid) = child();
            let orphan = orphans_of(pid).swap_remove(kind);
            assert!(!orphan.is_reaped());
            drop(child.stdin.take());
            while !orphan.is_reaped() {
                std::thread::yield_now();
            }
            assert_eq!(child.try_wait().unwrap_err().raw_os_error(), Some(libc::ECHILD));
            assert!(orphan.is_reaped());
        }
    }

    #[test]
    fn a_child_that_has_the_number_of_one_is_left_to_who_waits_for_it() {
        let (mut child, pid) = child();
        // Before Linux 6.9 nothing is known by its number.
        if orphans_of(pid).len() == 1 {
            drop(child.stdin.take());
            return assert!(child.wait().unwrap().success());
        }
        let stranger = Orphan::Number(pid, 0);
        assert!(!stranger.is_reaped());
        drop(child.stdin.take());
        while !stranger.is_reaped() {
            std::thread::yield_now();
        }
        assert!(child.wait().unwrap().success());
    }
}
