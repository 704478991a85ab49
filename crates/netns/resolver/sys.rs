//! The system calls of the server, each in a function that any caller may call. Results below zero are errors, `-errno`.

/// # Safety
/// What the call does to memory is the caller's promise.
#[inline(always)]
unsafe fn call(nr: usize, a: [usize; 6]) -> isize {
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

/// The numbers of both architectures side by side: x86_64, aarch64.
macro_rules! system_calls {
    ($($name:ident $x86:literal $arm:literal;)*) => {
        pub(crate) mod nr {
            $(
                #[cfg(target_arch = "x86_64")]
                pub(crate) const $name: usize = $x86;
                #[cfg(target_arch = "aarch64")]
                pub(crate) const $name: usize = $arm;
            )*
        }
    };
}

system_calls! {
    READ 0 63;
    WRITE 1 64;
    CLOSE 3 57;
    MMAP 9 222;
    MUNMAP 11 215;
    RT_SIGACTION 13 134;
    RT_SIGPROCMASK 14 135;
    RT_SIGRETURN 15 139;
    SOCKET 41 198;
    CONNECT 42 203;
    SENDTO 44 206;
    RECVFROM 45 207;
    RECVMSG 47 212;
    GETSOCKNAME 51 204;
    CLONE 56 220;
    FCHDIR 81 50;
    GETEUID 107 175;
    SETSID 112 157;
    SETGROUPS 116 159;
    SETRESUID 117 147;
    SETRESGID 119 149;
    CAPSET 126 91;
    PRCTL 157 167;
    CHROOT 161 51;
    RESTART_SYSCALL 219 128;
    CLOCK_GETTIME 228 113;
    EXIT_GROUP 231 94;
    WAITID 247 95;
    INOTIFY_ADD_WATCH 254 27;
    OPENAT 257 56;
    NEWFSTATAT 262 79;
    PPOLL 271 73;
    ACCEPT4 288 242;
    DUP3 292 24;
    INOTIFY_INIT1 294 26;
    SECCOMP 317 277;
    GETRANDOM 318 278;
    CLOSE_RANGE 436 436;
}

pub(crate) const ENOENT: isize = 2;
pub(crate) const EINTR: isize = 4;
pub(crate) const EAGAIN: isize = 11;
pub(crate) const EBADMSG: isize = 74;
pub(crate) const EINPROGRESS: isize = 115;

pub(crate) const IPV4: u16 = 2;
pub(crate) const IPV6: u16 = 10;
pub(crate) const STREAM: usize = 1;
pub(crate) const DATAGRAM: usize = 2;
/// SOCK_NONBLOCK and SOCK_CLOEXEC.
pub(crate) const NEW_SOCKET: usize = 0o2004000;
/// MSG_DONTWAIT, MSG_TRUNC (a datagram's real length), MSG_NOSIGNAL.
const DONTWAIT: usize = 0x40;
const TRUNC: usize = 0x20;
const NOSIGNAL: usize = 0x4000;

pub(crate) const CLONE_FLAGS: usize = 17; // SIGCHLD: a fork
pub(crate) const PROT_READ: usize = 1;
pub(crate) const PR_SET_PDEATHSIG: usize = 1;
#[cfg(target_arch = "x86_64")]
const NOFOLLOW: usize = 0o400000;
#[cfg(target_arch = "aarch64")]
const NOFOLLOW: usize = 0o100000;
/// O_RDONLY, O_NONBLOCK, O_CLOEXEC: what the table is opened with.
pub(crate) const OPEN: usize = 0o2004000 | NOFOLLOW;

pub(crate) const IN: u16 = 1; // POLLIN
pub(crate) const OUT: u16 = 4; // POLLOUT

/// struct pollfd.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Poll {
    pub(crate) fd: i32,
    pub(crate) events: u16,
    pub(crate) revents: u16,
}

/// An address of a socket (struct sockaddr_in, sockaddr_in6), with its length. What is not used is zero.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) bytes: [u8; 28],
    pub(crate) length: u32,
}

impl Address {
    pub(crate) const NONE: Self = Self { bytes: [0; 28], length: 0 };

    /// Of IPv4 for four bytes, else of IPv6; `scope` is the link of a link-local one.
    pub(crate) fn new(host: &[u8], port: u16, scope: u32) -> Self {
        let (family, at, length) = if host.len() == 4 { (IPV4, 4, 16) } else { (IPV6, 8, 28) };
        let mut address = Self { length, ..Self::NONE };
        address.put(0, &family.to_ne_bytes());
        address.put(2, &port.to_be_bytes());
        address.put(at, host);
        if family == IPV6 {
            address.put(24, &scope.to_ne_bytes());
        }
        address
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }

