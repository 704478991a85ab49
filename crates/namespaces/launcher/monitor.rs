//! After the clone, on the parent's side: the maps, the go byte, then the container's monitor until PID 1 has ended.

use crate::channel::{self, EMPTY, send};
use crate::operation::{close_all_but, now};
use crate::run::Run;
use crate::sys::{EAGAIN, ECHILD, EINTR, EPIPE, call, new, nr};
use crate::wire::{CHILD_SLOT, CLONE, DETACH, ENDED, GO, HOLD, Header, KEPT, Message, QUIET, Report, STARTED, TELL};

const SIGKILL: usize = 9;
const CLD_KILLED: i32 = 2;
const POLLIN: u16 = 1;

#[repr(C)]
#[derive(Clone, Copy)]
struct Poll {
    fd: i32,
    events: u16,
    revents: u16,
}

/// The child as its monitor knows it.
pub(crate) struct Child {
    pub pid: i32,
    pub pidfd: i32,
    /// Our end of the pair of sockets at whose other end the child waits.
    pub go: i32,
}

/// Writes the maps, tells the caller, lets the child go, and says when that was. An error is for the report.
///
/// # Safety
/// The plan's calls are the library's promise.
pub(crate) unsafe fn release(run: &mut Run, child: &Child) -> Result<u64, Report> {
    let (first, count) = (run.header.prepare, run.header.maps);
    let since = run.slots;
    // SAFETY: descriptors of ours and memory on this stack.
    unsafe {
        if count > 0 {
            let mut name = [0u8; 24];
            let proc = call(nr::OPENAT, [usize::MAX - 99, path(child.pid, &mut name), 0o12200000 /* O_PATH | O_CLOEXEC */, 0, 0, 0]);
            if proc < 0 {
                return Err(Report::failed(first, -proc as i32));
            }
            run.slots[CHILD_SLOT as usize] = proc as i32;
            run.steps(first, count)?;
        }
        // Not before the maps: what is not dumpable belongs to root in /proc.
        call(nr::PRCTL, [4 /* PR_SET_DUMPABLE */, 0, 0, 0, 0, 0]);
        let started = Message { kind: STARTED, code: child.pid, ..EMPTY };
        if run.header.hear == HOLD {
            let sent = send(run.header.control, &started, child.pidfd);
            if sent < 0 {
                // The caller would wait for ever, and so would we.
                return Err(Report::failed(CLONE, -sent as i32));
            }
            let mut word = 0u8;
            while call(nr::READ, [run.header.control as usize, &raw mut word as usize, 1, 0, 0, 0]) == -EINTR {}
            if word != GO {
                kill(child);
            }
        }
        let went = now();
        let sent = channel::send_go(child.go, &run.slots, &since);
        if sent < 0 && sent != -EPIPE {
            return Err(Report::failed(CLONE, -sent as i32));
        }
        if run.header.hear != QUIET {
            // Its end tells the caller that the program is executed: from now on the child alone holds it.
            call(nr::CLOSE, [run.header.report as usize, 0, 0, 0, 0, 0]);
        }
        if run.header.hear == TELL && send(run.header.control, &started, child.pidfd) < 0 {
            // Who does not know of it cannot have it.
            kill(child);
        }
        Ok(went)
    }
}

