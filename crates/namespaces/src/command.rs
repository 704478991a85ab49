//! The builder: [`std::process::Command`] with a few more methods.

mod rights;
mod view;

pub(crate) use rights::Rights;
pub(crate) use view::View;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::sync::Arc;
use std::time::Duration;

use crate::child::Child;
use crate::compile;
use crate::error::Result;
use crate::filesystem::Filesystem;
use crate::held::Held;
use crate::id_map::IdMap;
use crate::mount::{Mount, Root};
use crate::namespace::Namespace;
use crate::plan::Plan;
use crate::stdio::{Kind, Stdio};
use crate::window::WindowSize;

/// Where relative names of upper layers lead.
#[derive(Clone, Debug)]
pub(crate) enum Scratch {
    Filesystem(Filesystem),
    Mount(Arc<OwnedFd>),
}

/// A program to be started in namespaces of its own. In the shape of [`std::process::Command`], whose methods do here
/// what they do there.
///
/// Nothing happens, and nothing is checked, before [`spawn`](Self::spawn), [`status`](Self::status),
/// [`output`](Self::output) or [`plan`](Self::plan). The calling process and its threads stay as they are.
///
/// ```no_run
/// use isolate_namespaces::{Command, Namespace};
/// # fn main() -> isolate_namespaces::Result<()> {
/// let output = Command::new("/bin/hostname").unshare([Namespace::Uts]).hostname("sandbox").output()?;
/// assert_eq!(output.stdout, b"sandbox\n");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a Command does nothing until `spawn`, `status` or `output`"]
pub struct Command {
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) env_clear: bool,
    pub(crate) env: BTreeMap<OsString, Option<OsString>>,
    pub(crate) current_dir: Option<PathBuf>,
    pub(crate) stdio: [Option<Kind>; 3],
    pub(crate) umask: Option<u32>,
    pub(crate) new_session: bool,
    pub(crate) unshare: BTreeSet<Namespace>,
    pub(crate) join: Vec<Existing>,
    pub(crate) process: Option<(Arc<OwnedFd>, BTreeSet<Namespace>)>,
    pub(crate) user_namespace: Option<(Arc<OwnedFd>, [u32; 2])>,
    pub(crate) network: Option<Arc<OwnedFd>>,
    pub(crate) clocks: [Offset; 2],
    pub(crate) uid_map: Option<IdMap>,
    pub(crate) gid_map: Option<IdMap>,
    pub(crate) hostname: Option<OsString>,
    pub(crate) loopback: bool,
    pub(crate) root: Option<Root>,
    pub(crate) scratch: Option<Scratch>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) cgroup: Option<Arc<OwnedFd>>,
    pub(crate) cgroup_files: Vec<Arc<OwnedFd>>,
    pub(crate) monitor_cgroup: Option<Arc<OwnedFd>>,
    pub(crate) monitor_cgroup_files: Vec<Arc<OwnedFd>>,
    pub(crate) keep: Vec<Arc<OwnedFd>>,
    pub(crate) rights: Rights,
    pub(crate) view: View,
    pub(crate) terminal: Option<WindowSize>,
    pub(crate) init: bool,
    pub(crate) idle: bool,
    pub(crate) timeout: Option<Duration>,
}

/// A namespace that is there.
#[derive(Clone, Debug)]
pub(crate) enum Existing {
    Descriptor(Arc<OwnedFd>),
    Path(PathBuf),
}

/// What a clock shows inside beyond, or before, what it shows outside: whole seconds, and nanoseconds to be added.
pub(crate) type Offset = (i64, u32);

