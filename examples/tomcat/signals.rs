//! Ctrl-C and SIGTERM, waited for.

use std::error::Error;
use std::os::fd::AsFd;

use isolate::Container;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Both are blocked from now on, and arrive here.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Called before the first thread is started, so that all have them blocked.
    pub(crate) fn block() -> Result<Self, Box<dyn Error>> {
        let set = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
        set.thread_block()?;
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?))
    }

    /// Until one arrives.
    pub(crate) fn wait(&self) -> Result<(), Box<dyn Error>> {
        self.0.read_signal()?;
        Ok(())
    }

    /// Until one arrives or the container has ended.
    pub(crate) fn wait_for_signal_or_end(&self, container: &Container) -> Result<(), Box<dyn Error>> {
        let mut polls = [
            PollFd::new(self.0.as_fd(), PollFlags::POLLIN),
            PollFd::new(container.as_fd(), PollFlags::POLLIN),
        ];
        while let Err(e) = poll(&mut polls, PollTimeout::NONE) {
            if e != nix::errno::Errno::EINTR {
                return Err(e.into());
            }
        }
        Ok(())
    }
}
