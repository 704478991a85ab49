//! What can go wrong, in a sentence.

use std::fmt;
use std::io;
use std::time::Duration;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an image could not be found, fetched, unpacked or kept. One sentence that names the object and the cause;
/// [`Error::hint`] has what to do about it, where that is known.
pub struct Error {
    kind: ErrorKind,
    what: String,
    errno: Option<i32>,
    hint: Option<String>,
    /// Whether it may be over by and by, and when.
    #[cfg_attr(not(feature = "registry"), expect(dead_code, reason = "nothing else is asked again"))]
    again: Option<Option<Duration>>,
}

/// What sort of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A reference, path or setting that cannot be.
    InvalidInput,
    /// An image, tag, blob, platform or file that is not there.
    NotFound,
    /// The registry wants credentials, or others.
    Unauthorized,
    /// A registry that cannot be reached, or does not answer as one.
    Registry,
    /// Bytes that are not what their digest says, or a document that is not what it should be.
    Corrupt,
    /// An archive that would write outside of its directory, or is beyond a bound.
    Refused,
    /// Something that is still needed: an image that a container has.
    InUse,
    /// The kernel refuses it to this user.
    PermissionDenied,
    /// A format, compression or entry that is not known, or a file system that cannot hold it.
    Unsupported,
    /// Any other refusal of the kernel; [`Error::raw_os_error`] has the number.
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
        Self { kind, what: what.into(), errno: None, hint: None, again: None }
    }

    /// `what` is the object, alone or with what was done to it.
    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            io::ErrorKind::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::Kernel,
        };
        Self { kind, what: format!("{what}: {error}"), errno: error.raw_os_error(), hint: None, again: None }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// It may be over by and by, or after this long.
    #[cfg(feature = "registry")]
    pub(crate) fn worth_another_try(mut self, after: Option<Duration>) -> Self {
        self.again = Some(after);
        self
    }

    /// Whether to try again, and after how long if that was said.
    #[cfg(feature = "registry")]
    pub(crate) fn again(&self) -> Option<Option<Duration>> {
        self.again
    }

    /// Of a larger object: `image tomcat:10: layer sha256:…: …`.
    pub(crate) fn of(mut self, object: impl fmt::Display) -> Self {
        self.what = format!("{object}: {}", self.what);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
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
