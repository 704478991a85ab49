//! What any process of the same user can ask a keeper, by its directory.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::attachment::Attachment;
use super::restart::Restart;
use super::socket::{self, Packet};
use super::state::{KeptState, KeptStatus};
use super::waiter::Waiter;
use crate::keeper_config::{
    ASK_ATTACH, ASK_HOLD, ASK_PIDFDS, ASK_POLICY, ASK_RESTART, ASK_STATE, ASK_STOP, ASK_WAIT, REFUSED,
};
use crate::kernel;
use crate::signal::Signal;
use crate::{Error, Result};

/// A program that a [`Keeper`](crate::Keeper) has, as other processes see it: by the keeper's directory. Any process of
/// the same user may ask, and root; 16 at a time, of which each [`Waiter`] and each [`Attachment`] is one.
///
/// Every call is a connection of its own and waits for the answer of a keeper, which comes at once, 20 seconds at most.
///
/// ```no_run
/// use isolate_namespaces::{Kept, Signal};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let web = Kept::new(std::fs::File::open("/run/mine/web")?);
/// web.stop_intended()?; // no restart
/// web.signal(Signal::TERM)?;
/// if web.wait_timeout(std::time::Duration::from_secs(10))?.is_none() {
///     web.signal(Signal::KILL)?;
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Kept {
    directory: OwnedFd,
}

/// A keeper with as many clients as it can have closes a connection at once; so often it is tried again.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);
/// The longest state file that is read.
const LONGEST: u64 = 64 << 10;

impl Kept {
    /// By the keeper's directory. Nothing is asked yet.
    #[must_use]
    pub fn new(directory: impl Into<OwnedFd>) -> Self {
        Self { directory: directory.into() }
    }

