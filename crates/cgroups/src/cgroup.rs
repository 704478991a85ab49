//! A control group: one directory of cgroup v2, and on hybrid hosts its namesakes on cgroup v1.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::io::Errno;

use crate::directory::Directory;
use crate::events::Events;
use crate::mountinfo::Mounts;
use crate::name::Name;
use crate::reader::{Memory, StatsReader, What};
use crate::watch::{Resource, Share, WatchMemory, WatchPressure, WatchState};
use crate::{Controller, DeviceRule, Error, Limits, Result, apply, devices, freeze, kill, own, remove, v1};

/// How long [`Cgroup::remove`] waits for killed processes to be gone.
const REMOVE_WITHIN: Duration = Duration::from_secs(5);
/// How long `Drop` does.
const DROP_WITHIN: Duration = Duration::from_secs(1);
/// A control group. **Dropping one that was created kills what runs in it and removes it**;
/// [`keep`](Self::keep) gives that up, [`remove`](Self::remove) does it and reports.
///
/// It holds one descriptor, of its cgroup v2 directory; on a hybrid host with the feature `cgroup-v1` one more for
/// each of the hierarchies memory, cpu and pids.
///
/// ```no_run
/// use isolate_cgroups::{Bytes, Cgroup, Limits};
/// use std::process::Command;
///
/// let group = Cgroup::create("build-42")?;
/// group.apply(&Limits::new().memory(Bytes::gib(1)).cpus(2.0).pids(256))?;
/// let mut make = Command::new("make").spawn()?;
/// group.add(make.id())?;
/// make.wait()?;
/// println!("{:?} of cpu", group.stats()?.cpu.usage);
/// group.remove()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping a created group kills what runs in it and removes it"]
pub struct Cgroup {
    name: Name,
    group: Directory,
    v1: v1::Groups,
    /// The program that [`allow_devices`](Self::allow_devices) has attached.
    devices: Mutex<Option<OwnedFd>>,
    /// Whether Drop removes it.
    owned: bool,
    /// Made by this, and never limited so far.
    new: AtomicBool,
}

