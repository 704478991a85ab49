//! The launcher: reads the plan, prepares, clones the container's first process, which carries the plan out, and stays as
//! its monitor. The first process executes the program, or stays as its init. No libc, no allocation, no panic.
#![no_std]
#![no_main]
#![no_builtins]

mod channel;
mod init;
mod mem;
mod monitor;
mod operation;
mod run;
mod sys;
#[path = "../src/wire.rs"]
#[expect(dead_code, reason = "the library's half of the format")]
mod wire;

use run::Run;
use sys::{ENOSYS, call, new, nr};
use wire::{BEFORE, CLONE, IDLES, INIT, Report, STAYS};

// The kernel enters with the stack pointer at argc; hand that address to Rust on an aligned stack.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {0}", "ud2", sym start);
#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x30, xzr", "mov x0, sp", "bl {0}", "brk 1", sym start);

/// Arguments: name, descriptor of the plan, its length, descriptor of the report pipe; decimal.
/// SAFETY: entered once, by the kernel, with the stack of execve(2).
unsafe extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the System V ABI puts argc and argv there; the library always passes four.
    unsafe {
        if *stack < 4 {
            exit(126);
        }
        let number = |n: usize| decimal(*stack.add(1 + n) as *const u8);
        let (plan, length, report) = (number(1), number(2), number(3));
        default_signals();
        standard_descriptors();
        let failed = match read(plan, length).and_then(|base| launch(base, length, Title::of(stack))) {
            Ok(()) => exit(0),
            Err(failed) => failed,
        };
        call(nr::WRITE, [report, &raw const failed as usize, size_of::<Report>(), 0, 0, 0]);
        exit(125)
    }
}

/// The plan in memory of our own: a message of the control socket, or the contents of a file. Its descriptor stays open, it may be
/// the control socket's.
/// SAFETY: `plan` is a descriptor of this process's.
unsafe fn read(plan: usize, length: usize) -> Result<*mut u8, Report> {
    // SAFETY: a new anonymous mapping, filled as far as it reaches.
    unsafe {
        let base = call(nr::MMAP, [0, length, 3 /* read, write */, 0x22 /* private, anonymous */, usize::MAX, 0]);
        let got = if base < 0 { base } else { call(nr::READ, [plan, base as usize, length, 0, 0, 0]) };
        match got {
            got if got == length as isize => Ok(base as *mut u8),
            got if got < 0 => Err(Report::failed(BEFORE, -got as i32)),
            _ => Err(Report::failed(BEFORE, sys::EBADMSG)),
        }
    }
}

/// What the caller ignores must not be ignored in a container, and an ignored SIGCHLD would lose the exit status.
/// SAFETY: the library installs no handler here; only numbers and a structure of its own go to the kernel.
unsafe fn default_signals() {
    let action = [0usize; 4];
    let mut signal = 1;
    while signal <= 64 {
        // SAFETY: a zeroed sigaction is SIG_DFL; SIGKILL and SIGSTOP answer EINVAL.
        unsafe { call(nr::RT_SIGACTION, [signal, action.as_ptr() as usize, 0, 8, 0, 0]) };
        signal += 1;
    }
}

/// A standard descriptor that the caller has closed must not become the number of another: the plan puts the program's there.
/// SAFETY: this process has one thread: nobody else opens or closes a descriptor meanwhile.
unsafe fn standard_descriptors() {
    let mut fd = 0;
    while fd < 3 {
        // SAFETY: numbers, and a literal.
        unsafe {
            if call(nr::FCNTL, [fd, 1 /* F_GETFD */, 0, 0, 0, 0]) < 0 {
                call(nr::OPENAT, [0, c"/dev/null".as_ptr() as usize, 2 /* O_RDWR */, 0, 0, 0]);
            }
        }
        fd += 1;
    }
}

/// The arguments of this process in its memory, which ps(1) shows.
#[derive(Clone, Copy)]
pub(crate) struct Title {
    start: *mut u8,
    length: usize,
}

impl Title {
    /// From the name to the end of the last argument: they lie one after the other.
    /// SAFETY: `stack` is that of execve(2), with four arguments at least.
    unsafe fn of(stack: *const usize) -> Self {
        // SAFETY: four arguments, each ended by a NUL.
        unsafe {
            let (start, mut end) = (*stack.add(1) as *mut u8, *stack.add(4) as *mut u8);
            while *end != 0 {
                end = end.add(1);
            }
            Self { start, length: end as usize - start as usize }
        }
    }

    /// Another name, of at most as many bytes as the arguments have.
    /// SAFETY: the arguments have been read: they are not used again.
    pub(crate) unsafe fn set(self, name: &[u8]) {
        let mut n = 0;
        while n < self.length {
            let byte = name.get(n).copied().unwrap_or(0);
            // SAFETY: inside the arguments.
            unsafe { *self.start.add(n) = byte };
            n += 1;
        }
    }
}

