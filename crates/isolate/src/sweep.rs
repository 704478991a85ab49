//! What an owner that was killed has left: found by a lock that nobody holds, and taken back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::detached;
use crate::error::{Error, Result};
use crate::ids;
use crate::network;
use crate::pod::members;
use crate::record::Record;
use crate::recorded::Recorded;
use crate::rootfs;
use crate::store::{Entry, Guard, Store};
use crate::undo::{remove_group, remove_tree};

/// How long the keepers and monitors of what was killed with its pod may take to notice.
const MOMENT: Duration = Duration::from_secs(1);

/// Takes back what containers have left whose owner was killed. The first start of a process does it, too.
///
/// What is still owned is not touched: a container lives as long as somebody holds the lock on its record. Returns the names of
/// the containers whose remains were removed. Wants what making them wanted.
///
/// ```no_run
/// for name in isolate::sweep()? {
///     eprintln!("removed what was left of container `{name}`");
/// }
/// # Ok::<(), isolate::Error>(())
/// ```
pub fn sweep() -> Result<Vec<String>> {
    let store = Store::open()?;
    let guard = store.lock()?;
    let swept = all(&store, &guard);
    isolate_namespaces::reap_orphans();
    swept
}

/// Once a process. What cannot be taken back of others is no reason not to start.
pub(crate) fn first(store: &Store, guard: &Guard) {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.swap(true, Ordering::Relaxed) {
        all(store, guard).ok();
    }
}

pub(crate) fn all(store: &Store, guard: &Guard) -> Result<Vec<String>> {
    let mut swept = Vec::new();
    let mut errors = Vec::new();
    let is_pod = |record: &Option<Record>| record.as_ref().is_some_and(|record| record.is_pod);
    let mut dead = store.dead(guard)?;
    // What runs in a pod is killed with it.
    dead.sort_by_key(|(_, record)| !is_pod(record));
    let pods = dead.iter().any(|(_, record)| is_pod(record));
    let mut take = |dead: Vec<(Entry, Option<Record>)>| {
        for (entry, record) in dead {
            let name = record.as_ref().map(|record| record.called().to_owned());
            match one(store, guard, entry, record) {
                Ok(()) => swept.extend(name),
                Err(e) => errors.push(e),
            }
        }
    };
    take(dead);
    let begun = Instant::now();
    while pods && begun.elapsed() < MOMENT && members::are_ending(store) {
        std::thread::sleep(Duration::from_millis(5));
        take(store.dead(guard)?);
    }
    errors.extend(network::sweep(store, guard).err());
    errors.extend(detached::sweep(store, guard).err());
    // Of which container they are is certain then.
    errors.extend(ids::sweep(store, guard).err());
    Error::all(errors).map(|()| swept)
}

/// Of one container, if nobody owns it; whether there was something.
pub(crate) fn of(store: &Store, guard: &Guard, name: &str) -> Result<bool> {
    match store.dead_one(guard, name) {
        Some((entry, record)) => one(store, guard, entry, record).map(|()| true),
        None => Ok(false),
    }
}

fn one(store: &Store, guard: &Guard, entry: Entry, record: Option<Record>) -> Result<()> {
    if let Some(record) = &record {
        if record.is_pod {
            members::give_up(record.called());
        }
        // On an error the record stays, so that the next sweep tries again.
        let said = |e: Error| e.of(format!("remains of container `{}`", record.called()));
        Error::all(remains(store, guard, Some(&entry), record)).map_err(said)?;
    }
    entry.remove(guard)
}

/// `entry` is the container's directory, if it is locked.
pub(crate) fn remains(store: &Store, guard: &Guard, entry: Option<&Entry>, record: &Record) -> Vec<Error> {
    let mut errors = Vec::new();
    let groups = record.keeper.iter().chain([&record.cgroup]);
    errors.extend(groups.filter_map(|group| remove_group(group).err()));
    let directories = record.scratch.iter().chain(&record.work).chain(&record.image).chain(&record.anonymous);
    errors.extend(own(directories, record.project));
    errors.extend(record.made.as_ref().and_then(|made| made.remove().err()));
    // Before what is to be written: on a file system that is full it makes room for that.
    errors.extend(entry.and_then(|entry| entry.clear().err()));
    errors.extend(record.places.iter().filter_map(|place| place.sweep(store, guard, &record.name).err()));
    errors
}

/// What a container has on the disk: its directories, and the project that bounds them.
pub(crate) fn own<'d>(
    directories: impl IntoIterator<Item = &'d Recorded>,
    project: Option<u32>,
) -> Vec<Error> {
    let mut errors: Vec<_> =
        directories.into_iter().filter_map(|directory| remove_tree(directory).err()).collect();
    errors.extend(project.and_then(|number| rootfs::release_project(number).err()));
    errors
}
