//! The system calls of the keeper, each in a function that any caller may call. Results below zero are errors, `-errno`.

use core::ffi::CStr;
use core::marker::PhantomData;

use crate::config::{Config, MAGIC};
use crate::sys::{EAGAIN, EINTR, call, new, nr as shared};
use crate::wire::Message;

/// The numbers of both architectures side by side: x86_64, aarch64.
macro_rules! system_calls {
    ($($name:ident $x86:literal $arm:literal;)*) => {
        mod nr {
            $(
                #[cfg(target_arch = "x86_64")]
                pub(super) const $name: usize = $x86;
                #[cfg(target_arch = "aarch64")]
                pub(super) const $name: usize = $arm;
            )*
        }
    };
}

system_calls! {
    LSEEK 8 62;
    PREAD64 17 67;
    WRITEV 20 66;
    GETSOCKOPT 55 209;
    FTRUNCATE 77 46;
    GETUID 102 174;
    SETSID 112 157;
    UNLINKAT 263 35;
    RENAMEAT2 316 276;
    ACCEPT4 288 242;
    DUP3 292 24;
    PIPE2 293 59;
    EXECVEAT 322 281;
}

const CLOEXEC: usize = 0o2000000;
const NONBLOCK: usize = 0o4000;
/// For openat(2).
pub(crate) const READ_WRITE: usize = 2;
pub(crate) const APPEND: usize = 0o1 | 0o2000;
pub(crate) const REPLACE: usize = 0o1 | 0o1000;
const CREATE: usize = 0o100;
#[cfg(target_arch = "x86_64")]
const NOFOLLOW: usize = 0o400000;
#[cfg(target_arch = "aarch64")]
const NOFOLLOW: usize = 0o100000;

pub(crate) const POLLIN: u16 = 1;
pub(crate) const POLLOUT: u16 = 4;
pub(crate) const REALTIME: usize = 0;
pub(crate) const MONOTONIC: usize = 1;

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Poll {
    pub fd: i32,
    pub events: u16,
    pub revents: u16,
}

/// Of what is written in one call (struct iovec).
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    start: *const u8,
    length: usize,
    of: PhantomData<&'a [u8]>,
}

impl<'a> Part<'a> {
    pub(crate) const NONE: Self = Self { start: core::ptr::null(), length: 0, of: PhantomData };

    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self { start: bytes.as_ptr(), length: bytes.len(), of: PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }
}

/// Up to the first NUL; nothing where there is none. (That of core brings what we have not got.)
pub(crate) fn string(bytes: &[u8]) -> &CStr {
    match bytes.iter().position(|byte| *byte == 0).and_then(|at| bytes.get(..=at)) {
        // SAFETY: its last byte is NUL, and no other.
        Some(bytes) => unsafe { CStr::from_bytes_with_nul_unchecked(bytes) },
        None => c"",
    }
}

/// Calls with numbers alone, which touch no memory.
fn numbers(nr: usize, [a, b, c, d]: [usize; 4]) -> isize {
    // SAFETY: none of the calls below that come here takes an address.
    unsafe { call(nr, [a, b, c, d, 0, 0]) }
}

pub(crate) fn exit(code: usize) -> ! {
    loop {
        numbers(shared::EXIT_GROUP, [code, 0, 0, 0]);
    }
}

pub(crate) fn close(fd: i32) {
    if fd >= 0 {
        numbers(shared::CLOSE, [fd as usize, 0, 0, 0]);
    }
}

/// Closes what is there and leaves nothing.
pub(crate) fn take(fd: &mut i32) {
    close(*fd);
    *fd = -1;
}

/// Signals to default, a session of its own, `/`, not to be looked into; every descriptor closes with an exec.
pub(crate) fn settle() {
    let action = [0usize; 4];
    let mut signal = 1;
    while signal <= 64 {
        // SAFETY: a zeroed sigaction is SIG_DFL; SIGKILL and SIGSTOP answer EINVAL.
        unsafe { call(shared::RT_SIGACTION, [signal, action.as_ptr() as usize, 0, 8, 0, 0]) };
        signal += 1;
    }
    numbers(nr::SETSID, [0; 4]);
    numbers(shared::PRCTL, [4 /* PR_SET_DUMPABLE */, 0, 0, 0]);
    numbers(new::CLOSE_RANGE, [3, u32::MAX as usize, 4 /* CLOSE_RANGE_CLOEXEC */, 0]);
    // SAFETY: literals.
    unsafe {
        call(shared::PRCTL, [15 /* PR_SET_NAME */, c"isolate-keeper".as_ptr() as usize, 0, 0, 0, 0]);
        call(shared::CHDIR, [c"/".as_ptr() as usize, 0, 0, 0, 0, 0]);
    }
    let null = open(-1, c"/dev/null", READ_WRITE);
    if null >= 0 {
        let mut fd = 0;
        while fd < 3 {
            numbers(nr::DUP3, [null as usize, fd, 0, 0]);
            fd += 1;
        }
        if null > 2 {
            close(null as i32);
        }
    }
}

