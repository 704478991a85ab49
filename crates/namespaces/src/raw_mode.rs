//! A terminal in raw mode, for a while.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::ptr;

use rustix::process::getpgrp;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetpgrp, tcsetattr};

use crate::terminal::is_master;

/// A terminal whose mode is as before when this is dropped, a panic's unwinding included.
///
/// Both changes are made at once (TCSANOW). TCSADRAIN would wait for output to be sent, on a serial line that is held for
/// ever, and gains nothing: output is processed when it is written, not when it is sent. TCSAFLUSH would throw away what
/// was typed ahead.
#[derive(Debug)]
pub(crate) struct RawMode<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> RawMode<'a> {
    /// `None` if this is not a terminal, or a master: the mode that one would change is its other side's.
    pub(crate) fn enter(fd: BorrowedFd<'a>) -> io::Result<Option<Self>> {
        if !isatty(fd) || is_master(fd)? {
            return Ok(None);
        }
        // Of another terminal than the caller's own it is ENOTTY, and there is no background.
        if tcgetpgrp(fd).is_ok_and(|foreground| foreground != getpgrp()) {
            let what =
                "cannot use the terminal: this process is in its background (`fg` brings it to the front)";
            return Err(io::Error::other(what));
        }
        let before = tcgetattr(fd)?;
        let mut raw = before.clone();
        raw.make_raw();
        set(fd, &raw)?;
        Ok(Some(Self { terminal: fd, before }))
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        // It fails for a terminal that is hung up, whose mode nobody sees any more.
        let _ = set(self.terminal, &self.before);
    }
}

/// Also from the background, where a change stops whoever does not block SIGTTOU (tcsetattr(3p)).
fn set(terminal: BorrowedFd<'_>, mode: &Termios) -> io::Result<()> {
    without_sigttou(|| Ok(tcsetattr(terminal, OptionalActions::Now, mode)?))
}

/// Runs it with SIGTTOU blocked in this thread, for just that long.
fn without_sigttou<T>(body: impl FnOnce() -> T) -> T {
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is initialised by sigemptyset, and both live on this stack. With these arguments none of the calls
    // can fail (sigsetops(3), pthread_sigmask(3)), so that `before` is written.
    let before = unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTTOU);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr());
        before.assume_init()
    };
    let done = body();
    // SAFETY: the mask that this thread had a moment ago.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut()) };
    done
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::panic::catch_unwind;

    use rustix::termios::LocalModes;

    use super::*;
    use crate::terminal::tests::pair;

    #[test]
    fn the_mode_is_as_before_also_after_a_panic() {
        let (_master, terminal) = pair();
        let modes = || {
            let mode = tcgetattr(&terminal).unwrap();
            (mode.input_modes, mode.output_modes, mode.control_modes, mode.local_modes)
        };
        let before = modes();
        assert!(before.3.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG));
        let panicked = catch_unwind(|| {
            let _raw = RawMode::enter(terminal.as_fd()).unwrap().unwrap();
            let raw = tcgetattr(&terminal).unwrap().local_modes;
            assert!(!raw.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG));
            std::panic::panic_any("inside");
        });
        assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"inside"), "not one of the assertions");
        assert_eq!(modes(), before);
    }

    #[test]
    fn a_change_leaves_the_threads_signal_mask_alone() {
        let mask = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            status.lines().find(|line| line.starts_with("SigBlk")).unwrap().to_owned()
        };
        let before = mask();
        let inside = without_sigttou(mask);
        assert_ne!(inside, before);
        assert_eq!(mask(), before);
    }

    #[test]
    fn a_pipe_has_no_mode_and_a_master_none_of_its_own() {
        let (pipe, _writer) = io::pipe().unwrap();
        let (master, _terminal) = pair();
        assert!(RawMode::enter(pipe.as_fd()).unwrap().is_none());
        assert!(RawMode::enter(master.as_fd()).unwrap().is_none());
    }
}
