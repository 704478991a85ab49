//! The lock that a server holds as long as it lives: a lock of an open file (fcntl(2), F_OFD_SETLK), which goes where the file's
//! descriptor goes. Looking at it does not take it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

/// The file in its directory.
const FILE: &str = "lock";

/// The bytes of the file that are locked: one by the server, the other while one is started.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Running,
    Starting,
}

/// Opens the file, makes it if it is missing.
pub(super) fn open(directory: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(directory.join(FILE))
}

/// The same, where it is.
pub(super) fn open_existing(directory: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(directory.join(FILE))
}

/// Takes a part for this open file; false if another has it.
pub(super) fn take(file: impl AsFd, part: Part) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&region(part))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether another open file has the part.
pub(super) fn is_taken(file: impl AsFd, part: Part) -> io::Result<bool> {
    let mut found = region(part);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut found))?;
    Ok(i32::from(found.l_type) != libc::F_UNLCK)
}

fn region(part: Part) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: part as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}
