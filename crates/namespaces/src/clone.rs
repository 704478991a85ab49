//! After clone: the only code that runs in a process which still shares the caller's memory.
//!
//! Rules for everything reachable from `child`: raw system calls only; no allocation, no lock, no libc (its errno and its
//! signal wrappers are the caller's), no panic, no unwinding, no return. The process joins no namespace, and no container's cgroup: an
//! out-of-memory kill or a freeze of that would reach the caller through the shared memory. Which groups it may be born into, `birth` says.

use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;

use crate::sys::call;
use crate::wire::{LAUNCH, Report};

/// Everything the child needs, prepared by the caller. Lives until the child has executed or ended (CLONE_VFORK).
pub(crate) struct Start<'a> {
    pub image: RawFd,
    /// Descriptors that the launcher gets; every other one from 3 on closes.
    pub keep: &'a [RawFd],
    pub argv: &'a [*const libc::c_char; 5],
    pub report: RawFd,
}

/// A child that has executed.
pub(crate) struct Born {
    pub pid: Pid,
    pub pidfd: OwnedFd,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const FLAGS: u64 = (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD) as u64;

/// Of `child`, which calls nothing that it does not see: far more than it needs.
const STACK: usize = 8 << 10;
const AT_EMPTY_PATH: usize = 0x1000;
const CLOSE_RANGE_CLOEXEC: usize = 4;

/// Clones and executes the image in the child, which is born into the cgroup, if one is named (clone3(2) then, which filters may refuse by
/// ENOSYS). Returns when that has happened.
pub(crate) fn start(start: &Start<'_>, cgroup: Option<RawFd>) -> io::Result<Born> {
    // On the caller's own stack: it is held while the child runs, and a mapping would cost more than the clone.
    let mut stack = MaybeUninit::<[u128; STACK / 16]>::uninit();
    let mut pidfd: RawFd = -1;
    let all = u64::MAX;
    let mut before = 0u64;
    // No handler of the caller's may run in the child, on the child's stack, in the caller's memory. Raw, because libc's
    // wrapper leaves two of its own signals unblocked.
    // SAFETY: both sets are eight bytes, as the last argument says.
    unsafe {
        call(
            libc::SYS_rt_sigprocmask as usize,
            [libc::SIG_SETMASK as usize, &raw const all as usize, &raw mut before as usize, 8, 0, 0],
        );
    }
    let (bottom, place) = (stack.as_mut_ptr() as usize, &raw mut pidfd as usize);
    let args = libc::clone_args {
        flags: FLAGS | CLONE_INTO_CGROUP,
        pidfd: place as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: bottom as u64,
        stack_size: STACK as u64,
        cgroup: cgroup.map_or(0, |fd| fd as u64),
        child_tid: 0,
        parent_tid: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
    };
    // Without a cgroup the old call: it has all the other flags, is allowed by filters that refuse clone3, and takes the stack's upper end.
    let (number, args) = match cgroup {
        Some(_) => (libc::SYS_clone3, [&raw const args as usize, size_of::<libc::clone_args>(), 0]),
        None => (libc::SYS_clone, [FLAGS as usize | libc::SIGCHLD as usize, bottom + STACK, place]),
    };
    // SAFETY: `stack`, `args` and `start` outlive the child's use of them, since CLONE_VFORK holds us until it executes or ends.
    let pid = unsafe { clone(number, args, child, start as *const Start<'_> as *mut c_void) };
    // SAFETY: as above.
    unsafe {
        call(
            libc::SYS_rt_sigprocmask as usize,
            [libc::SIG_SETMASK as usize, &raw const before as usize, 0, 8, 0, 0],
        );
    }
    if pid < 0 {
        return Err(io::Error::from_raw_os_error(-pid as i32));
    }
    // Of the caller's own, the kernel gives no number below 1.
    let pid = Pid::from_raw(pid as i32).ok_or(io::ErrorKind::NotFound)?;
    // SAFETY: the kernel stored a new descriptor there.
    Ok(Born { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// clone(2) or clone3(2) with three arguments, whose child runs `entry(data)` on a stack of its own. libc's wrappers would touch their own
/// state.
/// SAFETY: the arguments name memory that nobody else uses until the child has executed or ended, a stack among it, and `data` lives as
/// long.
unsafe fn clone(
    number: libc::c_long,
    args: [usize; 3],
    entry: unsafe extern "C" fn(*mut c_void) -> !,
    data: *mut c_void,
) -> isize {
    let ret: isize;
    // SAFETY: the child leaves this block only into `entry`, on its own stack; in the caller only the listed registers
    // change.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") number as isize => ret,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") 0usize, in("r8") 0usize,
            in("r12") entry, in("r13") data,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x21",
            "blr x20",
            "brk 1",
            "2:",
            in("x8") number,
            inlateout("x0") args[0] => ret,
            in("x1") args[1], in("x2") args[2], in("x3") 0usize, in("x4") 0usize,
            in("x20") entry, in("x21") data,
            lateout("x30") _,
        );
    }
    ret
}

/// SAFETY: `data` is the [`Start`] of the caller, which waits meanwhile.
unsafe extern "C" fn child(data: *mut c_void) -> ! {
    // SAFETY: `start` passed it, and it lives while this runs. Raw calls on numbers and on memory that it owns.
    unsafe {
        let start = &*(data as *const Start<'_>);
        // What the caller holds without CLOEXEC must not reach the launcher; what the plan names keeps its number.
        let mut failed =
            call(libc::SYS_close_range as usize, [3, u32::MAX as usize, CLOSE_RANGE_CLOEXEC, 0, 0, 0]);
        let mut n = 0;
        while n < start.keep.len() {
            let fd = *start.keep.as_ptr().add(n);
            let kept = call(libc::SYS_fcntl as usize, [fd as usize, libc::F_SETFD as usize, 0, 0, 0, 0]);
            if kept < 0 {
                failed = kept;
            }
            n += 1;
        }
        let none: usize = 0;
        if failed >= 0 {
            failed = call(
                libc::SYS_execveat as usize,
                [
                    start.image as usize,
                    c"".as_ptr() as usize,
                    start.argv.as_ptr() as usize,
                    &raw const none as usize,
                    AT_EMPTY_PATH,
                    0,
                ],
            );
        }
        let report = Report::failed(LAUNCH, -failed as i32);
        let size = size_of::<Report>();
        call(libc::SYS_write as usize, [start.report as usize, &raw const report as usize, size, 0, 0, 0]);
        loop {
            call(libc::SYS_exit_group as usize, [127, 0, 0, 0, 0, 0]);
        }
    }
}
