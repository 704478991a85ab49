//! How much directories may hold together: project quotas of ext4 and xfs (quotactl(2), `PRJQUOTA`; xfs_quota(8), "directory tree quota").

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// linux/quota.h and linux/dqblk_xfs.h: commands for projects, of quotactl_fd(2).
const PROJECTS: u32 = 2;
const GET: u32 = 0x80_0007;
const SET: u32 = 0x80_0008;
const GET_STATE: u32 = 0x5805;
/// `FS_QUOTA_PDQ_ACCT` and `FS_QUOTA_PDQ_ENFD`: counted, and bounded.
const COUNTED_AND_BOUNDED: u16 = 0x30;
/// `QIF_BLIMITS`: of what is set, bytes alone.
const BYTES: u32 = 1;
/// linux/fs.h.
const GET_ATTRIBUTES: u64 = 0x801c_581f;
const SET_ATTRIBUTES: u64 = 0x401c_5820;
/// `FS_XFLAG_PROJINHERIT`.
const INHERITED: u32 = 0x200;

/// A number that a file system counts the bytes of directories by, and bounds them. For root, Linux 5.14, on ext4 (with the features
/// `quota` and `project`) and xfs, mounted with `prjquota`.
///
/// ```no_run
/// # fn main() -> isolate_overlay::Result<()> {
/// use isolate_overlay::Project;
/// if Project::is_supported("/var/lib/app") {
///     let project = Project::on("/var/lib/app", 4711);
///     project.limit(1 << 30)?;
///     project.assign("/var/lib/app/upper")?; // and what is made in it from here on
///     println!("{} bytes", project.used()?);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    place: PathBuf,
    number: u32,
}

/// struct if_dqblk.
#[repr(C)]
#[derive(Default)]
struct Quota {
    hard: u64,
    soft: u64,
    bytes: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    inodes: u64,
    times: [u64; 2],
    valid: u32,
}

/// struct fsxattr.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copied_extent_size: u32,
    padding: [u8; 8],
}

impl Project {
    /// Whether the file system that this directory is on counts by projects, and bounds them too: else a limit would be none.
    pub fn is_supported(directory: impl AsRef<Path>) -> bool {
        // struct fs_quota_stat: 80 bytes, the flags from the second on.
        let mut state = [0_u16; 64];
        File::open(directory).is_ok_and(|directory| {
            let told = call(&directory, GET_STATE, 0, state.as_mut_ptr().cast());
            told.is_ok()
                && state.get(1).is_some_and(|flags| flags & COUNTED_AND_BOUNDED == COUNTED_AND_BOUNDED)
        })
    }

    /// The project of this number on the file system of a directory. Nobody's files are of a number that nobody has assigned; 0 is that of
    /// all others.
    pub fn on(directory: impl AsRef<Path>, number: u32) -> Self {
        Self { place: directory.as_ref().to_owned(), number }
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Bounds what its files hold, in bytes, rounded up to KiB; 0 takes the bound away. Beyond it programs get `ENOSPC`, root too.
    pub fn limit(&self, bytes: u64) -> Result<()> {
        let kib = bytes.div_ceil(1024);
        let mut quota = Quota { hard: kib, soft: kib, valid: BYTES, ..Quota::default() };
        self.quota(SET, &mut quota)
    }

    /// How many bytes its files hold.
    pub fn used(&self) -> Result<u64> {
        let mut quota = Quota::default();
        self.quota(GET, &mut quota).map(|()| quota.bytes)
    }

    /// Whether it has neither files nor a bound.
    pub fn is_free(&self) -> Result<bool> {
        let mut quota = Quota::default();
        let told = self.quota(GET, &mut quota);
        match told {
            // xfs has no entry of what was never used.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(true),
            other => other.map(|()| (quota.bytes, quota.inodes, quota.hard) == (0, 0, 0)),
        }
    }

    /// A directory is of it, and everything that is made in it from here on. What is in there already stays what it is.
    pub fn assign(&self, directory: impl AsRef<Path>) -> Result<()> {
        let path = directory.as_ref();
        let failed = |e: io::Error| Error::io(format!("{}: project {}", path.display(), self.number), &e);
        let directory = File::open(path).map_err(failed)?;
        let mut attributes = Attributes::default();
        control(&directory, GET_ATTRIBUTES, &mut attributes).map_err(failed)?;
        attributes.flags |= INHERITED;
        attributes.project = self.number;
        control(&directory, SET_ATTRIBUTES, &mut attributes).map_err(failed)
    }

    fn quota(&self, command: u32, quota: &mut Quota) -> Result<()> {
        let failed = |e: io::Error| {
            Error::io(format!("{}: quota of project {}", self.place.display(), self.number), &e)
        };
        let directory = File::open(&self.place).map_err(failed)?;
        call(&directory, command, self.number, (&raw mut *quota).cast()).map_err(failed)
    }
}

/// quotactl_fd(2): `data` is as long as the command wants.
fn call(directory: &File, command: u32, number: u32, data: *mut libc::c_void) -> io::Result<()> {
    const QUOTACTL_FD: libc::c_long = 443;
    let command = (command << 8) | PROJECTS;
    // SAFETY: the callers in this file give structures that are at least as long as the kernel's, and live until it returns.
    match unsafe { libc::syscall(QUOTACTL_FD, directory.as_raw_fd(), command, number, data) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn control(directory: &File, request: u64, attributes: &mut Attributes) -> io::Result<()> {
    // SAFETY: a structure as the kernel's, which it reads or writes during the call.
    match unsafe { libc::ioctl(directory.as_raw_fd(), request as _, &raw mut *attributes) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_are_as_long_as_the_kernels() {
        assert_eq!((size_of::<Quota>(), size_of::<Attributes>()), (72, 28));
    }
}
