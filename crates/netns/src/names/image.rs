//! The embedded server as an executable file in memory.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// A static ELF file, built by this crate's build script.
static ELF: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/resolver"));

/// A sealed memfd; where `vm.memfd_noexec=2` forbids that, a file on a detached tmpfs, which nobody else can reach and which wants
/// CAP_SYS_ADMIN. Closed on exec.
pub(super) fn executable() -> io::Result<OwnedFd> {
    match sealed() {
        Err(refused) if refused.raw_os_error() == Some(libc::EACCES) => on_tmpfs().map_err(|_| refused),
        other => other,
    }
}

fn sealed() -> io::Result<OwnedFd> {
    let make = |more| {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        rustix::fs::memfd_create("isolate-names", flags | more)
    };
    // Since Linux 6.3; older kernels answer EINVAL and make every memfd executable.
    let file = match make(MemfdFlags::EXEC) {
        Err(Errno::INVAL) => make(MemfdFlags::empty())?,
        other => other?,
    };
    write_all(&file)?;
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(file)
}

fn on_tmpfs() -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let open = |flags| {
        let flags = flags | OFlags::CLOEXEC;
        rustix::fs::openat(&mount, "isolate-names", flags, Mode::from_raw_mode(0o500))
    };
    write_all(&open(OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?)?;
    Ok(open(OFlags::RDONLY)?)
}

fn write_all(file: &OwnedFd) -> io::Result<()> {
    let mut rest = ELF;
    while !rest.is_empty() {
        match rustix::io::write(file, rest) {
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