/// SAFETY: `base` is a private mapping of `length` bytes, and nobody else's.
unsafe fn launch(base: *mut u8, length: usize, title: Title) -> Result<(), Report> {
    // SAFETY: a private mapping of our own.
    unsafe {
        let mut run = Run::new(base, length)?;
        run.steps(0, run.header.prepare)?;
        if run.header.readable == 0 {
            // Before the clone: what is born into a running container is never readable for what runs there.
            call(nr::PRCTL, [4 /* PR_SET_DUMPABLE */, 0, 0, 0, 0, 0]);
        }
        let mut go = [-1i32; 2];
        let paired = call(nr::SOCKETPAIR, [1 /* AF_UNIX */, 0o2000005 /* SOCK_SEQPACKET, CLOEXEC */, 0, go.as_mut_ptr() as usize, 0, 0]);
        if paired < 0 {
            return Err(Report::failed(CLONE, -paired as i32));
        }
        let mut pidfd = -1i32;
        let pid = clone(&run, &mut pidfd);
        if pid < 0 {
            return Err(Report::failed(CLONE, -pid as i32));
        }
        if pid == 0 {
            return child(&mut run, go, (base as usize, length), title);
        }
        call(nr::CLOSE, [go[0] as usize, 0, 0, 0, 0, 0]);
        let child = monitor::Child { pid: pid as i32, pidfd, go: go[1] };
        let went = match monitor::release(&mut run, &child) {
            Ok(went) => went,
            Err(failed) => {
                monitor::end(&child);
                return Err(failed);
            }
        };
        monitor::watch((base as usize, length), &run.header, &child, went);
    }
    Ok(())
}

/// In the child: waits for the go message, then the steps. Returns only with a failure: the last step executes the program.
/// SAFETY: as of [`launch`], in the process that [`clone`] made.
unsafe fn child(run: &mut Run, go: [i32; 2], plan: (usize, usize), title: Title) -> Result<(), Report> {
    // SAFETY: descriptors of ours.
    unsafe {
        call(nr::CLOSE, [go[1] as usize, 0, 0, 0, 0, 0]);
        if !channel::receive_go(go[0], &mut run.slots) {
            exit(124);
        }
        call(nr::PRCTL, [4 /* PR_SET_DUMPABLE */, 0, 0, 0, 0, 0]);
        run.monitor = go[0];
        let first = run.header.prepare + run.header.maps;
        run.steps(first, run.header.child)?;
        if run.header.init == STAYS {
            run.used = operation::used();
            let pid = call(nr::CLONE, [SIGCHLD as usize, 0, 0, 0, 0, 0]);
            if pid < 0 {
                return Err(Report::failed(INIT, -pid as i32));
            }
            if pid != 0 {
                init::stay(pid as i32, [go[0], run.header.report], plan, title);
            }
        }
        let (first, count) = (first + run.header.child, run.header.main);
        run.steps(first, count)?;
        if run.header.init == IDLES {
            init::idle(run.header.report);
        }
        Err(Report::failed(first + count, sys::EBADMSG))
    }
}

/// struct clone_args of clone3(2) as of Linux 5.7.
#[repr(C)]
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

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const SIGCHLD: u64 = 17;

/// A fork with the plan's flags: memory is copied, so that returning twice is no trouble.
/// SAFETY: no CLONE_VM among the flags: the child has a copy of this stack.
unsafe fn clone(run: &Run, pidfd: &mut i32) -> isize {
    let mut args = CloneArgs {
        flags: run.header.clone_flags | CLONE_PIDFD,
        pidfd: pidfd as *mut i32 as u64,
        exit_signal: SIGCHLD,
        child_tid: 0,
        parent_tid: 0,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if run.header.cgroup >= 0 {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = run.header.cgroup as u64;
    }
    // SAFETY: the structure lives on this stack; the child gets a copy of it all.
    let pid = unsafe { call(new::CLONE3, [&raw mut args as usize, size_of::<CloneArgs>(), 0, 0, 0, 0]) };
    if pid != -ENOSYS {
        return pid;
    }
    // A filter that refuses clone3, as containers' do: clone(2), and the child joins its group by itself. The low byte
    // is the exit signal there, so a time namespace cannot be asked for.
    let flags = (args.flags & 0xffff_ffff) | SIGCHLD;
    if run.header.clone_flags & 0xff != 0 {
        return -ENOSYS;
    }
    // SAFETY: as above; the third argument is where the pidfd goes on every architecture we know.
    let pid = unsafe { call(nr::CLONE, [flags as usize, 0, pidfd as *mut i32 as usize, 0, 0, 0]) };
    if pid == 0 && run.header.cgroup >= 0 {
        // SAFETY: numbers, and literals.
        let joined = unsafe {
            let path = c"cgroup.procs".as_ptr() as usize;
            let procs = call(nr::OPENAT, [run.header.cgroup as usize, path, 0o2000001 /* O_WRONLY, O_CLOEXEC */, 0, 0, 0]);
            if procs < 0 { procs } else { call(nr::WRITE, [procs as usize, c"0".as_ptr() as usize, 1, 0, 0, 0]) }
        };
        if joined < 0 {
            let failed = Report::failed(CLONE, -joined as i32);
            // SAFETY: a report on this stack.
            unsafe {
                call(nr::WRITE, [run.header.report as usize, &raw const failed as usize, size_of::<Report>(), 0, 0, 0])
            };
            exit(125);
        }
    }
    pid
}

/// SAFETY: a NUL ends the digits.
unsafe fn decimal(mut digits: *const u8) -> usize {
    let mut value = 0usize;
    // SAFETY: a NUL ends every argument.
    unsafe {
        while *digits != 0 {
            value = value.wrapping_mul(10).wrapping_add((*digits).wrapping_sub(b'0') as usize);
            digits = digits.add(1);
        }
    }
    value
}

pub(crate) fn exit(code: usize) -> ! {
    loop {
        // SAFETY: does not return and touches no memory.
        unsafe { call(nr::EXIT_GROUP, [code, 0, 0, 0, 0, 0]) };
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(123)
}