    pub(crate) fn family(&self) -> u16 {
        u16::from_ne_bytes([self.bytes[0], self.bytes[1]])
    }

    /// Whether both are of one host, whatever their ports.
    pub(crate) fn same_host(&self, other: &Self) -> bool {
        self.family() == other.family() && self.bytes.get(4..) == other.bytes.get(4..)
    }
}

/// What tells one state of a file from another, and its size and links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) modified: [u64; 2],
    pub(crate) changed: [u64; 2],
}

/// A call with numbers alone, none of which the kernel takes for an address.
pub(crate) fn numbers(nr: usize, a: [usize; 3]) -> isize {
    // SAFETY: the callers in this program name only calls that read and write no memory of ours with these arguments.
    unsafe { call(nr, [a[0], a[1], a[2], 0, 0, 0]) }
}

pub(crate) fn exit(code: usize) -> ! {
    loop {
        numbers(nr::EXIT_GROUP, [code, 0, 0]);
    }
}

pub(crate) fn close(fd: i32) {
    numbers(nr::CLOSE, [fd as usize, 0, 0]);
}

/// Closes `first` and all above it.
pub(crate) fn close_from(first: i32) {
    numbers(nr::CLOSE_RANGE, [first as usize, u32::MAX as usize, 0]);
}

pub(crate) fn fork() -> isize {
    // SAFETY: memory is copied, and the child goes on with its copy on the same stack.
    unsafe { call(nr::CLONE, [CLONE_FLAGS, 0, 0, 0, 0, 0]) }
}

/// The pid of a child that has ended, 0 if there is none.
pub(crate) fn ended_child() -> i32 {
    let mut info = [0i32; 32]; // siginfo_t: signo, errno, code, pad, pid
    // SAFETY: as long as the kernel's structure. P_ALL, WNOHANG and WEXITED.
    let done = unsafe { call(nr::WAITID, [0, 0, info.as_mut_ptr() as usize, 1 | 4, 0, 0]) };
    if done < 0 { 0 } else { info.get(4).copied().unwrap_or(0) }
}

/// Default actions and an empty mask: what the caller ignores or blocks is no concern of ours.
pub(crate) fn default_signals() {
    let action = [0usize; 4];
    for signal in 1..=64 {
        // SAFETY: a zeroed sigaction is SIG_DFL; SIGKILL and SIGSTOP answer EINVAL.
        unsafe { call(nr::RT_SIGACTION, [signal, action.as_ptr() as usize, 0, 8, 0, 0]) };
    }
    // SAFETY: a set of 64 signals. SIG_SETMASK.
    unsafe { call(nr::RT_SIGPROCMASK, [2, action.as_ptr() as usize, 0, 8, 0, 0]) };
}

/// Waits for at most `ms` milliseconds.
pub(crate) fn poll(polls: &mut [Poll], ms: u64) -> isize {
    let pause = [ms / 1000, ms % 1000 * 1_000_000];
    let (at, count) = (polls.as_mut_ptr() as usize, polls.len());
    // SAFETY: the kernel writes into these structures alone.
    unsafe { call(nr::PPOLL, [at, count, pause.as_ptr() as usize, 0, 8, 0]) }
}

/// Whether one descriptor is ready for `events` within `ms` milliseconds.
pub(crate) fn ready(fd: i32, events: u16, ms: u64) -> bool {
    poll(&mut [Poll { fd, events, revents: 0 }], ms) > 0
}

/// Milliseconds of the monotonic clock.
pub(crate) fn now() -> u64 {
    let mut time = [0u64; 2];
    // SAFETY: a timespec. CLOCK_MONOTONIC.
    unsafe { call(nr::CLOCK_GETTIME, [1, time.as_mut_ptr() as usize, 0, 0, 0, 0]) };
    time[0] * 1000 + time[1] / 1_000_000
}

/// Two random bytes of the kernel's; `None` before its generator is ready.
pub(crate) fn random() -> Option<u16> {
    let mut bytes = [0u8; 2];
    // SAFETY: two writable bytes. GRND_NONBLOCK.
    let got = unsafe { call(nr::GETRANDOM, [bytes.as_mut_ptr() as usize, 2, 1, 0, 0, 0]) };
    (got == 2).then_some(u16::from_ne_bytes(bytes))
}

