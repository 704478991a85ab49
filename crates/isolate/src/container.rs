//! A started container.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus, Output};
use std::time::Duration;

use isolate_cgroups::{Bytes, Cgroup, Limits, Stats};
use isolate_namespaces::{Child, Signal, Terminal};
use isolate_netns::Publish;

use crate::attach::Attach;
use crate::builder::ContainerBuilder;
use crate::error::{Error, ErrorKind, Result};
use crate::exec::Exec;
use crate::inside::Inside;
use crate::outcome::{Outcome, Usage};
use crate::undo::Undo;

/// A started container.
///
/// Departs from [`std::process::Child`] in one thing: **dropping it kills everything that runs in it and removes what it had**:
/// control group, network, upper layers, state. [`remove`](Self::remove) does the same and reports what went wrong. The same
/// happens, at the next use of this library, to what an owner left that was killed itself; the processes are killed at once.
///
/// It is pollable: the descriptor that [`AsFd`] gives (a pidfd) is readable when its first process has ended.
#[derive(Debug)]
#[must_use = "dropping a Container kills it and removes everything it had"]
pub struct Container {
    /// The writing end of its standard input, if that is a pipe.
    pub stdin: Option<ChildStdin>,
    /// The reading end of its standard output, if that is a pipe.
    pub stdout: Option<ChildStdout>,
    /// The reading end of its standard error, if that is a pipe.
    pub stderr: Option<ChildStderr>,
    /// The other side of its terminal, if it has one.
    pub terminal: Option<Terminal>,
    name: String,
    addresses: Vec<IpAddr>,
    published: Vec<Publish>,
    inside: Inside,
    undo: Undo,
}

impl Container {
    /// Describes a container.
    pub fn builder() -> ContainerBuilder {
        ContainerBuilder::new()
    }

    pub(crate) fn new(
        name: &str,
        addresses: Vec<IpAddr>,
        published: Vec<Publish>,
        inside: Inside,
        mut undo: Undo,
    ) -> Self {
        let pipes =
            undo.child.as_mut().map(|child| (child.stdin.take(), child.stdout.take(), child.stderr.take()));
        let (stdin, stdout, stderr) = pipes.unwrap_or_default();
        let terminal = undo.child.as_mut().and_then(|child| child.terminal.take());
        Self { stdin, stdout, stderr, terminal, name: name.to_owned(), addresses, published, inside, undo }
    }

