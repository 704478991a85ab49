//! What can go wrong, in a sentence.

use std::fmt;
use std::io;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a program could not be started, signalled or waited for. One sentence that names the object and the cause.
pub struct Error {
    kind: ErrorKind,
    what: String,
    errno: Option<i32>,
    hint: Option<String>,
}

/// What sort of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting that cannot be, or two that exclude each other.
    InvalidInput,
    /// A file, directory or namespace that is not there.
    NotFound,
    /// The program to execute is not there, or its interpreter is not.
    ProgramNotFound,
    /// The program is there, and the kernel does not execute it: no right to, `noexec`, or not a program for this machine.
    NotExecutable,
    /// The kernel refuses it to this user.
    PermissionDenied,
    /// This kernel has not got it.
    Unsupported,
    /// The child was killed before it executed the program, or its monitor was.
    Lost,
    /// Any other refusal; [`Error::raw_os_error`] has the number.
    Kernel,
}

impl Error {
    /// What sort of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The `errno` behind it, if the kernel gave one.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.errno
    }

    /// What to do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self { kind: ErrorKind::InvalidInput, what: what.into(), errno: None, hint: None }
    }

    pub(crate) fn lost(what: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Lost, what: what.into(), errno: None, hint: None }
    }

    pub(crate) fn os(what: impl Into<String>, errno: i32) -> Self {
        let kind = match errno {
            libc::ENOENT | libc::ENOTDIR => ErrorKind::NotFound,
            libc::EPERM | libc::EACCES => ErrorKind::PermissionDenied,
            libc::ENOSYS | libc::ENODEV | libc::EOPNOTSUPP => ErrorKind::Unsupported,
            _ => ErrorKind::Kernel,
        };
        Self { kind, what: what.into(), errno: Some(errno), hint: None }
    }

    pub(crate) fn io(what: impl Into<String>, error: &io::Error) -> Self {
        let what = what.into();
        match error.raw_os_error() {
            Some(errno) => Self::os(what, errno),
            None => {
                Self { kind: ErrorKind::Kernel, what: format!("{what}: {error}"), errno: None, hint: None }
            }
        }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errno {
            Some(errno) => write!(f, "{}: {}", self.what, io::Error::from_raw_os_error(errno)),
            None => f.write_str(&self.what),
        }
    }
}

/// As [`fmt::Display`], with the hint on a line of its own: `fn main() -> Result<()>` shows it to a person.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hint {
            Some(hint) => write!(f, "{self}\n  hint: {hint}"),
            None => write!(f, "{self}"),
        }
    }
}

impl std::error::Error for Error {}
