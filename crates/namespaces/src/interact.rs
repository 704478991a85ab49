//! A person, or whatever stands for one, at a program's terminal.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{LocalModes, SpecialCodeIndex, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetwinsize};

use crate::buffer::Buffer;
use crate::endpoint::{Endpoint, ready};
use crate::error::Error;
use crate::raw_mode::RawMode;
use crate::winch::Watch;

/// Until the program's side of `master`, which is non-blocking, is closed. What [`crate::Terminal::interact_with`] says.
pub(crate) fn interact(
    master: BorrowedFd<'_>,
    input: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
) -> io::Result<()> {
    let window = Window::of(input, output).map_err(failed("cannot follow the window's size"))?;
    let mut copy = Copy {
        master,
        input: Some(Endpoint::input(input).map_err(failed(INPUT))?),
        output: Endpoint::output(output).map_err(failed(OUTPUT))?,
        window,
        keys: Buffer::new(),
        line_begun: false,
        screen: Buffer::new(),
        running: true,
    };
    copy.resize();
    let _raw = RawMode::enter(input).map_err(failed("cannot put the terminal into raw mode"))?;
    copy.run()
}

const INPUT: &str = "cannot read the terminal's input";
const OUTPUT: &str = "cannot write the terminal's output";
const MASTER: &str = "cannot use the program's terminal";

/// The kind stays; the sentence says which of three descriptors it was.
fn failed(what: &'static str) -> impl Fn(io::Error) -> io::Error {
    move |error| match error.raw_os_error() {
        Some(_) => io::Error::new(error.kind(), Error::io(what, &error)),
        None => error,
    }
}

/// The window that is followed.
#[derive(Debug)]
struct Window<'a> {
    terminal: BorrowedFd<'a>,
    changed: Watch,
}

impl<'a> Window<'a> {
    fn of(input: BorrowedFd<'a>, output: BorrowedFd<'a>) -> io::Result<Option<Self>> {
        let terminal = [input, output].into_iter().find(|&fd| isatty(fd));
        terminal.map(|terminal| Ok(Self { terminal, changed: Watch::new()? })).transpose()
    }
}

#[derive(Debug)]
struct Copy<'a> {
    master: BorrowedFd<'a>,
    /// `None` once it has ended.
    input: Option<Endpoint<'a>>,
    output: Endpoint<'a>,
    window: Option<Window<'a>>,
    /// From the input to the program.
    keys: Buffer,
    /// The last of them has not ended a line.
    line_begun: bool,
    /// From the program to the output.
    screen: Buffer,
    /// Somebody has the program's side open.
    running: bool,
}

