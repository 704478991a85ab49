//! Where a container's namespaces come from.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isolate_namespaces::Namespace;
use serde::{Deserialize, Serialize};

use crate::container::Container;
use crate::error::{Error, ErrorKind, Result};

/// Where one of a container's namespaces comes from.
///
/// ```no_run
/// use isolate::{Container, Namespace, Origin};
/// # fn main() -> isolate::Result<()> {
/// let db = Container::builder().command(["postgres"]).start()?;
/// let beside = Container::builder()
///     .namespace(Namespace::Net, Origin::container(&db)) // reaches it on 127.0.0.1
///     .namespace(Namespace::Ipc, Origin::host())
///     .command(["psql", "-h", "127.0.0.1"])
///     .start()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
#[must_use = "a description does nothing until a container is started with it"]
pub struct Origin(pub(crate) From);

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum From {
    New,
    Host,
    /// Of a running container, with the user namespace it is in, if that is its own.
    #[serde(skip)]
    Container {
        pid: u32,
        user: Option<[u32; 2]>,
    },
    /// Of a detached one, by its id: of whichever process it is at a start.
    Detached(String),
    Path(#[serde(with = "crate::recorded")] PathBuf),
    #[serde(skip)]
    Descriptor(Arc<OwnedFd>),
}

impl Origin {
    /// One of its own: the default of all but the time namespace, and for the network as [`Attach`](crate::Attach) says.
    pub fn new() -> Self {
        Self(From::New)
    }

    /// The caller's.
    pub fn host() -> Self {
        Self(From::Host)
    }

    /// That of another container, a [`Container`] or a [`Detached`](crate::Detached) one, which must run when this one starts. With it comes
    /// the user namespace of that container, if it has one of its own: it has the rights to the others.
    pub fn container(other: impl Into<Self>) -> Self {
        other.into()
    }

    /// One by its path: `/proc/PID/ns/NAME`, or a file that it is bound to.
    pub fn path(path: impl AsRef<Path>) -> Self {
        Self(From::Path(path.as_ref().to_owned()))
    }

    /// One by a descriptor.
    pub fn descriptor(namespace: impl Into<OwnedFd>) -> Self {
        Self(From::Descriptor(Arc::new(namespace.into())))
    }
}

impl std::convert::From<&Container> for Origin {
    fn from(other: &Container) -> Self {
        Self(From::Container { pid: other.pid(), user: other.root_outside() })
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self::new()
    }
}

impl From {
    /// The namespace, if there is one to be joined.
    pub(crate) fn open(&self, kind: Namespace) -> Result<Option<OwnedFd>> {
        let path = match self {
            Self::New | Self::Host => return Ok(None),
            Self::Container { pid, .. } => PathBuf::from(format!("/proc/{pid}/ns/{kind}")),
            Self::Path(path) => path.clone(),
            // Looked up before, where it is to be entered.
            Self::Detached(id) => {
                return Err(Error::new(ErrorKind::NotFound, format!("{kind} namespace of container {id}")));
            }
            Self::Descriptor(fd) => {
                let copy = fd.try_clone().map_err(|e| Error::io(format!("{kind} namespace"), &e))?;
                return Ok(Some(copy));
            }
        };
        let opened =
            File::open(&path).map_err(|e| Error::io(format!("{kind} namespace {}", path.display()), &e));
        opened.map(|file| Some(file.into()))
    }
}