/// Follows no link at the end of the name; what is made is the owner's, whatever the umask is, which is the programs'.
pub(crate) fn open(directory: i32, name: &CStr, flags: usize) -> isize {
    let create = if flags & (APPEND | REPLACE) & !READ_WRITE != 0 { CREATE | NONBLOCK } else { 0 };
    let args = [
        directory as isize as usize,
        name.as_ptr() as usize,
        flags | create | NOFOLLOW | CLOEXEC,
        0o600,
        0,
        0,
    ];
    // SAFETY: a string that ends.
    unsafe { call(shared::OPENAT, args) }
}

pub(crate) fn rename(directory: i32, from: &CStr, to: &CStr) -> isize {
    let directory = directory as usize;
    // SAFETY: strings that end.
    unsafe { call(nr::RENAMEAT2, [directory, from.as_ptr() as usize, directory, to.as_ptr() as usize, 0, 0]) }
}

pub(crate) fn unlink(directory: i32, name: &CStr) {
    // SAFETY: a string that ends.
    unsafe { call(nr::UNLINKAT, [directory as usize, name.as_ptr() as usize, 0, 0, 0, 0]) };
}

pub(crate) fn read(fd: i32, room: &mut [u8]) -> isize {
    // SAFETY: room that is ours.
    unsafe { call(shared::READ, [fd as usize, room.as_mut_ptr() as usize, room.len(), 0, 0, 0]) }
}

/// The configuration, from the beginning of its file; whether it is one.
pub(crate) fn read_config(file: i32, config: &mut Config) -> bool {
    let place = config as *mut Config as usize;
    // SAFETY: plain numbers, of any value.
    let got = unsafe { call(nr::PREAD64, [file as usize, place, size_of::<Config>(), 0, 0, 0]) };
    got == size_of::<Config>() as isize && config.magic == MAGIC
}

pub(crate) fn read_at(fd: i32, room: &mut [u8], offset: usize) -> isize {
    // SAFETY: room that is ours.
    unsafe { call(nr::PREAD64, [fd as usize, room.as_mut_ptr() as usize, room.len(), offset, 0, 0]) }
}

pub(crate) fn write(fd: i32, bytes: &[u8]) -> isize {
    // SAFETY: bytes that are ours.
    unsafe { call(shared::WRITE, [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0]) }
}

