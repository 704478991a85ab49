//! A mount at a path.

use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use crate::error::{Error, Result};

/// An overlay at a path of the caller's mount namespace. Dropping it unmounts, also while files on it are open.
#[derive(Debug)]
#[must_use = "dropping it unmounts"]
pub struct Mounted {
    path: PathBuf,
    armed: bool,
}

impl Mounted {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, armed: true }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it mounted.
    pub fn keep(mut self) {
        self.armed = false;
    }

    /// Unmounts it. An error while somebody uses it: then it stays, and is unmounted by the drop that follows, as soon as it is
    /// no longer used (`MNT_DETACH`).
    pub fn unmount(mut self) -> Result<()> {
        let done = unmount(&self.path, UnmountFlags::NOFOLLOW);
        self.armed = done.is_err();
        done.map_err(|e| {
            let error = Error::io(format!("cannot unmount {}", self.path.display()), &e.into());
            match e {
                Errno::BUSY => error.with_hint("a process has a file open on it, or works in it"),
                _ => error,
            }
        })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.armed {
            unmount(&self.path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH).ok();
        }
    }
}
