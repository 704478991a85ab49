//! `cgroup.events`: whether a group is populated or frozen, and waiting for that to change.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, pread, retry_on_intr};

use crate::directory::Directory;
use crate::{Error, Result};

/// What the file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// A live process is in the group or below it.
    pub(crate) populated: bool,
    /// Every process of it stands still. Linux 5.2.
    pub(crate) frozen: bool,
}

impl State {
    pub(crate) fn parse(text: &str) -> Self {
        Self { populated: is_set(text, "populated"), frozen: is_set(text, "frozen") }
    }
}

fn is_set(text: &str, key: &str) -> bool {
    text.lines().any(|line| line.split_once(' ') == Some((key, "1")))
}

/// The open file. The kernel wakes who polls it for POLLPRI after each change (kernfs_notify).
#[derive(Debug)]
pub(crate) struct Events {
    fd: OwnedFd,
    path: String,
}

impl Events {
    pub(crate) fn open(group: &Directory) -> Result<Self> {
        let path = group.path().join("cgroup.events").display().to_string();
        let fd = group
            .open_read("cgroup.events")
            .map_err(|errno| Error::os(format!("cannot read {path}"), errno))?;
        Ok(Self { fd, path })
    }

    pub(crate) fn state(&self) -> Result<State> {
        self.read().map_err(|errno| Error::os(format!("cannot read {}", self.path), errno))
    }

    fn read(&self) -> Result<State, Errno> {
        let mut buffer = [0; 256];
        match retry_on_intr(|| pread(&self.fd, &mut buffer, 0)) {
            Ok(n) => Ok(State::parse(&String::from_utf8_lossy(&buffer[..n]))),
            // The group is gone, and with it everything in it.
            Err(Errno::NODEV) => Ok(State::default()),
            Err(errno) => Err(errno),
        }
    }

    /// Waits until the state is as wanted. `false` when the time was over first.
    pub(crate) fn wait(&self, within: Duration, wanted: impl Fn(State) -> bool) -> Result<bool> {
        let deadline = Instant::now() + within;
        loop {
            // Reading arms the next event: what changes from here on ends the poll below.
            if wanted(self.state()?) {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.poll(left)?;
        }
    }

    /// Waits for one change, or until the time is over.
    pub(crate) fn wait_for_change(&self, within: Duration) -> Result<()> {
        let mut buffer = [0; 256];
        match retry_on_intr(|| pread(&self.fd, &mut buffer, 0)) {
            // A group that is gone changes no more, and its file always polls as ready.
            Err(Errno::NODEV) => std::thread::sleep(within),
            _ => self.poll(within)?,
        }
        Ok(())
    }

    fn poll(&self, within: Duration) -> Result<()> {
        // Below a day whatever was asked for: the caller looks again.
        let seconds = within.as_secs().min(86_400) as i64;
        let timeout = Timespec { tv_sec: seconds, tv_nsec: i64::from(within.subsec_nanos()) };
        let mut fds = [PollFd::new(&self.fd, PollFlags::PRI)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(Error::os(format!("cannot poll {}", self.path), errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn states_are_read_whatever_else_the_kernel_adds() {
        assert_eq!(State::parse("populated 1\nfrozen 0\n"), State { populated: true, frozen: false });
        assert_eq!(State::parse("new 1\nfrozen 1\npopulated 0\n"), State { populated: false, frozen: true });
        assert_eq!(State::parse("populated 11\nx populated 1"), State::default());
    }

    proptest! {
        #[test]
        fn what_the_kernel_prints_is_read_as_it_was(populated: bool, frozen: bool) {
            let printed = format!("populated {}\nfrozen {}\n", u8::from(populated), u8::from(frozen));
            prop_assert_eq!(State::parse(&printed), State { populated, frozen });
        }
    }
}
