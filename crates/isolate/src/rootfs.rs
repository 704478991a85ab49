//! What a container sees as `/`.

mod compile;
mod etc;
mod host;
mod scratch;

pub(crate) use compile::{Layout, Way, compile};
pub(crate) use scratch::{Preparation, Scratch};

use std::path::{Path, PathBuf};

use isolate_cgroups::Bytes;

/// A container's root file system.
///
/// A path alone, as in `.rootfs("/srv/alpine")`, is a throw-away overlay: the directory is never written, and what the
/// container writes is gone with it.
///
/// ```
/// use isolate::Rootfs;
/// let root = Rootfs::layers(["/srv/layers/debian", "/srv/layers/app"]); // the last is on top
/// let kept = Rootfs::from("/srv/alpine").upper("/srv/changes");
/// let host = Rootfs::host().with("/var/lib/tomcat10");
/// # let _ = (root, kept, host);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a description does nothing until a container is started with it"]
pub struct Rootfs {
    kind: Kind,
    upper: Option<PathBuf>,
    in_memory: Option<Bytes>,
    with: Vec<PathBuf>,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Seen as it is, and written.
    Writable(PathBuf),
    /// Seen as it is, never written: mount points must be there.
    ReadOnly(PathBuf),
    /// Bottom first.
    Layers(Vec<PathBuf>),
    Host,
}

impl Rootfs {
    /// The directory itself: what the container writes stays, and mount points are made in it.
    pub fn writable(directory: impl AsRef<Path>) -> Self {
        Self::new(Kind::Writable(directory.as_ref().to_owned()))
    }

    /// The directory itself, and nothing on it can be changed. It must have the mount points: `/proc`, `/sys`, `/dev`.
    pub fn read_only(directory: impl AsRef<Path>) -> Self {
        Self::new(Kind::ReadOnly(directory.as_ref().to_owned()))
    }

    /// An overlay over these directories, the last one on top. None of them is written.
    #[doc(alias = "overlay2")]
    pub fn layers(bottom_up: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        Self::new(Kind::Layers(bottom_up.into_iter().map(|layer| layer.as_ref().to_owned()).collect()))
    }

    /// The host's own programs, copy-on-write: `/usr`, `/opt` and what they need at the top level, and of `/etc` what
    /// everybody may read. Nothing else of the host is there, neither `/home` and `/root` nor `/srv`, `/var`, `/run`, `/tmp`
    /// or another mount, unless [`with`](Self::with) names it. Nothing that the container writes reaches the host.
    pub fn host() -> Self {
        Self::new(Kind::Host)
    }

    /// Keeps what the container writes in this directory, which is made if missing. Next to it lies a directory of overlayfs's
    /// own, `NAME.work`, while the container exists. For layers and a path alone.
    pub fn upper(mut self, directory: impl AsRef<Path>) -> Self {
        self.upper = Some(directory.as_ref().to_owned());
        self
    }

    /// What the container writes lies in memory, and is no more than this: beyond it programs get `ENOSPC`. It counts as the
    /// container's memory. For layers, a path alone, and [`host`](Self::host).
    ///
    /// ```
    /// use isolate::{Bytes, Rootfs};
    /// let root = Rootfs::from("/srv/alpine").in_memory(Bytes::mib(64));
    /// # let _ = root;
    /// ```
    pub fn in_memory(mut self, most: impl Into<Bytes>) -> Self {
        self.in_memory = Some(most.into());
        self
    }

    /// One more file or directory of the host, copy-on-write, at the same path. For [`host`](Self::host).
    pub fn with(mut self, path: impl AsRef<Path>) -> Self {
        self.with.push(path.as_ref().to_owned());
        self
    }

    fn new(kind: Kind) -> Self {
        Self { kind, upper: None, in_memory: None, with: Vec::new() }
    }
}

impl From<&str> for Rootfs {
    fn from(directory: &str) -> Self {
        Self::layers([directory])
    }
}

impl From<&Path> for Rootfs {
    fn from(directory: &Path) -> Self {
        Self::layers([directory])
    }
}

impl From<PathBuf> for Rootfs {
    fn from(directory: PathBuf) -> Self {
        Self::layers([directory])
    }
}
