//! What happens in a group, as descriptors that can be polled: no thread, and nobody who asks again and again.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, pread, retry_on_intr, write};

use crate::directory::Directory;
use crate::events::State;
use crate::stats::key;
use crate::{Error, ErrorKind, Result};

/// An open file of a group that the kernel wakes its pollers for.
///
/// The descriptor that [`AsFd`] gives polls as `POLLPRI` (in epoll `EPOLLPRI`; in tokio `Interest::PRIORITY`) when there is
/// something new since the last [`read`](WatchState::read) of it. That holds for a removed group too: the read says so.
#[derive(Debug)]
struct Watched {
    fd: OwnedFd,
    path: PathBuf,
}

impl Watched {
    fn open(group: &Directory, file: &str) -> Result<Self> {
        let path = group.path().join(file);
        let fd = group.open_read(file).map_err(|errno| {
            let what = format!("cannot read {}", path.display());
            match errno {
                Errno::NOENT if group.is_gone() => Error::os(what, Errno::NODEV),
                Errno::NOENT => Error::new(ErrorKind::Unsupported, format!("{what}: the group has no such file"))
                    .with_hint("on cgroup v1, or without its controller, a group has no such events: boot with systemd.unified_cgroup_hierarchy=1"),
                errno => Error::os(what, errno),
            }
        })?;
        Ok(Self { fd, path })
    }

    /// `None` once the group is gone.
    fn text(&self) -> Result<Option<String>> {
        let mut buffer = [0; 512];
        match retry_on_intr(|| pread(&self.fd, &mut buffer, 0)) {
            Ok(n) => Ok(Some(String::from_utf8_lossy(&buffer[..n]).into_owned())),
            Err(Errno::NODEV) => Ok(None),
            Err(errno) => Err(Error::os(format!("cannot read {}", self.path.display()), errno)),
        }
    }

    /// Whether something new was there before the time was over.
    fn wait(&self, within: Duration) -> Result<bool> {
        let end = Instant::now() + within;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout =
                Timespec { tv_sec: left.as_secs().min(86_400) as i64, tv_nsec: left.subsec_nanos().into() };
            let mut fds = [PollFd::new(&self.fd, PollFlags::PRI)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) if end <= Instant::now() => return Ok(false),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(errno) => return Err(Error::os(format!("cannot poll {}", self.path.display()), errno)),
            }
        }
    }
}

/// Whether somebody is in a group, and whether it is frozen: made by [`Cgroup::watch_state`](crate::Cgroup::watch_state).
#[derive(Debug)]
pub struct WatchState(Watched);

/// What [`WatchState`] tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupState {
    /// A live process is in the group or below it.
    pub populated: bool,
    /// Every process of it stands still.
    pub frozen: bool,
    /// The group was removed.
    pub removed: bool,
}

impl WatchState {
    pub(crate) fn open(group: &Directory) -> Result<Self> {
        Watched::open(group, "cgroup.events").map(Self)
    }

    /// What is so now. What changes from here on wakes who polls.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the file.
    pub fn read(&self) -> Result<GroupState> {
        Ok(match self.0.text()? {
            Some(text) => {
                let State { populated, frozen } = State::parse(&text);
                GroupState { populated, frozen, removed: false }
            }
            None => GroupState { removed: true, ..GroupState::default() },
        })
    }

    /// Sleeps until something has changed since the last [`read`](Self::read); `false` when the time was over first.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to poll.
    pub fn wait(&self, within: Duration) -> Result<bool> {
        self.0.wait(within)
    }
}

/// What happens to a group for want of memory: made by [`Cgroup::watch_memory`](crate::Cgroup::watch_memory).
#[derive(Debug)]
pub struct WatchMemory(Watched);

/// How often each has happened so far: `memory.events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryEvents {
    /// What was protected by `memory.low` was reclaimed all the same.
    pub low: u64,
    /// The group was slowed down at `memory.high`.
    pub high: u64,
    /// It was about to go over `memory.max`.
    pub max: u64,
    /// Memory could not be had even by reclaiming.
    pub oom: u64,
    /// Processes were killed for it.
    pub oom_kill: u64,
    /// Whole groups were killed for it. Linux 5.17.
    pub oom_group_kill: u64,
    /// The group was removed.
    pub removed: bool,
}