impl Copy<'_> {
    fn run(&mut self) -> io::Result<()> {
        while self.running || !self.screen.is_empty() {
            let happened = self.wait()?;
            if happened.resized {
                self.resize();
            }
            if happened.program.intersects(!PollFlags::OUT) {
                self.read_program()?;
            }
            if happened.output {
                self.write_output()?;
            }
            if happened.input {
                self.read_input()?;
            }
            if happened.program.contains(PollFlags::HUP) {
                // Nobody reads them. The kernel takes them while it has room, and then neither takes nor refuses them.
                self.keys.clear();
            } else if happened.program.contains(PollFlags::OUT) {
                self.write_program()?;
            }
        }
        Ok(())
    }

    /// For whatever there is to do. A descriptor of which nothing is wanted now is left out, since a hang-up is told
    /// unasked.
    fn wait(&self) -> io::Result<Happened> {
        let mut program = PollFlags::empty();
        if self.running {
            program.set(PollFlags::IN, self.screen.free() > 0);
            program.set(PollFlags::OUT, !self.keys.is_empty());
        }
        // Two bytes are kept for the end of file.
        let input = self.input.as_ref().filter(|_| self.running && self.keys.free() > END_OF_FILE);
        let output = Some(&self.output).filter(|_| !self.screen.is_empty());
        let wanted = [
            (!program.is_empty()).then_some((self.master, program)),
            input.map(|input| (input.as_fd(), PollFlags::IN)),
            output.map(|output| (output.as_fd(), PollFlags::OUT)),
            self.window.as_ref().map(|window| (window.changed.as_fd(), PollFlags::IN)),
        ];
        let mut polled: Vec<_> =
            wanted.iter().flatten().map(|&(fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect();
        while let Err(errno) = poll(&mut polled, None) {
            if errno != Errno::INTR {
                return Err(failed("cannot wait for the terminal")(errno.into()));
            }
        }
        let mut polled = polled.iter();
        let [program, input, output, window] =
            wanted.map(|one| one.and_then(|_| polled.next()).map_or(PollFlags::empty(), PollFd::revents));
        Ok(Happened {
            program,
            input: !input.is_empty(),
            output: !output.is_empty(),
            resized: !window.is_empty(),
        })
    }

    /// The program's window becomes as large as ours. One that cannot be asked, since its terminal is gone, or that has
    /// no size changes nothing.
    fn resize(&self) {
        let Some(window) = &self.window else { return };
        // Before it is asked: a change after that is told again.
        window.changed.seen();
        match tcgetwinsize(window.terminal) {
            Err(_) | Ok(Winsize { ws_row: 0, .. } | Winsize { ws_col: 0, .. }) => {}
            // Fails for none that is open.
            Ok(size) => _ = tcsetwinsize(self.master, size),
        }
    }

    fn read_program(&mut self) -> io::Result<()> {
        if self.screen.free() == 0 {
            return Ok(()); // a hang-up, told while only OUT was wanted
        }
        match rustix::io::read(self.master, self.screen.room()) {
            Ok(0) | Err(Errno::IO) => self.running = false,
            done => {
                let count = ready(done).map_err(failed(MASTER))?.unwrap_or(0);
                self.screen.filled(count);
            }
        }
        Ok(())
    }

    fn write_output(&mut self) -> io::Result<()> {
        let count = self.output.write(self.screen.waiting()).map_err(failed(OUTPUT))?;
        self.screen.taken(count.unwrap_or(0));
        Ok(())
    }

    fn read_input(&mut self) -> io::Result<()> {
        let Some(input) = &self.input else { return Ok(()) };
        let room = self.keys.room();
        let spared = room.len() - END_OF_FILE;
        match input.read(&mut room[..spared]).map_err(failed(INPUT))? {
            None => {}
            Some(0) => {
                self.input = None;
                self.end_keys()?;
            }
            Some(count) => {
                self.line_begun = !matches!(room[count - 1], b'\n' | b'\r');
                self.keys.filled(count);
            }
        }
        Ok(())
    }

    /// Types the end of file. The character ends a line; only on an empty one does it mean the end (termios(3), VEOF). A
    /// program that does not read lines gets one of them, as it would from a person.
    fn end_keys(&mut self) -> io::Result<()> {
        let mode = tcgetattr(self.master).map_err(|e| failed(MASTER)(e.into()))?;
        let key = mode.special_codes[SpecialCodeIndex::VEOF];
        let lines = mode.local_modes.contains(LocalModes::ICANON);
        let count = match key {
            0 => 0, // _POSIX_VDISABLE: the program has no such character
            _ if lines && self.line_begun => END_OF_FILE,
            _ => 1,
        };
        self.keys.room()[..count].fill(key);
        self.keys.filled(count);
        Ok(())
    }

    fn write_program(&mut self) -> io::Result<()> {
        let done = rustix::io::write(self.master, self.keys.waiting());
        let count = ready(done).map_err(failed(MASTER))?;
        self.keys.taken(count.unwrap_or(0));
        Ok(())
    }
}

/// As many characters as it can take.
const END_OF_FILE: usize = 2;

/// What poll(2) has told.
#[derive(Debug)]
struct Happened {
    program: PollFlags,
    input: bool,
    output: bool,
    resized: bool,
}
