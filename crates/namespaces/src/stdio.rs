//! Where a child's standard descriptors lead.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::kernel;

/// Where one of a child's standard descriptors leads: [`std::process::Stdio`] with the same constructors, and open to
/// this crate.
#[derive(Clone, Debug)]
pub struct Stdio(pub(crate) Kind);

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Inherit,
    Null,
    Piped,
    Descriptor(Arc<OwnedFd>),
}

impl Stdio {
    /// A new pipe; the other end is a field of the [`Child`](crate::Child).
    #[must_use]
    pub fn piped() -> Self {
        Self(Kind::Piped)
    }

    /// `/dev/null` of the caller.
    #[must_use]
    pub fn null() -> Self {
        Self(Kind::Null)
    }

    /// The caller's own.
    #[must_use]
    pub fn inherit() -> Self {
        Self(Kind::Inherit)
    }
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Self {
        Self(Kind::Descriptor(Arc::new(fd)))
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Self {
        OwnedFd::from(file).into()
    }
}

impl From<ChildStdout> for Stdio {
    fn from(pipe: ChildStdout) -> Self {
        OwnedFd::from(pipe).into()
    }
}

impl From<ChildStderr> for Stdio {
    fn from(pipe: ChildStderr) -> Self {
        OwnedFd::from(pipe).into()
    }
}

impl From<ChildStdin> for Stdio {
    fn from(pipe: ChildStdin) -> Self {
        OwnedFd::from(pipe).into()
    }
}

impl From<std::io::PipeReader> for Stdio {
    fn from(pipe: std::io::PipeReader) -> Self {
        OwnedFd::from(pipe).into()
    }
}

impl From<std::io::PipeWriter> for Stdio {
    fn from(pipe: std::io::PipeWriter) -> Self {
        OwnedFd::from(pipe).into()
    }
}

/// Ends of the standard descriptors for one start: the child's (`None`: inherited) and the caller's (`None`: no pipe).
#[derive(Default)]
pub(crate) struct Ends {
    pub child: [Option<Arc<OwnedFd>>; 3],
    pub caller: [Option<OwnedFd>; 3],
}

impl Ends {
    pub(crate) fn open(kinds: &[Kind; 3]) -> Result<Self> {
        let mut ends = Self::default();
        for (n, kind) in kinds.iter().enumerate() {
            let failed = |e: std::io::Error| Error::io(format!("cannot open standard descriptor {n}"), &e);
            match kind {
                Kind::Inherit => {}
                Kind::Null => {
                    let null =
                        File::options().read(n == 0).write(n != 0).open("/dev/null").map_err(failed)?;
                    ends.child[n] = Some(Arc::new(kernel::above_standard(null.into()).map_err(failed)?));
                }
                Kind::Descriptor(fd) if fd.as_raw_fd() < 3 => {
                    let other = fd.try_clone().and_then(kernel::above_standard).map_err(failed)?;
                    ends.child[n] = Some(Arc::new(other));
                }
                Kind::Descriptor(fd) => ends.child[n] = Some(fd.clone()),
                Kind::Piped => {
                    let (reader, writer) = std::io::pipe().map_err(failed)?;
                    let (child, caller): (OwnedFd, OwnedFd) =
                        if n == 0 { (reader.into(), writer.into()) } else { (writer.into(), reader.into()) };
                    ends.child[n] = Some(Arc::new(kernel::above_standard(child).map_err(failed)?));
                    ends.caller[n] = Some(caller);
                }
            }
        }
        Ok(ends)
    }
}
