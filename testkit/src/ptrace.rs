//! ptrace(2), in safe functions: on processes that the calling thread traces, of this architecture.

use std::ffi::{c_int, c_uint};
use std::io;

/// A system call that a process stands at, from PTRACE_GET_SYSCALL_INFO (Linux 5.3).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// Before it, with its number and arguments.
    Entry(i64, [u64; 6]),
    /// After it, with what it gives.
    Exit(i64),
    /// It stands elsewhere.
    Other,
}

/// How a process goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Go {
    /// To its next system call.
    ToCall,
    /// For itself: it is traced no more.
    Free,
}

/// struct ptrace_syscall_info, for an entry. At an exit the result is in the number's place.
#[repr(C)]
struct Info {
    operation: u8,
    _rest: [u64; 2],
    number: u64,
    args: [u64; 6],
    _more: [u64; 2],
}

const GET_SYSCALL_INFO: c_uint = 0x420e;
const ENTRY: u8 = 1;
const EXIT: u8 = 2;

/// From now on the process is traced, and whatever it starts: threads, processes, what they execute.
pub(crate) fn seize(pid: i32) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACEEXEC;
    request(libc::PTRACE_SEIZE, pid, 0, options as usize)
}

/// It stops, also where it waits in a system call, which goes on afterwards.
pub(crate) fn interrupt(pid: i32) -> io::Result<()> {
    request(libc::PTRACE_INTERRUPT, pid, 0, 0)
}

/// With a signal, unless that is 0.
pub(crate) fn go_on(pid: i32, how: Go, signal: c_int) -> io::Result<()> {
    let how = match how {
        Go::ToCall => libc::PTRACE_SYSCALL,
        Go::Free => libc::PTRACE_DETACH,
    };
    request(how, pid, 0, signal as usize)
}

/// Where a process stands.
pub(crate) fn stop(pid: i32) -> io::Result<Stop> {
    let mut info = Info { operation: 0, _rest: [0; 2], number: 0, args: [0; 6], _more: [0; 2] };
    request(GET_SYSCALL_INFO, pid, size_of::<Info>(), &raw mut info as usize)?;
    Ok(match info.operation {
        ENTRY => Stop::Entry(info.number.cast_signed(), info.args),
        EXIT => Stop::Exit(info.number.cast_signed()),
        _ => Stop::Other,
    })
}

/// At an entry: the call is not made.
pub(crate) fn skip_call(pid: i32) -> io::Result<()> {
    change(pid, |registers| registers.orig_rax = u64::MAX)
}

/// At an exit: what the call gives.
pub(crate) fn set_result(pid: i32, result: i64) -> io::Result<()> {
    change(pid, |registers| registers.rax = result.cast_unsigned())
}

fn change(pid: i32, how: impl FnOnce(&mut libc::user_regs_struct)) -> io::Result<()> {
    // SAFETY: plain numbers, for which all zeroes is a value.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    request(libc::PTRACE_GETREGS, pid, 0, &raw mut registers as usize)?;
    how(&mut registers);
    request(libc::PTRACE_SETREGS, pid, 0, &raw const registers as usize)
}

fn request(request: c_uint, pid: i32, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: every request of this file reads or writes at `data` alone, if at all, and what the callers pass there is as long as it
    // says and lives as long as the call. The process is another one, in whose memory nothing is written.
    let done = unsafe { libc::ptrace(request, pid, address, data) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The next that happens to a process that this thread traces, or to a child of this thread: its number and its status. `None` once
/// there is none of either.
pub(crate) fn wait() -> io::Result<Option<(i32, c_int)>> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for an int.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        if pid > 0 {
            return Ok(Some((pid, status)));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::ECHILD) => return Ok(None),
            _ => return Err(error),
        }
    }
}
