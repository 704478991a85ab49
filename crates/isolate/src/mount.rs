//! What a container sees besides its root.

use std::path::{Path, PathBuf};

use isolate_cgroups::Bytes;

use crate::error::{Error, ErrorKind, Result};

/// A mount in a container; missing mount points are made.
///
/// ```
/// use isolate::{Bytes, Mount};
/// let site = Mount::bind("/srv/site", "/www").read_only();
/// let tmp = Mount::tmpfs("/tmp").size(Bytes::mib(64));
/// # let _ = (site, tmp);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a description does nothing until a container mounts it"]
pub struct Mount {
    what: What,
    target: PathBuf,
    read_only: bool,
    size: Option<Bytes>,
}

#[derive(Clone, Debug)]
enum What {
    Bind(PathBuf),
    Tmpfs,
}

/// The size of a tmpfs unless something else is said.
const TMPFS: Bytes = Bytes::mib(64);

impl Mount {
    /// The host's file or directory, with the mounts below it, live in both directions. Neither set-user-id programs nor
    /// devices on it have effect.
    pub fn bind(source: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        let what = What::Bind(source.as_ref().to_owned());
        Self { what, target: target.as_ref().to_owned(), read_only: false, size: None }
    }

    /// An empty file system in memory, of at most 64 MiB unless [`size`](Self::size) says otherwise, writable for all. What
    /// it holds counts as the container's memory.
    pub fn tmpfs(target: impl AsRef<Path>) -> Self {
        Self { what: What::Tmpfs, target: target.as_ref().to_owned(), read_only: false, size: None }
    }

    /// Nothing below it may be changed.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// The most that a tmpfs may hold.
    pub fn size(mut self, size: Bytes) -> Self {
        self.size = Some(size);
        self
    }

    /// The host's file or directory, of a bind.
    pub(crate) fn source(&self) -> Option<&Path> {
        match &self.what {
            What::Bind(source) => Some(source),
            What::Tmpfs => None,
        }
    }

    pub(crate) fn compile(&self, mapped: bool) -> Result<isolate_namespaces::Mount> {
        // What hides them hides what the library writes to, and what it hides.
        let own = ["/proc", "/sys", "/dev"].iter().find(|own| {
            let normal: PathBuf = self.target.components().collect();
            normal == Path::new(own) || (**own == "/proc" && normal.starts_with(own))
        });
        if let Some(own) = own {
            let what = format!("mount at {}: a container has a {own} of its own", self.target.display());
            return Err(Error::new(ErrorKind::InvalidConfig, what));
        }
        let mount = match (&self.what, self.size) {
            (What::Bind(source), None) => {
                let bind = isolate_namespaces::Mount::bind(source, &self.target);
                if mapped { bind.id_mapped() } else { bind }
            }
            (What::Bind(_), Some(_)) => {
                let what =
                    format!("mount at {}: a bind mount has the size of its source", self.target.display());
                return Err(Error::new(ErrorKind::InvalidConfig, what));
            }
            (What::Tmpfs, size) => {
                isolate_namespaces::Mount::tmpfs(&self.target, size.unwrap_or(TMPFS).get())
            }
        };
        Ok(if self.read_only { mount.read_only() } else { mount })
    }
}