pub(crate) fn connect(fd: i32, to: &Address) -> isize {
    // SAFETY: an address and its length, which is at most its size.
    unsafe { call(nr::CONNECT, [fd as usize, to.bytes.as_ptr() as usize, to.length as usize, 0, 0, 0]) }
}

pub(crate) fn send_to(fd: i32, bytes: &[u8], to: &Address) -> isize {
    let (at, length, address) = (bytes.as_ptr() as usize, bytes.len(), to.bytes.as_ptr() as usize);
    // SAFETY: bytes and an address that are only read.
    unsafe { call(nr::SENDTO, [fd as usize, at, length, DONTWAIT | NOSIGNAL, address, to.length as usize]) }
}

/// To the other end of a connected socket.
pub(crate) fn send(fd: i32, bytes: &[u8]) -> isize {
    let (at, length) = (bytes.as_ptr() as usize, bytes.len());
    // SAFETY: bytes that are only read.
    unsafe { call(nr::SENDTO, [fd as usize, at, length, DONTWAIT | NOSIGNAL, 0, 0]) }
}

/// A datagram, its length, which may be more than there was room for, and who sent it.
pub(crate) fn receive_datagram(fd: i32, bytes: &mut [u8], from: &mut Address) -> isize {
    *from = Address { length: 28, ..Address::NONE };
    let (at, length, address) = (bytes.as_mut_ptr() as usize, bytes.len(), from.bytes.as_mut_ptr() as usize);
    let address_length = &raw mut from.length as usize;
    // SAFETY: writable memory, as long as said.
    unsafe { call(nr::RECVFROM, [fd as usize, at, length, DONTWAIT | TRUNC, address, address_length]) }
}

/// Some of a stream.
pub(crate) fn receive(fd: i32, bytes: &mut [u8]) -> isize {
    // SAFETY: writable memory, as long as said.
    unsafe { call(nr::RECVFROM, [fd as usize, bytes.as_mut_ptr() as usize, bytes.len(), DONTWAIT, 0, 0]) }
}

pub(crate) fn read(fd: i32, bytes: &mut [u8]) -> isize {
    // SAFETY: writable memory, as long as said.
    unsafe { call(nr::READ, [fd as usize, bytes.as_mut_ptr() as usize, bytes.len(), 0, 0, 0]) }
}

pub(crate) fn write(fd: i32, bytes: &[u8]) -> isize {
    // SAFETY: bytes that are only read.
    unsafe { call(nr::WRITE, [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0]) }
}

/// A connection and who made it.
pub(crate) fn accept(fd: i32, from: &mut Address) -> isize {
    *from = Address { length: 28, ..Address::NONE };
    let (address, length) = (from.bytes.as_mut_ptr() as usize, &raw mut from.length as usize);
    // SAFETY: writable memory, as long as said.
    unsafe { call(nr::ACCEPT4, [fd as usize, address, length, NEW_SOCKET, 0, 0]) }
}

/// The address that a socket is bound to.
pub(crate) fn name_of(fd: i32) -> Address {
    let mut name = Address { length: 28, ..Address::NONE };
    let (address, length) = (name.bytes.as_mut_ptr() as usize, &raw mut name.length as usize);
    // SAFETY: writable memory, as long as said.
    let done = unsafe { call(nr::GETSOCKNAME, [fd as usize, address, length, 0, 0, 0]) };
    if done < 0 { Address::NONE } else { name }
}

/// Most descriptors of one message (SCM_MAX_FD).
const MOST_PASSED: usize = 253;

/// One message with descriptors. Its length and how many descriptors came, which have the lowest free numbers, one after
/// the other.
pub(crate) fn receive_message(fd: i32, bytes: &mut [u8]) -> (isize, usize) {
    let mut rights = [0u64; 2 + MOST_PASSED.div_ceil(2)];
    let part = [bytes.as_mut_ptr() as usize, bytes.len()];
    let room = size_of_val(&rights);
    let header = [0usize, 0, part.as_ptr() as usize, 1, rights.as_mut_ptr() as usize, room, 0];
    // SAFETY: a msghdr that names writable memory, as long as said. MSG_CMSG_CLOEXEC.
    let got = unsafe { call(nr::RECVMSG, [fd as usize, header.as_ptr() as usize, 0x4000_0000, 0, 0, 0]) };
    // The message's own header comes first: its length counts 16 bytes of itself and four for each descriptor.
    let length = rights.first().copied().unwrap_or(0) as usize;
    (got, length.saturating_sub(16) / 4)
}

