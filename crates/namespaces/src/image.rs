//! The embedded programs as executable memory files.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags, SealFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::kernel;

/// The launcher: a static ELF file, built by this crate's build script.
pub(crate) static ELF: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/launcher"));

/// The keeper, another one.
static KEEPER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/keeper"));

/// Since Linux 6.3; older kernels answer EINVAL and make every memfd executable
/// (Documentation/userspace-api/mfd_noexec.rst).
const MFD_EXEC: u32 = 0x10;
const MFD_NOEXEC_SEAL: u32 = 0x8;
const MFD_ALLOW_SEALING: u32 = 0x2;

/// The launcher, made once a process and kept: one descriptor, close-on-exec.
pub(crate) fn launcher() -> io::Result<BorrowedFd<'static>> {
    static FILE: OnceLock<OwnedFd> = OnceLock::new();
    once(&FILE, c"isolate-launcher", ELF)
}

/// The keeper, in the same way.
pub(crate) fn keeper() -> io::Result<BorrowedFd<'static>> {
    static FILE: OnceLock<OwnedFd> = OnceLock::new();
    once(&FILE, c"isolate-keeper", KEEPER)
}

fn once(file: &'static OnceLock<OwnedFd>, name: &CStr, elf: &[u8]) -> io::Result<BorrowedFd<'static>> {
    if let Some(file) = file.get() {
        return Ok(file.as_fd());
    }
    let made = executable(name, elf)?;
    Ok(file.get_or_init(|| made).as_fd())
}

/// A sealed memfd; where `vm.memfd_noexec=2` forbids that, a file on a detached tmpfs, which nobody else can reach and which wants
/// CAP_SYS_ADMIN.
fn executable(name: &CStr, elf: &[u8]) -> io::Result<OwnedFd> {
    match sealed(name, elf) {
        Err(refused) if refused.raw_os_error() == Some(libc::EACCES) => {
            on_tmpfs(name, elf).map_err(|_| refused)
        }
        other => other,
    }
}

fn sealed(name: &CStr, elf: &[u8]) -> io::Result<OwnedFd> {
    let file = match kernel::memory_file(name, MFD_ALLOW_SEALING | MFD_EXEC) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => kernel::memory_file(name, MFD_ALLOW_SEALING)?,
        other => other?,
    };
    write_all(file.as_fd(), elf)?;
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(file)
}

fn on_tmpfs(name: &CStr, elf: &[u8]) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let open = |flags| {
        rustix::fs::openat(&mount, name, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o500))
            .map_err(io::Error::from)
    };
    write_all(open(OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?.as_fd(), elf)?;
    kernel::above_standard(open(OFlags::RDONLY)?)
}

/// A memory file with these bytes, never executable.
pub(crate) fn data(bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = match kernel::memory_file(c"isolate-plan", MFD_NOEXEC_SEAL) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => kernel::memory_file(c"isolate-plan", 0)?,
        other => other?,
    };
    write_all(file.as_fd(), bytes)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    Ok(file)
}

fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
