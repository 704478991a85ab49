//! The end of a program that a keeper has, to be polled.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::kept::{Kept, parse};
use super::socket;
use super::state::{KeptState, KeptStatus};
use crate::keeper_config::ENDED;
use crate::{Error, Result};

/// Waits for the end of a program that a [`Keeper`](crate::Keeper) has. Its descriptor is readable (poll(2)) when the program
/// has ended for good, or the keeper was killed.
#[derive(Debug)]
#[must_use = "it is there to be waited for"]
pub struct Waiter {
    socket: OwnedFd,
    from: From,
}

#[derive(Debug)]
enum From {
    /// The keeper tells; where it cannot any more, its file does.
    Keeper(Kept),
    /// It was over before.
    Before(Box<KeptState>),
}

impl Waiter {
    pub(super) fn new(socket: OwnedFd, kept: Kept) -> Self {
        Self { socket, from: From::Keeper(kept) }
    }

    /// The other end of the socket is closed.
    pub(super) fn over(socket: OwnedFd, state: KeptState) -> Self {
        Self { socket, from: From::Before(Box::new(state)) }
    }

    /// Waits.
    ///
    /// # Errors
    ///
    /// [`Lost`](crate::ErrorKind::Lost): the keeper was killed, and the program with it.
    pub fn wait(&self) -> Result<KeptState> {
        self.end(true)?.ok_or_else(lost)
    }

    /// What is known once it has ended; `None` before.
    ///
    /// # Errors
    ///
    /// As of [`wait`](Self::wait).
    pub fn try_wait(&self) -> Result<Option<KeptState>> {
        self.end(false)
    }

    fn end(&self, wait: bool) -> Result<Option<KeptState>> {
        let state = match &self.from {
            From::Before(state) => KeptState::clone(state),
            From::Keeper(kept) => match socket::receive(&self.socket, wait) {
                Ok(Some(packet)) if packet.tag == ENDED => parse(&packet.bytes)?,
                Ok(Some(_)) => return self.end(wait),
                Ok(None) => kept.left()?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && !wait => return Ok(None),
                Err(e) => return Err(Error::io("cannot wait for the program", &e)),
            },
        };
        if state.status == KeptStatus::Exited { Ok(Some(state)) } else { Err(lost()) }
    }
}

fn lost() -> Error {
    Error::lost("nobody knows how the program ended: its keeper was killed")
}

impl AsFd for Waiter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
