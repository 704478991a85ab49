//! The description of a container.

#[cfg(feature = "images")]
mod image;
mod lasting;
mod rights;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::time::Duration;

use isolate_cgroups::Limits;
use isolate_namespaces::{Namespace, Restart, Signal, Stdio, WindowSize};
use isolate_netns::Publish;
use serde::{Deserialize, Serialize};

use crate::attach::{Attach, Mode};
use crate::confinement::Confinement;
use crate::container::Container;
use crate::error::{ErrorKind, Result};
use crate::health::HealthCheck;
use crate::mount::Mount;
use crate::name;
use crate::origin::{From, Origin};
use crate::outcome::{Outcome, Run, Usage};
use crate::plan::Plan;
use crate::pod::Member;
use crate::rootfs::Rootfs;
use crate::start;
use crate::user_namespace::UserNamespace;

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
///
/// It can be written down and read again by [serde](https://docs.rs/serde): everything but [`stdin`](Self::stdin), [`stdout`](Self::stdout) and
/// [`stderr`](Self::stderr), and namespaces of running containers and of descriptors, which are an error. What is not said has its default; a name that is not known is an error, so
/// that no limit is lost by a slip. What this version writes, later ones read.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let job: isolate::ContainerBuilder = serde_json::from_str(
///     r#"{"rootfs": {"layers": ["/srv/alpine"]}, "command": ["make", "test"], "limits": {"memory": 536870912, "cpus": 1.5}}"#,
/// )?;
/// # let _ = job;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[must_use = "a builder does nothing until `start`, `status` or `output`"]
pub struct ContainerBuilder {
    pub(crate) name: Option<String>,
    pub(crate) rootfs: Rootfs,
    #[serde(with = "crate::recorded")]
    pub(crate) command: Vec<OsString>,
    #[serde(with = "crate::recorded")]
    pub(crate) env: Vec<(OsString, OsString)>,
    #[serde(with = "crate::recorded")]
    pub(crate) workdir: Option<PathBuf>,
    pub(crate) hostname: Option<String>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) limits: Limits,
    pub(crate) networks: Vec<Attach>,
    pub(crate) publish: Vec<Publish>,
    /// Of a process, and written nowhere.
    #[serde(skip)]
    pub(crate) stdio: [Option<Stdio>; 3],
    pub(crate) terminal: Option<WindowSize>,
    pub(crate) init: Option<bool>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) namespaces: BTreeMap<Namespace, Origin>,
    pub(crate) clocks: [Option<(i64, u32)>; 2],
    pub(crate) user_namespace: UserNamespace,
    pub(crate) confinement: Confinement,
    pub(crate) sysctls: Vec<(String, String)>,
    #[serde(with = "crate::recorded")]
    pub(crate) devices: Vec<PathBuf>,
    pub(crate) stop_signal: Option<Signal>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) pod: Option<String>,
    /// What it has of that, once it is known.
    #[serde(skip)]
    pub(crate) member: Option<Member>,
    /// It is a pod, whose containers share these.
    #[serde(skip)]
    pub(crate) holds: Option<Vec<Namespace>>,
    pub(crate) restart: Restart,
    pub(crate) health: Option<HealthCheck>,
    /// Bytes of a file, and how many files.
    pub(crate) log: Option<(u64, u32)>,
    pub(crate) open_stdin: bool,
    pub(crate) remove_at_end: bool,
    #[cfg(feature = "images")]
    pub(crate) image: Option<isolate_images::Config>,
}

impl Default for ContainerBuilder {
    fn default() -> Self {
        Self::new()
    }
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
            networks: Vec::new(),
            publish: Vec::new(),
            stdio: [None, None, None],
            terminal: None,
            init: None,
            timeout: None,
            namespaces: BTreeMap::new(),
            clocks: [None; 2],
            user_namespace: UserNamespace::Auto,
            confinement: Confinement::new(),
            sysctls: Vec::new(),
            devices: Vec::new(),
            stop_signal: None,
            labels: BTreeMap::new(),
            pod: None,
            member: None,
            holds: None,
            restart: Restart::Never,
            health: None,
            log: None,
            open_stdin: false,
            remove_at_end: false,
            #[cfg(feature = "images")]
            image: None,
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

    /// A variable of its environment. The caller's is not passed on: without more there are `PATH`, `HOME`, `HOSTNAME`, and on a
    /// terminal `TERM`.
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

    /// A network it is on; said several times, it is on several, with interfaces `eth0`, `eth1` and so on in that order. Default:
    /// [`Attach::none`], or, once a port is published, [`Attach::bridge`], for an ordinary user [`Attach::pasta`].
    pub fn network(mut self, attach: impl Into<Attach>) -> Self {
        self.networks.push(attach.into());
        self
    }

