//! System calls that neither std nor rustix has, each in a safe function.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::keeper_config::Config;
use crate::wire::{Message, Report};

/// First number for descriptors that a plan names: `dup3` onto 0–2 must not overwrite one.
const FLOOR: i32 = 10;

/// The same open file under a number that no standard descriptor has.
pub(crate) fn above_standard(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() >= 3 {
        return Ok(fd);
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), FLOOR)?)
}

/// memfd_create(2) with `MFD_CLOEXEC` and `flags`.
pub(crate) fn memory_file(name: &CStr, flags: u32) -> io::Result<OwnedFd> {
    // SAFETY: the name is NUL-terminated.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: new and ours.
    above_standard(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A pair of connected SOCK_SEQPACKET sockets, CLOEXEC: the caller's end and the monitor's.
pub(crate) fn control_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut pair = [-1; 2];
    // SAFETY: room for two descriptors.
    let done = unsafe {
        libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, pair.as_mut_ptr())
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: new and ours.
    let [a, b] = pair.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    Ok((above_standard(a)?, above_standard(b)?))
}

/// One message of the control socket and the descriptor that came along. `None` at end of file, and when there is none
/// yet and `wait` is false.
pub(crate) fn receive(socket: BorrowedFd<'_>, wait: bool) -> io::Result<Received> {
    let mut message = MaybeUninit::<Message>::zeroed();
    let mut part = libc::iovec { iov_base: message.as_mut_ptr().cast(), iov_len: size_of::<Message>() };
    let mut rights = [0u64; 4];
    // SAFETY: all zero is a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = rights.as_mut_ptr().cast();
    let flags = libc::MSG_CMSG_CLOEXEC | if wait { 0 } else { libc::MSG_DONTWAIT };
    let mut ended = false;
    let got = loop {
        header.msg_controllen = size_of_val(&rights) as _;
        // SAFETY: the header and what it points to live on this stack.
        let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, flags) };
        if got == 0 && !ended {
            // The kernel looks for a message first, and then for the end: a last word that comes in between, with the end right
            // behind it, waits still (__skb_wait_for_more_packets in net/core/datagram.c). After the end nothing comes any more.
            ended = true;
            continue;
        }
        if got >= 0 {
            break got as usize;
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            // The other end closed with something unread, told once and before what it has sent.
            io::ErrorKind::Interrupted | io::ErrorKind::ConnectionReset => {}
            io::ErrorKind::WouldBlock if !wait => return Ok(Received::Nothing),
            _ => return Err(error),
        }
    };
    // The kernel filled one header (length, level, type) and at most one descriptor: only that much room was offered to
    // a sender that sends one.
    let fd = (header.msg_controllen as usize >= 20).then_some(rights[2] as u32 as i32);
    // SAFETY: received just now, ours alone.
    let fd = fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    if got == 0 {
        return Ok(Received::End);
    }
    if got == size_of::<Report>() {
        // SAFETY: plain numbers, as aligned as a message, and shorter.
        return Ok(Received::Report(unsafe { message.as_ptr().cast::<Report>().read() }));
    }
    // SAFETY: plain numbers, zeroed beforehand.
    Ok(Received::Message(unsafe { message.assume_init() }, fd))
}

/// What [`receive`] found.
pub(crate) enum Received {
    Message(Message, Option<OwnedFd>),
    /// Where there is no pipe for it.
    Report(Report),
    Nothing,
    End,
}

