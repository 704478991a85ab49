//! One more program in a running container.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus, Output};
use std::sync::PoisonError;
use std::time::Duration;

use isolate_cgroups::Cgroup;
use isolate_namespaces::{Child, Command, Namespace, Signal, Stdio, Terminal, WindowSize};

use crate::container::Container;
use crate::detached::View;
use crate::error::{Error, Result};
use crate::outcome::Outcome;
use crate::user::{Resolved, User, layers};

/// A program to be executed in a running container, as `docker exec`: in its namespaces and its control group, with the rights and
/// limits of its command. In the shape of [`std::process::Command`].
///
/// It starts with the container's environment, and nothing of the caller's: neither environment nor descriptors nor memory are there to
/// be read for what runs inside. It ends with its [`ExecChild`], with the caller, and with the container.
///
/// ```no_run
/// use isolate::Container;
/// # fn main() -> isolate::Result<()> {
/// let web = Container::builder().command(["sleep", "1000"]).start()?;
/// let output = web.exec("ps").arg("-ef").output()?;
/// print!("{}", String::from_utf8_lossy(&output.stdout));
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "an Exec does nothing until `spawn`, `status` or `output`"]
pub struct Exec<'c> {
    container: Whose<'c>,
    program: OsString,
    args: Vec<OsString>,
    env: BTreeMap<OsString, Option<OsString>>,
    env_clear: bool,
    current_dir: Option<PathBuf>,
    user: Option<User>,
    terminal: Option<WindowSize>,
    stdio: [Option<Stdio>; 3],
    timeout: Option<Duration>,
}

/// The container that it is for.
#[derive(Debug)]
enum Whose<'c> {
    Owned(&'c Container),
    Detached(Box<View>),
}

impl Deref for Whose<'_> {
    type Target = Container;

    fn deref(&self) -> &Container {
        match self {
            Self::Owned(container) => container,
            Self::Detached(view) => view,
        }
    }
}

impl Exec<'static> {
    pub(crate) fn within(container: View, program: &OsStr) -> Self {
        Self::of(Whose::Detached(Box::new(container)), program)
    }
}

impl<'c> Exec<'c> {
    pub(crate) fn new(container: &'c Container, program: &OsStr) -> Self {
        Self::of(Whose::Owned(container), program)
    }

    fn of(container: Whose<'c>, program: &OsStr) -> Self {
        Self {
            container,
            program: program.to_owned(),
            args: Vec::new(),
            env: BTreeMap::new(),
            env_clear: false,
            current_dir: None,
            user: None,
            terminal: None,
            stdio: [None, None, None],
            timeout: None,
        }
    }

