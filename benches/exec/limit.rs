//! The limit: into the container's pid namespace, one clone that shares the caller's memory, into the control group; the child enters the
//! other namespaces, gives up the same rights and executes. No launcher, no report, no lifeline.

use std::ffi::{CStr, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use isolate::Container;
use isolate_benches::clone::clone_into;
use isolate_benches::must;
use isolate_benches::raw::fail;
use isolate_benches::rights::Rights;

const STACK: usize = 64 << 10;
/// Those that a container has of its own; that of pids is entered by whoever clones.
const KINDS: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP;

/// Everything prepared, for one thread.
pub(crate) struct Limit<'c> {
    container: BorrowedFd<'c>,
    group: OwnedFd,
    /// The `tasks` files of cgroup v1, which the library's child writes to as well.
    tasks: Vec<OwnedFd>,
    /// The pid namespace that the caller's children are born in.
    home: File,
    program: &'static CStr,
    rights: Rights,
    stack: Vec<u128>,
}

impl<'c> Limit<'c> {
    pub(crate) fn new(
        container: &'c Container,
        program: &'static CStr,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let group = container.cgroup().ok_or("the container has no control group")?;
        Ok(Self {
            container: container.as_fd(),
            group: group.try_clone_fd()?,
            tasks: group.join_files()?,
            home: File::open("/proc/thread-self/ns/pid_for_children")?,
            program,
            rights: Rights::default(),
            stack: vec![0; STACK / 16],
        })
    }

    /// One exec to exit. The caller's next children are again born where they were before.
    pub(crate) fn run(&self) -> io::Result<()> {
        enter(self.container)?;
        let flags = (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
        let data = std::ptr::from_ref(self) as *mut c_void;
        // SAFETY: the child has the stack to itself and this object for as long as the caller is held: until it executes or ends.
        let cloned = unsafe { clone_into(flags, &self.stack, self.group.as_fd(), child, data) };
        enter(self.home.as_fd())?;
        let pid = cloned?;
        let mut status = 0;
        // SAFETY: an int on this stack.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        match (waited, status) {
            (-1, _) => Err(io::Error::last_os_error()),
            (_, 0) => Ok(()),
            _ => Err(io::Error::other(format!("the limit's child failed: {}", libc::WEXITSTATUS(status)))),
        }
    }
}

/// Moves only the thread's children to come.
#[expect(clippy::disallowed_methods, reason = "the thread is this bench's own")]
fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a descriptor and a number.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWPID) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// In memory that it shares: raw calls, and nothing of the parent's is written to.
/// SAFETY: `data` is a `Limit` that lives while the parent is held.
unsafe extern "C" fn child(data: *mut c_void) -> ! {
    // SAFETY: lives while the parent is held.
    let limit = unsafe { &*(data as *const Limit<'_>) };
    for tasks in &limit.tasks {
        must!(libc::SYS_write, tasks.as_raw_fd(), c"0".as_ptr(), 1);
    }
    must!(libc::SYS_setns, limit.container.as_raw_fd(), KINDS);
    must!(libc::SYS_setresgid, 0, 0, 0);
    must!(libc::SYS_setresuid, 0, 0, 0);
    must!(libc::SYS_chdir, c"/".as_ptr());
    limit.rights.give_up();
    let argv = [limit.program.as_ptr(), std::ptr::null()];
    let environment = [c"HOME=/root".as_ptr(), c"PATH=/usr/bin:/bin".as_ptr(), std::ptr::null()];
    must!(libc::SYS_execve, limit.program.as_ptr(), argv.as_ptr(), environment.as_ptr());
    fail(line!())
}
