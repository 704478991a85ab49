//! What a container uses, told again and again until it ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use isolate_cgroups::{Cgroup, ErrorKind as GroupErrorKind, Stats};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::container::Container;
use crate::error::{Error, ErrorKind, Result};

/// What a container uses, at once and then once each interval, until it has ended: an [`Iterator`], made by
/// [`Container::stats_every`] and [`Detached::stats_every`](crate::Detached::stats_every). Who is late misses those between.
///
/// It is pollable: its descriptor is readable (poll(2)) when the next one is due, or it has ended: then [`try_next`](Self::try_next) does
/// not wait.
#[derive(Debug)]
#[must_use = "it reads nothing until it is iterated"]
pub struct Samples {
    name: String,
    group: Cgroup,
    /// Readable once it has ended.
    end: OwnedFd,
    timer: OwnedFd,
    /// Of both.
    either: OwnedFd,
    over: bool,
}

impl Samples {
    pub(crate) fn new(name: &str, group: &Cgroup, end: BorrowedFd<'_>, interval: Duration) -> Result<Self> {
        if interval.is_zero() {
            return Err(Error::new(ErrorKind::InvalidConfig, "an interval of no time"));
        }
        let failed = |e: Errno| Error::io("cannot wait for its figures", &e.into());
        let every = Timespec::try_from(interval)
            .map_err(|_| Error::new(ErrorKind::InvalidConfig, format!("an interval of {interval:?}")))?;
        let now = Timespec { tv_sec: 0, tv_nsec: 1 };
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let end = end.try_clone_to_owned().map_err(|e| Error::io("cannot wait for its end", &e))?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).map_err(failed)?;
        let time = Itimerspec { it_interval: every, it_value: now };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &time).map_err(failed)?;
        let either = epoll::create(CreateFlags::CLOEXEC).map_err(failed)?;
        for fd in [&timer, &end] {
            epoll::add(&either, fd, EventData::new_u64(0), EventFlags::IN).map_err(failed)?;
        }
        // A handle of its own, also of one that is another's.
        let group = Cgroup::open(group.path())?;
        Ok(Self { name: name.to_owned(), group, end, timer, either, over: false })
    }

    /// The next one, if it is due. `None` also when it [has ended](Self::is_over).
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn try_next(&mut self) -> Result<Option<Stats>> {
        let failed = |e: Errno| Error::io("cannot wait for its figures", &e.into());
        self.over = self.over || is_readable(&self.end, Some(&Timespec::default())).map_err(failed)?;
        match rustix::io::read(&self.timer, &mut [0; 8]) {
            _ if self.over => return Ok(None),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            other => other.map_err(failed)?,
        };
        match self.group.stats() {
            // It has ended just now.
            Err(e) if e.kind() == GroupErrorKind::NotFound => {
                self.over = true;
                Ok(None)
            }
            stats => Ok(Some(stats?)),
        }
    }

    /// Whether it has ended, and nothing comes any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    fn wait(&mut self) -> Result<Option<Stats>> {
        loop {
            match self.try_next()? {
                None if !self.over => {
                    let ready = is_readable(&self.either, None);
                    ready.map_err(|e| Error::io("cannot wait for its figures", &e.into()))?;
                }
                next => return Ok(next),
            }
        }
    }
}

impl Iterator for Samples {
    type Item = Result<Stats>;

    /// Waits. Nothing comes after an error.
    fn next(&mut self) -> Option<Self::Item> {
        let next = self.wait();
        self.over |= next.is_err();
        next.map_err(|e| e.of(format!("container `{}`", self.name))).transpose()
    }
}

/// The descriptor to be polled.
impl AsFd for Samples {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.either.as_fd()
    }
}

impl Container {
    /// What it [uses](Self::stats), now and once each interval until it has ended: as `docker stats`.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// # fn main() -> isolate::Result<()> {
    /// let container = isolate::Container::builder().command(["make", "test"]).start()?;
    /// for stats in container.stats_every(Duration::from_secs(1))? {
    ///     println!("{:?}", stats?.memory.current);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) for an interval of no time; as of [`stats`](Self::stats).
    pub fn stats_every(&self, interval: Duration) -> Result<Samples> {
        let (name, group) = (self.name(), self.group()?);
        Samples::new(name, group, self.as_fd(), interval).map_err(|e| self.said(e))
    }
}

fn is_readable(fd: &OwnedFd, within: Option<&Timespec>) -> Result<bool, Errno> {
    match poll(&mut [PollFd::new(fd, PollFlags::IN)], within) {
        Err(Errno::INTR) => Ok(false),
        ready => ready.map(|ready| ready > 0),
    }
}
