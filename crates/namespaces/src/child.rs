//! A started program.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus, Output};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use crate::error::{Error, Result};
use crate::kernel;
use crate::monitor::{End, Monitor};
use crate::plan::Plan;
use crate::signal::Signal;
use crate::terminal::Terminal;
use crate::usage::Usage;
use crate::wire::Report;

/// A started program and its monitor, the process that is its parent and knows how it ended.
///
/// Departs from [`std::process::Child`] in one thing: **dropping it kills the program**, and with a pid namespace of its
/// own every process in it. [`detach`](Self::detach) gives that up. The same happens when the calling process dies.
///
/// It is pollable: the descriptor that [`AsFd`] gives (a pidfd, pidfd_open(2)) is readable when the program has ended.
#[derive(Debug)]
#[must_use = "dropping it kills the program"]
pub struct Child {
    /// The writing end of its standard input, if that is a pipe.
    pub stdin: Option<ChildStdin>,
    /// The reading end of its standard output, if that is a pipe.
    pub stdout: Option<ChildStdout>,
    /// The reading end of its standard error, if that is a pipe.
    pub stderr: Option<ChildStderr>,
    /// Its terminal, if it has one of its own ([`Command::terminal`](crate::Command::terminal)).
    pub terminal: Option<Terminal>,
    id: u32,
    pidfd: OwnedFd,
    /// `None` once it is detached.
    monitor: Option<Monitor>,
    ended: Option<End>,
    /// What was so just before the execution.
    began: Report,
    foreign_clocks: bool,
}

impl Child {
    pub(crate) fn new(id: u32, pidfd: OwnedFd, monitor: Monitor, pipes: [Option<OwnedFd>; 3]) -> Self {
        let [stdin, stdout, stderr] = pipes;
        Self {
            stdin: stdin.map(Into::into),
            stdout: stdout.map(Into::into),
            stderr: stderr.map(Into::into),
            terminal: None,
            id,
            pidfd,
            monitor: Some(monitor),
            ended: None,
            began: Report::default(),
            foreign_clocks: false,
        }
    }

    /// The program has been executed; what it sent before comes with it.
    pub(crate) fn begin(&mut self, plan: &Plan, began: Report) -> Result<()> {
        self.began = began;
        self.foreign_clocks = plan.foreign_clocks;
        if plan.terminal && self.terminal.is_none() {
            let master =
                self.monitor().terminal().map_err(|e| Error::io("cannot receive the terminal", &e))?;
            self.attach(master)?;
        }
        Ok(())
    }

    /// The other side of its terminal.
    pub(crate) fn attach(&mut self, master: OwnedFd) -> Result<()> {
        let terminal = Terminal::new(master).map_err(|e| Error::io("cannot use the terminal", &e))?;
        self.terminal = Some(terminal);
        Ok(())
    }

    /// Only `detach` takes it, and that consumes the child.
    pub(crate) fn monitor(&self) -> &Monitor {
        self.monitor.as_ref().unwrap_or_else(|| unreachable!("a child has its monitor until it is detached"))
    }

    /// For an error, or for somebody else: what else there is of it goes.
    pub(crate) fn take_monitor(mut self) -> Monitor {
        self.monitor.take().unwrap_or_else(|| unreachable!("a child has its monitor until it is detached"))
    }

    /// What was so just before the execution, if that can be compared with the clocks here.
    pub(crate) fn began(&self) -> (Report, bool) {
        (self.began, !self.foreign_clocks && self.began.at != 0)
    }

