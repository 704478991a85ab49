//! clone3(2) with a stack, into a control group.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What a child begins with.
///
/// # Safety
/// It is given what the caller of [`clone_into`] promised.
pub type Entry = unsafe extern "C" fn(*mut c_void) -> !;

/// struct clone_args of clone3(2) as of Linux 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const INTO_CGROUP: u64 = 0x2_0000_0000;

/// A clone on a stack of its own, into a control group (cgroup v2); its child runs `entry` with `data`. Gives its number.
///
/// # Errors
/// Those of clone3(2).
///
/// # Safety
/// Until the child has executed or ended, nobody else uses the stack, and what `data` points to lives. Where memory is
/// shared, for safety `entry` writes to nothing of the caller's.
pub unsafe fn clone_into(
    flags: u64,
    stack: &[u128],
    group: BorrowedFd<'_>,
    entry: Entry,
    data: *mut c_void,
) -> io::Result<i32> {
    let mut args = CloneArgs {
        flags: flags | INTO_CGROUP,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.as_ptr() as u64,
        stack_size: size_of_val(stack) as u64,
        cgroup: group.as_raw_fd() as u64,
        ..CloneArgs::default()
    };
    // SAFETY: the caller's promise; `entry` never returns.
    let pid = unsafe { clone3(&mut args, entry, data) };
    if pid < 0 { Err(io::Error::from_raw_os_error(-pid as i32)) } else { Ok(pid as i32) }
}

#[cfg(target_arch = "x86_64")]
/// SAFETY: as of [`clone_into`].
unsafe fn clone3(args: &mut CloneArgs, entry: Entry, data: *mut c_void) -> isize {
    let ret: isize;
    // SAFETY: the child leaves this block only into `entry`; in the caller only the listed registers change.
    unsafe {
        std::arch::asm!(
            "syscall", "test rax, rax", "jnz 2f", "xor ebp, ebp", "mov rdi, r13", "call r12", "ud2", "2:",
            inlateout("rax") libc::SYS_clone3 as isize => ret,
            in("rdi") &raw mut *args, in("rsi") size_of::<CloneArgs>(),
            in("r12") entry, in("r13") data,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    ret
}

#[cfg(target_arch = "aarch64")]
/// SAFETY: as of [`clone_into`].
unsafe fn clone3(args: &mut CloneArgs, entry: Entry, data: *mut c_void) -> isize {
    let ret: isize;
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc 0", "cbnz x0, 2f", "mov x29, xzr", "mov x0, x21", "blr x20", "brk 1", "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") &raw mut *args => ret, in("x1") size_of::<CloneArgs>(),
            in("x20") entry, in("x21") data,
            lateout("x30") _,
        );
    }
    ret
}
