//! A program's terminal: the side of it that a person would look at.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat, makedev};
use rustix::io::Errno;
use rustix::termios::tcsetwinsize;

use crate::interact;
use crate::window::WindowSize;

/// The master of the pseudoterminal (pty(7)) that a program runs on: what is written here the program reads as typed, and
/// what it prints is read here. Needs no privilege.
///
/// [`Read`] and [`Write`] wait, and are there for `&Terminal` too, so that one thread can read while another writes.
/// The end of file is read when no process has the program's side open any more. The descriptor itself is non-blocking:
/// whoever takes it ([`AsFd`], [`OwnedFd`]) polls it.
///
/// Dropping the last clone hangs the terminal up: its foreground processes get SIGHUP.
///
/// ```no_run
/// use std::io::{Read, Write};
///
/// fn greet(mut terminal: isolate_namespaces::Terminal) -> std::io::Result<String> {
///     terminal.write_all(b"echo hello; exit\n")?;
///     let mut all = String::new();
///     terminal.read_to_string(&mut all)?; // the echo of what was typed, and then what was printed
///     Ok(all)
/// }
/// ```
#[derive(Debug)]
pub struct Terminal(OwnedFd);

impl Terminal {
    /// Of a master that nobody else uses: it becomes non-blocking.
    pub(crate) fn new(master: OwnedFd) -> io::Result<Self> {
        fcntl_setfl(&master, fcntl_getfl(&master)? | OFlags::NONBLOCK)?;
        Ok(Self(master))
    }

    /// Tells the terminal how large its window is now. If that is a change, the processes in its foreground get SIGWINCH
    /// (TIOCSWINSZ(2const)).
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        Ok(tcsetwinsize(&self.0, size.to_kernel())?)
    }

    /// How large its window is.
    pub fn size(&self) -> io::Result<WindowSize> {
        WindowSize::of(self)
    }

    /// Another handle to the same terminal. Whatever one of them reads the others do not.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Puts the caller at this terminal: [`interact_with`](Self::interact_with) standard input and standard output.
    ///
    /// Both are used below the buffers of [`std::io`]: standard output is flushed first, and what [`io::stdin`] has
    /// already read ahead stays there.
    ///
    /// ```no_run
    /// # use isolate_namespaces::{Terminal, WindowSize};
    /// fn attach(mut terminal: Terminal) -> std::io::Result<()> {
    ///     terminal.resize(WindowSize::of_stdin().unwrap_or_default())?;
    ///     terminal.interact() // until the program has ended
    /// }
    /// ```
    pub fn interact(&mut self) -> io::Result<()> {
        io::stdout().flush()?;
        self.interact_with(io::stdin(), io::stdout())
    }

    /// Copies `input` to the program and what the program prints to `output`, both at once, until no process has the
    /// program's side of the terminal open any more. What one direction waits for does not hold the other one up.
    ///
    /// **If `input` is a terminal** it is raw meanwhile (cfmakeraw(3)), so that ^C and the like reach the program and
    /// not the caller. Its mode is as before on return, after an error and after a panic. It is not after a panic of a
    /// program that is built with `panic = "abort"`, or after a signal that kills the caller: `stty sane` helps then. A
    /// caller that is stopped from outside and continued finds the mode that its shell has set. A second interaction at
    /// the same terminal meanwhile would take raw for what was there before.
    ///
    /// **The window** of `input`, or if that is not a terminal of `output`, is followed: the program's has its size, now
    /// and after each change, unless it has none (0 rows or columns). For that, and only if there is such a terminal,
    /// the process has a handler of SIGWINCH from the first interaction's beginning to the last one's end, the one
    /// departure from the rule that a caller's signals are its own. A handler that was there is called by it and is back
    /// afterwards. Calls of other threads that no handler lets go on (poll(2), nanosleep(2): signal(7)) may give EINTR
    /// when the window changes. Code that sets a handler of its own meanwhile keeps it, and must call the one that it
    /// found there.
    ///
    /// **The end of `input`** (a file's, a pipe's whose writers are gone) is typed as the terminal's end-of-file
    /// character, ^D, twice where it has to end a line without a newline as well. A program that reads lines sees an end
    /// of file, and its output still comes. A program that edits its lines itself, such as a shell with a prompt, may
    /// take the character for another: end its input with `exit`. Whatever `input` is, its bytes are keys: a ^C in it
    /// interrupts, and while the program reads lines the kernel cuts one off at 4,095 bytes (termios(3)).
    ///
    /// **Descriptors are shared with others,** so their flags stay as they are; non-blocking ones do as well. To wait
    /// for none of them, pipes and terminals are opened once more by way of /proc, and sockets are asked not to wait.
    /// Where that is refused (no /proc, another user's terminal) a write of some 4 KiB can wait, and all else with it.
    ///
    /// # Errors
    ///
    /// - The caller is in the background of the terminal `input`: it would be stopped, by SIGTTOU or SIGTTIN, and a
    ///   library does not do that to its caller. A caller that gets there later is stopped when it reads, as any program
    ///   is, and `fg` lets it go on; the mode is put back without being stopped.
    /// - `input` cannot be read, or `output` cannot be written: its reader is gone, which is
    ///   [`io::ErrorKind::BrokenPipe`]. Of a pipe that comes with SIGPIPE, which Rust's programs ignore.
    ///
    /// The program goes on after an error, and `interact_with` can be called again.
    ///
    /// ```no_run
    /// # use std::os::unix::net::UnixStream;
    /// # use isolate_namespaces::Terminal;
    /// fn serve(mut terminal: Terminal, client: UnixStream) -> std::io::Result<()> {
    ///     terminal.interact_with(&client, &client)
    /// }
    /// ```
    pub fn interact_with(&mut self, input: impl AsFd, output: impl AsFd) -> io::Result<()> {
        interact::interact(self.as_fd(), input.as_fd(), output.as_fd())
    }

    fn wait(&self, until: PollFlags) -> io::Result<PollFlags> {
        let mut polled = [PollFd::new(&self.0, until)];
        poll(&mut polled, None)?;
        Ok(polled[0].revents())
    }
}

