//! What happens to containers, told while it does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use isolate_namespaces::{Health, Signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use serde::Serialize;

use crate::detached::{self, time};
use crate::error::{Error, Result};
use crate::store::{self, Store};

/// Something that has happened to a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// When: of what a keeper tells, as that says; else when it was seen.
    pub time: SystemTime,
    /// The container's name.
    pub container: String,
    /// What.
    pub kind: EventKind,
}

/// What has happened to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// A detached one was made.
    Created,
    /// It was started, by somebody or again by its keeper. Of one that is somebody's own: it is being started.
    Started,
    /// Its health is another.
    Health(Health),
    /// So many of its processes were killed for memory.
    OutOfMemory(u64),
    /// Its program has ended with this code.
    Exited(i32),
    /// Its program was killed by this signal.
    Killed(Signal),
    /// It will not be started again by its keeper.
    Ended,
    /// A detached one is called so from now on.
    Renamed,
    /// Nothing of it is left.
    Removed,
}

/// What happens to this user's containers from its making on, oldest first: as `docker events`. Pollable: its descriptor is readable
/// (poll(2)) when there may be something to be [read](Self::try_next).
///
/// ```no_run
/// let mut events = isolate::Events::new()?;
/// while let Some(event) = events.next(None)? {
///     println!("{} {:?}", event.container, event.kind);
/// }
/// # Ok::<(), isolate::Error>(())
/// ```
#[derive(Debug)]
pub struct Events {
    inotify: OwnedFd,
    store: Store,
    /// Detached ones by their ids: what each is called, and how far its events were read.
    detached: BTreeMap<String, (String, Place)>,
    owned: BTreeSet<String>,
    ready: std::collections::VecDeque<Event>,
}

/// In a keeper's events: which file, and how much of it. It is open, so that what was written to it last is read also when it is gone.
#[derive(Debug, Default)]
struct Place {
    file: Option<(u64, File)>,
    offset: u64,
}

const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ONLYDIR);

impl Events {
    /// From now on.
    ///
    /// # Errors
    /// Without an inotify instance left (`fs.inotify.max_user_instances`), or what the state directory cannot be read for.
    pub fn new() -> Result<Self> {
        let store = Store::open()?;
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|e| Error::io("inotify", &e.into()))?;
        let mut events = Self {
            inotify,
            store,
            detached: BTreeMap::new(),
            owned: BTreeSet::new(),
            ready: std::collections::VecDeque::new(),
        };
        if let Ok(home) = detached::home() {
            store::make_directory(&home)?;
            events.watch(&home)?;
        }
        events.watch(&events.store.containers())?;
        // What was before is not told.
        events.look()?;
        events.ready.clear();
        Ok(events)
    }

    /// Waits for the next one; `None` when none came within this time.
    ///
    /// # Errors
    /// What the state directory cannot be read for.
    pub fn next(&mut self, within: Option<Duration>) -> Result<Option<Event>> {
        let end = within.map(|within| Instant::now() + within);
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(Some(event));
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], left.as_ref()) {
                Err(e) if e != Errno::INTR => return Err(Error::io("cannot wait for events", &e.into())),
                _ => {}
            }
        }
    }

    /// The next one, if there is one now.
    ///
    /// # Errors
    /// As of [`next`](Self::next).
    pub fn try_next(&mut self) -> Result<Option<Event>> {
        if self.ready.is_empty() && self.drain() {
            self.look()?;
        }
        Ok(self.ready.pop_front())
    }

    fn watch(&self, path: &Path) -> Result<()> {
        match inotify::add_watch(&self.inotify, path, CHANGES) {
            // Gone meanwhile.
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(Error::io(format!("cannot watch {}", path.display()), &e.into())),
        }
    }

    /// Whether anything has changed. What, is looked at afterwards: nothing is lost where too much changes at once.
    fn drain(&self) -> bool {
        let (mut room, mut changed) = ([0u8; 4096], false);
        while rustix::io::read(&self.inotify, &mut room).is_ok_and(|got| got > 0) {
            changed = true;
        }
        changed
    }

    fn look(&mut self) -> Result<()> {
        // What of a detached one runs has its id, and is there no longer than that is written down: looked at before.
        let running = fs::read_dir(self.store.containers()).into_iter().flatten().flatten();
        let running: Vec<_> = running.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let mut there = BTreeMap::new();
        for record in detached::records()? {
            there.insert(record.id, record.name);
        }
        let owned = running.into_iter();
        let owned = owned.filter(|name| !there.contains_key(name) && !self.detached.contains_key(name));
        let owned = owned.collect();
        let gone: Vec<_> = self.detached.keys().filter(|id| !there.contains_key(*id)).cloned().collect();
        for id in gone {
            self.read(&id)?;
            if let Some((name, _)) = self.detached.remove(&id) {
                self.tell(name, EventKind::Removed);
            }
        }
        for (id, name) in there {
            match self.detached.get_mut(&id) {
                Some((before, _)) if *before == name => {}
                Some((before, _)) => {
                    name.clone_into(before);
                    self.tell(name, EventKind::Renamed);
                }
                None => {
                    self.watch(&keeper(&name)?)?;
                    self.detached.insert(id.clone(), (name.clone(), Place::default()));
                    self.tell(name, EventKind::Created);
                }
            }
            self.read(&id)?;
        }
        self.look_at_owned(owned);
        Ok(())
    }

    fn look_at_owned(&mut self, there: BTreeSet<String>) {
        let before = std::mem::replace(&mut self.owned, there.clone());
        let gone = before.difference(&there).map(|name| (name, EventKind::Removed));
        let come = there.difference(&before).map(|name| (name, EventKind::Started));
        gone.chain(come).for_each(|(name, kind)| self.tell(name.clone(), kind));
    }

    fn tell(&mut self, container: String, kind: EventKind) {
        self.ready.push_back(Event { time: SystemTime::now(), container, kind });
    }

    /// What its keeper has written since.
    fn read(&mut self, id: &str) -> Result<()> {
        let Some((name, place)) = self.detached.get_mut(id) else { return Ok(()) };
        let path = keeper(name)?.join("events");
        let failed = |e: std::io::Error| Error::io(path.display(), &e);
        let mut text = String::new();
        loop {
            if let Some((_, file)) = &mut place.file {
                place.offset += read_from(file, place.offset, &mut text).map_err(failed)?;
            }
            // A file that is too long is put aside, and another begun.
            let Ok(youngest) = File::open(&path) else { break };
            let inode = youngest.metadata().map_err(failed)?.ino();
            if place.file.as_ref().is_some_and(|(known, _)| *known == inode) {
                break;
            }
            *place = Place { file: Some((inode, youngest)), offset: 0 };
        }
        let told = text.lines().filter_map(|line| {
            let (time, kind) = parse(line)?;
            Some(Event { time, container: name.clone(), kind })
        });
        self.ready.extend(told);
        Ok(())
    }
}

