//! The only unsafe code: the world's first process, between fork and exec, and sockets of the loopback.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::thread::UnshareFlags;

/// Makes `command` start in mount and network namespaces of its own, below a small reaper.
pub(crate) fn enter_world(command: &mut Command) {
    let enter = || {
        let flags = UnshareFlags::NEWNS | UnshareFlags::NEWNET;
        // SAFETY: this process was just forked and has one thread; no library state depends on its namespaces.
        unsafe { rustix::thread::unshare_unsafe(flags) }?;
        become_reaper_of_the_test()
    };
    // SAFETY: `enter` makes only system calls; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(enter) };
}

/// Forks once more: the child goes on to the exec, the parent reaps orphans until the child is gone.
#[expect(clippy::disallowed_methods, reason = "this process is a fork with one thread already")]
fn become_reaper_of_the_test() -> io::Result<()> {
    // SAFETY: prctl with these constants reads no memory.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    // SAFETY: one thread, and both sides make only system calls until exec or exit.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: as above. The reaper has one thread, so its death is the process's death.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
            Ok(())
        }
        child => reap_until(child),
    }
}

fn reap_until(child: c_int) -> ! {
    // SAFETY: the reaper uses no descriptor from here on; the starter's error pipe must be closed for it to go on.
    unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for an int.
        let pid = unsafe { libc::wait4(-1, &raw mut status, 0, std::ptr::null_mut()) };
        if pid == child {
            let code = if libc::WIFEXITED(status) {
                libc::WEXITSTATUS(status)
            } else {
                128 + libc::WTERMSIG(status)
            };
            // SAFETY: ends this process without running anything of the forked program.
            unsafe { libc::_exit(code) };
        }
    }
}

/// What `look` gives on a thread of its own in new mount and network namespaces; `None` where they are refused.
pub(crate) fn on_thread_in_new_world<T: Send + 'static>(
    look: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let thread = std::thread::spawn(move || {
        let flags = UnshareFlags::FS | UnshareFlags::NEWNS | UnshareFlags::NEWNET;
        // SAFETY: the thread was made for this and ends after it.
        unsafe { rustix::thread::unshare_unsafe(flags) }.ok().map(|()| look())
    });
    thread.join().ok().flatten()
}

/// Brings the loopback of the calling thread's network namespace up (netdevice(7), SIOCSIFFLAGS).
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    // SAFETY: ifreq is plain data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l'.cast_signed();
    request.ifr_name[1] = b'o'.cast_signed();
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: the request lives as long as the call and has the layout that SIOCSIFFLAGS reads.
    let set = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A socket that is closed on exec.
pub(crate) fn socket(domain: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes no pointer.
    let socket = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// Whether the descriptor is a netlink socket.
pub(crate) fn is_netlink(descriptor: RawFd) -> bool {
    let mut domain: c_int = 0;
    let mut length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: `domain` and `length` live as long as the call, and `length` says how large `domain` is.
    let got = unsafe {
        libc::getsockopt(
            descriptor,
            libc::SOL_SOCKET,
            libc::SO_DOMAIN,
            (&raw mut domain).cast(),
            &raw mut length,
        )
    };
    got == 0 && domain == libc::AF_NETLINK
}
