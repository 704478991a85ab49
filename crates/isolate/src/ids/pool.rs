//! Who has ranges for containers that are still to be started: a process, by a lock that ends with it.

use std::fs::{self, File};
use std::io;

use crate::error::{Error, ErrorKind, Result};
use crate::name;
use crate::store::{Guard, Store, try_lock};

/// No container's name begins so.
const PREFIX: &str = "pool:";

/// A holder of ranges, as long as it lives.
#[derive(Debug)]
pub(crate) struct Holder {
    name: String,
    _lock: File,
}

impl Holder {
    pub(crate) fn new(store: &Store, _: &Guard) -> Result<Self> {
        let name = name::random();
        let path = store.pools().join(&name);
        let lock = try_lock(&path)?.ok_or_else(|| {
            Error::new(ErrorKind::InUse, format!("{}: another process has it", path.display()))
        })?;
        Ok(Self { name: format!("{PREFIX}{name}"), _lock: lock })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Gives it up, once it has no ranges any more.
    pub(crate) fn end(&self, store: &Store, _: &Guard) {
        fs::remove_file(store.pools().join(&self.name[PREFIX.len()..])).ok();
    }
}

/// Whether this is a pool's holder that lives.
pub(super) fn is_alive(store: &Store, holder: &str) -> bool {
    let name = holder.strip_prefix(PREFIX).filter(|name| name::check(name).is_ok());
    let path = name
        .map(|name| store.pools().join(name))
        .filter(|path| !fs::symlink_metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound));
    // What cannot be told is left alone.
    path.is_some_and(|path| !matches!(try_lock(&path), Ok(Some(_))))
}

/// Removes the files of those that were killed.
pub(super) fn sweep(store: &Store) -> Result<()> {
    let pools = store.pools();
    let failed = |e| Error::io(pools.display(), &e);
    for file in fs::read_dir(&pools).map_err(failed)? {
        let file = file.map_err(failed)?;
        if let Some(_lock) = try_lock(&file.path())?
            && let Err(e) = fs::remove_file(file.path())
            && e.kind() != io::ErrorKind::NotFound
        {
            return Err(Error::io(file.path().display(), &e));
        }
    }
    Ok(())
}
