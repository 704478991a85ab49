//! Whether mounts can be id-mapped.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::command::Command;
use crate::error::{Error, ErrorKind, Result};
use crate::id_map::IdMap;
use crate::kernel;
use crate::namespace::Namespace;

/// Whether files below this path can be [id-mapped](crate::Mount::id_mapped): an error says what stands against it.
///
/// Tried out on a copy of the mount that nobody sees, with a user namespace of a process that waits for a moment, and remembered for
/// each file system. Wants CAP_SYS_ADMIN. Overlays, NFS and FUSE (before Linux 6.12) cannot be; tmpfs since 6.3, ext4 since 5.12.
///
/// [`Unsupported`](ErrorKind::Unsupported) is an answer. Any other error says that it could not be tried, which need not be so the next
/// time: no memory, no descriptor.
///
/// ```no_run
/// isolate_namespaces::id_mappable("/srv/data")?;
/// # Ok::<(), isolate_namespaces::Error>(())
/// ```
pub fn id_mappable(path: impl AsRef<Path>) -> Result<()> {
    /// The errno for each file system, by the number of its device; 0: none.
    static KNOWN: Mutex<BTreeMap<u64, i32>> = Mutex::new(BTreeMap::new());
    let path = path.as_ref();
    let failed = |e: &std::io::Error| Error::io(format!("cannot id-map {}", path.display()), e);
    let device = std::fs::metadata(path).map_err(|e| failed(&e))?.dev();
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(&device).copied();
    let errno = match known {
        Some(errno) => errno,
        None => {
            let errno = match kernel::try_id_map(path, namespace()?.as_fd()) {
                Ok(()) => 0,
                Err(e) => {
                    e.raw_os_error().filter(|errno| REFUSALS.contains(errno)).ok_or_else(|| failed(&e))?
                }
            };
            KNOWN.lock().unwrap_or_else(PoisonError::into_inner).insert(device, errno);
            errno
        }
    };
    match errno {
        0 => Ok(()),
        libc::EINVAL => Err(Error::os(format!("cannot id-map {}", path.display()), errno)
            .with_kind(ErrorKind::Unsupported)
            .with_hint("its file system does not support id-mapped mounts on this kernel")),
        errno => {
            Err(Error::os(format!("cannot id-map {}", path.display()), errno)
                .with_kind(ErrorKind::Unsupported))
        }
    }
}

/// Of mount_setattr(2) and open_tree(2), whenever they are asked.
const REFUSALS: [i32; 5] = [libc::EINVAL, libc::EPERM, libc::EACCES, libc::ENOSYS, libc::EOPNOTSUPP];
/// Of clone(2), where user namespaces are switched off or used up.
const NO_NAMESPACE: [i32; 6] =
    [libc::EINVAL, libc::EPERM, libc::EACCES, libc::ENOSYS, libc::ENOSPC, libc::EUSERS];

/// A user namespace of a child that never goes on.
fn namespace() -> Result<OwnedFd> {
    let map = || IdMap::range(0, 1 << 30, 1);
    let held = Command::new("/").unshare([Namespace::User]).uid_map(map()).gid_map(map()).spawn_held();
    let held = held.map_err(|e| match e.raw_os_error() {
        Some(errno) if NO_NAMESPACE.contains(&errno) => e.with_kind(ErrorKind::Unsupported),
        _ => e,
    })?;
    let path = format!("/proc/{}/ns/user", held.id());
    File::open(&path).map(Into::into).map_err(|e| Error::io(path, &e))
}