impl WatchMemory {
    pub(crate) fn open(group: &Directory) -> Result<Self> {
        Watched::open(group, "memory.events").map(Self)
    }

    /// The counts now. What is counted from here on wakes who polls.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the file.
    pub fn read(&self) -> Result<MemoryEvents> {
        let Some(text) = self.0.text()? else {
            return Ok(MemoryEvents { removed: true, ..MemoryEvents::default() });
        };
        let count = |name| key(&text, name).unwrap_or(0);
        Ok(MemoryEvents {
            low: count("low"),
            high: count("high"),
            max: count("max"),
            oom: count("oom"),
            oom_kill: count("oom_kill"),
            oom_group_kill: count("oom_group_kill"),
            removed: false,
        })
    }

    /// As [`WatchState::wait`].
    ///
    /// # Errors
    ///
    /// When the kernel refuses to poll.
    pub fn wait(&self, within: Duration) -> Result<bool> {
        self.0.wait(within)
    }
}

/// A threshold of pressure: made by [`Cgroup::watch_pressure`](crate::Cgroup::watch_pressure). Its descriptor polls as `POLLPRI`
/// each time the threshold was passed, at most once in a window, and as `POLLERR` once the group is gone.
#[derive(Debug)]
pub struct WatchPressure(Watched);

/// What tasks wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// A processor.
    Cpu,
    /// Memory.
    Memory,
    /// A block device.
    Io,
}

/// How many of the tasks that are not idle wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Share {
    /// At least one.
    Some,
    /// All of them.
    Full,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "io",
        })
    }
}

/// The kernel's limits of a window (kernel/sched/psi.c, `WINDOW_MIN_US`, `WINDOW_MAX_US`).
const WINDOW: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(10);

impl WatchPressure {
    pub(crate) fn open(
        group: &Directory,
        resource: Resource,
        share: Share,
        stall: Duration,
        window: Duration,
    ) -> Result<Self> {
        if !WINDOW.contains(&window) || stall.is_zero() || stall > window {
            return Err(Error::invalid(format!(
                "{resource} pressure: {stall:?} in {window:?}: wanted a window of 500 ms to 10 s, and no more than that in it"
            )));
        }
        let file = format!("{resource}.pressure");
        let path = group.path().join(&file);
        let fd = match group.open_both(&file) {
            Ok(fd) => fd,
            Err(Errno::NOENT) if group.is_gone() => {
                return Err(Error::os(format!("cannot write to {}", path.display()), Errno::NODEV));
            }
            Err(errno @ (Errno::NOENT | Errno::OPNOTSUPP)) => return Err(no_pressure(&path, errno)),
            Err(errno) => return Err(Error::os(format!("cannot write to {}", path.display()), errno)),
        };
        let share = if share == Share::Some { "some" } else { "full" };
        let value = format!("{share} {} {}\0", stall.as_micros(), window.as_micros());
        match retry_on_intr(|| write(&fd, value.as_bytes())) {
            Ok(_) => Ok(Self(Watched { fd, path })),
            Err(errno @ Errno::OPNOTSUPP) => Err(no_pressure(&path, errno)),
            Err(errno) => {
                let error = Error::os(
                    format!("cannot write {} to {}", value.trim_end_matches('\0'), path.display()),
                    errno,
                );
                Err(match errno {
                    Errno::INVAL => {
                        error.with_hint("without CAP_SYS_RESOURCE a window is a multiple of 2 s (Linux 6.4)")
                    }
                    _ => error,
                })
            }
        }
    }

    /// Sleeps until the threshold is passed; `false` when the time was over first.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to poll.
    pub fn wait(&self, within: Duration) -> Result<bool> {
        self.0.wait(within)
    }
}

fn no_pressure(path: &std::path::Path, errno: Errno) -> Error {
    let what = format!("cannot write to {}: {errno}", path.display());
    Error::new(ErrorKind::Unsupported, what)
        .with_hint("the kernel counts no pressure: CONFIG_PSI, and boot with psi=1")
}

macro_rules! pollable {
    ($($name:ident)*) => {$(
        impl AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.fd.as_fd()
            }
        }
    )*};
}
pollable!(WatchState WatchMemory WatchPressure);
