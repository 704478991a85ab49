//! One layer that takes no writes: the kernel makes no overlay of it, and none is needed.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::mount::{OpenTreeFlags, open_tree};

use crate::error::{Error, Result};
use crate::mount::DetachedMount;

/// The directory itself, read-only, without the mounts below it (open_tree(2), mount_setattr(2), Linux 5.12).
pub(crate) fn read_only(layer: &Path) -> Result<DetachedMount> {
    let failed = |e: io::Error| Error::io(format!("layer {}", layer.display()), &e);
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(rustix::fs::CWD, layer, flags).map_err(|e| failed(e.into()))?;
    set_read_only(&tree).map_err(failed)?;
    Ok(DetachedMount::new(tree))
}

fn set_read_only(tree: &OwnedFd) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: an open descriptor, an empty string that ends, and a structure of the size that is said.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
