//! A place of a size on any disk: a file with an ext4 in it, on a loop device (loop(4)).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use crate::error::{Error, Result};
use crate::ext4;
use crate::mount::DetachedMount;

/// Numbers of linux/loop.h.
const LOOP_CTL_GET_FREE: u64 = 0x4c82;
const LOOP_CONFIGURE: u64 = 0x4c0a;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;
/// Somebody else takes the device that was free a moment ago.
const ATTEMPTS: u32 = 100;

/// struct loop_config, with the struct loop_info64 in it.
#[repr(C)]
struct Configuration {
    fd: u32,
    block_size: u32,
    /// Device, inode, rdev, offset, size limit, then number, encryption's type and size.
    numbers: [u64; 5],
    kinds: [u32; 3],
    flags: u32,
    names: [u8; 64 + 64 + 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// Makes a file of this size, which must not be there, with an empty file system in it, and mounts that where no path leads to: a place
/// for an upper and a work directory that hold no more than that, whatever the disk is. The file is sparse: it takes as much as was
/// written. Beyond it programs get `ENOSPC`.
///
/// The loop device goes with the mount, and the file can be removed at once. For root, with loop devices (`CONFIG_BLK_DEV_LOOP`, Linux
/// 5.8). The file system has no journal: it is for what is thrown away.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let place = isolate_overlay::limited("/var/lib/app/upper.img", 1 << 30)?.attach("/mnt/place")?;
/// std::fs::create_dir("/mnt/place/upper")?;
/// std::fs::create_dir("/mnt/place/work")?;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for less than 1 MiB or more than 8 TiB; [`Unsupported`](crate::ErrorKind::Unsupported)
/// without loop devices or ext4.
pub fn limited(file: impl AsRef<Path>, size: u64) -> Result<DetachedMount> {
    let path = file.as_ref();
    let failed = |e: io::Error| Error::io(path.display(), &e);
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let written = ext4::make(&file, size, uuid()).map_err(|e| match e.kind() {
        io::ErrorKind::InvalidInput => Error::invalid(format!("{}: {e}", path.display())),
        _ => failed(e),
    });
    let made = written.and_then(|()| {
        let (device, place) = attach(&file).map_err(|e| missing("loop devices", &e))?;
        let mounted = mount(&place).map_err(|e| missing("ext4", &e))?;
        // The mount has the device now.
        drop(device);
        Ok(DetachedMount::new(mounted))
    });
    if made.is_err() {
        std::fs::remove_file(path).ok();
    }
    made
}

fn missing(what: &str, error: &io::Error) -> Error {
    let gone = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(libc::ENODEV);
    if gone {
        let none = io::Error::from(io::ErrorKind::Unsupported);
        return Error::io(format!("a place of a size on the disk, by {what}"), &none)
            .with_hint(format!("this machine has none: {error}"));
    }
    Error::io(what, error)
}

/// A loop device with the file in it, until its last user has gone.
fn attach(file: &File) -> io::Result<(File, PathBuf)> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    for _ in 0..ATTEMPTS {
        // SAFETY: without an argument, on a descriptor that is open.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let place = PathBuf::from(format!("/dev/loop{number}"));
        let device = OpenOptions::new().read(true).write(true).open(&place);
        let device = match device {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => continue,
            other => other?,
        };
        // Without the page cache of both where the file's system can.
        let configured =
            configure(&device, file, AUTOCLEAR | DIRECT_IO).or_else(|_| configure(&device, file, AUTOCLEAR));
        match configured {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {}
            other => return other.map(|()| (device, place)),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EBUSY))
}

fn configure(device: &File, file: &File, flags: u32) -> io::Result<()> {
    let fd = u32::try_from(file.as_raw_fd()).map_err(io::Error::other)?;
    let configuration = Configuration {
        fd,
        block_size: 4096,
        numbers: [0; 5],
        kinds: [0; 3],
        flags,
        names: [0; 160],
        init: [0; 2],
        reserved: [0; 8],
    };
    // SAFETY: a structure as the kernel's, which it reads during the call.
    match unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const configuration) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn mount(device: &Path) -> io::Result<OwnedFd> {
    let context = fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", device)?;
    // No barriers: after a crash nobody looks into it.
    fsconfig_set_flag(&context, "nobarrier")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Nobody looks for it by this; it seeds the hashes of directories.
fn uuid() -> [u8; 16] {
    use std::hash::{BuildHasher, RandomState};
    let part = || RandomState::new().hash_one(std::process::id()).to_le_bytes();
    let mut uuid = [0; 16];
    uuid.iter_mut().zip(part().into_iter().chain(part())).for_each(|(to, from)| *to = from);
    uuid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structure_is_as_long_as_the_kernels() {
        assert_eq!(size_of::<Configuration>(), 8 + 232 + 64);
    }
}