/// What a path below a directory is now; of the directory itself for an empty path.
pub(crate) fn stat(directory: i32, path: &core::ffi::CStr) -> Result<Stat, isize> {
    let mut words = [0u64; 18]; // struct stat: the words that are used here lie at the same place on both architectures.
    let (at, name) = (words.as_mut_ptr() as usize, path.as_ptr() as usize);
    // AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH
    // SAFETY: as long as the kernel's structure, and a string with its end.
    let done = unsafe { call(nr::NEWFSTATAT, [directory as usize, name, at, 0x100 | 0x1000, 0, 0]) };
    if done < 0 {
        return Err(-done);
    }
    let [device, inode, _, _, _, _, size, _, _, _, _, modified, modified_ns, changed, changed_ns, ..] = words;
    let (modified, changed) = ([modified, modified_ns], [changed, changed_ns]);
    Ok(Stat { device, inode, size, modified, changed })
}

/// Whether a directory has been removed.
pub(crate) fn is_removed(directory: i32) -> bool {
    let mut words = [0u64; 18];
    let (at, name) = (words.as_mut_ptr() as usize, c"".as_ptr() as usize);
    // SAFETY: as of `stat`.
    let done = unsafe { call(nr::NEWFSTATAT, [directory as usize, name, at, 0x1000, 0, 0]) };
    // Number of links: a word on x86_64, the upper half of one on aarch64.
    let links = if cfg!(target_arch = "x86_64") { words[2] } else { words[2] >> 32 };
    done >= 0 && links == 0
}

/// Opens for reading; neither a link nor something that blocks.
pub(crate) fn open(directory: i32, path: &core::ffi::CStr) -> isize {
    // SAFETY: a string with its end.
    unsafe { call(nr::OPENAT, [directory as usize, path.as_ptr() as usize, OPEN, 0, 0, 0]) }
}

/// A file in memory, read-only and shared with its other readers.
#[derive(Debug)]
pub(crate) struct Mapping {
    address: usize,
    length: usize,
}

impl Mapping {
    pub(crate) fn of(fd: i32, length: usize) -> Result<Self, isize> {
        // SAFETY: a new mapping at an address of the kernel's choice. MAP_SHARED.
        let address = unsafe { call(nr::MMAP, [0, length, PROT_READ, 1, fd as usize, 0]) };
        if address < 0 { Err(-address) } else { Ok(Self { address: address as usize, length }) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: mapped as long as this lives. The library replaces tables and never writes into one that can be seen.
        unsafe { core::slice::from_raw_parts(self.address as *const u8, self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: a mapping of our own; what `bytes` gave cannot live longer.
        unsafe { call(nr::MUNMAP, [self.address, self.length, 0, 0, 0, 0]) };
    }
}

/// inotify_add_watch(2).
pub(crate) fn watch(inotify: i32, path: &core::ffi::CStr, events: usize) -> isize {
    // SAFETY: a string with its end.
    unsafe { call(nr::INOTIFY_ADD_WATCH, [inotify as usize, path.as_ptr() as usize, events, 0, 0, 0]) }
}

pub(crate) fn chroot(path: &core::ffi::CStr) -> isize {
    // SAFETY: a string with its end.
    unsafe { call(nr::CHROOT, [path.as_ptr() as usize, 0, 0, 0, 0, 0]) }
}

/// prctl(2) with PR_SET_NAME.
pub(crate) fn set_name(name: &core::ffi::CStr) {
    // SAFETY: a string with its end; the kernel reads 15 bytes at most.
    unsafe { call(nr::PRCTL, [15, name.as_ptr() as usize, 0, 0, 0, 0]) };
}

/// No capability in any of the three sets (capset(2), version 3).
pub(crate) fn drop_capabilities() -> isize {
    let (header, data) = ([0x2008_0522_u32, 0], [0u32; 6]);
    // SAFETY: both structures are as long as the version says, and only read.
    unsafe { call(nr::CAPSET, [header.as_ptr() as usize, data.as_ptr() as usize, 0, 0, 0, 0]) }
}

/// seccomp(2) with SECCOMP_SET_MODE_FILTER: instructions of eight bytes.
pub(crate) fn filter(instructions: &[u64]) -> isize {
    let program = [instructions.len(), instructions.as_ptr() as usize];
    // SAFETY: a sock_fprog that names the instructions, only read.
    unsafe { call(nr::SECCOMP, [1, 0, program.as_ptr() as usize, 0, 0, 0]) }
}
