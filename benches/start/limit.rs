//! The limit: one clone that shares the caller's memory, into the control group and all the namespaces, makes the mounts and executes.
//! No launcher, no monitor, no report, no lifeline, and the classic calls, which are the cheapest.

use std::ffi::{CStr, CString, c_char, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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
const STACK: usize = 64 << 10;

/// What the child reads; all of it lives while the caller waits (CLONE_VFORK).
struct Arguments {
    root: CString,
}

/// Everything prepared.
pub(crate) struct Limit<'a> {
    arguments: Arguments,
    group: BorrowedFd<'a>,
    stack: Vec<u128>,
}

impl<'a> Limit<'a> {
    pub(crate) fn new(root: &Path, group: BorrowedFd<'a>) -> io::Result<Self> {
        let root = CString::new(root.as_os_str().as_bytes())?;
        Ok(Self { arguments: Arguments { root }, group, stack: vec![0; STACK / 16] })
    }

    /// One start to exit.
    pub(crate) fn run(&self) -> io::Result<()> {
        let kinds = libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWNET;
        let mut args = CloneArgs {
            flags: (libc::CLONE_VM | libc::CLONE_VFORK | kinds) as u64 | INTO_CGROUP,
            exit_signal: libc::SIGCHLD as u64,
            stack: self.stack.as_ptr() as u64,
            stack_size: STACK as u64,
            cgroup: self.group.as_raw_fd() as u64,
            ..CloneArgs::default()
        };
        // SAFETY: the child runs `child` on a stack of its own and never returns; the caller is held until it executes or ends.
        let pid = unsafe { clone3(&mut args, child, &raw const self.arguments as *mut c_void) };
        if pid < 0 {
            return Err(io::Error::from_raw_os_error(-pid as i32));
        }
        let mut status = 0;
        // SAFETY: an int on this stack.
        let waited = unsafe { libc::waitpid(pid as i32, &raw mut status, 0) };
        match (waited, status) {
            (-1, _) => Err(io::Error::last_os_error()),
            (_, 0) => Ok(()),
            _ => {
                Err(io::Error::other(format!("the limit's child failed: step {}", libc::WEXITSTATUS(status))))
            }
        }
    }
}

/// A clone on a stack of its own, into a control group; its child runs `entry` and never returns.
pub(crate) fn clone_into(
    flags: u64,
    stack: u64,
    stack_size: u64,
    group: i32,
    entry: Entry,
    data: *mut c_void,
) -> io::Result<i32> {
    let mut args = CloneArgs {
        flags: flags | INTO_CGROUP,
        exit_signal: libc::SIGCHLD as u64,
        stack,
        stack_size,
        cgroup: group as u64,
        ..CloneArgs::default()
    };
    // SAFETY: the caller's promise: the stack and what `data` points to outlive the child's use of them.
    let pid = unsafe { clone3(&mut args, entry, data) };
    if pid < 0 { Err(io::Error::from_raw_os_error(-pid as i32)) } else { Ok(pid as i32) }
}

type Entry = unsafe extern "C" fn(*mut c_void) -> !;

#[cfg(target_arch = "x86_64")]
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

/// A failure ends the child with the number of the step.
macro_rules! must {
    ($step:literal, $call:expr) => {
        if $call < 0 {
            libc::_exit($step);
        }
    };
}

unsafe extern "C" fn child(data: *mut c_void) -> ! {
    // SAFETY: the caller's memory, which it does not touch while it is held; libc's thin wrappers only, whose errno is the caller's
    // and of no interest to it.
    unsafe {
        let arguments = &*(data as *const Arguments);
        let none: *const c_char = std::ptr::null();
        must!(1, libc::setsid());
        must!(2, libc::unshare(libc::CLONE_NEWCGROUP));
        must!(3, libc::sethostname(c"bench".as_ptr(), 5));
        must!(4, libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, std::ptr::null()));
        let root = arguments.root.as_ptr();
        must!(5, libc::mount(root, root, none, libc::MS_BIND | libc::MS_REC, std::ptr::null()));
        must!(6, libc::chdir(root));
        mounts();
        must!(20, libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()));
        must!(21, libc::umount2(c".".as_ptr(), libc::MNT_DETACH));
        must!(22, libc::chdir(c"/".as_ptr()));
        let empty = [std::ptr::null::<c_char>()];
        let argv = [c"/true".as_ptr(), std::ptr::null()];
        libc::execve(c"/true".as_ptr(), argv.as_ptr(), empty.as_ptr());
        libc::_exit(30)
    }
}

unsafe fn mounts() {
    const SAFE: libc::c_ulong = libc::MS_NOSUID | libc::MS_NOEXEC;
    // SAFETY: literals only.
    unsafe {
        mount(10, c"proc", c"proc", SAFE | libc::MS_NODEV, c"");
        mount(11, c"tmpfs", c"dev", SAFE, c"mode=755,size=64k");
        for (name, minor) in
            [(c"dev/null", 3), (c"dev/zero", 5), (c"dev/full", 7), (c"dev/random", 8), (c"dev/urandom", 9)]
        {
            must!(12, libc::mknod(name.as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, minor)));
        }
        must!(12, libc::mknod(c"dev/tty".as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(5, 0)));
        for name in [c"dev/pts", c"dev/shm", c"dev/mqueue"] {
            must!(13, libc::mkdir(name.as_ptr(), 0o755));
        }
        for (to, name) in [
            (c"/proc/self/fd", c"dev/fd"),
            (c"/proc/self/fd/0", c"dev/stdin"),
            (c"/proc/self/fd/1", c"dev/stdout"),
            (c"/proc/self/fd/2", c"dev/stderr"),
            (c"pts/ptmx", c"dev/ptmx"),
        ] {
            must!(14, libc::symlink(to.as_ptr(), name.as_ptr()));
        }
        mount(15, c"devpts", c"dev/pts", SAFE, c"ptmxmode=0666,mode=0620,gid=5");
        mount(16, c"tmpfs", c"dev/shm", SAFE | libc::MS_NODEV, c"mode=1777,size=67108864");
        mount(17, c"mqueue", c"dev/mqueue", SAFE | libc::MS_NODEV, c"");
        mount(18, c"sysfs", c"sys", SAFE | libc::MS_NODEV | libc::MS_RDONLY, c"");
    }
}

unsafe fn mount(step: i32, kind: &CStr, at: &CStr, flags: libc::c_ulong, options: &CStr) {
    // SAFETY: strings that end.
    unsafe {
        if libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) < 0 {
            libc::_exit(step);
        }
    }
}