/// Reaps a child by its pidfd if it has ended, or waits for that. A child that somebody else has reaped, or that the
/// kernel reaps since SIGCHLD is ignored, counts as reaped.
pub(crate) fn reap(pidfd: BorrowedFd<'_>, wait: bool) -> io::Result<bool> {
    let options = WaitIdOptions::EXITED | if wait { WaitIdOptions::empty() } else { WaitIdOptions::NOHANG };
    loop {
        match waitid(WaitId::PidFd(pidfd), options) {
            Ok(reaped) => return Ok(reaped.is_some()),
            Err(Errno::INTR) => {}
            Err(Errno::CHILD) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

/// pidfd_send_signal(2), Linux 5.1. A real-time signal has no name in the libraries, so the number it is.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a borrowed descriptor and plain numbers.
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, 0, 0) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// mount_setattr(2) with MOUNT_ATTR_IDMAP on a copy of a mount that goes again at once.
pub(crate) fn try_id_map(path: &std::path::Path, namespace: BorrowedFd<'_>) -> io::Result<()> {
    use rustix::mount::OpenTreeFlags;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let copy = rustix::mount::open_tree(rustix::fs::CWD, path, flags)?;
    let attr = [libc::MOUNT_ATTR_IDMAP, 0, 0, namespace.as_raw_fd() as u64];
    // SAFETY: a descriptor of ours, a NUL-terminated string, and a structure on this stack of the size that is said.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            copy.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            attr.as_ptr(),
            size_of_val(&attr),
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The configuration of a keeper as it lies in memory.
pub(crate) fn config_bytes(config: &Config) -> &[u8] {
    // SAFETY: plain numbers without padding, which an assertion beside it says, as long as they are borrowed.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(config).cast(), size_of::<Config>()) }
}

/// A clock, in ns.
pub(crate) fn clock(id: rustix::time::ClockId) -> u64 {
    let now = rustix::time::clock_gettime(id);
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

/// The number of a pidfd's process in the caller's pid namespace, while there is one; `None` of anything else
/// (pidfd_open(2), "pidfd" in proc_pid_fdinfo(5)).
pub(crate) fn process_of(pidfd: BorrowedFd<'_>) -> Option<u32> {
    number_of(pidfd)?.parse().ok()
}

/// Whether this is a pidfd of a process that has ended and was waited for.
pub(crate) fn is_of_nobody(pidfd: BorrowedFd<'_>) -> bool {
    number_of(pidfd).as_deref() == Some("-1")
}

fn number_of(pidfd: BorrowedFd<'_>) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix("Pid:")?.trim().to_owned()))
}

/// The caller's own limit: soft and hard.
pub(crate) fn resource_limit(resource: u32) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a structure on this stack, and no limit to be set.
    let done =
        unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::null::<u8>(), &raw mut limit) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok((limit.rlim_cur, limit.rlim_max)) }
}

/// One byte to the other end of a socket. SIGPIPE is not raised.
pub(crate) fn send_byte(socket: BorrowedFd<'_>, byte: u8) -> io::Result<()> {
    rustix::net::send(socket, &[byte], rustix::net::SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Up to the end of file, or as much as there is room for.
pub(crate) fn read_all(file: BorrowedFd<'_>, room: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < room.len() {
        match rustix::io::read(file, &mut room[read..]) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(read)
}

/// A whole message to the other end of a socket, if it takes one of that size now.
pub(crate) fn send_whole(socket: BorrowedFd<'_>, bytes: &[u8]) -> bool {
    let flags = rustix::net::SendFlags::NOSIGNAL | rustix::net::SendFlags::DONTWAIT;
    rustix::net::send(socket, bytes, flags).is_ok_and(|sent| sent == bytes.len())
}

/// Whether the other end of a pipe is closed within this time. What is written there meanwhile does not wake anybody.
pub(crate) fn closed_within(pipe: BorrowedFd<'_>, timeout: Duration) -> bool {
    polled(pipe, PollFlags::empty(), timeout)
}

/// Whether there is something to read within this time, or the end: of a pidfd, the end of its process.
pub(crate) fn readable_within(fd: BorrowedFd<'_>, timeout: Duration) -> bool {
    polled(fd, PollFlags::IN, timeout)
}

fn polled(fd: BorrowedFd<'_>, wanted: PollFlags, timeout: Duration) -> bool {
    let deadline = Instant::now().checked_add(timeout);
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| left.try_into().ok());
        match poll(&mut [PollFd::from_borrowed_fd(fd, wanted)], left.as_ref()) {
            Err(Errno::INTR) => {}
            ready => return ready.is_ok_and(|count| count > 0),
        }
    }
}

/// The version of Landlock's interface, from 1 on. ENOSYS where the kernel has none, EOPNOTSUPP where it is switched off
/// (landlock_create_ruleset(2), Linux 5.13).
#[cfg(feature = "landlock")]
pub(crate) fn landlock_abi() -> io::Result<u32> {
    const VERSION: u32 = 1 << 0;
    // SAFETY: with this flag the kernel reads nothing and makes nothing.
    let abi =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u64>(), 0usize, VERSION) };
    u32::try_from(abi).map_err(|_| io::Error::last_os_error())
}