    /// One more argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    pub fn args(&mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// A variable of its environment, which is otherwise that of the container's description.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.env.insert(key.as_ref().to_owned(), Some(value.as_ref().to_owned()));
        self
    }

    /// Leaves a variable out.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Self {
        self.env.insert(key.as_ref().to_owned(), None);
        self
    }

    /// Nothing of the container's environment, and what was set so far is forgotten.
    pub fn env_clear(&mut self) -> &mut Self {
        self.env_clear = true;
        self.env.clear();
        self
    }

    /// The directory that it starts in, inside the container. Default: that of the container's command.
    #[doc(alias = "workdir")]
    pub fn current_dir(&mut self, directory: impl AsRef<Path>) -> &mut Self {
        self.current_dir = Some(directory.as_ref().to_owned());
        self
    }

    /// The user that it runs as, by number or by the container's own `/etc/passwd`. Default: that of the container's command.
    pub fn user(&mut self, user: impl Into<User>) -> &mut Self {
        self.user = Some(user.into());
        self
    }

    /// A terminal of its own, of this size, as `docker exec -it`: [`ExecChild::terminal`] is its other side.
    pub fn terminal(&mut self, size: WindowSize) -> &mut Self {
        self.terminal = Some(size);
        self
    }

    /// Standard input. Default: inherited; `/dev/null` for [`output`](Self::output).
    pub fn stdin(&mut self, from: impl Into<Stdio>) -> &mut Self {
        self.stdio[0] = Some(from.into());
        self
    }

    /// Standard output. Default: inherited; a pipe for [`output`](Self::output).
    pub fn stdout(&mut self, to: impl Into<Stdio>) -> &mut Self {
        self.stdio[1] = Some(to.into());
        self
    }

    /// Standard error. Default: inherited; a pipe for [`output`](Self::output).
    pub fn stderr(&mut self, to: impl Into<Stdio>) -> &mut Self {
        self.stdio[2] = Some(to.into());
        self
    }

    /// Kills it when it has run for this long; what it has started itself goes on.
    pub fn timeout(&mut self, limit: Duration) -> &mut Self {
        self.timeout = Some(limit);
        self
    }

    /// Starts it. Returns when it has been executed, or with what prevented that. In a paused container that is an error.
    pub fn spawn(&mut self) -> Result<ExecChild> {
        self.command()
            .and_then(|mut command| Ok(command.spawn()?))
            .map(|child| ExecChild::new(child, self.container.name()))
            .map_err(|e| self.said(e))
    }

    /// Starts it and waits for its end.
    pub fn status(&mut self) -> Result<ExitStatus> {
        self.command().and_then(|mut command| Ok(command.status()?)).map_err(|e| self.said(e))
    }

    /// Starts it, collects what it writes, and waits for its end.
    pub fn output(&mut self) -> Result<Output> {
        self.command().and_then(|mut command| Ok(command.output()?)).map_err(|e| self.said(e))
    }

    pub(crate) fn command(&self) -> Result<Command> {
        let inside = self.container.inside();
        let user = self.resolve()?;
        let mut command = self.entering()?;
        command.program(&self.program).args(&self.args).env_clear();
        if !self.env_clear {
            command.env("HOME", &user.home);
            inside.environment.iter().for_each(|(key, value)| {
                command.env(key, value);
            });
            if self.terminal.is_some() {
                command.env("TERM", "xterm");
            }
        }
        for (key, value) in &self.env {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        if let Some(directory) = self.current_dir.as_ref().or(inside.workdir.as_ref()) {
            command.current_dir(directory);
        } else {
            command.current_dir("/");
        }
        let [stdin, stdout, stderr] = self.stdio.clone();
        if let Some(stdin) = stdin {
            command.stdin(stdin);
        }
        if let Some(stdout) = stdout {
            command.stdout(stdout);
        }
        if let Some(stderr) = stderr {
            command.stderr(stderr);
        }
        command.new_session().umask(0o022);
        if let Some(size) = self.terminal {
            command.terminal(size);
        }
        if let Some(limit) = self.timeout {
            command.timeout(limit);
        }
        inside.confinement.apply(&user, inside.may_set_groups, &mut command);
        Ok(command)
    }

    /// Into its namespaces and its group. Its descriptors are opened once for all that is executed there.
    fn entering(&self) -> Result<Command> {
        let hierarchies = self.container.cgroup().map_or(0, Cgroup::hierarchies);
        let mut entering = self.container.inside().entering.lock().unwrap_or_else(PoisonError::into_inner);
        match &*entering {
            Some((then, command)) if *then == hierarchies => Ok(command.clone()),
            _ => {
                let command = self.enter()?;
                *entering = Some((hierarchies, command.clone()));
                Ok(command)
            }
        }
    }

    fn enter(&self) -> Result<Command> {
        let inside = self.container.inside();
        let copy =
            |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map_err(|e| Error::io("cannot execute in it", &e));
        let mut command = Command::new("");
        if inside.entrances.is_empty() {
            let kinds =
                inside.kinds.iter().copied().filter(|kind| *kind != Namespace::Time || self.has_time());
            command.join_process(copy(self.container.as_fd())?, kinds);
            if let Some(cgroup) = self.container.cgroup() {
                command.cgroup(cgroup.try_clone_fd()?).cgroup_files(cgroup.join_files()?);
            }
            return Ok(command);
        }
        for entrance in &inside.entrances {
            command.join(copy(entrance.as_fd())?);
        }
        if let Some(cgroup) = self.container.cgroup() {
            command.cgroup_files([cgroup.procs_file()?]);
        }
        Ok(command)
    }

    fn has_time(&self) -> bool {
        self.container.inside().kinds.contains(&Namespace::Time)
    }

    /// By the container's files as they are now, through the root of its first process.
    fn resolve(&self) -> Result<Resolved> {
        let user = self.user.as_ref().or(self.container.inside().confinement.user.as_ref());
        let Some(user) = user else { return Ok(Resolved::root()) };
        let root = [PathBuf::from(format!("/proc/{}/root", self.container.pid()))];
        let read = |path| layers::read(&root, path);
        let (passwd, group) = (read("etc/passwd")?, read("etc/group")?);
        // The number is that of its first process as long as that has not been waited for.
        user.resolve(&passwd, &group)
    }

    fn said(&self, error: Error) -> Error {
        said(self.container.name(), error)
    }
}