    /// A port of the host that leads to one of the container's: `(9000, 8080)` is host first, as in `-p 9000:8080`. A
    /// [range](Publish::range) is several. Of several networks it leads to the one with the container's default route, among those that are
    /// bridges: by a [macvlan](crate::NetworkBuilder::macvlan) alone nothing is published. Port 0 of the host is one that is free, and
    /// [`Container::published`](crate::Container::published) tells which; not on [pasta](Attach::pasta). Until the program listens, connections
    /// to it are refused.
    pub fn publish(mut self, publish: impl Into<Publish>) -> Self {
        let publish = publish.into();
        match publish.count() {
            // Refused at the start.
            0 | 1 => self.publish.push(publish),
            _ => self.publish.extend(publish.each()),
        }
        self
    }

    /// Standard input. Default: inherited; `/dev/null` for [`output`](Self::output) and [`run`](Self::run). For those two, what is to be read is
    /// in a file, or is written to a pipe ([`std::io::pipe`]) on another thread.
    pub fn stdin(mut self, from: impl Into<Stdio>) -> Self {
        self.stdio[0] = Some(from.into());
        self
    }

    /// Standard output. Default: inherited; a pipe for [`output`](Self::output) and [`run`](Self::run).
    pub fn stdout(mut self, to: impl Into<Stdio>) -> Self {
        self.stdio[1] = Some(to.into());
        self
    }

    /// Standard error. Default: inherited; a pipe for [`output`](Self::output) and [`run`](Self::run).
    pub fn stderr(mut self, to: impl Into<Stdio>) -> Self {
        self.stdio[2] = Some(to.into());
        self
    }

    /// A terminal of its own, of this size, for its command, as `docker run -it`: [`Container::terminal`](crate::Container::terminal) is
    /// its other side. Standard descriptors that are not set otherwise lead to it, and `/dev/console` is it, too.
    #[doc(alias = "tty")]
    #[doc(alias = "interactive")]
    pub fn terminal(mut self, size: WindowSize) -> Self {
        self.terminal = Some(size);
        self
    }

    /// Whether process 1 is a small init of this library, which passes signals on to the command, reaps orphans, and ends with it; else
    /// it is the command. Default: an init, unless the command's name is one of an init itself (`init`, `systemd`, `tini`, `dumb-init`,
    /// `catatonit`, `s6-svscan`, `runit`, `docker-init`) or the pid namespace is not a new one.
    ///
    /// Since most programs are none: as process 1 they get no signal that they have no handler for, so that a shell or `sleep` cannot
    /// be stopped but by SIGKILL, and they leave zombies of what was executed beside them. It costs 20 KiB, a tenth of a millisecond, and one
    /// of the processes that the limits allow.
    pub fn init(mut self, init: bool) -> Self {
        self.init = Some(init);
        self
    }

    /// The signal that asks its command to end, in [`stop`](crate::Container::stop). Default: SIGTERM.
    pub fn stop_signal(mut self, signal: Signal) -> Self {
        self.stop_signal = Some(signal);
        self
    }

    /// A label, for whoever looks for it: [`Container::list`](crate::Container::list) has them. Later ones of a key count.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Kills it when it has run for this long, by the clock and not by the processor's time. Its monitor does, whatever the caller does
    /// meanwhile, and [`Outcome`](crate::Outcome) tells. Processor time is in [`Usage`](crate::Usage), and
    /// [`ulimit`](Self::ulimit) bounds that of each process.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Where one of its namespaces comes from. Default: all but the time namespace are new, the network's as of
    /// [`network`](Self::network), and the user namespace as of [`user_namespace`](Self::user_namespace). The mount namespace is always
    /// new.
    #[doc(alias = "pid")]
    #[doc(alias = "ipc")]
    #[doc(alias = "uts")]
    pub fn namespace(mut self, kind: Namespace, origin: Origin) -> Self {
        self.namespaces.insert(kind, origin);
        self
    }

    /// Whether root inside is another user outside.
    #[doc(alias = "userns")]
    pub fn user_namespace(mut self, wanted: UserNamespace) -> Self {
        self.user_namespace = wanted;
        self
    }

