//! The socket in a keeper's directory: one that listens, connections, packets.
//!
//! Its address is `/proc/thread-self/fd/N/socket`: a directory by its descriptor, however long its path is.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, chmodat, unlinkat};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
    listen as listen_at, recvmsg, sendmsg, socket_with,
};

use crate::keeper_config::{ASK_ATTACH, MOST_CLIENTS, PIECE};
use crate::kernel;
use crate::{Error, Result};

const NAME: &str = "socket";
/// How long a keeper may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

fn address(directory: BorrowedFd<'_>) -> Result<SocketAddrUnix, Errno> {
    SocketAddrUnix::new(format!("/proc/thread-self/fd/{}/{NAME}", directory.as_raw_fd()))
}

fn new(flags: SocketFlags) -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags | SocketFlags::CLOEXEC, None)
}

/// For a keeper. One that is at work there is an error; what one has left that was killed goes.
pub(super) fn listen(directory: BorrowedFd<'_>) -> Result<OwnedFd> {
    let failed = |errno: Errno| Error::os("cannot make the socket of the keeper", errno.raw_os_error());
    let address = address(directory).map_err(failed)?;
    let socket = new(SocketFlags::NONBLOCK).map_err(failed)?;
    match bind(&socket, &address) {
        Err(Errno::ADDRINUSE) => {
            let probe = new(SocketFlags::NONBLOCK).map_err(failed)?;
            match connect(&probe, &address) {
                Err(Errno::CONNREFUSED) => unlinkat(directory, NAME, AtFlags::empty()).map_err(failed)?,
                Err(Errno::NOENT) => {}
                _ => return Err(Error::invalid("another keeper is at work in that directory")),
            }
            bind(&socket, &address).map_err(failed)?;
        }
        done => done.map_err(failed)?,
    }
    // Before it listens: until then nobody can connect.
    chmodat(directory, NAME, Mode::RUSR | Mode::WUSR, AtFlags::empty()).map_err(failed)?;
    listen_at(&socket, MOST_CLIENTS as i32).map_err(failed)?;
    kernel::above_standard(socket).map_err(|e| Error::io("cannot make the socket of the keeper", &e))
}

/// Of a keeper that did not come to be.
pub(super) fn remove(directory: BorrowedFd<'_>) {
    unlinkat(directory, NAME, AtFlags::empty()).ok();
}

/// To the keeper there. `None`: there is none.
pub(super) fn connected(directory: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    let failed = |errno: Errno| Error::os("cannot reach the keeper", errno.raw_os_error());
    let socket = new(SocketFlags::empty()).map_err(failed)?;
    // One that is stopped takes nobody.
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE)).map_err(failed)?;
    loop {
        match connect(&socket, &address(directory).map_err(failed)?) {
            Ok(()) => {
                set_socket_timeout(&socket, Timeout::Send, None).map_err(failed)?;
                return Ok(Some(socket));
            }
            Err(Errno::NOENT | Errno::CONNREFUSED) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
}

/// One packet of these parts; EPIPE once the keeper is gone.
pub(super) fn send(socket: impl AsFd, parts: &[&[u8]]) -> io::Result<()> {
    send_with(socket, parts, &[])
}

/// The same, and descriptors come along: one at most.
fn send_with(socket: impl AsFd, parts: &[&[u8]], along: &[BorrowedFd<'_>]) -> io::Result<()> {
    let parts: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !along.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(along));
        }
        match sendmsg(&socket, &parts, &mut ancillary, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            // Told once, where the keeper has gone with a packet unread or a connection not taken.
            Err(Errno::CONNRESET) => return Err(Errno::PIPE.into()),
            done => return done.map(drop).map_err(io::Error::from),
        }
    }
}

/// A packet: its first byte, the rest, what came along.
pub(super) struct Packet {
    pub tag: u8,
    pub bytes: Vec<u8>,
    pub descriptors: Vec<OwnedFd>,
}

/// The next packet; `None` at the end. Without one it is [`io::ErrorKind::WouldBlock`] unless it is to `wait`.
pub(super) fn receive(socket: impl AsFd, wait: bool) -> io::Result<Option<Packet>> {
    let mut room = [0; 1 + PIECE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let flags = RecvFlags::CMSG_CLOEXEC | if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
    loop {
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let got = match recvmsg(&socket, &mut [IoSliceMut::new(&mut room)], &mut ancillary, flags) {
            Ok(message) => message.bytes,
            Err(Errno::INTR) => continue,
            // The keeper was killed, or closed with something unread.
            Err(Errno::CONNRESET) => 0,
            Err(errno) => return Err(errno.into()),
        };
        let descriptors = ancillary.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => rights.collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        let descriptors = descriptors.collect();
        let Some((&tag, bytes)) = room.get(..got).and_then(|packet| packet.split_first()) else {
            return Ok(None);
        };
        return Ok(Some(Packet { tag, bytes: bytes.to_vec(), descriptors }));
    }
}

/// A request whose answer comes at once; `None` if the keeper has closed the connection.
pub(super) fn ask(socket: &OwnedFd, request: &[u8], along: &[BorrowedFd<'_>]) -> io::Result<Option<Packet>> {
    match send_with(socket, &[request], along) {
        Err(e) if e.raw_os_error() == Some(libc::EPIPE) => return Ok(None),
        done => done?,
    }
    answer(socket)
}

/// A connection to a keeper that is still to be started: it is attached first of all.
pub(super) fn early(directory: BorrowedFd<'_>) -> Result<OwnedFd> {
    let failed = |e: &io::Error| Error::io("cannot attach to the keeper", e);
    let socket = connected(directory)?.ok_or_else(|| failed(&io::ErrorKind::NotConnected.into()))?;
    send(&socket, &[&[ASK_ATTACH]]).map_err(|e| failed(&e))?;
    Ok(socket)
}

/// The answer to what was asked; `None` if the keeper has closed the connection.
pub(super) fn answer(socket: &OwnedFd) -> io::Result<Option<Packet>> {
    if !kernel::readable_within(socket.as_fd(), PATIENCE) {
        return Err(io::ErrorKind::TimedOut.into());
    }
    receive(socket, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper_config::ASK_STATE;

    #[test]
    fn a_keeper_that_goes_with_a_connection_not_taken_is_gone_and_no_error() {
        let place = std::env::temp_dir().join(format!("keeper-socket-{}", std::process::id()));
        std::fs::create_dir(&place).unwrap();
        let directory = OwnedFd::from(std::fs::File::open(&place).unwrap());
        for asked_before in [false, true] {
            let listens = listen(directory.as_fd()).unwrap();
            let error = listen(directory.as_fd()).unwrap_err();
            assert_eq!(error.to_string(), "another keeper is at work in that directory");
            let socket = connected(directory.as_fd()).unwrap().unwrap();
            if asked_before {
                send(&socket, &[&[ASK_STATE]]).unwrap();
            }
            drop(listens);
            assert!(ask(&socket, &[ASK_STATE], &[]).unwrap().is_none());
            assert!(connected(directory.as_fd()).unwrap().is_none(), "what it has left is nobody's");
        }
        remove(directory.as_fd());
        assert!(connected(directory.as_fd()).unwrap().is_none());
        std::fs::remove_dir(&place).unwrap();
    }
}
