//! The first process of a container, where it is not the program itself: passes signals on, reaps, and tells its monitor how the
//! program ended. And the one that is there in the place of a program.

use crate::sys::{call, nr};
use crate::wire::{CLOSING, ENDED, Message, Report};
use crate::{Title, channel, exit, operation};

const SIGCHLD: isize = 17;
const CLD_EXITED: i32 = 1;
/// capabilities(7), version 3; CAP_KILL for programs of other users.
const CAPABILITY_VERSION: [i32; 2] = [0x2008_0522, 0];
const KILL_ONLY: [u32; 6] = [1 << 5, 1 << 5, 0, 0, 0, 0];
const NONE: [u32; 6] = [0; 6];
/// SIGHUP, SIGINT, SIGQUIT and SIGTERM.
const ENDING: [isize; 4] = [1, 2, 3, 15];

/// Every signal is blocked since the launcher was cloned. A blocked signal waits for us even where process 1 of a pid namespace
/// would not get it (pid_namespaces(7)): it has no handler for any.
///
/// # Safety
/// Nothing but `monitor` is used again of this process's descriptors, and nothing of the plan.
pub(crate) unsafe fn stay(program: i32, [monitor, report]: [i32; 2], plan: (usize, usize), title: Title) -> ! {
    // SAFETY: numbers, and memory on this stack.
    unsafe {
        // First: the report closes by the exec of the program, and here.
        close_all_but(&[monitor], &[monitor, report], report);
        call(nr::MUNMAP, [plan.0, plan.1, 0, 0, 0, 0]);
        call(nr::CAPSET, [CAPABILITY_VERSION.as_ptr() as usize, KILL_ONLY.as_ptr() as usize, 0, 0, 0, 0]);
        call(nr::PRCTL, [15 /* PR_SET_NAME */, c"init".as_ptr() as usize, 0, 0, 0, 0]);
        title.set(b"init");
        call(nr::CHDIR, [c"/".as_ptr() as usize, 0, 0, 0, 0, 0]);
        let all = u64::MAX;
        loop {
            let signal = call(nr::RT_SIGTIMEDWAIT, [&raw const all as usize, 0, 0, 8, 0, 0]);
            if signal == SIGCHLD {
                if let Some(end) = reap(program) {
                    channel::send(monitor, &end, -1);
                    let failed = if end.code == CLD_EXITED { 0 } else { 128 };
                    exit((end.status + failed) as usize & 0xff);
                }
            } else if signal > 0 {
                call(nr::KILL, [program as usize, signal as usize, 0, 0, 0, 0]);
            }
        }
    }
}

/// Holds what the process has, and reaps: where others are in its pid namespace, what they leave becomes its own. Its plan does not
/// unblock signals.
///
/// # Safety
/// Nothing is used again of this process's descriptors.
pub(crate) unsafe fn idle(report: i32) -> ! {
    // SAFETY: numbers, and memory on this stack.
    unsafe {
        call(nr::CAPSET, [CAPABILITY_VERSION.as_ptr() as usize, NONE.as_ptr() as usize, 0, 0, 0, 0]);
        close_all_but(&[], &[report], report);
        let all = u64::MAX;
        loop {
            match call(nr::RT_SIGTIMEDWAIT, [&raw const all as usize, 0, 0, 8, 0, 0]) {
                SIGCHLD => {
                    reap(-1);
                }
                signal if ENDING.contains(&signal) => exit(0),
                _ => {}
            }
        }
    }
}

/// Closes all but `kept`, and before, so that a failure can be told, all but `first`, the report among them: the end of the report is what
/// the caller waits for, and what runs beside an init that has more is none that was described.
/// SAFETY: of this process's descriptors only those in `kept` are used again.
unsafe fn close_all_but(kept: &[i32], first: &[i32], report: i32) {
    // SAFETY: as above, and a report on this stack.
    unsafe {
        let mut closed = operation::close_all_but(first);
        let most = closed >= 0;
        if most {
            closed = operation::close_all_but(kept);
        }
        if closed < 0 {
            let failed = Report::failed(CLOSING, -closed as i32);
            let told = call(nr::WRITE, [report as usize, &raw const failed as usize, size_of::<Report>(), 0, 0, 0]);
            // A report that is closed was the last.
            if !most || told >= 0 {
                exit(122);
            }
        }
    }
}

/// Every child that has ended. How the program did, once it has.
/// SAFETY: only in the init, whose children are nobody else's to wait for.
unsafe fn reap(program: i32) -> Option<Message> {
    loop {
        let mut info = [0i32; 32]; // siginfo_t: signo, errno, code, pad, pid, uid, status
        // SAFETY: as long as the kernel's structure.
        let done = unsafe {
            call(nr::WAITID, [0 /* P_ALL */, 0, info.as_mut_ptr() as usize, 4 | 1 /* WEXITED, WNOHANG */, 0, 0])
        };
        if done < 0 || info[4] == 0 {
            return None;
        }
        if info[4] == program {
            return Some(Message { kind: ENDED, code: info[2], status: info[6], ..channel::EMPTY });
        }
    }
}