    /// The [pod](crate::Pod) that it is a container of, or its name: it shares the pod's namespaces, except for those that
    /// [`namespace`](Self::namespace) says otherwise of, and is bounded by the pod's limits beside its own. It ends with the pod.
    /// A [detached](crate::DetachedPod) one that does not run is started with it.
    ///
    /// ```no_run
    /// use isolate::{Container, Pod};
    /// # fn main() -> isolate::Result<()> {
    /// let pod = Pod::builder().name("shop").start()?;
    /// let db = Container::builder().pod(&pod).command(["postgres"]).start()?;
    /// # Ok(()) }
    /// ```
    ///
    /// A start fails with [`NotFound`](ErrorKind::NotFound) if there is no such pod, and with [`InvalidConfig`](ErrorKind::InvalidConfig)
    /// for a network, a published port or a host name in a pod that shares them, for a user namespace, and where a container is
    /// [created](Self::create) in a pod that somebody owns.
    pub fn pod(mut self, pod: impl AsRef<str>) -> Self {
        self.pod = Some(pod.as_ref().to_owned());
        self
    }

    /// What its monotonic clock shows beyond that of the caller, in a time namespace of its own (time_namespaces(7)).
    pub fn monotonic_offset(mut self, seconds: i64, nanoseconds: u32) -> Self {
        self.clocks[0] = Some((seconds, nanoseconds));
        self
    }

    /// The same for the time since boot.
    pub fn boottime_offset(mut self, seconds: i64, nanoseconds: u32) -> Self {
        self.clocks[1] = Some((seconds, nanoseconds));
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

    /// Starts it, collects what it writes, waits for its end, and removes it. All that it writes is kept in the caller's memory: of a program
    /// that is not trusted, let a file have it ([`stdout`](Self::stdout)), and bound that by [`ulimit`](Self::ulimit).
    pub fn output(mut self) -> Result<Output> {
        self.collect_output();
        let mut container = self.start()?;
        let output = container.wait_with_output()?;
        container.remove()?;
        Ok(output)
    }

    /// As a judge needs it: starts it, collects what it writes as [`output`](Self::output) does, waits for its end, and removes it. How it ended is a value, also where
    /// it was killed before its program ran; what could not be set up is an error.
    ///
    /// ```no_run
    /// use isolate::{Bytes, Container, Limits, Outcome};
    /// use std::time::Duration;
    /// # fn main() -> isolate::Result<()> {
    /// let run = Container::builder()
    ///     .limits(Limits::new().memory(Bytes::mib(64)))
    ///     .timeout(Duration::from_secs(2))
    ///     .command(["/usr/bin/python3", "-c", "print(6 * 7)"])
    ///     .run()?;
    /// match run.outcome {
    ///     Outcome::Exited(0) => println!("{:?} in {:?}", run.stdout, run.usage.user),
    ///     other => println!("{other}"),
    /// }
    /// # Ok(()) }
    /// ```
    pub fn run(mut self) -> Result<Run> {
        self.collect_output();
        let mut container = match self.start() {
            Err(e) if e.kind() == ErrorKind::Lost => {
                let usage = Usage::default();
                return Ok(Run {
                    outcome: Outcome::NeverStarted,
                    usage,
                    stdout: Vec::new(),
                    stderr: Vec::new(),
                });
            }
            other => other?,
        };
        let output = container.wait_with_output()?;
        let (outcome, usage) = (container.outcome()?, container.usage()?);
        container.remove()?;
        Ok(Run { outcome, usage, stdout: output.stdout, stderr: output.stderr })
    }

    /// Pipes, where nothing else is said.
    pub(crate) fn collect_output(&mut self) {
        let [stdin, stdout, stderr] = &mut self.stdio;
        stdin.get_or_insert_with(Stdio::null);
        stdout.get_or_insert_with(Stdio::piped);
        stderr.get_or_insert_with(Stdio::piped);
    }

    /// Its networks, with the default filled in: several are all on bridges.
    pub(crate) fn attaches(&self) -> Vec<Attach> {
        match self.namespaces.get(&Namespace::Net).map(|origin| &origin.0) {
            None | Some(From::New) => {}
            Some(From::Host) => return vec![Attach::host()],
            Some(_) => return vec![Attach::of(Mode::Shared)],
        }
        match self.networks.as_slice() {
            [] if self.publish.is_empty() => vec![Attach::none()],
            [] if crate::host::is_root() => vec![Attach::bridge()],
            [] => vec![Attach::pasta()],
            said => said.to_vec(),
        }
    }

    /// Where one of its namespaces comes from, if that is said.
    pub(crate) fn origin(&self, kind: Namespace) -> Option<&From> {
        let said = self.namespaces.get(&kind).map(|origin| &origin.0);
        let shared = self.networks.iter().find_map(|attach| attach.origin.as_ref());
        match (kind, said) {
            (Namespace::Net, None) => shared.map(|origin| &origin.0),
            (_, said) => said,
        }
    }

    pub(crate) fn given_name(&self) -> String {
        self.name.clone().unwrap_or_else(name::random)
    }
}

fn said(name: &str) -> String {
    format!("container `{name}`")
}
