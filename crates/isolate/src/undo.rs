//! What a container has, in the order in which it was made, to be taken back in the other.

use std::fs;
use std::path::PathBuf;

use isolate_cgroups::Cgroup;
use isolate_namespaces::Child;
use isolate_netns::Port;

use crate::error::{Error, ErrorKind, Result};
use crate::ids::IdRange;
use crate::network::Lease;
use crate::store::{Entry, Store};

/// Fields in the order of making. Dropping takes everything back as well as it can.
#[derive(Debug)]
pub(crate) struct Undo {
    store: Store,
    pub(crate) entry: Option<Entry>,
    pub(crate) lease: Option<Lease>,
    pub(crate) ids: Option<IdRange>,
    /// Directories on a disk.
    pub(crate) directories: Vec<PathBuf>,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) child: Option<Child>,
    pub(crate) port: Option<Port>,
    /// What connects an ordinary user's container.
    pub(crate) pasta: Option<Child>,
}

impl Undo {
    pub(crate) fn new(store: Store, entry: Entry) -> Self {
        Self {
            store,
            entry: Some(entry),
            lease: None,
            ids: None,
            directories: Vec::new(),
            cgroup: None,
            child: None,
            port: None,
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
        if let Some(port) = self.port.take() {
            drop(port.keep()); // the monitor holds the host ports, too
        }
        if let Some(cgroup) = self.cgroup.take() {
            cgroup.keep();
        }
        self.directories.clear();
        (self.lease, self.ids, self.entry) = (None, None, None);
        Ok(())
    }

    /// Goes on after an error, and gives them all.
    pub(crate) fn unwind(&mut self) -> Vec<Error> {
        let mut errors = Vec::new();
        let mut note = |result: Result<()>| errors.extend(result.err());
        // First the rules that lead to the container, then what runs in it: no packet for a stranger in between.
        if let Some(port) = self.port.take() {
            // The pair goes with the container's network namespace; to delete it would wait for the kernel.
            note(port.remove_rules().map_err(Error::from));
        }
        if let Some(cgroup) = &self.cgroup {
            note(cgroup.terminate().map_err(Error::from));
        }
        drop(self.child.take());
        drop(self.pasta.take());
        if let Some(cgroup) = self.cgroup.take() {
            note(cgroup.remove().map_err(Error::from));
        }
        for directory in self.directories.drain(..).rev() {
            note(remove_tree(&directory));
        }
        if let Some(lease) = self.lease.take() {
            note(self.store.lock().and_then(|guard| lease.give_back(&guard)));
        }
        if let Some(ids) = self.ids.take() {
            note(self.store.lock().and_then(|guard| ids.give_back(&guard)));
        }
        if let Some(entry) = self.entry.take() {
            note(entry.clear());
            note(self.store.lock().and_then(|guard| entry.remove(&guard)));
        }
        errors
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        self.unwind();
    }
}

/// A directory with everything in it; none is no error.
pub(crate) fn remove_tree(directory: &PathBuf) -> Result<()> {
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