    /// Whether its end has been told.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// The program's number in the caller's pid namespace. After its end the number may come to mean another process:
    /// signals go by [`kill`](Self::kill) and [`signal`](Self::signal), which use the pidfd.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Waits for the end. Closes [`stdin`](Self::stdin) first, so that a program that reads it does end.
    ///
    /// The status comes from the monitor, whose own end follows within microseconds and is collected on drop: a `waitpid(-1)` or an ignored SIGCHLD in the caller does not lose it.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        drop(self.stdin.take());
        if let Some(end) = &self.ended {
            return Ok(end.status);
        }
        let end = self.monitor().ended()?;
        self.ended = Some(end);
        Ok(end.status)
    }

    /// The status, if the program has ended.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.wait_timeout(Duration::ZERO)
    }

    /// Waits for the end, but no longer than this.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() && !kernel::readable_within(self.pidfd.as_fd(), timeout) {
            return Ok(None);
        }
        self.wait().map(Some)
    }

    /// Collects what the program writes to its pipes, and waits for its end.
    pub fn wait_with_output(mut self) -> Result<Output> {
        self.collect()
    }

    /// As [`wait_with_output`](Self::wait_with_output), for a child that is still wanted afterwards.
    pub fn collect(&mut self) -> Result<Output> {
        drop(self.stdin.take());
        let (stdout, stderr) = (self.stdout.take().map(OwnedFd::from), self.stderr.take().map(OwnedFd::from));
        let [stdout, stderr] = read_both([stdout.map(File::from), stderr.map(File::from)])
            .map_err(|e| Error::io("cannot read the output", &e))?;
        Ok(Output { status: self.wait()?, stdout, stderr })
    }

    /// Time and memory, once [`wait`](Self::wait) or [`try_wait`](Self::try_wait) has given a status.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.ended.map(|end| Usage::of(&end, &self.began, self.foreign_clocks))
    }

    /// Whether it was killed because its [time](crate::Command::timeout) was over, once a status has been given.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.ended.is_some_and(|end| end.timed_out)
    }

    /// Processor time of what the start took in the child, before the program: user, system. It is part of what a control group
    /// counts, and not of [`usage`](Self::usage).
    #[must_use]
    pub fn start_time(&self) -> (Duration, Duration) {
        (Duration::from_micros(self.began.user_us), Duration::from_micros(self.began.system_us))
    }

    /// Sends SIGKILL. No error if the program has ended.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)
    }

    /// Sends a signal, by the pidfd. No error if the program has ended. An [init](crate::Command::init) passes it on.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal.send(&self.pidfd)
    }

    /// The monitor's pidfd: whoever holds it sees when the container's last process is gone and its locks are free.
    #[must_use]
    pub fn monitor_pidfd(&self) -> BorrowedFd<'_> {
        self.monitor().as_fd()
    }

    /// Lets the program go on for itself, also beyond the caller's end; returns its number.
    pub fn detach(mut self) -> Result<u32> {
        let monitor = self.monitor.take();
        monitor.map_or(Ok(()), Monitor::detach).map_err(|e| Error::io("cannot detach the program", &e))?;
        Ok(self.id)
    }
}

/// The program's pidfd.
impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Kills the program unless it has ended, and collects its monitor. Bounded: it waits half a second at most.
impl Drop for Child {
    fn drop(&mut self) {
        let Some(monitor) = self.monitor.take() else { return };
        if self.ended.is_none() {
            kernel::send_signal(self.pidfd.as_fd(), libc::SIGKILL).ok();
        }
        monitor.end();
    }
}

/// Reads two pipes to their ends, whichever has something.
fn read_both(pipes: [Option<File>; 2]) -> io::Result<[Vec<u8>; 2]> {
    let mut read = [Vec::new(), Vec::new()];
    let mut open = pipes;
    let mut buffer = [0; 16 << 10];
    while open.iter().any(Option::is_some) {
        let ready: Vec<bool> = {
            let mut polls: Vec<_> =
                open.iter().flatten().map(|file| PollFd::new(file, PollFlags::IN)).collect();
            match poll(&mut polls, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            polls.iter().map(|poll| !poll.revents().is_empty()).collect()
        };
        let mut ready = ready.into_iter();
        for (slot, into) in open.iter_mut().zip(&mut read) {
            let Some(file) = slot else { continue };
            if ready.next() != Some(true) {
                continue;
            }
            match file.read(&mut buffer) {
                Ok(0) => *slot = None,
                Ok(n) => into.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(read)
}