/// Waits for the child's end and passes it on. Does not return before.
///
/// # Safety
/// Every descriptor but those named here may be closed, and the plan unmapped.
pub(crate) unsafe fn watch(plan: (usize, usize), header: &Header, child: &Child, went: u64) {
    let (control, deadline) = (header.control, went.saturating_add(header.timeout));
    let mut polls = [
        Poll { fd: child.pidfd, events: POLLIN, revents: 0 },
        Poll { fd: control, events: POLLIN, revents: 0 },
    ];
    let (mut tidied, mut timed_out) = (false, false);
    let limited = header.timeout != 0;
    // SAFETY: numbers, and memory on this stack.
    unsafe {
        loop {
            let counts = limited && !timed_out;
            let left = if counts { deadline.saturating_sub(now()) } else { 0 };
            let pause = if tidied { [left / 1_000_000_000, left % 1_000_000_000] } else { TIDY };
            let timeout = if tidied && !counts { 0 } else { &raw const pause as usize };
            let ready = call(nr::PPOLL, [polls.as_mut_ptr() as usize, 2, timeout, 0, 8, 0]);
            if polls[0].revents != 0 {
                break;
            }
            if ready == 0 && !tidied {
                tidied = true;
                tidy(plan, control, header.kept, child);
            }
            if limited && !timed_out && now() >= deadline {
                timed_out = true;
                kill(child);
            }
            if polls[1].revents == 0 {
                continue;
            }
            let mut word = 0u8;
            let got = call(nr::READ, [control as usize, &raw mut word as usize, 1, 0, 0, 0]);
            if got == -EAGAIN || got == -EINTR {
                continue;
            }
            if got > 0 && word != DETACH {
                continue;
            }
            polls[1].fd = -1; // poll(2) skips it
            if got <= 0 {
                kill(child);
            }
        }
        let mut end = reap(child);
        // What an init has told of the program is more than how the init itself ended.
        if let Some(told) = channel::receive(child.go) {
            end.code = told.code;
            end.status = told.status;
        }
        end.timed_out = timed_out as u32;
        end.went = went;
        send(control, &end, -1);
    }
}

/// Two milliseconds: while the child starts, and wants the processor, its monitor does nothing that can wait.
const TIDY: [u64; 2] = [0, 2_000_000];

/// Gives back what only the start needed.
/// SAFETY: as of [`watch`], whose promise it uses.
unsafe fn tidy(plan: (usize, usize), control: i32, [a, b, c, d, e, f]: [i32; KEPT], child: &Child) {
    // SAFETY: the plan is not read any more.
    unsafe {
        call(nr::MUNMAP, [plan.0, plan.1, 0, 0, 0, 0]);
        // The caller's directory must not stay busy on our account.
        call(nr::CHDIR, [c"/".as_ptr() as usize, 0, 0, 0, 0, 0]);
        close_all_but(&[control, child.pidfd, child.go, a, b, c, d, e, f]);
    }
}

/// SAFETY: the pidfd is this process's.
unsafe fn kill(child: &Child) {
    // SAFETY: numbers only.
    unsafe { call(new::PIDFD_SEND_SIGNAL, [child.pidfd as usize, SIGKILL, 0, 0, 0, 0]) };
}

/// Of a child that never went.
///
/// # Safety
/// As of [`release`].
pub(crate) unsafe fn end(child: &Child) {
    // SAFETY: the caller's promise.
    unsafe {
        kill(child);
        reap(child);
    }
}

/// waitid(2) with the kernel's fifth argument, the resource usage.
/// SAFETY: the child is this process's, and waited for nowhere else.
unsafe fn reap(child: &Child) -> Message {
    let mut info = [0i32; 32]; // siginfo_t: signo, errno, code, pad, pid, uid, status
    let mut usage = [0u64; 18]; // struct rusage: ru_utime, ru_stime, …
    // An end that is not known is none that went well.
    (info[2], info[6]) = (CLD_KILLED, SIGKILL as i32);
    // SAFETY: both are as long as the kernel's structures.
    unsafe {
        loop {
            let done = call(
                nr::WAITID,
                [1 /* P_PID */, child.pid as usize, info.as_mut_ptr() as usize, 4 /* WEXITED */, usage.as_mut_ptr() as usize, 0],
            );
            if done == 0 || done == -ECHILD {
                break;
            }
        }
    }
    Message {
        kind: ENDED,
        code: info[2],
        status: info[6],
        user_us: usage[0] * 1_000_000 + usage[1],
        system_us: usage[2] * 1_000_000 + usage[3],
        max_rss: usage[4],
        at: now(),
        ..EMPTY
    }
}

/// "/proc/PID" into `name`; returns its address.
fn path(pid: i32, name: &mut [u8; 24]) -> usize {
    let mut rest = pid as u32;
    let mut prefix = b"/proc/".iter().rev();
    // From the end towards the start; the last byte stays the terminator.
    let mut start = name.as_ptr() as usize + 23;
    for place in name.iter_mut().rev().skip(1) {
        if rest > 0 {
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
        } else if let Some(&letter) = prefix.next() {
            *place = letter;
        } else {
            break;
        }
        start = place as *mut u8 as usize;
    }
    start
}
