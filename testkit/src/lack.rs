//! Machines that lack something: for the calling thread and what it starts, in a world of its own.

use std::fs;
use std::path::PathBuf;

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, c_int,
    c_long, sock_filter, sock_fprog,
};
use rustix::mount::{UnmountFlags, mount_bind, unmount};

/// From now on a system call fails with this error on the calling thread and whatever it starts (seccomp(2)).
///
/// # Panics
/// Where the kernel has no seccomp filters.
pub fn without_system_call(number: c_long, errno: c_int) {
    let statement =
        |code: u32, jump_if_not: u8, k: u32| sock_filter { code: code as u16, jt: 0, jf: jump_if_not, k };
    // The number is the first field of struct seccomp_data.
    let mut filter = [
        statement(BPF_LD | BPF_W | BPF_ABS, 0, 0),
        statement(BPF_JMP | BPF_JEQ | BPF_K, 1, u32::try_from(number).expect("a number of a system call")),
        statement(BPF_RET | BPF_K, 0, SECCOMP_RET_ERRNO | errno.unsigned_abs()),
        statement(BPF_RET | BPF_K, 0, SECCOMP_RET_ALLOW),
    ];
    let program = sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: `program` and the filter it points to live until the kernel has copied them.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(set, 0, "a seccomp filter: {}", std::io::Error::last_os_error());
}

/// Until it is dropped, the calling thread reads a list of mounts without some lines.
#[derive(Debug)]
pub struct HiddenMounts(PathBuf);

impl HiddenMounts {
    /// Hides the lines of `/proc/thread-self/mountinfo` that `hidden` chooses.
    ///
    /// # Panics
    /// Outside a world: it mounts a list over the true one.
    pub fn new(hidden: impl Fn(&str) -> bool) -> Self {
        let list = PathBuf::from(format!("/proc/self/task/{}/mountinfo", rustix::thread::gettid()));
        let text = fs::read_to_string(&list).expect("the list of mounts");
        let shown: Vec<_> = text.lines().filter(|line| !hidden(line)).collect();
        let file = crate::scratch().join("mountinfo");
        fs::write(&file, shown.join("\n") + "\n").expect("a list of mounts");
        mount_bind(&file, &list).expect("a list over the true one");
        Self(list)
    }
}

impl Drop for HiddenMounts {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).ok();
    }
}
