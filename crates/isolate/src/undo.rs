//! What a container has, in the order in which it was made, to be taken back in the other.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use isolate_cgroups::Cgroup;
use isolate_namespaces::Child;

use crate::error::{Error, ErrorKind, Result};
use crate::ids::IdRange;
use crate::mount_points::Made;
use crate::network::Place;
use crate::pod::members;
use crate::record::Record;
use crate::rootfs;
use crate::store::{Entry, Store};

/// Fields in the order of making. Dropping takes everything back as well as it can.
#[derive(Debug)]
pub(crate) struct Undo {
    pub(crate) store: Store,
    /// As it was written at the start.
    pub(crate) record: Record,
    pub(crate) entry: Option<Entry>,
    /// On networks. Others come and go while it runs.
    pub(crate) places: Mutex<Vec<Place>>,
    pub(crate) ids: Option<IdRange>,
    /// Directories on a disk.
    pub(crate) directories: Vec<PathBuf>,
    /// The project whose files those are.
    pub(crate) project: Option<u32>,
    /// Mount points in a root that stays.
    pub(crate) made: Option<Made>,
    pub(crate) cgroup: Option<Cgroup>,
    /// That of the monitor and of the keeper to come.
    pub(crate) keeper: Option<Cgroup>,
    pub(crate) child: Option<Child>,
    /// The first process, as somebody sees it whose child it is not: its number and its pidfd.
    pub(crate) seen: Option<(u32, OwnedFd)>,
    /// What connects an ordinary user's container.
    pub(crate) pasta: Option<Child>,
}

impl Undo {
    pub(crate) fn new(store: Store, record: Record, entry: Option<Entry>) -> Self {
        Self {
            store,
            record,
            entry,
            places: Mutex::new(Vec::new()),
            ids: None,
            directories: Vec::new(),
            project: None,
            made: None,
            cgroup: None,
            keeper: None,
            child: None,
            seen: None,
            pasta: None,
        }
    }

    /// Gives up the duty, for a container that outlives its owner: its monitor holds the lock on its record from here on, and whoever
    /// finds that free takes everything back.
    pub(crate) fn detach(&mut self) -> Result<()> {
        if self.pasta.is_some() {
            let what = "cannot be detached: its pasta would go on for ever when it has ended";
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        if let Some(child) = self.child.take() {
            child.detach()?;
        }
        self.let_go();
        Ok(())
    }

    /// The same, for what somebody else has the duty for now.
    pub(crate) fn let_go(&mut self) {
        for place in self.places().drain(..) {
            place.keep();
        }
        [self.cgroup.take(), self.keeper.take()].into_iter().flatten().for_each(Cgroup::keep);
        self.directories.clear();
        (self.made, self.project) = (None, None);
        (self.ids, self.entry) = (None, None);
    }

    pub(crate) fn places(&self) -> MutexGuard<'_, Vec<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As it is written now.
    pub(crate) fn read_record(&self) -> Result<Record> {
        let state = self.store.container(&self.record.name);
        let read = Record::read(&state).map_err(|e| Error::io(state.display(), &e))?;
        read.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{}: no record", state.display())))
    }

    pub(crate) fn write_record(&self, record: &Record) -> Result<()> {
        record.write(&self.store.container(&record.name))
    }

    /// Goes on after an error, and gives them all.
    pub(crate) fn unwind(&mut self) -> Vec<Error> {
        let mut errors = Vec::new();
        let name = self.record.name.clone();
        let mut note = |result: Result<()>| errors.extend(result.err());
        // First the rules that lead to the container, then what runs in it: no packet for a stranger in between.
        let places = std::mem::take(&mut *self.places());
        let places: Vec<_> = places
            .into_iter()
            .map(|mut place| {
                note(place.close());
                place
            })
            .collect();
        if let Some(cgroup) = &self.cgroup {
            note(cgroup.terminate().map_err(Error::from));
        }
        drop(self.child.take());
        drop(self.pasta.take());
        for group in [self.cgroup.take(), self.keeper.take()].into_iter().flatten() {
            note(group.remove().map_err(Error::from));
        }
        if self.record.is_pod {
            note(
                self.store.lock().and_then(|guard| {
                    Error::all(members::take_back(&self.store, &guard, self.record.called()))
                }),
            );
        }
        if let Some(made) = self.made.take() {
            note(made.remove());
        }
        for directory in self.directories.drain(..).rev() {
            note(remove_tree(&directory));
        }
        if let Some(project) = self.project.take() {
            note(rootfs::release_project(project));
        }
        if let Some(entry) = &self.entry {
            // Before what is to be written: on a file system that is full it makes room for that.
            note(entry.clear());
        }
        for place in places {
            note(self.store.lock().and_then(|guard| place.leave(&self.store, &guard, &name)));
        }
        if let Some(ids) = self.ids.take() {
            note(self.store.lock().and_then(|guard| ids.give_back(&guard)));
        }
        if let Some(entry) = self.entry.take() {
            // What is still there is found by its record, in the next sweep.
            if errors.is_empty() {
                errors.extend(self.store.lock().and_then(|guard| entry.remove(&guard)).err());
            }
        }
        errors
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        self.unwind();
    }
}

/// A control group with everything in it; none is no error.
pub(crate) fn remove_group(name: &str) -> Result<()> {
    match Cgroup::open(name) {
        Err(e) if e.kind() == isolate_cgroups::ErrorKind::NotFound => Ok(()),
        group => group.and_then(Cgroup::remove).map_err(Error::from),
    }
}

/// A directory with everything in it; none is no error.
pub(crate) fn remove_tree(directory: &Path) -> Result<()> {
    let removed = match fs::remove_dir_all(directory) {
        // What overlayfs makes in its work directory nobody may look into, but root.
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            for name in ["work", "index"] {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
                fs::set_permissions(directory.join(name), mode).ok();
            }
            fs::remove_dir_all(directory)
        }
        other => other,
    };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(directory.display(), &e)),
        _ => Ok(()),
    }
}