/// The descriptor to be polled.
impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

fn keeper(name: &str) -> Result<PathBuf> {
    Ok(detached::home()?.join(name).join("keeper"))
}

/// Whole lines from there on; how many bytes those are.
fn read_from(file: &mut File, offset: u64, text: &mut String) -> std::io::Result<u64> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    bytes.truncate(whole);
    text.push_str(&String::from_utf8_lossy(&bytes));
    Ok(whole as u64)
}

/// `TIME KIND DETAIL`. What is the keeper's own business is passed over.
fn parse(line: &str) -> Option<(SystemTime, EventKind)> {
    let mut words = line.split(' ');
    let time = time(words.next()?)?;
    let kind = match (words.next()?, words.next(), words.next()) {
        ("kept" | "started", ..) => EventKind::Started,
        ("health", Some("healthy"), _) => EventKind::Health(Health::Healthy),
        ("health", Some("unhealthy"), _) => EventKind::Health(Health::Unhealthy),
        ("health", Some("starting"), _) => EventKind::Health(Health::Starting),
        ("oom", Some(count), _) => EventKind::OutOfMemory(count.parse().ok()?),
        ("died", Some("code"), Some(code)) => EventKind::Exited(code.parse().ok()?),
        ("died", Some("signal"), Some(number)) => {
            EventKind::Killed(Signal::try_from(number.parse::<i32>().ok()?).ok()?)
        }
        ("exited", ..) => EventKind::Ended,
        _ => return None,
    };
    Some((time, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_keeper_says_is_read_and_what_it_may_say_later_is_passed_over() {
        let kind = |text: &str| parse(&format!("2024-02-29T23:59:59.5Z {text}")).map(|(_, kind)| kind);
        assert_eq!(kind("kept"), Some(EventKind::Started));
        assert_eq!(kind("died code 3"), Some(EventKind::Exited(3)));
        assert_eq!(kind("died signal 9"), Some(EventKind::Killed(Signal::KILL)));
        assert_eq!(kind("oom 2"), Some(EventKind::OutOfMemory(2)));
        assert_eq!(kind("health unhealthy"), Some(EventKind::Health(Health::Unhealthy)));
        assert_eq!(kind("exited"), Some(EventKind::Ended));
        for other in ["restarting in 100 ms", "died code x", "died", "new 7", ""] {
            assert_eq!(kind(other), None, "{other}");
        }
    }
}
