//! Somebody sits at a program's terminal. SIGWINCH is the process's: a test that looks at its handler has the binary to
//! itself.

#![expect(clippy::unwrap_used, reason = "tests")]

mod background;
mod copy;
mod winch;

use std::fmt::Debug;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use isolate_namespaces::Terminal;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

static HANDLER: RwLock<()> = RwLock::new(());

fn shared() -> RwLockReadGuard<'static, ()> {
    HANDLER.read().unwrap_or_else(PoisonError::into_inner)
}

fn alone() -> RwLockWriteGuard<'static, ()> {
    HANDLER.write().unwrap_or_else(PoisonError::into_inner)
}

/// A terminal and what a program on it has.
fn pair() -> (Terminal, File) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let program = ioctl_tiocgptpeer(&master, flags).unwrap();
    (Terminal::try_from(master).unwrap(), program.into())
}

fn raw(terminal: &File) {
    let mut mode = tcgetattr(terminal).unwrap();
    mode.make_raw();
    tcsetattr(terminal, OptionalActions::Now, &mode).unwrap();
}

fn is_raw(terminal: impl AsFd) -> bool {
    !tcgetattr(terminal).unwrap().local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO)
}

/// What of a mode can be compared.
fn modes(terminal: &File) -> impl PartialEq + Debug + use<> {
    let Termios { input_modes, output_modes, control_modes, local_modes, .. } = tcgetattr(terminal).unwrap();
    (input_modes, output_modes, control_modes, local_modes)
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
