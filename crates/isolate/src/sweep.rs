//! What an owner that was killed has left: found by a lock that nobody holds, and taken back.

use std::sync::atomic::{AtomicBool, Ordering};

use isolate_cgroups::{Cgroup, ErrorKind as GroupErrorKind};

use crate::error::{Error, Result};
use crate::ids;
use crate::network;
use crate::record::Record;
use crate::rootfs;
use crate::store::{Guard, Store};
use crate::undo::remove_tree;

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
    all(&store, &guard)
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
    for (entry, record) in store.dead(guard)? {
        if let Some(record) = &record {
            let failed = one(store, guard, record);
            if !failed.is_empty() {
                // The record stays, so that the next sweep tries again.
                errors.extend(
                    failed.into_iter().map(|e| e.of(format!("remains of container `{}`", record.name))),
                );
                continue;
            }
            swept.push(record.name.clone());
        }
        errors.extend(entry.remove(guard).err());
    }
    errors.extend(network::sweep(store, guard).err());
    errors.extend(ids::sweep(store, guard).err());
    Error::all(errors).map(|()| swept)
}

fn one(store: &Store, guard: &Guard, record: &Record) -> Vec<Error> {
    let mut errors = Vec::new();
    match Cgroup::open(&record.cgroup) {
        Ok(group) => errors.extend(group.remove().map_err(Error::from).err()),
        Err(e) if e.kind() == GroupErrorKind::NotFound => {}
        Err(e) => errors.push(e.into()),
    }
    let own = record.scratch.iter().chain(&record.work).chain(&record.image).chain(&record.anonymous);
    for directory in own {
        errors.extend(remove_tree(directory).err());
    }
    errors.extend(record.project.and_then(|number| rootfs::release_project(number).err()));
    errors.extend(record.made.as_ref().and_then(|made| made.remove().err()));
    errors.extend(record.places.iter().filter_map(|place| place.sweep(store, guard, &record.name).err()));
    errors
}
