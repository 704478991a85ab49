//! What can go wrong, in a sentence.

use std::fmt;
use std::io;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an overlay could not be mounted or unmounted. One sentence that names the directory and the cause.
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
    /// A directory that is not there.
    NotFound,
    /// The kernel refuses it to this user.
    PermissionDenied,
    /// The kernel has no overlayfs, or not this feature of it.
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

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self { kind: ErrorKind::InvalidInput, what: what.into(), errno: None, hint: None }
    }

    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        let kind = match error.raw_os_error() {
            Some(2 | 20) => ErrorKind::NotFound,
            Some(1 | 13) => ErrorKind::PermissionDenied,
            Some(19 | 38) => ErrorKind::Unsupported, // ENODEV, ENOSYS
            None => ErrorKind::InvalidInput,         // std refused it: an empty path, one with a zero byte
            _ => ErrorKind::Kernel,
        };
        let hint = (kind == ErrorKind::PermissionDenied).then(|| {
            "mounting wants CAP_SYS_ADMIN in the user namespace that owns the mount namespace".to_owned()
        });
        Self { kind, what: format!("{what}: {error}"), errno: error.raw_os_error(), hint }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The kernel's own words, which it writes to a file system context.
    pub(crate) fn with_log(mut self, log: &str) -> Self {
        if !log.is_empty() {
            self.what = format!("{} ({log})", self.what);
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// As [`fmt::Display`], with the hint on a line of its own.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hint {
            Some(hint) => write!(f, "{self}\n  hint: {hint}"),
            None => write!(f, "{self}"),
        }
    }
}

impl std::error::Error for Error {}
