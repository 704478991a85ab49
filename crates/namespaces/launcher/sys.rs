//! One raw system call, for the launcher and for the few instructions between clone and exec. Touches no errno, no TLS.

/// # Safety
/// What the call does to memory is the caller's promise.
#[inline(always)]
pub(crate) unsafe fn call(nr: usize, a: [usize; 6]) -> isize {
    let ret: isize;
    // SAFETY: the kernel preserves every register but the result (and rcx, r11 on x86_64).
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") nr => ret,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") nr,
            inlateout("x0") a[0] => ret,
            in("x1") a[1], in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5],
            options(nostack)
        );
    }
    ret
}

/// Numbers of the calls that are made by name; those of the plan come with it.
#[cfg(target_arch = "x86_64")]
pub(crate) mod nr {
    pub(crate) const READ: usize = 0;
    pub(crate) const WRITE: usize = 1;
    pub(crate) const CLOSE: usize = 3;
    pub(crate) const MMAP: usize = 9;
    pub(crate) const MUNMAP: usize = 11;
    pub(crate) const RT_SIGACTION: usize = 13;
    pub(crate) const NANOSLEEP: usize = 35;
    pub(crate) const SENDMSG: usize = 46;
    pub(crate) const CLONE: usize = 56;
    pub(crate) const EXECVE: usize = 59;
    pub(crate) const FCNTL: usize = 72;
    pub(crate) const CHDIR: usize = 80;
    pub(crate) const PRCTL: usize = 157;
    pub(crate) const EXIT_GROUP: usize = 231;
    pub(crate) const WAITID: usize = 247;
    pub(crate) const OPENAT: usize = 257;
    pub(crate) const PPOLL: usize = 271;
    pub(crate) const IOCTL: usize = 16;
    pub(crate) const RECVMSG: usize = 47;
    pub(crate) const SOCKETPAIR: usize = 53;
    pub(crate) const KILL: usize = 62;
    pub(crate) const GETRUSAGE: usize = 98;
    pub(crate) const CAPSET: usize = 126;
    pub(crate) const RT_SIGTIMEDWAIT: usize = 128;
    pub(crate) const FSTATFS: usize = 138;
    pub(crate) const MOUNT: usize = 165;
    pub(crate) const CLOCK_GETTIME: usize = 228;
    pub(crate) const SECCOMP: usize = 317;
    pub(crate) const STATX: usize = 332;
}
/// The same for aarch64.
#[cfg(target_arch = "aarch64")]
pub(crate) mod nr {
    pub(crate) const READ: usize = 63;
    pub(crate) const WRITE: usize = 64;
    pub(crate) const CLOSE: usize = 57;
    pub(crate) const MMAP: usize = 222;
    pub(crate) const MUNMAP: usize = 215;
    pub(crate) const RT_SIGACTION: usize = 134;
    pub(crate) const NANOSLEEP: usize = 101;
    pub(crate) const SENDMSG: usize = 211;
    pub(crate) const CLONE: usize = 220;
    pub(crate) const EXECVE: usize = 221;
    pub(crate) const FCNTL: usize = 25;
    pub(crate) const CHDIR: usize = 49;
    pub(crate) const PRCTL: usize = 167;
    pub(crate) const EXIT_GROUP: usize = 94;
    pub(crate) const WAITID: usize = 95;
    pub(crate) const OPENAT: usize = 56;
    pub(crate) const PPOLL: usize = 73;
    pub(crate) const IOCTL: usize = 29;
    pub(crate) const MOUNT: usize = 40;
    pub(crate) const FSTATFS: usize = 44;
    pub(crate) const CAPSET: usize = 91;
    pub(crate) const CLOCK_GETTIME: usize = 113;
    pub(crate) const KILL: usize = 129;
    pub(crate) const RT_SIGTIMEDWAIT: usize = 137;
    pub(crate) const GETRUSAGE: usize = 165;
    pub(crate) const SOCKETPAIR: usize = 199;
    pub(crate) const RECVMSG: usize = 212;
    pub(crate) const SECCOMP: usize = 277;
    pub(crate) const STATX: usize = 291;
}
/// Those that came after the architectures were unified.
pub(crate) mod new {
    pub(crate) const PIDFD_SEND_SIGNAL: usize = 424;
    pub(crate) const OPEN_TREE: usize = 428;
    pub(crate) const MOVE_MOUNT: usize = 429;
    pub(crate) const CLONE3: usize = 435;
    pub(crate) const CLOSE_RANGE: usize = 436;
    pub(crate) const MOUNT_SETATTR: usize = 442;
    pub(crate) const LANDLOCK_ADD_RULE: usize = 445;
}

pub(crate) const EINTR: isize = 4;
pub(crate) const ECHILD: isize = 10;
pub(crate) const EAGAIN: isize = 11;
pub(crate) const EACCES: isize = 13;
pub(crate) const ENOENT: isize = 2;
pub(crate) const ENOTDIR: isize = 20;
pub(crate) const ENODEV: isize = 19;
pub(crate) const EINVAL: isize = 22;
pub(crate) const EPIPE: isize = 32;
pub(crate) const ETXTBSY: isize = 26;
pub(crate) const ENOSYS: isize = 38;
pub(crate) const EBADMSG: i32 = 74;
pub(crate) const ESRCH: isize = 3;