pub(crate) fn write_parts(fd: i32, parts: &[Part<'_>]) -> isize {
    // SAFETY: each part is of a slice that lives.
    unsafe { call(nr::WRITEV, [fd as usize, parts.as_ptr() as usize, parts.len(), 0, 0, 0]) }
}

pub(crate) fn truncate(fd: i32, length: u64) {
    numbers(nr::FTRUNCATE, [fd as usize, length as usize, 0, 0]);
}

/// Where a file ends.
pub(crate) fn end_of(fd: i32) -> u64 {
    numbers(nr::LSEEK, [fd as usize, 0, 2 /* SEEK_END */, 0]).max(0) as u64
}

pub(crate) fn rewind(fd: i32) {
    numbers(nr::LSEEK, [fd as usize, 0, 0, 0]);
}

/// Waits for one of them, or so many ns; `u64::MAX`: for ever.
pub(crate) fn poll(polls: &mut [Poll], timeout: u64) -> isize {
    let time = [timeout / 1_000_000_000, timeout % 1_000_000_000];
    let time = if timeout == u64::MAX { 0 } else { time.as_ptr() as usize };
    // SAFETY: the array is ours; a null pointer, or a timespec on this stack.
    unsafe { call(shared::PPOLL, [polls.as_mut_ptr() as usize, polls.len(), time, 0, 8, 0]) }
}

/// Whether it can be read now, or is at its end.
pub(crate) fn is_readable(fd: i32) -> bool {
    let mut one = [Poll { fd, events: POLLIN, revents: 0 }];
    fd >= 0 && poll(&mut one, 0) > 0
}

/// A clock, in ns.
pub(crate) fn now(clock: usize) -> u64 {
    let mut time = [0u64; 2];
    // SAFETY: a timespec on this stack.
    unsafe { call(shared::CLOCK_GETTIME, [clock, time.as_mut_ptr() as usize, 0, 0, 0, 0]) };
    time[0] * 1_000_000_000 + time[1]
}

pub(crate) fn kill(pidfd: i32) {
    if pidfd >= 0 {
        numbers(new::PIDFD_SEND_SIGNAL, [pidfd as usize, 9 /* SIGKILL */, 0, 0]);
    }
}

/// Reaps a child that has ended; whether one has.
pub(crate) fn reap() -> bool {
    let mut info = [0i32; 32]; // siginfo_t: signo, errno, code, pad, pid
    // SAFETY: as long as the kernel's structure.
    let done = unsafe {
        call(
            shared::WAITID,
            [0 /* P_ALL */, 0, info.as_mut_ptr() as usize, 4 | 1 /* WEXITED, WNOHANG */, 0, 0],
        )
    };
    done == 0 && info[4] != 0
}

/// fork(2), and the child's pidfd.
pub(crate) fn fork(pidfd: &mut i32) -> isize {
    let flags = 0x1000 /* CLONE_PIDFD */ | 17 /* SIGCHLD */;
    // SAFETY: memory is copied, so that returning twice is no trouble; the kernel writes a number.
    unsafe { call(shared::CLONE, [flags, 0, pidfd as *mut i32 as usize, 0, 0, 0]) }
}

/// The same open file under this number; it closes with an exec unless it is to be `inherited`.
pub(crate) fn duplicate(fd: i32, number: i32, inherited: bool) {
    numbers(nr::DUP3, [fd as usize, number as usize, if inherited { 0 } else { CLOEXEC }, 0]);
}

pub(crate) fn inherit(fd: i32) {
    numbers(shared::FCNTL, [fd as usize, 2 /* F_SETFD */, 0, 0]);
}

/// Never waits from now on. The flag is the open file's.
pub(crate) fn do_not_wait(fd: i32) {
    let flags = numbers(shared::FCNTL, [fd as usize, 3 /* F_GETFL */, 0, 0]);
    if flags >= 0 {
        numbers(shared::FCNTL, [fd as usize, 4 /* F_SETFL */, flags as usize | NONBLOCK, 0]);
    }
}

/// Executes a file by its descriptor, with three arguments after its name and without an environment. Returns if it cannot.
pub(crate) fn execute(file: i32, name: &CStr, arguments: [&CStr; 3]) {
    let [a, b, c] = arguments;
    let argv =
        [name.as_ptr() as usize, a.as_ptr() as usize, b.as_ptr() as usize, c.as_ptr() as usize, 0usize];
    let none = 0usize;
    // SAFETY: strings that end, and tables that end with null.
    unsafe {
        call(
            nr::EXECVEAT,
            [
                file as usize,
                c"".as_ptr() as usize,
                argv.as_ptr() as usize,
                &raw const none as usize,
                0x1000, /* AT_EMPTY_PATH */
                0,
            ],
        )
    };
}

/// Both close with an exec.
pub(crate) fn pipe() -> Result<[i32; 2], isize> {
    let mut pair = [-1i32; 2];
    // SAFETY: room for two descriptors.
    let done = unsafe { call(nr::PIPE2, [pair.as_mut_ptr() as usize, CLOEXEC, 0, 0, 0, 0]) };
    if done < 0 { Err(-done) } else { Ok(pair) }
}

/// The same, of SOCK_SEQPACKET sockets.
pub(crate) fn socket_pair() -> Result<[i32; 2], isize> {
    let mut pair = [-1i32; 2];
    // SAFETY: room for two descriptors.
    let done = unsafe {
        call(shared::SOCKETPAIR, [1 /* AF_UNIX */, 5 | CLOEXEC, 0, pair.as_mut_ptr() as usize, 0, 0])
    };
    if done < 0 { Err(-done) } else { Ok(pair) }
}

pub(crate) fn accept(socket: i32) -> isize {
    numbers(nr::ACCEPT4, [socket as usize, 0, 0, CLOEXEC | NONBLOCK])
}

/// Whether root or this process's own user has connected (SO_PEERCRED).
pub(crate) fn is_ours(socket: i32) -> bool {
    let mut peer = [u32::MAX; 3]; // struct ucred: pid, uid, gid
    let mut length = size_of_val(&peer) as u32;
    // SAFETY: a structure and its length on this stack.
    let done = unsafe {
        call(
            nr::GETSOCKOPT,
            [
                socket as usize,
                1,
                17, /* SO_PEERCRED */
                peer.as_mut_ptr() as usize,
                &raw mut length as usize,
                0,
            ],
        )
    };
    done == 0 && (peer[1] == 0 || peer[1] as isize == numbers(nr::GETUID, [0; 4]))
}

const DONTWAIT: usize = 0x40;
const NOSIGNAL: usize = 0x4000;
const PEEK: usize = 2;
const TRUNC: usize = 0x20;
const CMSG_CLOEXEC: usize = 0x4000_0000;

/// One packet of these parts, and up to two descriptors, if the other end takes it now.
pub(crate) fn send(socket: i32, parts: &[Part<'_>], fds: [i32; 2]) -> isize {
    let count = if fds[0] < 0 {
        0
    } else if fds[1] < 0 {
        1
    } else {
        2
    };
    let rights: [u64; 3] = [
        16 + 4 * count,
        1 | 1 << 32, /* SOL_SOCKET, SCM_RIGHTS */
        fds[0] as u32 as u64 | (fds[1] as u32 as u64) << 32,
    ];
    let control = if count == 0 { [0, 0] } else { [rights.as_ptr() as usize, 24] };
    let header = [0usize, 0, parts.as_ptr() as usize, parts.len(), control[0], control[1], 0];
    // SAFETY: a msghdr; the parts are of slices that live, the rest lies on this stack.
    unsafe {
        call(shared::SENDMSG, [socket as usize, header.as_ptr() as usize, DONTWAIT | NOSIGNAL, 0, 0, 0])
    }
}

/// The next packet as far as there is room, and how long it is; it stays in the socket until [`skip`].
pub(crate) fn peek(socket: i32, room: &mut [u8]) -> isize {
    receive_into(socket, [room.as_mut_ptr() as usize, room.len()], [0, 0], PEEK | TRUNC).0
}

/// Throws the next packet away.
pub(crate) fn skip(socket: i32) {
    let mut one = [0u8];
    receive_into(socket, [one.as_mut_ptr() as usize, 1], [0, 0], 0);
}

/// The same, and the descriptor that comes along stays open.
pub(crate) fn keep(socket: i32) {
    let (mut one, mut rights) = ([0u8], [0u64; 3]);
    let control = [rights.as_mut_ptr() as usize, size_of_val(&rights)];
    receive_into(socket, [one.as_mut_ptr() as usize, 1], control, CMSG_CLOEXEC);
}

/// What a monitor says.
pub(crate) enum Heard {
    /// And the descriptor that came along, or -1.
    Message(Message, i32),
    Nothing,
    End,
}

pub(crate) fn hear(control: i32) -> Heard {
    let mut words = [0u64; size_of::<Message>() / 8];
    let mut rights = [0u64; 3];
    let (got, rest) = receive_into(
        control,
        [words.as_mut_ptr() as usize, size_of_val(&words)],
        [rights.as_mut_ptr() as usize, size_of_val(&rights)],
        CMSG_CLOEXEC,
    );
    let fd = if rest >= 20 { rights[2] as u32 as i32 } else { -1 };
    if got == size_of::<Message>() as isize {
        // SAFETY: plain numbers, as large and as aligned.
        return Heard::Message(unsafe { words.as_ptr().cast::<Message>().read() }, fd);
    }
    close(fd);
    match -got {
        // A report, where there is no pipe for it.
        _ if got > 0 => Heard::Nothing,
        EAGAIN | EINTR | ECONNRESET => Heard::Nothing,
        _ => Heard::End,
    }
}

/// The other end closed with something unread: told once, before what it has sent.
const ECONNRESET: isize = 104;

/// recvmsg(2) of one part; the result, and how many bytes of control messages there are.
fn receive_into(socket: i32, part: [usize; 2], control: [usize; 2], flags: usize) -> (isize, usize) {
    let mut header = [0usize, 0, part.as_ptr() as usize, 1, control[0], control[1], 0];
    // SAFETY: a msghdr; `part` and `control` are room of the functions above, which lives.
    let got = unsafe {
        call(shared::RECVMSG, [socket as usize, header.as_mut_ptr() as usize, flags | DONTWAIT, 0, 0, 0])
    };
    (got, if got < 0 { 0 } else { header[5] })
}

pub(crate) fn resize(terminal: i32, rows: u16, columns: u16) {
    let size = [rows, columns, 0, 0]; // struct winsize
    // SAFETY: a structure on this stack.
    unsafe {
        call(shared::IOCTL, [terminal as usize, 0x5414 /* TIOCSWINSZ */, size.as_ptr() as usize, 0, 0, 0])
    };
}
