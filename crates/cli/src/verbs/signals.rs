//! Signals to this process that are meant for a program.

use std::os::fd::{AsFd, BorrowedFd};

use isolate::Signal;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal as Number};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::exit::{Failure, Result};

/// Those that a person or an init sends.
const PASSED_ON: [Number; 6] =
    [Number::SIGHUP, Number::SIGINT, Number::SIGQUIT, Number::SIGTERM, Number::SIGUSR1, Number::SIGUSR2];

/// They are blocked from now on, and arrive here.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Called before the first thread is started, so that all have them blocked.
    pub(crate) fn block() -> Result<Self> {
        Self::of(SigSet::from_iter(PASSED_ON))
    }

    /// And that the terminal's window has another size.
    pub(crate) fn block_with_window() -> Result<Self> {
        Self::of(PASSED_ON.into_iter().chain([Number::SIGWINCH]).collect())
    }

    fn of(set: SigSet) -> Result<Self> {
        let made = set.thread_block().and_then(|()| SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC));
        made.map(Self).map_err(failed)
    }

    /// Passes each on until `end` is readable.
    pub(crate) fn pass_on_until(
        &self,
        end: impl AsFd,
        send: impl Fn(Signal) -> isolate::Result<()>,
    ) -> Result<()> {
        loop {
            let mut polls =
                [PollFd::new(end.as_fd(), PollFlags::POLLIN), PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut polls, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other.map_err(failed)?,
            };
            let [ended, signalled] = polls.map(|poll| poll.any().unwrap_or(true));
            if ended {
                return Ok(());
            }
            if signalled && let Some(signal) = self.next()? {
                send(signal)?;
            }
        }
    }

    /// The one that has arrived.
    pub(crate) fn next(&self) -> Result<Option<Signal>> {
        let arrived = self.0.read_signal().map_err(failed)?;
        let number = arrived.and_then(|arrived| i32::try_from(arrived.ssi_signo).ok());
        Ok(number.and_then(|number| Signal::try_from(number).ok()))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn failed(errno: Errno) -> Failure {
    Failure::new(format!("cannot wait for signals: {errno}"))
}