    /// What is known. Once the keeper is gone, from its file: [`KeptStatus::Exited`] after its end,
    /// [`KeptStatus::Lost`] if it was killed.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound): no keeper was ever at work there;
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied): another user's.
    pub fn state(&self) -> Result<KeptState> {
        match self.ask(&[ASK_STATE])? {
            Some((_, packet)) => parse(&packet.bytes),
            None => self.left(),
        }
    }

    /// The program's pidfd and its monitor's, while there is a program. However long they are kept, no signal that goes by
    /// them reaches anybody else. The first is readable (poll(2)) when the program has ended, the second when its last
    /// process is gone and its locks are free.
    ///
    /// # Errors
    ///
    /// As of [`state`](Self::state).
    pub fn pidfds(&self) -> Result<Option<(OwnedFd, OwnedFd)>> {
        let Some((_, packet)) = self.ask(&[ASK_PIDFDS])? else { return Ok(None) };
        let mut descriptors = packet.descriptors.into_iter();
        Ok(descriptors.next().zip(descriptors.next()))
    }

    /// Sends a signal to the program, by its pidfd. False if there is none: it has ended, or is to be started again.
    ///
    /// # Errors
    ///
    /// As of [`state`](Self::state), and what the kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<bool> {
        let Some((program, _)) = self.pidfds()? else { return Ok(false) };
        match kernel::send_signal(program.as_fd(), signal.number()) {
            Ok(()) => Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            Err(e) => Err(Error::io(format!("cannot send signal {signal}"), &e)),
        }
    }

    /// Waits until the program has ended for good, restarts and all.
    ///
    /// # Errors
    ///
    /// [`Lost`](crate::ErrorKind::Lost): the keeper was killed, and the program with it; and as of [`state`](Self::state).
    pub fn wait(&self) -> Result<KeptState> {
        self.waiter()?.wait()
    }

    /// As [`wait`](Self::wait), but no longer than this; `None` if it has not ended by then.
    ///
    /// # Errors
    ///
    /// As of [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<KeptState>> {
        let waiter = self.waiter()?;
        kernel::readable_within(waiter.as_fd(), timeout);
        waiter.try_wait()
    }

    /// Something that can be polled for the program's end.
    ///
    /// # Errors
    ///
    /// As of [`state`](Self::state).
    pub fn waiter(&self) -> Result<Waiter> {
        // Asked first: a keeper that has no place for another client says so here.
        if let Some((socket, _)) = self.ask(&[ASK_STATE])? {
            match socket::send(&socket, &[&[ASK_WAIT]]) {
                Err(e) if e.raw_os_error() != Some(libc::EPIPE) => return Err(unreachable(&e)),
                _ => return Ok(Waiter::new(socket, self.again()?)),
            }
        }
        let state = self.left()?;
        let (ours, _theirs) = kernel::control_pair().map_err(|e| unreachable(&e))?;
        Ok(Waiter::over(ours, state))
    }

    /// Says that the program is to end, or to stay ended, and that this is meant: no restart follows. It is not signalled. What
    /// waits for its restart has ended with this.
    ///
    /// # Errors
    ///
    /// As of [`state`](Self::state).
    pub fn stop_intended(&self) -> Result<KeptState> {
        match self.ask(&[ASK_STOP])? {
            Some((_, packet)) => parse(&packet.bytes),
            None => self.left(),
        }
    }

    /// Says that the program is to be started again after its next end, at once and whatever was said about restarts, or right
    /// now where it waits for that. It is not signalled. A stop that was asked for before is forgotten.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): the keeper has no plan to [replay](crate::Keeper::replay), or the
    /// program has ended for good; and as of [`state`](Self::state).
    pub fn restart_intended(&self) -> Result<KeptState> {
        self.ask_for_restarts(&[ASK_RESTART])
    }

    fn ask_for_restarts(&self, request: &[u8]) -> Result<KeptState> {
        match self.ask(request)? {
            Some((_, packet)) if packet.tag == REFUSED => {
                Err(Error::invalid("the keeper has no plan for a restart"))
            }
            Some((_, packet)) => parse(&packet.bytes),
            None => Err(Error::invalid("the program has ended for good")),
        }
    }

    /// When the program is started again from its next end on, in place of what was [said](crate::Keeper::restart). What waits for its restart
    /// is started all the same.
    ///
    /// # Errors
    ///
    /// As of [`restart_intended`](Self::restart_intended).
    pub fn set_restart(&self, restart: Restart) -> Result<KeptState> {
        let (kind, most) = restart.to_config();
        let [a, b, c, d] = most.to_le_bytes();
        self.ask_for_restarts(&[ASK_POLICY, kind as u8, a, b, c, d])
    }

    /// Gives the keeper one more descriptor that it keeps open until its end, and does nothing with, as those of
    /// [`Keeper::hold`](crate::Keeper::hold).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): the program has ended for good; and as of [`state`](Self::state).
    pub fn hold(&self, descriptor: impl AsFd) -> Result<()> {
        match self.ask_with(&[ASK_HOLD], &[descriptor.as_fd()])? {
            Some(_) => Ok(()),
            None => Err(Error::invalid("the program has ended for good")),
        }
    }

    /// From now on, what the program writes, and the way to its standard input or terminal.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): the program has ended for good; and as of [`state`](Self::state).
    pub fn attach(&self) -> Result<Attachment> {
        let Some((socket, packet)) = self.ask(&[ASK_ATTACH])? else {
            self.left()?;
            return Err(Error::invalid("the program has ended for good"));
        };
        let state = parse(&packet.bytes)?;
        Ok(Attachment::new(socket, state.terminal))
    }

    /// One request and its answer, and the connection. `None`: there is no keeper any more.
    fn ask(&self, request: &[u8]) -> Result<Option<(OwnedFd, Packet)>> {
        self.ask_with(request, &[])
    }

    fn ask_with(&self, request: &[u8], along: &[BorrowedFd<'_>]) -> Result<Option<(OwnedFd, Packet)>> {
        for _ in 0..TRIES {
            let Some(socket) = socket::connected(self.directory.as_fd())? else { return Ok(None) };
            if let Some(packet) = socket::ask(&socket, request, along).map_err(|e| unreachable(&e))? {
                return Ok(Some((socket, packet)));
            }
            std::thread::sleep(PAUSE);
        }
        Err(Error::lost("the keeper closes the connection").with_hint("16 clients are the most at a time"))
    }

    /// What a keeper that is gone has left.
    pub(super) fn left(&self) -> Result<KeptState> {
        let failed = |e: Errno| Error::os("cannot read the state of the keeper", e.raw_os_error());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = openat(&self.directory, "state", flags, Mode::empty()).map_err(failed)?;
        let mut bytes = Vec::new();
        let read = std::fs::File::from(file).take(LONGEST).read_to_end(&mut bytes);
        read.map_err(|e| Error::io("cannot read the state of the keeper", &e))?;
        let mut state = parse(&bytes)?;
        if state.status != KeptStatus::Exited {
            state.status = KeptStatus::Lost;
            state.pid = None;
        }
        Ok(state)
    }

    fn again(&self) -> Result<Self> {
        self.directory.try_clone().map(Self::new).map_err(|e| unreachable(&e))
    }
}

/// The directory.
impl AsFd for Kept {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<KeptState> {
    String::from_utf8_lossy(bytes).parse()
}

fn unreachable(error: &io::Error) -> Error {
    Error::io("cannot ask the keeper", error)
}
