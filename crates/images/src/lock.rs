//! Files that are locked: flock(2), free when whoever has it ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Until it is dropped nobody else has it.
pub(crate) fn exclusive(path: &Path) -> io::Result<File> {
    let file = open(path)?;
    wait(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

/// The file of a lock, made if missing.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Waits for it as long as it takes.
pub(crate) fn wait(file: &File, how: FlockOperation) -> io::Result<()> {
    loop {
        match flock(file, how) {
            Err(Errno::INTR) => {}
            other => return other.map_err(Into::into),
        }
    }
}

/// Whether it is free, and the caller's from here on.
pub(crate) fn try_exclusive(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Ok(false),
        other => other.map(|()| true).map_err(Into::into),
    }
}
