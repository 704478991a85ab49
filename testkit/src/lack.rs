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
    refuse(&[(NUMBER, number.try_into().expect("a number of a system call"))], errno);
}

/// From now on write(2) of so many bytes fails with this error on the calling thread and whatever it starts.
///
/// # Panics
/// Where the kernel has no seccomp filters.
pub fn without_writes_of(bytes: u32, errno: c_int) {
    let write = libc::SYS_write.try_into().expect("a number of a system call");
    refuse(&[(NUMBER, write), (COUNT, bytes)], errno);
}

/// Places in struct seccomp_data: the number of the call, and the low half of its third argument.
const NUMBER: u32 = 0;
const COUNT: u32 = 32;

/// Refuses what has all these numbers in these places.
fn refuse(conditions: &[(u32, u32)], errno: c_int) {
    let statement = |code: u32, jump_if_not: usize, k: u32| sock_filter {
        code: code as u16,
        jt: 0,
        jf: jump_if_not as u8,
        k,
    };
    let mut filter = Vec::new();
    for (n, (place, number)) in conditions.iter().enumerate() {
        filter.push(statement(BPF_LD | BPF_W | BPF_ABS, 0, *place));
        // Over the rest of the conditions and the refusal.
        let rest = 2 * (conditions.len() - n) - 1;
        filter.push(statement(BPF_JMP | BPF_JEQ | BPF_K, rest, *number));
    }
    filter.push(statement(BPF_RET | BPF_K, 0, SECCOMP_RET_ERRNO | errno.unsigned_abs()));
    filter.push(statement(BPF_RET | BPF_K, 0, SECCOMP_RET_ALLOW));
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
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
