//! What can go wrong, in a sentence.

use std::fmt;
use std::io;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a container could not be made, started or removed. One sentence that names the container, the object and the cause.
///
/// `Debug` prints as `Display`, with the [`hint`](Self::hint) on a line of its own, so that `fn main() -> isolate::Result<()>`
/// shows a person what to do.
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
    InvalidConfig,
    /// A file or directory that is not there.
    NotFound,
    /// The program to execute is not in the container's root, or its interpreter is not.
    ProgramNotFound,
    /// The program is there, and the kernel does not execute it: no right to, `noexec`, or not a program for this machine.
    NotExecutable,
    /// A container of this name exists.
    AlreadyExists,
    /// A port, an address or a network is taken by somebody else.
    InUse,
    /// The kernel refuses it to this user.
    PermissionDenied,
    /// This machine has not got it.
    Unsupported,
    /// The container was killed before its program ran, or its monitor was.
    Lost,
    /// An image that cannot be had, or is not what it should be: its registry, its archive or its bytes.
    Image,
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

    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            io::ErrorKind::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::Kernel,
        };
        Self { kind, what: format!("{what}: {error}"), errno: error.raw_os_error(), hint: None }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, said of something.
    pub(crate) fn of(mut self, whom: impl fmt::Display) -> Self {
        self.what = format!("{whom}: {}", self.what);
        self
    }

    /// Several failures of one removal, as one.
    pub(crate) fn all(mut errors: Vec<Self>) -> Result<()> {
        if errors.is_empty() {
            return Ok(());
        }
        let mut first = errors.remove(0);
        for other in errors {
            first.what = format!("{}; {}", first.what, other.what);
        }
        Err(first)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hint {
            Some(hint) => write!(f, "{self}\n  hint: {hint}"),
            None => write!(f, "{self}"),
        }
    }
}

impl std::error::Error for Error {}

/// Each mechanism's error keeps its sentence, its number and its hint; the kinds are mapped by name.
macro_rules! from_mechanism {
    ($($mechanism:ident { $($theirs:ident => $ours:ident),* $(,)? })*) => {$(
        impl From<$mechanism::Error> for Error {
            fn from(error: $mechanism::Error) -> Self {
                let kind = match error.kind() {
                    $($mechanism::ErrorKind::$theirs => ErrorKind::$ours,)*
                    _ => ErrorKind::Kernel,
                };
                Self {
                    kind,
                    what: error.to_string(),
                    errno: error.raw_os_error(),
                    hint: error.hint().map(str::to_owned),
                }
            }
        }
    )*};
}

from_mechanism! {
    isolate_namespaces {
        InvalidInput => InvalidConfig,
        NotFound => NotFound,
        ProgramNotFound => ProgramNotFound,
        NotExecutable => NotExecutable,
        PermissionDenied => PermissionDenied,
        Unsupported => Unsupported,
        Lost => Lost,
    }
    isolate_overlay {
        InvalidInput => InvalidConfig,
        NotFound => NotFound,
        PermissionDenied => PermissionDenied,
        Unsupported => Unsupported,
    }
    isolate_netns {
        InvalidInput => InvalidConfig,
        NotFound => NotFound,
        AlreadyExists => InUse,
        AddressInUse => InUse,
        Conflict => InUse,
        PermissionDenied => PermissionDenied,
        Unsupported => Unsupported,
    }
    isolate_cgroups {
        InvalidInput => InvalidConfig,
        NotFound => NotFound,
        AlreadyExists => AlreadyExists,
        PermissionDenied => PermissionDenied,
        Unsupported => Unsupported,
    }
}

#[cfg(feature = "images")]
from_mechanism! {
    isolate_images {
        InvalidInput => InvalidConfig,
        NotFound => NotFound,
        Unauthorized => PermissionDenied,
        Registry => Image,
        Corrupt => Image,
        Refused => Image,
        InUse => InUse,
        PermissionDenied => PermissionDenied,
        Unsupported => Unsupported,
    }
}
