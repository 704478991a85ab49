//! Signals, by number and by name.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A signal (signal(7)): 1 to 31, or one of the real-time signals from 34 on, which have no names of their own.
///
/// ```
/// use isolate_namespaces::Signal;
/// assert_eq!("term".parse::<Signal>()?, Signal::TERM);
/// assert_eq!("SIGRTMIN+3".parse::<Signal>()?.number(), 37); // halts a systemd
/// assert_eq!(Signal::HUP.to_string(), "SIGHUP");
/// # Ok::<(), isolate_namespaces::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signal(i32);

/// The first and the last real-time signal that the C libraries leave to programs. The kernel has 32 and 33 as well;
/// glibc and musl use them for their threads (signal(7), "Real-time signals").
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// Names without `SIG`; the first of a number is the one that is written. The numbers are those of every architecture
/// but Alpha, MIPS, PA-RISC and SPARC.
const NAMES: [(&str, Signal); 34] = [
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("ILL", Signal::ILL),
    ("TRAP", Signal::TRAP),
    ("ABRT", Signal::ABRT),
    ("IOT", Signal::ABRT),
    ("BUS", Signal::BUS),
    ("FPE", Signal::FPE),
    ("KILL", Signal::KILL),
    ("USR1", Signal::USR1),
    ("SEGV", Signal::SEGV),
    ("USR2", Signal::USR2),
    ("PIPE", Signal::PIPE),
    ("ALRM", Signal::ALRM),
    ("TERM", Signal::TERM),
    ("STKFLT", Signal::STKFLT),
    ("CHLD", Signal::CHLD),
    ("CLD", Signal::CHLD),
    ("CONT", Signal::CONT),
    ("STOP", Signal::STOP),
    ("TSTP", Signal::TSTP),
    ("TTIN", Signal::TTIN),
    ("TTOU", Signal::TTOU),
    ("URG", Signal::URG),
    ("XCPU", Signal::XCPU),
    ("XFSZ", Signal::XFSZ),
    ("VTALRM", Signal::VTALRM),
    ("PROF", Signal::PROF),
    ("WINCH", Signal::WINCH),
    ("IO", Signal::IO),
    ("POLL", Signal::IO),
    ("PWR", Signal::PWR),
    ("SYS", Signal::SYS),
];

impl Signal {
    /// The terminal is gone; daemons read their configuration again.
    pub const HUP: Self = Self(libc::SIGHUP);
    /// Interrupt from the keyboard.
    pub const INT: Self = Self(libc::SIGINT);
    /// Quit from the keyboard, with a core dump.
    pub const QUIT: Self = Self(libc::SIGQUIT);
    /// Illegal instruction.
    pub const ILL: Self = Self(libc::SIGILL);
    /// A breakpoint.
    pub const TRAP: Self = Self(libc::SIGTRAP);
    /// abort(3).
    pub const ABRT: Self = Self(libc::SIGABRT);
    /// A memory access that the hardware refused.
    pub const BUS: Self = Self(libc::SIGBUS);
    /// An arithmetic error.
    pub const FPE: Self = Self(libc::SIGFPE);
    /// The end; cannot be caught.
    pub const KILL: Self = Self(libc::SIGKILL);
    /// For programs to use.
    pub const USR1: Self = Self(libc::SIGUSR1);
    /// A memory access outside what is mapped.
    pub const SEGV: Self = Self(libc::SIGSEGV);
    /// For programs to use.
    pub const USR2: Self = Self(libc::SIGUSR2);
    /// A write that nobody reads.
    pub const PIPE: Self = Self(libc::SIGPIPE);
    /// A timer of alarm(2).
    pub const ALRM: Self = Self(libc::SIGALRM);
    /// A request to end.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// Not used by the kernel.
    pub const STKFLT: Self = Self(libc::SIGSTKFLT);
    /// A child has ended or stopped.
    pub const CHLD: Self = Self(libc::SIGCHLD);
    /// Go on after a stop.
    pub const CONT: Self = Self(libc::SIGCONT);
    /// Stop; cannot be caught.
    pub const STOP: Self = Self(libc::SIGSTOP);
    /// Stop from the keyboard.
    pub const TSTP: Self = Self(libc::SIGTSTP);
    /// A read from the terminal in the background.
    pub const TTIN: Self = Self(libc::SIGTTIN);
    /// A write to the terminal in the background.
    pub const TTOU: Self = Self(libc::SIGTTOU);
    /// Urgent data on a socket.
    pub const URG: Self = Self(libc::SIGURG);
    /// The processor time of [`Resource::Cpu`](crate::Resource::Cpu) is used up.
    pub const XCPU: Self = Self(libc::SIGXCPU);
    /// A file became larger than [`Resource::Fsize`](crate::Resource::Fsize).
    pub const XFSZ: Self = Self(libc::SIGXFSZ);
    /// A timer of processor time in user mode.
    pub const VTALRM: Self = Self(libc::SIGVTALRM);
    /// A timer of processor time.
    pub const PROF: Self = Self(libc::SIGPROF);
    /// The window has another size.
    pub const WINCH: Self = Self(libc::SIGWINCH);
    /// A descriptor is ready.
    pub const IO: Self = Self(libc::SIGIO);
    /// Power is failing.
    pub const PWR: Self = Self(libc::SIGPWR);
    /// A system call that a filter refused.
    pub const SYS: Self = Self(libc::SIGSYS);