/// What is left when the other side is gone is EIO, on Linux: the end of file.
impl Read for &Terminal {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::read(&self.0, &mut *buffer) {
                Err(Errno::AGAIN) => _ = self.wait(PollFlags::IN)?,
                Err(Errno::IO) => return Ok(0),
                done => return Ok(done?),
            }
        }
    }
}

/// Waits while the program does not read what was typed. Without a process on the other side the kernel takes some more,
/// and then it is EIO.
impl Write for &Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(&self.0, bytes) {
                // Without anybody on the other side it is writable for poll(2), and full.
                Err(Errno::AGAIN) if self.wait(PollFlags::OUT)?.contains(PollFlags::HUP) => {
                    return Err(Errno::IO.into());
                }
                Err(Errno::AGAIN) => {}
                done => return Ok(done?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Terminal {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The master's descriptor, non-blocking.
impl From<Terminal> for OwnedFd {
    fn from(terminal: Terminal) -> Self {
        terminal.0
    }
}

/// The way back from a descriptor, such as one that another process has sent. It becomes non-blocking, and so do its
/// duplicates.
///
/// # Errors
///
/// It is not the master of a pseudoterminal.
impl TryFrom<OwnedFd> for Terminal {
    type Error = io::Error;

    fn try_from(master: OwnedFd) -> io::Result<Self> {
        if !is_master(master.as_fd())? {
            let what = "the descriptor is not the master of a pseudoterminal";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Self::new(master)
    }
}

/// Whether it is what opening /dev/ptmx gives, in any instance of devpts (pts(4)). To the calls for terminals it answers
/// for its other side.
pub(crate) fn is_master(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let stat = fstat(fd)?;
    let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    Ok(device && stat.st_rdev == makedev(5, 2))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs::File;
    use std::thread;
    use std::time::Duration;

    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

    use super::*;

    /// A master and its other side.
    pub(crate) fn pair() -> (OwnedFd, OwnedFd) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let other = ioctl_tiocgptpeer(&master, flags).unwrap();
        (master, other)
    }

    #[test]
    fn what_is_printed_is_read_and_the_end_is_an_end_of_file() {
        let (master, other) = pair();
        let mut terminal = Terminal::new(master).unwrap();
        let mut program = File::from(other);
        terminal.write_all(b"typed\n").unwrap();
        let mut line = [0; 80];
        assert_eq!(program.read(&mut line).unwrap(), 6);
        program.write_all(b"printed").unwrap();
        drop(program);
        let mut all = String::new();
        terminal.read_to_string(&mut all).unwrap();
        assert_eq!(all, "typed\r\nprinted", "the echo, and what was printed");
        assert_eq!(terminal.read(&mut line).unwrap(), 0, "and again");
        assert_eq!(terminal.write_all(&[b'x'; 1 << 20]).unwrap_err().raw_os_error(), Some(libc::EIO));
    }

    #[test]
    fn reading_and_writing_wait_although_the_descriptor_does_not() {
        let (master, other) = pair();
        let terminal = Terminal::new(master).unwrap();
        let mut program = File::from(other);
        let mode = {
            let mut mode = rustix::termios::tcgetattr(&program).unwrap();
            mode.make_raw();
            mode
        };
        rustix::termios::tcsetattr(&program, rustix::termios::OptionalActions::Now, &mode).unwrap();
        assert!(fcntl_getfl(&terminal).unwrap().contains(OFlags::NONBLOCK));
        thread::scope(|scope| {
            scope.spawn(|| (&terminal).write_all(&[b'x'; 300_000]).unwrap());
            thread::sleep(Duration::from_millis(50)); // full by now
            let mut taken = vec![0; 300_000];
            program.read_exact(&mut taken).unwrap();
            let clone = terminal.try_clone().unwrap();
            let reader = scope.spawn(move || (&clone).read(&mut [0; 8]).unwrap());
            thread::sleep(Duration::from_millis(50));
            program.write_all(b"late").unwrap();
            assert_eq!(reader.join().unwrap(), 4);
        });
    }

    #[test]
    fn a_size_is_seen_on_the_other_side() {
        let (master, other) = pair();
        let terminal = Terminal::new(master).unwrap();
        assert_eq!(terminal.size().unwrap(), WindowSize::new(0, 0), "nobody has set one");
        terminal.resize(WindowSize::new(50, 200)).unwrap();
        assert_eq!(WindowSize::of(&other).unwrap(), WindowSize::new(50, 200));
        assert_eq!(terminal.size().unwrap(), WindowSize::new(50, 200));
    }

    #[test]
    fn what_is_not_a_master_is_no_terminal() {
        let (master, other) = pair();
        let (pipe, _writer) = io::pipe().unwrap();
        assert!(Terminal::try_from(master).is_ok());
        for fd in [other, pipe.into()] {
            assert_eq!(Terminal::try_from(fd).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        let (pipe, _writer) = io::pipe().unwrap();
        assert_eq!(WindowSize::of(&pipe).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
    }
}