    /// The pidfd of its monitor.
    #[cfg(feature = "tokio")]
    pub(crate) fn monitor(&self) -> BorrowedFd<'_> {
        self.child().monitor_pidfd()
    }

    pub(crate) fn undo_mut(&mut self) -> &mut Undo {
        &mut self.undo
    }

    pub(crate) fn inside(&self) -> &Inside {
        &self.inside
    }

    pub(crate) fn undo(&self) -> &Undo {
        &self.undo
    }

    pub(crate) fn published_mut(&mut self) -> &mut Vec<Publish> {
        &mut self.published
    }

    /// Whether its first process has ended.
    pub(crate) fn has_ended(&self) -> Result<bool> {
        let Some((_, process)) = self.first_process() else { return Ok(true) };
        let mut poll = [rustix::event::PollFd::from_borrowed_fd(process, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let ended = rustix::event::poll(&mut poll, Some(&now));
        ended.map(|ended| ended > 0).map_err(|e| Error::io("its first process", &e.into()))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of its first process in the caller's pid namespace. Inside it is 1: an [init](ContainerBuilder::init), or its command.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.first_process().map_or(0, |(pid, _)| pid)
    }

    /// Its number and its pidfd. A container that somebody has started has it; what is left of a detached one that has ended has none.
    pub(crate) fn first_process(&self) -> Option<(u32, BorrowedFd<'_>)> {
        let own = self.undo.child.as_ref().map(|child| (child.id(), child.as_fd()));
        own.or(self.undo.seen.as_ref().map(|(pid, fd)| (*pid, fd.as_fd())))
    }

    /// Its first address, if it is on a bridge: of IPv4, on the first network it was started on.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.addresses.first().copied()
    }

    /// The addresses that it was started with, in the order of its networks, of each first the one of IPv4.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Its network, for another container to [share](crate::Attach::container).
    pub fn network(&self) -> Attach {
        Attach::container(self)
    }

    /// Its published ports, each with the host port that the kernel picked where that was left to it.
    #[must_use]
    pub fn published(&self) -> &[Publish] {
        &self.published
    }

    /// What user and group 0 inside are outside, where it has a range of ids of its own. `None`: root inside is the caller.
    #[must_use]
    pub fn root_outside(&self) -> Option<[u32; 2]> {
        self.inside.root
    }

    /// The control group that all its processes are in. A container of an ordinary user need not have one.
    #[must_use]
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.undo.cgroup.as_ref()
    }

    /// What it has used so far: processor time, memory, processes.
    pub fn stats(&self) -> Result<Stats> {
        self.group()?.stats().map_err(|e| self.said(e))
    }

    /// Changes its limits while it runs, as `docker update`: those that are said, all of them or none. What is executed in it later has
    /// them too.
    ///
    /// ```no_run
    /// use isolate::{Bytes, Container, Limits};
    /// # fn main() -> isolate::Result<()> {
    /// let container = Container::builder().command(["sleep", "100"]).start()?;
    /// container.update(&Limits::new().memory(Bytes::gib(2)).cpus(f64::INFINITY))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As of [`Cgroup::apply`]; the limits are those of before then.
    #[doc(alias = "limits")]
    pub fn update(&self, limits: &Limits) -> Result<()> {
        self.group()?.apply(limits).map_err(|e| self.said(e))
    }

    /// One more program in it, as `docker exec`.
    ///
    /// ```no_run
    /// # fn main() -> isolate::Result<()> {
    /// # let container = isolate::Container::builder().command(["sleep", "9"]).start()?;
    /// let status = container.exec("touch").arg("/tmp/here").status()?;
    /// # Ok(()) }
    /// ```
    pub fn exec(&self, program: impl AsRef<OsStr>) -> Exec<'_> {
        Exec::new(self, program.as_ref())
    }

    /// Lets all its processes stand still, and returns when they do.
    #[doc(alias = "freeze")]
    pub fn pause(&self) -> Result<()> {
        self.group()?.freeze().map_err(|e| self.said(e))
    }

    /// Lets them go on.
    #[doc(alias = "thaw")]
    #[doc(alias = "unpause")]
    pub fn resume(&self) -> Result<()> {
        self.group()?.thaw().map_err(|e| self.said(e))
    }

    /// Waits for the end of its command, and says how it was.
    pub fn outcome(&mut self) -> Result<Outcome> {
        let status = self.wait()?;
        let oom_kills = match self.undo.cgroup.as_ref().map(Cgroup::oom_kills) {
            Some(read) => read.map_err(|e| self.said(e))?.unwrap_or(0),
            None => 0,
        };
        Ok(Outcome::of(status, self.child().timed_out(), oom_kills))
    }

    /// What it has used, the whole tree of its processes, once [`wait`](Self::wait) or one of its kind has given a status; before that,
    /// all but the wall time and the largest resident set is what it has used so far. What its start took does not count, but for some part of
    /// a millisecond of processor time.
    pub fn usage(&self) -> Result<Usage> {
        let of_child = self.child().usage().unwrap_or_default();
        let mut usage = Usage {
            user: of_child.user,
            system: of_child.system,
            wall: of_child.wall,
            peak_memory: None,
            max_rss: Bytes::new(of_child.max_rss),
            oom_kills: 0,
        };
        if let Some(cgroup) = &self.undo.cgroup {
            let stats = cgroup.stats().map_err(|e| self.said(e))?;
            let (user, system) = self.child().start_time();
            usage.user = stats.cpu.user.saturating_sub(user);
            usage.system = stats.cpu.system.saturating_sub(system);
            usage.peak_memory = stats.memory.peak;
            usage.oom_kills = stats.memory.oom_kills.unwrap_or(0);
        }
        Ok(usage)
    }

    /// Waits for the end of its first process, with which all others end. Closes [`stdin`](Self::stdin) first.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        drop(self.stdin.take());
        self.child_mut().wait().map_err(|e| self.said(e))
    }

    /// The status, if its first process has ended.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.child_mut().try_wait().map_err(|e| self.said(e))
    }

    /// Waits for the end, but no longer than this.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        self.child_mut().wait_timeout(timeout).map_err(|e| self.said(e))
    }

    /// Collects what it writes to its pipes, all of it in the caller's memory, and waits for its end. Closes [`stdin`](Self::stdin) first: who
    /// has much to say to it says it on another thread.
    pub fn wait_with_output(&mut self) -> Result<Output> {
        drop(self.stdin.take());
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let child = self.child_mut();
        (child.stdout, child.stderr) = (stdout, stderr);
        child.collect().map_err(|e| self.said(e))
    }

    /// Asks it to end, by SIGTERM or its [stop signal](ContainerBuilder::stop_signal) to its first process, and kills it if it has not ended after `grace`.
    ///
    /// Its [init](ContainerBuilder::init) passes the signal on. Without one, a command that has no handler for the signal does not get it
    /// (pid_namespaces(7)), and takes the whole grace.
    pub fn stop(&mut self, grace: Duration) -> Result<ExitStatus> {
        self.signal(self.inside.stop_signal)?;
        if let Some(status) = self.wait_timeout(grace)? {
            return Ok(status);
        }
        self.kill()?;
        self.wait()
    }

    /// Sends a signal to its command, by the pidfd. No error if it has ended. SIGKILL ends everything in it.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let container = isolate::Container::builder().command(["sleep", "9"]).start()?;
    /// container.signal(isolate::Signal::HUP)?;
    /// container.signal("SIGRTMIN+3".parse()?)?;
    /// # Ok(()) }
    /// ```
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.child().signal(signal).map_err(|e| self.said(e))
    }

    /// Kills everything that runs in it, at once.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(cgroup) = &self.undo.cgroup {
            cgroup.kill().map_err(|e| self.said(e))?;
        }
        // Also where the group cannot kill, as long as the kernel has not got that file.
        self.child_mut().kill().map_err(|e| self.said(e))
    }

    /// Lets it go on for itself, also beyond the caller's end; returns its name. When it has ended, the next user of this library takes
    /// back what it had, or [`sweep`](crate::sweep). One on [`pasta`](crate::Attach::pasta) is killed instead, and
    /// [`Unsupported`](ErrorKind::Unsupported).
    pub fn detach(mut self) -> Result<String> {
        self.undo.detach().map_err(|e| self.said(e))?;
        Ok(self.name.clone())
    }

    /// Kills it if it runs, and removes everything it had. Goes on after an error, and reports all of them.
    pub fn remove(self) -> Result<()> {
        let said = format!("container `{}`", self.name);
        self.end().map_err(|e| e.of(said))
    }

    /// The same, and nothing is said of a container.
    pub(crate) fn end(mut self) -> Result<()> {
        Error::all(self.undo.unwind())
    }

    pub(crate) fn group(&self) -> Result<&Cgroup> {
        self.undo.cgroup.as_ref().ok_or_else(|| self.said(no_group()))
    }

    fn child(&self) -> &Child {
        // Filled before a Container is made, taken when it is consumed.
        self.undo.child.as_ref().unwrap_or_else(|| unreachable!("a started container has a process"))
    }

    fn child_mut(&mut self) -> &mut Child {
        self.undo.child.as_mut().unwrap_or_else(|| unreachable!("a started container has a process"))
    }

    pub(crate) fn said(&self, error: impl Into<Error>) -> Error {
        error.into().of(format!("container `{}`", self.name))
    }
}

pub(crate) fn no_group() -> Error {
    Error::new(ErrorKind::Unsupported, "it has no control group").with_hint(
        "an ordinary user wants one that is delegated: systemd-run --user -p Delegate=yes -p DelegateSubgroup=caller",
    )
}

/// The pidfd of its first process.
impl AsFd for Container {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // Filled before a Container is made.
        self.first_process().map_or_else(|| unreachable!("a started container has a process"), |(_, fd)| fd)
    }
}