fn said(container: &str, error: impl Into<Error>) -> Error {
    error.into().of(format!("container `{container}`: exec"))
}

/// A program that was executed in a running container. **Dropping it kills it**; what it has started itself goes on, as long as the
/// container does.
///
/// It is pollable: the descriptor that [`AsFd`] gives (a pidfd) is readable when it has ended.
#[derive(Debug)]
#[must_use = "dropping it kills the program"]
pub struct ExecChild {
    /// The writing end of its standard input, if that is a pipe.
    pub stdin: Option<ChildStdin>,
    /// The reading end of its standard output, if that is a pipe.
    pub stdout: Option<ChildStdout>,
    /// The reading end of its standard error, if that is a pipe.
    pub stderr: Option<ChildStderr>,
    /// The other side of its terminal, if it has one.
    pub terminal: Option<Terminal>,
    child: Child,
    /// The name of the container, for errors.
    container: String,
}

impl ExecChild {
    fn new(mut child: Child, container: &str) -> Self {
        Self {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            terminal: child.terminal.take(),
            child,
            container: container.to_owned(),
        }
    }

    fn said(&self, error: isolate_namespaces::Error) -> Error {
        said(&self.container, error)
    }

    /// The pidfd of its monitor.
    #[cfg(feature = "tokio")]
    pub(crate) fn monitor(&self) -> BorrowedFd<'_> {
        self.child.monitor_pidfd()
    }

    /// Its number in the caller's pid namespace.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end. Closes [`stdin`](Self::stdin) first.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        drop(self.stdin.take());
        self.child.wait().map_err(|e| self.said(e))
    }

    /// The status, if it has ended.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().map_err(|e| self.said(e))
    }

    /// Waits for its end, but no longer than this.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        self.child.wait_timeout(timeout).map_err(|e| self.said(e))
    }

    /// Collects what it writes to its pipes, and waits for its end.
    pub fn wait_with_output(mut self) -> Result<Output> {
        drop(self.stdin.take());
        (self.child.stdout, self.child.stderr) = (self.stdout.take(), self.stderr.take());
        self.child.collect().map_err(|e| self.said(e))
    }

    /// Waits for its end, and says how it was. Out of memory is told of the container as a whole: see
    /// [`Container::outcome`].
    pub fn outcome(&mut self) -> Result<Outcome> {
        let status = self.wait()?;
        Ok(Outcome::of(status, self.child.timed_out(), 0))
    }

    /// Time and memory of this program, once it has ended.
    #[must_use]
    pub fn usage(&self) -> Option<isolate_namespaces::Usage> {
        self.child.usage()
    }

    /// Kills it. No error if it has ended.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().map_err(|e| self.said(e))
    }

    /// Sends it a signal. No error if it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.child.signal(signal).map_err(|e| self.said(e))
    }
}

/// Its pidfd.
impl AsFd for ExecChild {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }
}
