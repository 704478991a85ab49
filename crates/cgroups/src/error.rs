//! What can go wrong, in a sentence.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a control group could not be made, limited, read or removed. One sentence that names the object and the
/// cause; [`Error::hint`] has what to do about it, where that is known.
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
    /// A name, size or limit that cannot be.
    InvalidInput,
    /// A group or process that is not there.
    NotFound,
    /// A group of that name is there already.
    AlreadyExists,
    /// The kernel refuses it to this user.
    PermissionDenied,
    /// This machine has not got the controller, or not where this crate may use it.
    Unsupported,
    /// The kernel took the value and made it weaker than what was asked for.
    NotApplied,
    /// The group holds processes or groups that stand in the way.
    Busy,
    /// The kernel did not get there within the time that was given.
    TimedOut,
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

    pub(crate) fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), errno: None, hint: None }
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, what)
    }

    pub(crate) fn os(what: impl Into<String>, errno: Errno) -> Self {
        let kind = match errno {
            Errno::NOENT | Errno::NODEV | Errno::SRCH => ErrorKind::NotFound,
            Errno::EXIST => ErrorKind::AlreadyExists,
            Errno::PERM | Errno::ACCESS | Errno::ROFS => ErrorKind::PermissionDenied,
            Errno::NOSYS | Errno::OPNOTSUPP => ErrorKind::Unsupported,
            Errno::BUSY | Errno::NOTEMPTY => ErrorKind::Busy,
            _ => ErrorKind::Kernel,
        };
        let error = Self { kind, what: what.into(), errno: Some(errno.raw_os_error()), hint: None };
        match errno {
            Errno::ROFS => error.with_hint("it is mounted read-only here"),
            Errno::NODEV => error.with_hint("somebody has removed the group"),
            _ if kind == ErrorKind::PermissionDenied => error.with_hint(
                "control groups belong to root: run as root, or in a group that was delegated to you",
            ),
            _ => error,
        }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts `subject` before the sentence.
    pub(crate) fn about(mut self, subject: impl fmt::Display) -> Self {
        self.what = format!("{subject}: {}", self.what);
        self
    }

    /// One error out of all that happened on the way; `None` for none.
    pub(crate) fn all(errors: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut errors = errors.into_iter();
        errors.next().map(|first| first.and(errors))
    }

    /// With what went wrong besides in its hint.
    pub(crate) fn and(self, others: impl Iterator<Item = Self>) -> Self {
        let rest: Vec<String> = others.map(|error| error.to_string()).collect();
        if rest.is_empty() {
            return self;
        }
        let also = format!("also: {}", rest.join("; "));
        let hint = match &self.hint {
            Some(hint) => format!("{hint}; {also}"),
            None => also,
        };
        self.with_hint(hint)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_sentence_and_its_debug_adds_the_hint() {
        let error = Error::os("cgroup a: memory.max", Errno::ACCESS);
        assert_eq!(error.to_string(), "cgroup a: memory.max: Permission denied (os error 13)");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(error.raw_os_error(), Some(13));
        assert!(
            format!("{error:?}")
                .starts_with("cgroup a: memory.max: Permission denied (os error 13)\n  hint: ")
        );
    }

    #[test]
    fn several_errors_are_the_first_and_the_rest_in_its_hint() {
        assert!(Error::all(Vec::new()).is_none());
        let both = Error::all(vec![Error::os("a", Errno::BUSY), Error::os("b", Errno::NOENT)]).unwrap();
        assert_eq!(both.kind(), ErrorKind::Busy);
        assert!(both.hint().is_some_and(|hint| hint.starts_with("also: b: No such file")));
    }

    #[test]
    fn an_error_can_be_sent_anywhere() {
        fn everywhere<T: Send + Sync + 'static>() {}
        everywhere::<Error>();
    }
}
