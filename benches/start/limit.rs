//! The limit: one clone that shares the caller's memory, into the control group and all the namespaces, makes the mounts and executes.
//! No launcher, no monitor, no report, no lifeline, and the classic calls, which are the cheapest.

use std::ffi::{CStr, CString, c_char, c_void};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use isolate_benches::clone::clone_into;

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
        let flags = (libc::CLONE_VM | libc::CLONE_VFORK | kinds) as u64;
        let data = &raw const self.arguments as *mut c_void;
        // SAFETY: the child has the stack to itself and the arguments for as long as the caller is held: until it executes or ends.
        let pid = unsafe { clone_into(flags, &self.stack, self.group, child, data) }?;
        let mut status = 0;
        // SAFETY: an int on this stack.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        match (waited, status) {
            (-1, _) => Err(io::Error::last_os_error()),
            (_, 0) => Ok(()),
            _ => {
                Err(io::Error::other(format!("the limit's child failed: step {}", libc::WEXITSTATUS(status))))
            }
        }
    }
}

/// A failure ends the child with the number of the step.
macro_rules! must {
    ($step:literal, $call:expr) => {
        if $call < 0 {
            libc::_exit($step);
        }
    };
}

/// SAFETY: `data` is what `run` passed, and lives while the parent is held.
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

/// SAFETY: only in the child, whose mount namespace is its own.
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

/// SAFETY: as of [`mounts`]; strings that live as long as the call.
unsafe fn mount(step: i32, kind: &CStr, at: &CStr, flags: libc::c_ulong, options: &CStr) {
    // SAFETY: strings that end.
    unsafe {
        if libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) < 0 {
            libc::_exit(step);
        }
    }
}
