//! A container's terminal for tokio.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use isolate_namespaces::{Terminal, WindowSize};
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A [`Terminal`] that is read and written without waiting for it in a thread. Once nobody has its other side open, reading gives the
/// end of the file.
#[derive(Debug)]
pub struct AsyncTerminal {
    terminal: Terminal,
    ready: AsyncFd<Watched>,
}

/// The descriptor that the runtime watches.
#[derive(Debug)]
struct Watched(OwnedFd);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsyncTerminal {
    /// In a runtime with I/O enabled.
    ///
    /// # Errors
    /// Outside of one, and when there is no descriptor left.
    #[expect(deprecated, reason = "what must hold does: it owns its descriptor, and gives no other")]
    pub fn new(terminal: Terminal) -> io::Result<Self> {
        let watched = Watched(terminal.as_fd().try_clone_to_owned()?);
        Ok(Self { terminal, ready: AsyncFd::new(watched)? })
    }

    /// As [`Terminal::resize`].
    ///
    /// # Errors
    /// What ioctl_tty(2) says.
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        self.terminal.resize(size)
    }

    /// Whether nobody has the other side open: then what does not fit any more never will, and nobody is woken.
    fn is_hung_up(&self) -> bool {
        let mut poll = [PollFd::new(&self.terminal, PollFlags::OUT)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut poll, Some(&now)).is_ok() && poll[0].revents().contains(PollFlags::HUP)
    }
}

/// EIO: nobody has the other side open.
const GONE: i32 = 5;

impl AsyncRead for AsyncTerminal {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.ready.poll_read_ready(context))?;
            let room = into.initialize_unfilled();
            let read = guard.try_io(|fd| Ok(rustix::io::read(&fd.get_ref().0, room)?));
            match read {
                Ok(Ok(count)) => {
                    into.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(e)) if e.raw_os_error() == Some(GONE) => return Poll::Ready(Ok(())),
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for AsyncTerminal {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.ready.poll_write_ready(context))?;
            match guard.try_io(|fd| Ok(rustix::io::write(&fd.get_ref().0, from)?)) {
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(done) => return Poll::Ready(done),
                Err(_would_block) if self.is_hung_up() => {
                    return Poll::Ready(Err(io::Error::from_raw_os_error(GONE)));
                }
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsFd for AsyncTerminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }
}
