//! A descriptor of the caller's, read and written without waiting, its flags as they are.
//!
//! O_NONBLOCK belongs to the open file (open(2)), and that is shared: standard output with the shell, which would find
//! its terminal non-blocking. So a pipe or a terminal is opened once more, as an open file of our own; a socket takes
//! MSG_DONTWAIT with each call; a file never waits for anybody.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::termios::isatty;

use crate::terminal::is_master;

/// What a descriptor that can wait is given at once, after poll(2): a pipe that is writable takes it (PIPE_BUF, pipe(7)).
const AT_ONCE: usize = 4096;

/// One end of what is copied.
#[derive(Debug)]
pub(crate) struct Endpoint<'a> {
    shared: BorrowedFd<'a>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// An open file of our own, non-blocking.
    Own(OwnedFd),
    Socket,
    /// After poll(2) it mostly does not wait.
    Shared,
}

impl<'a> Endpoint<'a> {
    pub(crate) fn input(fd: BorrowedFd<'a>) -> io::Result<Self> {
        Self::new(fd, OFlags::RDONLY)
    }

    pub(crate) fn output(fd: BorrowedFd<'a>) -> io::Result<Self> {
        Self::new(fd, OFlags::WRONLY)
    }

    fn new(fd: BorrowedFd<'a>, access: OFlags) -> io::Result<Self> {
        let way = match FileType::from_raw_mode(fstat(fd)?.st_mode) {
            FileType::Socket => Way::Socket,
            // Opening a master makes a new pair.
            FileType::CharacterDevice if !isatty(fd) || is_master(fd)? => Way::Shared,
            FileType::CharacterDevice | FileType::Fifo => {
                // Not of the process: a thread can have descriptors of its own (unshare(2), CLONE_FILES).
                let path = format!("/proc/thread-self/fd/{}", fd.as_raw_fd());
                let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                open(path, flags, Mode::empty()).map_or(Way::Shared, Way::Own)
            }
            _ => Way::Shared,
        };
        Ok(Self { shared: fd, way })
    }

    /// `None`: nothing now. 0: the end.
    pub(crate) fn read(&self, room: &mut [u8]) -> io::Result<Option<usize>> {
        ready(match &self.way {
            Way::Own(own) => rustix::io::read(own, room),
            Way::Socket => rustix::net::recv(self.shared, room, RecvFlags::DONTWAIT).map(|(count, _)| count),
            Way::Shared => rustix::io::read(self.shared, room),
        })
    }

    /// `None`: no room now.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        ready(match &self.way {
            Way::Own(own) => rustix::io::write(own, bytes),
            Way::Socket => rustix::net::send(self.shared, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Way::Shared => rustix::io::write(self.shared, &bytes[..bytes.len().min(AT_ONCE)]),
        })
    }
}

/// The caller's own open file, for poll(2): one of a named pipe that was opened after the last writer had gone does not
/// tell that it has.
impl AsFd for Endpoint<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared
    }
}

/// `None` if it would have waited, or was interrupted: poll(2) says when to try again.
pub(crate) fn ready(done: rustix::io::Result<usize>) -> io::Result<Option<usize>> {
    match done {
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        done => Ok(Some(done?)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use rustix::fs::fcntl_getfl;

    use super::*;

    /// Nobody reads, and one write is larger than any of them holds: a blocking one would not return.
    fn fill(fd: BorrowedFd<'_>) {
        let before = fcntl_getfl(fd).unwrap();
        let endpoint = Endpoint::output(fd).unwrap();
        while endpoint.write(&[b'x'; 1 << 20]).unwrap().is_some() {}
        assert_eq!(fcntl_getfl(fd).unwrap(), before);
        assert!(!before.contains(OFlags::NONBLOCK));
    }

    #[test]
    fn a_pipe_a_terminal_and_a_socket_that_nobody_reads_are_not_waited_for_and_stay_blocking() {
        let (_reader, pipe) = io::pipe().unwrap();
        fill(pipe.as_fd());
        let (_other, socket) = UnixStream::pair().unwrap();
        fill(socket.as_fd());
        let (_master, terminal) = crate::terminal::tests::pair();
        fill(terminal.as_fd());
    }

    #[test]
    fn an_input_that_somebody_else_has_emptied_is_not_waited_for() {
        let (pipe, _writer) = io::pipe().unwrap();
        let (socket, _other) = UnixStream::pair().unwrap();
        let (_master, terminal) = crate::terminal::tests::pair();
        for fd in [pipe.as_fd(), socket.as_fd(), terminal.as_fd()] {
            assert_eq!(Endpoint::input(fd).unwrap().read(&mut [0; 8]).unwrap(), None);
        }
    }

    #[test]
    fn a_master_is_used_as_it_is_since_opening_one_makes_another() {
        let (master, _terminal) = crate::terminal::tests::pair();
        assert!(matches!(Endpoint::output(master.as_fd()).unwrap().way, Way::Shared));
    }
}
