//! This process at a container that a keeper has: what is typed goes there, what it writes comes here.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use isolate::namespaces::Output as Told;
use isolate::{Attachment, Signal, Stream, WindowSize};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::exit::{Failure, Result};
use crate::output::{Output, Source};
use crate::verbs::signals::Signals;

/// ^P ^Q, typed one after the other: the person leaves, the program goes on. Docker's.
const LEAVE: [u8; 2] = [0x10, 0x11];
/// What ends a terminal's input: ^D.
const END: [u8; 1] = [0x04];

/// How one has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// The program has ended for good.
    Ended,
    /// It goes on.
    Detached,
}

/// Somebody at a container.
pub(crate) struct Session<'a> {
    pub attachment: &'a Attachment,
    /// Whether what is typed here goes there.
    pub input: bool,
    /// Where what it writes goes, if its log brings that, too; else to standard output and error.
    pub output: Option<&'a Output>,
    pub signals: &'a Signals,
    /// Passes a signal on.
    pub send: &'a dyn Fn(Signal) -> Result<()>,
}

impl Session<'_> {
    /// Until the program has ended for good, or the person leaves.
    pub(crate) fn run(self) -> Result<Left> {
        let raw = match self.attachment.is_terminal() && self.input {
            true => Raw::enter(),
            false => None,
        };
        self.follow_window()?;
        let mut leaving = Leaving::default();
        let mut source = self.output.map(Output::source);
        let mut open = self.input;
        loop {
            let stdin = io::stdin();
            let mut polls = vec![
                PollFd::new(self.attachment.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            if open {
                polls.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut polls, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(Failure::new(format!("cannot wait for the program: {e}"))),
                Ok(_) => {}
            }
            let ready: Vec<bool> = polls.iter().map(|poll| poll.any().unwrap_or(true)).collect();
            if ready.first() == Some(&true) && self.receive(&mut source)? {
                return Ok(Left::Ended);
            }
            if ready.get(1) == Some(&true) {
                self.signalled()?;
            }
            if ready.get(2) == Some(&true) {
                let mut room = [0; 4096];
                let count = io::stdin().lock().read(&mut room)?;
                let (typed, left) = leaving.look(&room[..count], raw.is_some());
                self.send_input(&typed)?;
                if left {
                    return Ok(Left::Detached);
                }
                if count == 0 {
                    open = false;
                    self.end_input()?;
                }
            }
        }
    }

    /// Whether that was all.
    fn receive(&self, source: &mut Option<Source<'_>>) -> Result<bool> {
        loop {
            let (bytes, stream) = match self.attachment.try_read() {
                Ok(Some(Told::Stdout(bytes))) => (bytes, Stream::Stdout),
                Ok(Some(Told::Stderr(bytes))) => (bytes, Stream::Stderr),
                // From here on its log has it all.
                Ok(Some(Told::Lost(_))) if self.output.is_some() => {
                    *source = None;
                    continue;
                }
                Ok(Some(Told::Lost(count))) => {
                    Failure::new(format!(
                        "{count} bytes of output were not read in time, and are in the log alone"
                    ))
                    .tell();
                    continue;
                }
                Ok(Some(Told::Ended(_)) | None) => return Ok(true),
                Ok(Some(_)) => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e.into()),
            };
            match (source.as_mut(), stream) {
                (Some(source), _) => source.bring(stream, &bytes)?,
                (None, _) if self.output.is_some() => {}
                (None, Stream::Stderr) => write(io::stderr(), &bytes)?,
                (None, _) => write(io::stdout(), &bytes)?,
            }
        }
    }

    fn signalled(&self) -> Result<()> {
        match self.signals.next()? {
            Some(Signal::WINCH) => self.follow_window(),
            Some(signal) => (self.send)(signal),
            None => Ok(()),
        }
    }

    fn follow_window(&self) -> Result<()> {
        match WindowSize::of_stdin().or_else(|_| WindowSize::of(&io::stdout())) {
            Ok(size) if self.attachment.is_terminal() => gone_is_well(self.attachment.resize(size)),
            _ => Ok(()),
        }
    }

    fn send_input(&self, bytes: &[u8]) -> Result<()> {
        let mut attachment = self.attachment;
        gone_is_well(attachment.write_all(bytes))
    }

    fn end_input(&self) -> Result<()> {
        match self.attachment.is_terminal() {
            true => self.send_input(&END),
            false => gone_is_well(self.attachment.close_stdin()),
        }
    }
}

/// That it has ended is told in its turn.
fn gone_is_well(done: io::Result<()>) -> Result<()> {
    match done {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn write(mut to: impl Write, bytes: &[u8]) -> Result<()> {
    to.write_all(bytes)?;
    Ok(to.flush()?)
}

/// Whether somebody is about to leave.
#[derive(Debug, Default)]
struct Leaving {
    begun: bool,
}

impl Leaving {
    /// What of it is the program's, and whether the person leaves. Only keys can say that.
    fn look(&mut self, typed: &[u8], keys: bool) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(typed.len() + 1);
        for &byte in typed {
            match (std::mem::take(&mut self.begun), byte) {
                (true, byte) if byte == LEAVE[1] => return (passed, true),
                (true, byte) if byte == LEAVE[0] => {
                    passed.push(byte);
                    self.begun = true;
                }
                (true, byte) => passed.extend([LEAVE[0], byte]),
                (false, byte) if keys && byte == LEAVE[0] => self.begun = true,
                (false, byte) => passed.push(byte),
            }
        }
        (passed, false)
    }
}

/// Standard input as a terminal that interprets nothing; as before when it is dropped.
struct Raw(Termios);

impl Raw {
    /// None where it is no terminal.
    fn enter() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        // What was typed ahead stays.
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        tcsetattr(io::stdin(), OptionalActions::Now, &self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_keys_one_after_the_other_leave_and_all_else_is_passed_on() {
        let mut leaving = Leaving::default();
        assert_eq!(leaving.look(b"ab", true), (b"ab".to_vec(), false));
        assert_eq!(leaving.look(b"c\x10\x11d", true), (b"c".to_vec(), true));
        let mut apart = Leaving::default();
        assert_eq!(apart.look(b"\x10", true), (b"".to_vec(), false));
        assert_eq!(apart.look(b"x", true), (b"\x10x".to_vec(), false));
        assert_eq!(apart.look(b"\x10\x10\x11", true), (b"\x10".to_vec(), true));
        assert_eq!(Leaving::default().look(b"\x10\x11", false), (b"\x10\x11".to_vec(), false), "no keys");
    }
}
