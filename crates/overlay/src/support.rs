//! What this kernel's overlayfs can do, and what a file system can be used for.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, fsconfig_set_flag, fsconfig_set_string, fsopen};

use crate::error::{Error, Result};

/// Magic numbers of file systems that can hold an upper layer (statfs(2)): they have extended attributes, whiteouts and d_type.
const UPPERS: [u64; 7] = [
    0xEF53,      // ext4
    0x5846_5342, // xfs
    0x9123_683E, // btrfs
    0x0102_1994, // tmpfs
    0xF2F5_2010, // f2fs
    0xCA45_1A4E, // bcachefs
    0x2FC1_2FC1, // zfs, since 2.2
];

/// Whether this kernel has overlayfs. Loads its module if there is one and the caller may; mounts nothing.
///
/// ```no_run
/// isolate_overlay::supported()?;
/// # Ok::<(), isolate_overlay::Error>(())
/// ```
pub fn supported() -> Result<()> {
    // Asked once: to close a context that nothing was mounted of waits for every processor (`ovl_free_fs` in the kernel).
    static THERE: AtomicBool = AtomicBool::new(false);
    if THERE.load(Ordering::Relaxed) {
        return Ok(());
    }
    match context() {
        Ok(_) => {
            THERE.store(true, Ordering::Relaxed);
            Ok(())
        }
        // Not for this user to try, or only mount(2) is there: the list has what is loaded.
        Err(Errno::PERM | Errno::NOSYS) if listed() => Ok(()),
        Err(e) => Err(no_overlay(e)),
    }
}

/// Whether an upper layer can lie in this directory: its file system is one that overlayfs can write to. An overlay (as the root
/// of most containers is one), NFS and FAT are not.
#[must_use]
pub fn can_hold_upper(directory: impl AsRef<Path>) -> bool {
    // f_type is signed on some architectures; the numbers have 32 bits.
    rustix::fs::statfs(directory.as_ref())
        .is_ok_and(|fs| UPPERS.contains(&((fs.f_type as u64) & 0xffff_ffff)))
}

pub(crate) fn context() -> Result<OwnedFd, Errno> {
    fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
}

pub(crate) fn no_overlay(errno: Errno) -> Error {
    let error = Error::io("overlay", &io::Error::from(errno));
    match errno {
        Errno::NODEV => {
            error.with_hint("this kernel has no overlayfs: `modprobe overlay`, or CONFIG_OVERLAY_FS=y")
        }
        _ => error,
    }
}

/// Whether layers are given one by one (`lowerdir+`, Linux 6.7 and 6.6.23). Tried out: before 6.5 overlayfs looks at no parameter
/// until it is mounted, and so takes even one that does not exist; from then on it refuses what it does not know.
pub(crate) fn appends() -> bool {
    static APPENDS: OnceLock<bool> = OnceLock::new();
    *APPENDS.get_or_init(|| match context() {
        Ok(context) => {
            fsconfig_set_flag(context.as_fd(), "isolate_probe").is_err()
                && fsconfig_set_string(context.as_fd(), "lowerdir+", "/").is_ok()
        }
        Err(Errno::NOSYS) => false,
        // Cannot be tried (no privilege): by the number.
        Err(_) => release() >= (6, 7),
    })
}

fn listed() -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.split_whitespace().next_back() == Some("overlay"))
}

fn release() -> (u32, u32) {
    let uname = rustix::system::uname();
    let text = uname.release().to_string_lossy().into_owned();
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_overlay_is_told_by_name_and_with_a_remedy() {
        let error = no_overlay(Errno::NODEV);
        assert_eq!(error.to_string(), "overlay: No such device (os error 19)");
        assert_eq!(error.kind(), crate::ErrorKind::Unsupported);
        assert!(error.hint().unwrap().contains("modprobe overlay"));
    }

    #[test]
    fn proc_can_hold_no_upper_layer() {
        assert!(!can_hold_upper("/proc"));
        assert!(!can_hold_upper("/no/such/directory"));
    }
}