    /// The real-time signal `SIGRTMIN+n` as programs of glibc and musl count: number 34 + `n`, for an `n` up to 30.
    #[must_use]
    pub const fn rt(n: u8) -> Option<Self> {
        let number = RTMIN + n as i32;
        if number <= RTMAX { Some(Self(number)) } else { None }
    }

    /// The number for kill(2).
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }

    /// Sends it to a process, by its pidfd (pidfd_open(2)). No error if that has ended.
    ///
    /// # Errors
    ///
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied) for a process of another user.
    pub fn send(self, process: impl std::os::fd::AsFd) -> Result<()> {
        match crate::kernel::send_signal(process.as_fd(), self.0) {
            Err(e) if e.raw_os_error() != Some(libc::ESRCH) => {
                Err(Error::io(format!("cannot send signal {self}"), &e))
            }
            _ => Ok(()),
        }
    }
}

/// # Errors
///
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for what is no signal, for 0, and for 32 and 33, by which C libraries
/// direct their own threads.
impl TryFrom<i32> for Signal {
    type Error = Error;

    fn try_from(number: i32) -> Result<Self> {
        match number {
            1..=31 | RTMIN..=RTMAX => Ok(Self(number)),
            32 | 33 => Err(Error::invalid(format!("signal {number}: it is the C library's own"))),
            _ => Err(Error::invalid(format!("signal {number}: there is no such signal"))),
        }
    }
}

impl From<Signal> for i32 {
    fn from(signal: Signal) -> Self {
        signal.0
    }
}

/// `SIGTERM`; `SIGRTMIN`, `SIGRTMIN+3` for real-time signals. Reading it gives the same signal.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match NAMES.iter().find(|(_, signal)| signal == self) {
            Some((name, _)) => format!("SIG{name}"),
            None if self.0 == RTMIN => "SIGRTMIN".to_owned(),
            None => format!("SIGRTMIN+{}", self.0 - RTMIN),
        };
        f.pad(&text)
    }
}

/// As [`fmt::Display`].
impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A name with or without `SIG`, in either case, or a number: `TERM`, `sigterm`, `15`, `RTMIN+3`, `SIGRTMAX-1`.
///
/// # Errors
///
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for anything else, and as for a number.
impl FromStr for Signal {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid(format!("signal `{text}`: there is no such signal"))
                .with_hint("write it like SIGTERM, term, 15 or SIGRTMIN+3")
        };
        let upper = text.trim().to_ascii_uppercase();
        if let Some(number) = digits(&upper) {
            return Self::try_from(number);
        }
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, signal)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(*signal);
        }
        let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(""), _) => Some(RTMIN),
            (_, Some("")) => Some(RTMAX),
            (Some(above), _) => above.strip_prefix('+').and_then(digits).and_then(|n| RTMIN.checked_add(n)),
            (_, Some(below)) => below.strip_prefix('-').and_then(digits).map(|n| RTMAX - n),
            _ => None,
        };
        number.filter(|number| (RTMIN..=RTMAX).contains(number)).map(Self).ok_or_else(wrong)
    }
}

/// Digits alone: `i32` would read a sign as well.
fn digits(text: &str) -> Option<i32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn signals_are_read_as_people_write_them() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigterm", 15),
            ("15", 15),
            (" Kill ", 9),
            ("iot", 6),
            ("CLD", 17),
            ("POLL", 29),
            ("SYS", 31),
            ("RTMIN", 34),
            ("RTMIN+3", 37),
            ("sigrtmin+30", 64),
            ("SIGRTMAX", 64),
            ("SIGRTMAX-1", 63),
            ("rtmax-30", 34),
            ("34", 34),
        ] {
            assert_eq!(text.parse::<Signal>().unwrap().number(), number, "{text}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused_with_its_text() {
        for text in [
            "",
            "SIG",
            "0",
            "-1",
            "+9",
            "32",
            "33",
            "65",
            "SIGSIGTERM",
            "RTMIN-1",
            "RTMIN+31",
            "RTMAX-31",
            "RTMAX+0",
            "RTMIN+",
            "RTMIN+-1",
            "RTMIN3",
            "99999999999",
            "SIG15",
            "RTMIN+2147483647",
        ] {
            let error = text.parse::<Signal>().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidInput, "{text}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn every_number_below_the_real_time_signals_has_a_name() {
        for number in 1..=31 {
            let text = Signal::try_from(number).unwrap().to_string();
            assert!(!text.contains("RTM"), "{text}");
        }
        assert_eq!(format!("{:?} [{:<8}]", Signal::KILL, Signal::HUP), "SIGKILL [SIGHUP  ]");
    }

    #[test]
    fn real_time_signals_are_counted_as_the_c_library_does() {
        assert_eq!(Signal::rt(0).map(i32::from), Some(libc::SIGRTMIN()));
        assert_eq!(Signal::rt(30).map(i32::from), Some(libc::SIGRTMAX()));
        assert_eq!(Signal::rt(31), None);
        assert_eq!(Signal::rt(255), None);
    }

    proptest! {
        #[test]
        fn a_signal_survives_writing_and_reading(number in 0i32..70) {
            if let Ok(signal) = Signal::try_from(number) {
                prop_assert_eq!(signal.to_string().parse::<Signal>().unwrap(), signal);
                prop_assert_eq!(signal.number().to_string().parse::<Signal>().unwrap(), signal);
            }
        }

        #[test]
        fn any_text_is_a_signal_or_an_error_and_never_a_panic(text in "(SIG)?(RTM(IN|AX))?.{0,12}") {
            let _ = text.parse::<Signal>();
        }
    }
}