impl Command {
    /// A program by its path, or by a name that is looked up in the child's `PATH`, inside the child's root.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env_clear: false,
            env: BTreeMap::new(),
            current_dir: None,
            stdio: [None, None, None],
            umask: None,
            new_session: false,
            unshare: BTreeSet::new(),
            join: Vec::new(),
            process: None,
            user_namespace: None,
            network: None,
            clocks: [(0, 0); 2],
            uid_map: None,
            gid_map: None,
            hostname: None,
            loopback: false,
            root: None,
            scratch: None,
            mounts: Vec::new(),
            cgroup: None,
            cgroup_files: Vec::new(),
            monitor_cgroup: None,
            monitor_cgroup_files: Vec::new(),
            keep: Vec::new(),
            rights: Rights::default(),
            view: View::default(),
            terminal: None,
            init: false,
            idle: false,
            timeout: None,
        }
    }

    /// Another program: a command that was set up once can be cloned for many, and its descriptors are shared by them.
    pub fn program(&mut self, program: impl AsRef<OsStr>) -> &mut Self {
        program.as_ref().clone_into(&mut self.program);
        self
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

    /// Sets a variable of the child's environment, which is otherwise the caller's.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.env.insert(key.as_ref().to_owned(), Some(value.as_ref().to_owned()));
        self
    }

    /// Leaves a variable out of the child's environment.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Self {
        self.env.insert(key.as_ref().to_owned(), None);
        self
    }

    /// The child inherits nothing of the caller's environment, and what was set so far is forgotten.
    pub fn env_clear(&mut self) -> &mut Self {
        self.env_clear = true;
        self.env.clear();
        self
    }

    /// The directory that the program starts in, inside its root. Default: the caller's; with a [`root`](Self::root), `/`.
    pub fn current_dir(&mut self, directory: impl AsRef<Path>) -> &mut Self {
        self.current_dir = Some(directory.as_ref().to_owned());
        self
    }

    /// Standard input. Default: inherited; `/dev/null` for [`output`](Self::output).
    pub fn stdin(&mut self, from: impl Into<Stdio>) -> &mut Self {
        self.stdio[0] = Some(from.into().0);
        self
    }

    /// Standard output. Default: inherited; a pipe for [`output`](Self::output).
    pub fn stdout(&mut self, to: impl Into<Stdio>) -> &mut Self {
        self.stdio[1] = Some(to.into().0);
        self
    }

    /// Standard error. Default: inherited; a pipe for [`output`](Self::output).
    pub fn stderr(&mut self, to: impl Into<Stdio>) -> &mut Self {
        self.stdio[2] = Some(to.into().0);
        self
    }

    /// The child's file mode creation mask (umask(2)), instead of the caller's.
    pub fn umask(&mut self, mask: u32) -> &mut Self {
        self.umask = Some(mask);
        self
    }

    /// The child leads a session of its own, without a controlling terminal (setsid(2)).
    #[doc(alias = "setsid")]
    pub fn new_session(&mut self) -> &mut Self {
        self.new_session = true;
        self
    }

    /// New namespaces for the child; the caller's own never change. All but [`Namespace::User`] want CAP_SYS_ADMIN, or a
    /// new user namespace along with them.
    #[doc(alias = "clone")]
    pub fn unshare(&mut self, kinds: impl IntoIterator<Item = Namespace>) -> &mut Self {
        self.unshare.extend(kinds);
        self
    }

    /// An existing namespace, by a descriptor: of `/proc/PID/ns/NAME`, of a bind mount of one, of a pidfd's. They are joined
    /// in the order of the calls; a user namespace comes first where its capabilities are needed for the others.
    #[doc(alias = "setns")]
    pub fn join(&mut self, namespace: impl Into<OwnedFd>) -> &mut Self {
        self.join.push(Existing::Descriptor(Arc::new(namespace.into())));
        self
    }

    /// As [`join`](Self::join), by a path: `/proc/PID/ns/NAME`, or a file that one is bound to, as `ip netns` does. It is opened when
    /// the plan is made.
    pub fn join_path(&mut self, namespace: impl AsRef<Path>) -> &mut Self {
        self.join.push(Existing::Path(namespace.as_ref().to_owned()));
        self
    }

    /// Namespaces of a running process, by its pidfd (pidfd_open(2); setns(2) since Linux 5.8). They are entered by the child,
    /// once it is in its [`cgroup`](Self::cgroup), all at once: with its user namespace, it has the rights there that it needs for
    /// the others. Wants CAP_SYS_ADMIN, in the user namespaces of caller and target.
    ///
    /// No [`root`](Self::root) goes with a mount namespace that is entered: paths are those of that process's `/`.
    #[doc(alias = "nsenter")]
    #[doc(alias = "exec")]
    pub fn join_process(
        &mut self,
        pidfd: impl Into<OwnedFd>,
        kinds: impl IntoIterator<Item = Namespace>,
    ) -> &mut Self {
        self.process = Some((Arc::new(pidfd.into()), kinds.into_iter().collect()));
        self
    }

    /// An existing user namespace, which will own the namespaces that are [new](Self::unshare), and whose ids
    /// [id-mapped](Mount::id_mapped) mounts have. Wants CAP_SYS_ADMIN in it, and outside for such mounts. `root` is what user and group
    /// 0 of it are outside.
    ///
    /// With a [`cgroup`](Self::cgroup) that is the caller's own user's, the monitor keeps the caller's user and group ids there, since
    /// that user may write to it; into one that is somebody else's the child cannot be born from there: give `cgroup.procs`, open for
    /// writing, to [`cgroup_files`](Self::cgroup_files) instead.
    ///
    /// It is in the place of a new one: maps of ids that were set before are forgotten.
    pub fn join_user(&mut self, namespace: impl Into<OwnedFd>, root: [u32; 2]) -> &mut Self {
        (self.uid_map, self.gid_map) = (None, None);
        self.user_namespace = Some((Arc::new(namespace.into()), root));
        self
    }

    /// An existing network namespace, which the child enters by itself, so that its monitor stays outside. It is the place of a new one:
    /// the [loopback](Self::loopback_up) is brought up in it.
    pub fn join_network(&mut self, namespace: impl Into<OwnedFd>) -> &mut Self {
        self.network = Some(Arc::new(namespace.into()));
        self
    }

    /// What the monotonic clock shows inside beyond what it shows outside (before it, if negative), in a new time namespace, which
    /// this asks for (time_namespaces(7), Linux 5.6; below 6.3 with CAP_SYS_TIME only). Never such that the clock would be negative.
    pub fn monotonic_offset(&mut self, seconds: i64, nanoseconds: u32) -> &mut Self {
        self.clocks[0] = (seconds, nanoseconds);
        self.unshare([Namespace::Time])
    }

    /// The same for the clock of the time since boot, which /proc/uptime shows.
    #[doc(alias = "uptime")]
    pub fn boottime_offset(&mut self, seconds: i64, nanoseconds: u32) -> &mut Self {
        self.clocks[1] = (seconds, nanoseconds);
        self.unshare([Namespace::Time])
    }

    /// User ids of a new user namespace, which this asks for.
    pub fn uid_map(&mut self, map: IdMap) -> &mut Self {
        self.uid_map = Some(map);
        self
    }

    /// Group ids of a new user namespace, which this asks for. Default: [`IdMap::root_is_caller`] where
    /// [`uid_map`](Self::uid_map) is set.
    pub fn gid_map(&mut self, map: IdMap) -> &mut Self {
        self.gid_map = Some(map);
        self
    }

    /// The host name inside, at most 64 bytes, in a new UTS namespace, which this asks for.
    pub fn hostname(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.hostname = Some(name.as_ref().to_owned());
        self
    }

    /// Brings the loopback device up (127.0.0.1 and ::1) in a new network namespace, which this asks for.
    pub fn loopback_up(&mut self) -> &mut Self {
        self.loopback = true;
        self
    }

    /// A directory, a detached mount or a [`Filesystem`] that becomes `/` by pivot_root(2), in a new mount namespace, which
    /// this asks for. Nothing of the caller's tree can be reached from it. A directory is live: what the child writes, stays.
    #[doc(alias = "pivot_root")]
    #[doc(alias = "chroot")]
    pub fn root(&mut self, root: impl Into<Root>) -> &mut Self {
        self.root = Some(root.into());
        self
    }

    /// A file system that only this start sees, the current directory while the [`root`](Self::root) is mounted: the place
    /// for an overlay's upper and work directory, by relative names. It goes with the container.
    pub fn scratch(&mut self, filesystem: Filesystem) -> &mut Self {
        self.scratch = Some(Scratch::Filesystem(filesystem));
        self
    }

    /// The same, of a detached mount, in which the directories are.
    pub fn scratch_mount(&mut self, mount: impl Into<OwnedFd>) -> &mut Self {
        self.scratch = Some(Scratch::Mount(Arc::new(mount.into())));
        self
    }

    /// One more mount, in a new mount namespace, which this asks for. Mounts are made in the order of the calls. Missing
    /// mount points are made, unless the root is read-only or there is none.
    pub fn mount(&mut self, mount: Mount) -> &mut Self {
        self.mounts.push(mount);
        self
    }

    /// Where something is [mounted](Self::mount), in that order.
    pub fn mount_points(&self) -> impl Iterator<Item = &Path> {
        self.mounts.iter().map(Mount::target)
    }

    /// The cgroup v2 directory that the child is born into (`CLONE_INTO_CGROUP`, Linux 5.7): it never runs outside.
    pub fn cgroup(&mut self, directory: impl Into<OwnedFd>) -> &mut Self {
        self.cgroup = Some(Arc::new(directory.into()));
        self
    }

    /// Files of cgroup v1 groups, open for writing (`tasks`): the child writes itself into each before anything else.
    pub fn cgroup_files(&mut self, files: impl IntoIterator<Item = impl Into<OwnedFd>>) -> &mut Self {
        self.cgroup_files.extend(files.into_iter().map(|file| Arc::new(file.into())));
        self
    }

    /// The cgroup v2 directory that the child's monitor, a process outside of the container, is born into (`CLONE_INTO_CGROUP`, Linux
    /// 5.7), in place of the caller's: for a program that is to go on when the caller's group is killed. The child wants a group of its own
    /// then ([`cgroup`](Self::cgroup), [`cgroup_files`](Self::cgroup_files)).
    ///
    /// It is moved there, which takes 10 ms and more at times, where a filter refuses clone3(2), and where the group or one above it is
    /// killed as a whole for memory (`memory.oom.group`), since the launcher shares the caller's memory for a moment. Into a frozen one
    /// nothing is started; one that is being frozen just then may hold the caller until it is thawed.
    pub fn monitor_cgroup(&mut self, directory: impl Into<OwnedFd>) -> &mut Self {
        self.monitor_cgroup = Some(Arc::new(directory.into()));
        self
    }

    /// As [`cgroup_files`](Self::cgroup_files), of the monitor: it writes itself into each before anything else.
    pub fn monitor_cgroup_files(&mut self, files: impl IntoIterator<Item = impl Into<OwnedFd>>) -> &mut Self {
        self.monitor_cgroup_files.extend(files.into_iter().map(|file| Arc::new(file.into())));
        self
    }

    /// A descriptor that stays open as long as the child's monitor lives, and never reaches the child: a lock that says
    /// that the child is alive, a port that nobody else may take. At most six.
    pub fn keep(&mut self, descriptor: impl Into<OwnedFd>) -> &mut Self {
        self.keep.push(Arc::new(descriptor.into()));
        self
    }

    /// A terminal of its own, of this size, as its standard input, output and error, and as the controlling terminal of a session of
    /// its own: its other side is [`Child::terminal`]. It belongs to the devpts that is mounted on `/dev/pts` inside
    /// (pty(7)), which must be there: [`Mount::devpts`].
    #[doc(alias = "tty")]
    #[doc(alias = "pty")]
    pub fn terminal(&mut self, size: WindowSize) -> &mut Self {
        self.terminal = Some(size);
        self.new_session()
    }

    /// Process 1 of the new pid namespace, which this asks for, is not the program but an init of 20 KiB that passes signals on to it,
    /// reaps what nobody waits for, and ends with it. The status is the program's own, as it would be without.
    ///
    /// Without an init the program is process 1: signals that it has no handler for do not reach it (pid_namespaces(7)), not even
    /// SIGTERM, and who dies below it stays a zombie until it waits for children that it does not know of.
    pub fn init(&mut self, init: bool) -> &mut Self {
        self.init = init;
        self
    }

    /// No program is executed: the child holds its namespaces and its mounts, reaps what others in its pid namespace leave, and ends with
    /// code 0 by SIGTERM, SIGINT, SIGQUIT or SIGHUP. It has no capabilities and no descriptors, and takes 20 KiB.
    #[doc(alias = "pause")]
    pub fn idle(&mut self, idle: bool) -> &mut Self {
        self.idle = idle;
        self
    }

    /// Kills the program, and with a pid namespace of its own every process in it, when it has run for this long, its start included.
    /// The monitor does so, whatever the caller does meanwhile. [`Child::timed_out`] tells.
    pub fn timeout(&mut self, limit: Duration) -> &mut Self {
        self.timeout = Some(limit);
        self
    }

    /// Every step that a start would make, without making any. Opens what the settings name; needs no privilege.
    pub fn plan(&self) -> Result<Plan> {
        compile::plan(self, [Kind::Inherit, Kind::Inherit, Kind::Inherit])
    }

    /// Starts the program. Returns when it has been executed, or with the step that failed.
    pub fn spawn(&mut self) -> Result<Child> {
        self.plan()?.spawn()
    }

    /// As [`spawn`](Self::spawn), but the child exists, in its namespaces and cgroup, and waits: for whatever must be done
    /// from outside before it goes on, such as the ends of a veth pair.
    pub fn spawn_held(&mut self) -> Result<Held> {
        self.plan()?.spawn_held()
    }

    /// Starts the program and waits for its end.
    pub fn status(&mut self) -> Result<ExitStatus> {
        self.plan()?.status()
    }

    /// Starts the program, collects what it writes, and waits for its end.
    pub fn output(&mut self) -> Result<Output> {
        compile::plan(self, [Kind::Null, Kind::Piped, Kind::Piped])?.spawn()?.wait_with_output()
    }
}
