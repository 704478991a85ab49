//! Output and input of a program that a keeper has.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::kept::parse;
use super::socket;
use super::state::KeptState;
use crate::keeper_config::{CLOSE_INPUT, ENDED, INPUT, LOST, PIECE, RESIZE, STDERR, STDOUT};
use crate::window::WindowSize;

/// What a program writes, beginning with [`Kept::attach`](crate::Kept::attach), and the way to its standard input or its
/// terminal. Pollable: its descriptor is readable when there is something to [read](Self::read).
///
/// Who does not read loses output, and is told how much; nobody else is held up. Dropping it detaches.
///
/// ```no_run
/// use std::io::Write;
/// use isolate_namespaces::{Kept, Output};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let shell = Kept::new(std::fs::File::open("/run/mine/shell")?).attach()?;
/// (&shell).write_all(b"echo hello\n")?;
/// while let Some(output) = shell.read()? {
///     match output {
///         Output::Stdout(bytes) | Output::Stderr(bytes) => print!("{}", String::from_utf8_lossy(&bytes)),
///         Output::Ended(state) => println!("{:?}", state.end),
///         _ => {}
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropping it detaches"]
pub struct Attachment {
    socket: OwnedFd,
    terminal: bool,
}

/// What comes from a program that one is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Written to its standard output or its terminal, as it was written: 3,072 bytes at most.
    Stdout(Vec<u8>),
    /// Written to its standard error.
    Stderr(Vec<u8>),
    /// So many bytes were lost here, since they were not read.
    Lost(u64),
    /// It has ended for good. Nothing comes after it.
    Ended(Box<KeptState>),
}

impl Attachment {
    pub(super) fn new(socket: OwnedFd, terminal: bool) -> Self {
        Self { socket, terminal }
    }

    /// Whether the program has a terminal.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Waits for what the program writes. `None` once nothing will come any more: after its end, or if the keeper was
    /// killed.
    pub fn read(&self) -> io::Result<Option<Output>> {
        self.next(true)
    }

    /// As [`read`](Self::read), but without waiting: [`io::ErrorKind::WouldBlock`] if there is nothing now.
    pub fn try_read(&self) -> io::Result<Option<Output>> {
        self.next(false)
    }

    fn next(&self, wait: bool) -> io::Result<Option<Output>> {
        loop {
            let Some(packet) = socket::receive(&self.socket, wait)? else { return Ok(None) };
            return Ok(Some(match packet.tag {
                STDOUT => Output::Stdout(packet.bytes),
                STDERR => Output::Stderr(packet.bytes),
                LOST => {
                    let text = String::from_utf8_lossy(&packet.bytes);
                    Output::Lost(text.parse().unwrap_or(0))
                }
                ENDED => match parse(&packet.bytes) {
                    Ok(state) => Output::Ended(Box::new(state)),
                    Err(e) => return Err(io::Error::other(e)),
                },
                _ => continue,
            }));
        }
    }

    /// Closes the program's standard input, for all who are attached: what was written before is read first, then the end.
    /// Nothing happens to a terminal: type its end-of-file character there.
    pub fn close_stdin(&self) -> io::Result<()> {
        socket::send(&self.socket, &[&[CLOSE_INPUT]])
    }

    /// Tells the program's terminal how large its window is now. Nothing happens without a terminal.
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        let ([a, b], [c, d]) = (size.rows.to_le_bytes(), size.columns.to_le_bytes());
        socket::send(&self.socket, &[&[RESIZE, a, b, c, d]])
    }
}

/// To the program's standard input, or typed at its terminal. Waits while the program does not read and the buffers are full.
/// Without a standard input, or between two runs on a terminal, it goes nowhere. [`io::ErrorKind::BrokenPipe`] once the keeper
/// is gone.
impl Write for &Attachment {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = bytes.get(..bytes.len().min(PIECE)).unwrap_or_default();
        if !piece.is_empty() {
            socket::send(&self.socket, &[&[INPUT], piece])?;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for Attachment {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Attachment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
