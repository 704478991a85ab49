//! The description of a container.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};

use isolate_cgroups::Limits;
use isolate_namespaces::Stdio;
use isolate_netns::Publish;

use crate::attach::{Attach, Mode};
use crate::container::Container;
use crate::error::Result;
use crate::mount::Mount;
use crate::name;
use crate::plan::Plan;
use crate::rootfs::Rootfs;
use crate::start;

/// Describes a container. Nothing happens, and nothing is checked, before [`start`](Self::start),
/// [`status`](Self::status), [`output`](Self::output) or [`plan`](Self::plan).
///
/// ```no_run
/// use isolate::{Bytes, Container, Limits, Rootfs};
/// # fn main() -> isolate::Result<()> {
/// let mut tomcat = Container::builder()
///     .name("tomcat5")
///     .rootfs(Rootfs::host().with("/var/lib/tomcat10"))
///     .limits(Limits::new().memory(Bytes::mib(512)).cpus(1.0).pids(256))
///     .publish((9000, 8080))
///     .command(["/usr/share/tomcat10/bin/catalina.sh", "run"])
///     .start()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start`, `status` or `output`"]
pub struct ContainerBuilder {
    pub(crate) name: Option<String>,
    pub(crate) rootfs: Rootfs,
    pub(crate) command: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) workdir: Option<PathBuf>,
    pub(crate) hostname: Option<String>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) limits: Limits,
    pub(crate) network: Option<Attach>,
    pub(crate) publish: Vec<Publish>,
    pub(crate) stdio: [Option<Stdio>; 3],
}

impl ContainerBuilder {
    pub(crate) fn new() -> Self {
        Self {
            name: None,
            rootfs: Rootfs::host(),
            command: Vec::new(),
            env: Vec::new(),
            workdir: None,
            hostname: None,
            mounts: Vec::new(),
            limits: Limits::new(),
            network: None,
            publish: Vec::new(),
            stdio: [None, None, None],
        }
    }

    /// A name that no other container of this user has. Default: twelve random hexadecimal digits.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// What it sees as `/`. Default: [`Rootfs::host`].
    pub fn rootfs(mut self, rootfs: impl Into<Rootfs>) -> Self {
        self.rootfs = rootfs.into();
        self
    }

    /// The program and its arguments. A name without `/` is looked up in the container's `PATH`.
    pub fn command(mut self, argv: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command = argv.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        self
    }

    /// A variable of its environment. The caller's is not passed on: without more there are `PATH`, `HOME` and `HOSTNAME`.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The directory that the program starts in. Default: `/`.
    #[doc(alias = "current_dir")]
    pub fn workdir(mut self, directory: impl AsRef<Path>) -> Self {
        self.workdir = Some(directory.as_ref().to_owned());
        self
    }

    /// Its host name. Default: its name.
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.hostname = Some(name.into());
        self
    }

    /// One more mount, after those of the root and the container's own `/proc`, `/dev` and `/sys`.
    #[doc(alias = "volume")]
    pub fn mount(mut self, mount: Mount) -> Self {
        self.mounts.push(mount);
        self
    }

    /// What it may use. One that this machine cannot enforce is an error.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The network it is on. Default: [`Attach::none`], or [`Attach::bridge`] once a port is published.
    pub fn network(mut self, attach: impl Into<Attach>) -> Self {
        self.network = Some(attach.into());
        self
    }

    /// A port of the host that leads to one of the container's: `(9000, 8080)` is host first, as in `-p 9000:8080`.
    pub fn publish(mut self, publish: impl Into<Publish>) -> Self {
        self.publish.push(publish.into());
        self
    }

    /// Standard input. Default: inherited; `/dev/null` for [`output`](Self::output).
    pub fn stdin(mut self, from: impl Into<Stdio>) -> Self {
        self.stdio[0] = Some(from.into());
        self
    }

    /// Standard output. Default: inherited; a pipe for [`output`](Self::output).
    pub fn stdout(mut self, to: impl Into<Stdio>) -> Self {
        self.stdio[1] = Some(to.into());
        self
    }

    /// Standard error. Default: inherited; a pipe for [`output`](Self::output).
    pub fn stderr(mut self, to: impl Into<Stdio>) -> Self {
        self.stdio[2] = Some(to.into());
        self
    }

    /// Everything that a start would do, in words. Needs no privilege, and makes nothing.
    pub fn plan(&self) -> Result<Plan> {
        let name = self.given_name();
        start::plan(self, &name).map_err(|error| error.of(said(&name)))
    }

    /// Starts it. Returns when its program has been executed, or with what prevented that; then nothing is left behind.
    pub fn start(self) -> Result<Container> {
        let name = self.given_name();
        start::start(&self, &name).map_err(|error| error.of(said(&name)))
    }

    /// Starts it, waits for its end, and removes it.
    pub fn status(self) -> Result<ExitStatus> {
        let mut container = self.start()?;
        let status = container.wait()?;
        container.remove()?;
        Ok(status)
    }

    /// Starts it, collects what it writes, waits for its end, and removes it.
    pub fn output(mut self) -> Result<Output> {
        let [stdin, stdout, stderr] = &mut self.stdio;
        stdin.get_or_insert_with(Stdio::null);
        stdout.get_or_insert_with(Stdio::piped);
        stderr.get_or_insert_with(Stdio::piped);
        let mut container = self.start()?;
        let output = container.wait_with_output()?;
        container.remove()?;
        Ok(output)
    }

    /// The mode, with the default filled in.
    pub(crate) fn mode(&self) -> Attach {
        match &self.network {
            Some(attach) => attach.clone(),
            None if self.publish.is_empty() => Attach { mode: Mode::None, address: None },
            None => Attach { mode: Mode::Bridge, address: None },
        }
    }

    fn given_name(&self) -> String {
        self.name.clone().unwrap_or_else(name::random)
    }
}

fn said(name: &str) -> String {
    format!("container `{name}`")
}
