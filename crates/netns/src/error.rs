//! What can go wrong, in a sentence.

use std::fmt;
use std::io;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something about the network could not be read, made or removed. One sentence that names the object and
/// the cause; [`Error::hint`] has what to do about it, where that is known.
pub struct Error {
    kind: ErrorKind,
    what: String,
    errno: Option<i32>,
    /// The sentence is whole without the words that go with `errno`.
    in_words: bool,
    hint: Option<String>,
}

/// What sort of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A name, address or port that cannot be.
    InvalidInput,
    /// A link, process or namespace that is not there.
    NotFound,
    /// A link of that name is there already.
    AlreadyExists,
    /// A host port that a program or another container has.
    AddressInUse,
    /// A network or name that something else on this machine uses.
    Conflict,
    /// The kernel refuses it to this user.
    PermissionDenied,
    /// This kernel or machine has not got it.
    Unsupported,
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
        Self { kind, what: what.into(), errno: None, in_words: true, hint: None }
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, what)
    }

    pub(crate) fn os(what: impl Into<String>, errno: i32) -> Self {
        let kind = match errno {
            libc::ENOENT | libc::ENODEV | libc::ENXIO | libc::ESRCH => ErrorKind::NotFound,
            libc::EEXIST => ErrorKind::AlreadyExists,
            libc::EADDRINUSE => ErrorKind::AddressInUse,
            libc::EPERM | libc::EACCES => ErrorKind::PermissionDenied,
            libc::ENOSYS | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT => {
                ErrorKind::Unsupported
            }
            _ => ErrorKind::Kernel,
        };
        let error = Self { kind, what: what.into(), errno: Some(errno), in_words: false, hint: None };
        match kind {
            ErrorKind::PermissionDenied => error.with_hint(
                "needs CAP_NET_ADMIN over the network namespace (and CAP_SYS_ADMIN to enter one): run as root",
            ),
            _ => error,
        }
    }

    pub(crate) fn io(what: impl Into<String>, error: &io::Error) -> Self {
        let what = what.into();
        match error.raw_os_error() {
            Some(errno) => Self::os(what, errno),
            None => Self::new(ErrorKind::Kernel, format!("{what}: {error}")),
        }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Replaces the sentence; the `errno` stays, but not its words.
    pub(crate) fn saying(mut self, what: impl Into<String>) -> Self {
        (self.what, self.in_words) = (what.into(), true);
        self
    }

    /// Adds what went wrong after it, in work that goes on after an error.
    pub(crate) fn and(self, other: Self) -> Self {
        let what = format!("{self}; and {other}");
        self.saying(what)
    }

    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errno {
            Some(errno) if !self.in_words => {
                write!(f, "{}: {}", self.what, io::Error::from_raw_os_error(errno))
            }
            _ => f.write_str(&self.what),
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
        let error = Error::os("bridge iso0", libc::EPERM);
        assert_eq!(error.to_string(), "bridge iso0: Operation not permitted (os error 1)");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.hint().is_some_and(|hint| hint.contains("CAP_NET_ADMIN")));
        assert!(
            format!("{error:?}")
                .starts_with("bridge iso0: Operation not permitted (os error 1)\n  hint: needs")
        );
    }

    #[test]
    fn two_errors_are_told_in_one_sentence() {
        let error = Error::os("link a", libc::ENODEV).and(Error::invalid("b"));
        assert_eq!(error.to_string(), "link a: No such device (os error 19); and b");
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn an_error_can_be_sent_anywhere() {
        fn everywhere<T: Send + Sync + 'static>() {}
        everywhere::<Error>();
    }
}