impl Cgroup {
    /// Makes a group at the root of the hierarchy, or, for a name like `a/b`, below an existing one.
    ///
    /// The hierarchy is the cgroup v2 that the mount table of the calling thread names, which a thread reads once, and again when it
    /// is no longer so; on a hybrid host a group of the
    /// same name is made in the cgroup v1 hierarchies memory, cpu and pids too, and where the one above is limited in others, there. On cgroup v2 it has no controllers but those that the
    /// groups above hand down already: [`apply`](Self::apply) enables those that its limits need, [`enable`](Self::enable) others.
    /// Needs root, or a delegated group to make it in.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a name that is empty, absolute, has a component that is empty,
    /// `.`, `..`, longer than 255 bytes, begins with `cgroup.` or contains a newline;
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists); [`NotFound`](crate::ErrorKind::NotFound) when a group above is not there;
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied); [`Unsupported`](crate::ErrorKind::Unsupported) without cgroup v2.
    /// None leaves anything behind.
    pub fn create(name: impl AsRef<Path>) -> Result<Self> {
        let name = Name::parse(name.as_ref())?;
        Mounts::with(|mounts| Self::create_in(mounts, name.clone()))
            .map_err(|error| error.about(subject(&name)))
    }

    fn create_in(mounts: &Mounts, name: Name) -> Result<Self> {
        let group = Directory::make_below(mounts.unified()?, name.components())?;
        match v1::Groups::create(mounts, &name) {
            Ok(v1) => Ok(Self {
                name,
                group,
                v1,
                devices: Mutex::new(None),
                owned: true,
                new: AtomicBool::new(true),
            }),
            Err(error) => {
                let _ = group.remove();
                Err(error)
            }
        }
    }

    /// Where this process may make groups without being root: the name of a group below which [`create`](Self::create) works.
    ///
    /// That is the calling thread's own group of cgroup v2, or the nearest above it that is the same user's and has no process: the
    /// kernel lets only such a one hand controllers down (cgroups(7), "no internal processes"), and nobody is moved for it. `None` for a
    /// process in the hierarchy's root, in a mount that does not show its group, and without cgroup v2. Whether the group is really
    /// this user's, `create` says.
    ///
    /// A group is delegated by `systemd-run --user --scope -p Delegate=yes PROGRAM`, or in a unit by `Delegate=yes` with
    /// `DelegateSubgroup=NAME`, which leaves the group above free of processes; or by root, who hands over the directory with its
    /// `cgroup.procs`, `cgroup.threads` and `cgroup.subtree_control` (cgroup-v2.rst, "Delegation").
    ///
    /// ```no_run
    /// use isolate_cgroups::{Bytes, Cgroup, Limits};
    ///
    /// let here = Cgroup::delegated()?.unwrap_or_default();
    /// let group = Cgroup::create(here.join("build-42"))?;
    /// group.apply(&Limits::new().memory(Bytes::gib(1)))?;
    /// # Ok::<(), isolate_cgroups::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When /proc or the group cannot be read.
    pub fn delegated() -> Result<Option<PathBuf>> {
        Mounts::with(own::delegated)
    }

    /// Opens an existing group: by name, as [`create`](Self::create), or by its [`path`](Self::path).
    ///
    /// It is somebody else's: dropping it does nothing. [`remove`](Self::remove) kills and removes it all the same.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create); [`NotFound`](crate::ErrorKind::NotFound) when there is none of that name.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Mounts::with(|mounts| {
            let name = Name::of(mounts, path)?;
            let open = || {
                let group = Directory::below(mounts.unified()?, name.components())?;
                Ok((group, v1::Groups::open(mounts, &name)?))
            };
            let (group, v1) = open().map_err(|error: Error| error.about(subject(&name)))?;
            Ok(Self { name, group, v1, devices: Mutex::new(None), owned: false, new: AtomicBool::new(false) })
        })
    }

    /// Sets limits, also while processes run in the group. What `limits` does not say stays as it was.
    ///
    /// Every value is checked before the first is written, and read back after.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a value out of its range; [`Unsupported`](crate::ErrorKind::Unsupported)
    /// for a controller that is missing or out of reach, with the remedy as [`hint`](Error::hint);
    /// [`NotApplied`](crate::ErrorKind::NotApplied) when the kernel made a value weaker; [`Busy`](crate::ErrorKind::Busy) on cgroup
    /// v1 when more memory is in use than the new limit and cannot be reclaimed. After any of them the limits are those of before:
    /// what was written is put back, and what cannot be is named in the hint.
    pub fn apply(&self, limits: &Limits) -> Result<()> {
        let new = self.new.swap(false, Ordering::Relaxed);
        apply::apply(&self.name, &self.group, &self.v1, limits, new)
            .map_err(|error| error.about(subject(&self.name)))
    }

    /// Gives the group controllers without a limit, so that they count: [`memory`](crate::MemoryStats) of [`stats`](Self::stats) wants
    /// `Memory`, `pids` wants `Pids`, `io` wants `Io`. They count from here on.
    ///
    /// On cgroup v2 by `cgroup.subtree_control` of each group above, and in no other; a controller that is there already, on cgroup v1
    /// too, is no work.
    ///
    /// ```no_run
    /// use isolate_cgroups::{Cgroup, Controller};
    ///
    /// let group = Cgroup::create("build-42")?;
    /// group.enable(&[Controller::Memory, Controller::Io])?;
    /// # Ok::<(), isolate_cgroups::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply). Those before the one that fails are enabled.
    pub fn enable(&self, controllers: &[Controller]) -> Result<()> {
        apply::enable(&self.name, &self.group, &self.v1, controllers)
            .map_err(|error| error.about(subject(&self.name)))
    }

    /// Lets the group and all below it use no device nodes but those that a rule allows: opening or making any other is `EPERM`, for
    /// root too. A second call replaces the rules of the first.
    ///
    /// By a BPF program of the group (`BPF_CGROUP_DEVICE`, Linux 4.15; a second call 5.6), which is asked in addition to those of
    /// groups above. It goes with the group. Needs no controller: on a hybrid host it is attached to the cgroup v2 group too.
    ///
    /// ```no_run
    /// use isolate_cgroups::{Cgroup, DeviceRule};
    ///
    /// let group = Cgroup::create("build-42")?;
    /// let mut rules = DeviceRule::container().to_vec();
    /// rules.push(DeviceRule::character(10, 200)); // /dev/net/tun
    /// group.allow_devices(&rules)?;
    /// # Ok::<(), isolate_cgroups::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied) without CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) where the kernel has no such programs (`CONFIG_CGROUP_BPF`);
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for more than 400 rules.
    pub fn allow_devices(&self, rules: &[DeviceRule]) -> Result<()> {
        devices::allow(self.group.as_fd(), rules, &self.devices)
            .map_err(|error| error.about(format_args!("{}: devices", subject(&self.name))))
    }

    /// Moves a running process, all its threads with it, into the group. What it forks from then on is born there;
    /// memory that it already uses stays charged where it was.
    ///
    /// A process that should never run outside is better born in the group: give
    /// [`try_clone_fd`](Self::try_clone_fd) to `clone3` (`CLONE_INTO_CGROUP`, Linux 5.7), and
    /// [`join_files`](Self::join_files) on hybrid hosts.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is no such process; [`InvalidInput`](crate::ErrorKind::InvalidInput) for
    /// 0; [`Busy`](crate::ErrorKind::Busy) when the group hands controllers to groups below it and so may hold no process.
    pub fn add(&self, pid: u32) -> Result<()> {
        let subject = || format!("{}: process {pid}", subject(&self.name));
        if pid == 0 || i32::try_from(pid).is_err() {
            return Err(Error::invalid(format!("{}: not a process id", subject())));
        }
        // Where `kill` reaches it first: should the rest fail, the process is not lost.
        self.group.write("cgroup.procs", &pid.to_string()).map_err(|error| error.about(subject()))?;
        self.v1.add(pid).map_err(|error| error.about(subject()))
    }

    /// Lets every process of the group and below it stand still, and waits until they do. Linux 5.2.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](crate::ErrorKind::TimedOut) when one does not within 5 seconds (it waits in the kernel where it cannot be
    /// interrupted); the group is thawed again then.
    pub fn freeze(&self) -> Result<()> {
        freeze::freeze(&self.group).map_err(|error| error.about(subject(&self.name)))
    }

    /// Undoes [`freeze`](Self::freeze), and waits until the processes run.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](crate::ErrorKind::TimedOut) when a group above this one is frozen.
    pub fn thaw(&self) -> Result<()> {
        freeze::thaw(&self.group).map_err(|error| error.about(subject(&self.name)))
    }

    /// Kills every process in the group and below it, frozen ones too, without a gap for a fork to escape through.
    ///
    /// Returns when all have been sent SIGKILL; [`wait_empty`](Self::wait_empty) waits until they are gone.
    /// `cgroup.kill`, Linux 5.14; before that the group is frozen and each process signalled.
    ///
    /// # Errors
    ///
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied).
    pub fn kill(&self) -> Result<()> {
        kill::kill(&self.group).map_err(|error| error.about(subject(&self.name)))
    }

    /// As [`kill`](Self::kill), of a group that is not used again: who could not die at once, since its share of the processors is small,
    /// gets all it needs for that. Its processor limits are none then.
    ///
    /// # Errors
    ///
    /// As [`kill`](Self::kill); none for a group that is gone.
    pub fn terminate(&self) -> Result<()> {
        remove::terminate(&self.group, &self.v1).map_err(|error| error.about(subject(&self.name)))
    }

    /// Whether a live process is in the group or below it. A zombie is none.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the file.
    pub fn populated(&self) -> Result<bool> {
        let state = Events::open(&self.group).and_then(|events| events.state());
        Ok(state.map_err(|error| error.about(subject(&self.name)))?.populated)
    }

    /// Waits until no live process is left; `false` when the time was over first. Sleeps on the kernel's event.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the file.
    pub fn wait_empty(&self, within: Duration) -> Result<bool> {
        Events::open(&self.group)
            .and_then(|events| events.wait(within, |state| !state.populated))
            .map_err(|error| error.about(subject(&self.name)))
    }

    /// The processes in the group and below it, as the calling thread's pid namespace numbers them.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the files.
    pub fn pids(&self) -> Result<Vec<u32>> {
        kill::pids(&self.group).map_err(|error| error.about(subject(&self.name)))
    }

    /// What the group and all below it have used so far. Who asks again and again better keeps a [`reader`](Self::reader).
    ///
    /// # Errors
    ///
    /// When the kernel refuses a file that is there. What it does not count is `None`.
    pub fn stats(&self) -> Result<crate::Stats> {
        self.reader()?.read()
    }

    /// Reads [`stats`](Self::stats) again and again, by files that stay open.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a file that is there, or the process has no descriptor left.
    pub fn reader(&self) -> Result<StatsReader> {
        StatsReader::open(&self.group, self.v1.readings(), subject(&self.name), |_| true)
    }

    /// How many processes were killed because memory ran out, without the rest of the [`stats`](Self::stats). `None`: this machine does
    /// not count it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the file.
    pub fn oom_kills(&self) -> Result<Option<u64>> {
        Ok(self.oom_reader()?.read()?.memory.oom_kills)
    }

    /// The open file that has that number in a line `oom_kill N`: `memory.events`, or `memory.oom_control` on cgroup v1; for who reads it
    /// later without this crate. `None`: this machine does not count it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the file.
    pub fn oom_kills_file(&self) -> Result<Option<OwnedFd>> {
        Ok(self.oom_reader()?.into_last())
    }

    fn oom_reader(&self) -> Result<StatsReader> {
        let counts = |what| [What::Memory(Memory::Events), What::Memory(Memory::OomControl)].contains(&what);
        StatsReader::open(&self.group, self.v1.readings(), subject(&self.name), counts)
    }

    /// A descriptor that is woken when somebody enters the empty group, the last one leaves, or it is frozen or thawed.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// let group = isolate_cgroups::Cgroup::open("build-42")?;
    /// let state = group.watch_state()?;
    /// while state.read()?.populated {
    ///     state.wait(Duration::from_secs(60))?; // or poll its descriptor together with others
    /// }
    /// # Ok::<(), isolate_cgroups::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the kernel refuses the file.
    pub fn watch_state(&self) -> Result<WatchState> {
        WatchState::open(&self.group).map_err(|error| error.about(subject(&self.name)))
    }

    /// A descriptor that is woken when the group is slowed down, reclaimed from, or killed for memory.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::ErrorKind::Unsupported) where memory is on cgroup v1, or the group has not got the controller.
    pub fn watch_memory(&self) -> Result<WatchMemory> {
        WatchMemory::open(&self.group).map_err(|error| error.about(subject(&self.name)))
    }

    /// A descriptor that is woken when tasks have waited for a resource for `stall` within `window` (500 ms to 10 s).
    ///
    /// ```no_run
    /// use isolate_cgroups::{Cgroup, Resource, Share};
    /// use std::time::Duration;
    ///
    /// let group = Cgroup::open("build-42")?;
    /// let pressure = group.watch_pressure(Resource::Memory, Share::Some, Duration::from_millis(150), Duration::from_secs(2))?;
    /// if pressure.wait(Duration::from_secs(60))? {
    ///     println!("short of memory");
    /// }
    /// # Ok::<(), isolate_cgroups::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a window out of range, or a stall longer than it;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) where the kernel counts no pressure.
    pub fn watch_pressure(
        &self,
        resource: Resource,
        share: Share,
        stall: Duration,
        window: Duration,
    ) -> Result<WatchPressure> {
        WatchPressure::open(&self.group, resource, share, stall, window)
            .map_err(|error| error.about(subject(&self.name)))
    }

    /// Kills what runs in the group, waits for its end, and removes the group and all below it in every hierarchy.
    /// Goes on after an error. Gone already is removed.
    ///
    /// # Errors
    ///
    /// The first that happened, with the others in its hint; [`Busy`](crate::ErrorKind::Busy) when a process was still there
    /// after 5 seconds, with its pid in the hint.
    pub fn remove(mut self) -> Result<()> {
        self.owned = false;
        self.v1.look(&self.name);
        let errors = remove::take_down(&self.group, &self.v1, REMOVE_WITHIN);
        Error::all(errors).map_or(Ok(()), |error| Err(error.about(subject(&self.name))))
    }

    /// Lets the group outlive this value: dropping it does nothing from here on.
    pub fn keep(mut self) {
        self.owned = false;
    }

    /// The group's directory on cgroup v2.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.group.path()
    }

    /// In how many hierarchies the group is: one, and on hybrid hosts those of cgroup v1.
    #[must_use]
    pub fn hierarchies(&self) -> usize {
        self.v1.look(&self.name);
        1 + self.v1.directories().count()
    }

    /// The group's directories in every hierarchy, cgroup v2 first.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        let v1 = self.v1.directories().map(|group| group.path().to_owned());
        std::iter::once(self.path().to_owned()).chain(v1).collect()
    }

    /// Another descriptor of the cgroup v2 directory, for `clone3` with `CLONE_INTO_CGROUP`: a place (`O_PATH`, open(2)), below which
    /// files are opened. Close-on-exec.
    ///
    /// # Errors
    ///
    /// When the process has no descriptor left.
    pub fn try_clone_fd(&self) -> Result<OwnedFd> {
        self.group.try_clone_fd().map_err(|error| error.about(subject(&self.name)))
    }

    /// What a child born by `CLONE_INTO_CGROUP` has to join besides: the `tasks` files of cgroup v1, open for writing.
    /// A child with one thread writes `0` to each. Empty where all controllers are on cgroup v2. Close-on-exec.
    ///
    /// # Errors
    ///
    /// When a file cannot be opened.
    pub fn join_files(&self) -> Result<Vec<OwnedFd>> {
        self.v1.join_files().map_err(|error| error.about(subject(&self.name)))
    }

    /// The cgroup v2 `cgroup.procs` file, open for writing: where `CLONE_INTO_CGROUP` is not to be had, a child writes
    /// `0` to it. Close-on-exec.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub fn procs_file(&self) -> Result<OwnedFd> {
        let opened = self.group.open_write("cgroup.procs");
        opened.map_err(|errno: Errno| Error::os(format!("{}: cgroup.procs", subject(&self.name)), errno))
    }
}

pub(crate) fn subject(name: &Name) -> String {
    format!("cgroup {}", name.path().display())
}

/// The cgroup v2 directory, as [`Cgroup::try_clone_fd`].
impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

impl fmt::Debug for Cgroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cgroup")
            .field("path", &self.path())
            .field("owned", &self.owned)
            .finish_non_exhaustive()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if self.owned {
            // Nobody to tell: `remove` is for who wants to know.
            drop(remove::take_down(&self.group, &self.v1, DROP_WITHIN));
        }
    }
}
