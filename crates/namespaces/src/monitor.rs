//! The caller's side of a container's monitor, the process that outlives the start: lifeline, exit record, reaping.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use crate::clone::Born;
use crate::error::{Error, Result};
use crate::kernel::{self, Received};
use crate::orphans::orphan;
use crate::wire::{DETACH, ENDED, GO, Message, Report, TERMINAL};

/// A monitor, and what it has told. Dropped: the lifeline breaks, so the monitor kills the child and ends.
pub(crate) struct Monitor {
    process: Born,
    control: OwnedFd,
}

/// How a child ended, as its monitor tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub status: ExitStatus,
    /// The monitor killed it because its time was over.
    pub timed_out: bool,
    pub user_us: u64,
    pub system_us: u64,
    /// In KiB.
    pub max_rss: u64,
    /// CLOCK_MONOTONIC, in ns: of the go message, and of the end.
    pub went: u64,
    pub at: u64,
}

/// `si_code` of waitid(2).
const CLD_EXITED: i32 = 1;
const CLD_DUMPED: i32 = 3;

/// How long a dropped child may take to be gone before its monitor is left to the queue.
const PATIENCE: Duration = Duration::from_millis(500);

impl Monitor {
    pub(crate) fn new(process: Born, control: OwnedFd) -> Self {
        Self { process, control }
    }

    pub(crate) fn receive(&self, wait: bool) -> io::Result<Received> {
        kernel::receive(self.control.as_fd(), wait)
    }

    /// The child that waits may go on.
    pub(crate) fn go(&self) -> io::Result<()> {
        kernel::send_byte(self.control.as_fd(), GO)
    }

    /// Waits for its last word, how the child ended, if it still says so; and the report that counts, where reports come this way.
    pub(crate) fn last_words(&self) -> io::Result<(Option<Report>, Option<End>)> {
        let mut report = None::<Report>;
        loop {
            match self.receive(true)? {
                Received::Message(message, _) if message.kind == ENDED => {
                    return Ok((report, Some(End::of(&message))));
                }
                Received::Report(next) => report = Some(report.map_or(next, |report| report.and(next))),
                Received::Message(..) | Received::Nothing => {}
                Received::End => return Ok((report, None)),
            }
        }
    }

    /// The terminal that the child has sent before it executed the program.
    pub(crate) fn terminal(&self) -> io::Result<OwnedFd> {
        loop {
            match self.receive(false)? {
                Received::Message(message, Some(master)) if message.kind == TERMINAL => return Ok(master),
                Received::Message(..) | Received::Report(_) => {}
                Received::Nothing | Received::End => return Err(io::ErrorKind::NotConnected.into()),
            }
        }
    }

    /// Waits for how the child ended.
    pub(crate) fn ended(&self) -> Result<End> {
        let words = self.last_words().map_err(|e| Error::io("cannot wait for the program", &e))?;
        words.1.ok_or_else(killed)
    }

    /// Whether there is a message within this time, or its end.
    pub(crate) fn speaks_within(&self, timeout: Duration) -> bool {
        kernel::readable_within(self.control.as_fd(), timeout)
    }

    /// Whether it ends within this time. It does so right after its last word.
    pub(crate) fn ends_within(&self, timeout: Duration) -> bool {
        kernel::readable_within(self.as_fd(), timeout)
    }

    /// Waits for the monitor's own end, which follows its child's at once.
    pub(crate) fn reap(&self) {
        kernel::reap(self.as_fd(), true).ok();
    }

    /// Kills it, and its child with it; waits for the end. Also of one that is frozen.
    pub(crate) fn kill(&self) {
        kernel::send_signal(self.as_fd(), libc::SIGKILL).ok();
        self.reap();
    }

    /// Breaks the lifeline; waits for the end.
    pub(crate) fn abandon(&self) {
        rustix::net::shutdown(&self.control, rustix::net::Shutdown::Both).ok();
        self.reap();
    }

    /// The lifeline is disarmed: the child goes on when the caller ends.
    pub(crate) fn detach(self) -> io::Result<()> {
        kernel::send_byte(self.control.as_fd(), DETACH)?;
        orphan(self.process);
        Ok(())
    }

    /// The caller's end of the control socket: the lifeline.
    pub(crate) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// Somebody else has the lifeline now.
    pub(crate) fn hand_over(self, keeper: Born) {
        orphan(self.process);
        orphan(keeper);
    }

    /// Breaks the lifeline and waits a while.
    pub(crate) fn end(self) {
        let Self { process, control } = self;
        drop(control);
        let pidfd = process.pidfd.as_fd();
        if !kernel::readable_within(pidfd, PATIENCE) || !kernel::reap(pidfd, false).unwrap_or(true) {
            orphan(process);
        }
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("pidfd", &self.process.pidfd).finish_non_exhaustive()
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.pidfd.as_fd()
    }
}

pub(crate) fn killed() -> Error {
    Error::lost("nobody knows how the program ended: its monitor was killed")
}

impl End {
    fn of(message: &Message) -> Self {
        let &Message { timed_out, user_us, system_us, max_rss, went, at, .. } = message;
        Self { status: status(message), timed_out: timed_out != 0, user_us, system_us, max_rss, went, at }
    }
}

/// The exit status as std has it.
fn status(message: &Message) -> ExitStatus {
    ExitStatus::from_raw(match message.code {
        CLD_EXITED => (message.status & 0xff) << 8,
        CLD_DUMPED => message.status | 0x80,
        _ => message.status,
    })
}
