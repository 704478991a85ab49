//! A started container.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus, Output};
use std::time::Duration;

use isolate_cgroups::{Cgroup, Stats};
use isolate_namespaces::Child;
use isolate_netns::Publish;

use crate::builder::ContainerBuilder;
use crate::error::{Error, Result};
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
    name: String,
    address: Option<IpAddr>,
    published: Vec<Publish>,
    undo: Undo,
}

impl Container {
    /// Describes a container.
    pub fn builder() -> ContainerBuilder {
        ContainerBuilder::new()
    }

    pub(crate) fn new(name: &str, address: Option<IpAddr>, published: Vec<Publish>, mut undo: Undo) -> Self {
        let pipes =
            undo.child.as_mut().map(|child| (child.stdin.take(), child.stdout.take(), child.stderr.take()));
        let (stdin, stdout, stderr) = pipes.unwrap_or_default();
        Self { stdin, stdout, stderr, name: name.to_owned(), address, published, undo }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of its first process in the caller's pid namespace. Inside it is 1.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// Its address, if it is on a bridge.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Its published ports, each with the host port that the kernel picked where that was left to it.
    #[must_use]
    pub fn published(&self) -> &[Publish] {
        &self.published
    }

    /// The control group that all its processes are in.
    pub fn cgroup(&self) -> &Cgroup {
        // Filled before a Container is made, taken when it is consumed.
        self.undo.cgroup.as_ref().unwrap_or_else(|| unreachable!("a started container has a control group"))
    }

    /// What it has used so far: processor time, memory, processes.
    pub fn stats(&self) -> Result<Stats> {
        self.cgroup().stats().map_err(|e| self.said(e))
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

    /// Collects what it writes to its pipes, and waits for its end.
    pub fn wait_with_output(&mut self) -> Result<Output> {
        drop(self.stdin.take());
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let child = self.child_mut();
        (child.stdout, child.stderr) = (stdout, stderr);
        child.collect().map_err(|e| self.said(e))
    }

    /// Asks it to end, by SIGTERM to its first process, and kills it if it has not ended after `grace`.
    ///
    /// A first process that has not installed a handler for SIGTERM does not get the signal (pid_namespaces(7)): a shell or a
    /// `sleep` as the container's command takes the whole grace.
    pub fn stop(&mut self, grace: Duration) -> Result<ExitStatus> {
        const SIGTERM: i32 = 15;
        self.child().signal(SIGTERM).map_err(|e| self.said(e))?;
        if let Some(status) = self.wait_timeout(grace)? {
            return Ok(status);
        }
        self.kill()?;
        self.wait()
    }

    /// Kills everything that runs in it, at once.
    pub fn kill(&mut self) -> Result<()> {
        self.cgroup().kill().map_err(|e| self.said(e))?;
        // Also where the group cannot kill, as long as the kernel has not got that file.
        self.child_mut().kill().map_err(|e| self.said(e))
    }

    /// Kills it if it runs, and removes everything it had. Goes on after an error, and reports all of them.
    pub fn remove(mut self) -> Result<()> {
        let errors = self.undo.unwind();
        Error::all(errors).map_err(|e| e.of(format!("container `{}`", self.name)))
    }

    fn child(&self) -> &Child {
        // Filled before a Container is made, taken when it is consumed.
        self.undo.child.as_ref().unwrap_or_else(|| unreachable!("a started container has a process"))
    }

    fn child_mut(&mut self) -> &mut Child {
        self.undo.child.as_mut().unwrap_or_else(|| unreachable!("a started container has a process"))
    }

    fn said(&self, error: impl Into<Error>) -> Error {
        error.into().of(format!("container `{}`", self.name))
    }
}

/// The pidfd of its first process.
impl AsFd for Container {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child().as_fd()
    }
}
