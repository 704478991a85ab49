//! What a container sees as `/`.

mod compile;
mod etc;
mod host;
mod scratch;
mod written;

pub(crate) use compile::{Layout, Way, compile, nothing};
pub(crate) use scratch::{Limited, Preparation, Quota, Scratch, release_project};

use std::path::{Path, PathBuf};

use isolate_cgroups::Bytes;
use serde::{Deserialize, Serialize};

use written::Written;

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
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
#[must_use = "a description does nothing until a container is started with it"]
pub struct Rootfs {
    kind: Kind,
    upper: Option<PathBuf>,
    in_memory: Option<Bytes>,
    on_disk: Option<Bytes>,
    with: Vec<PathBuf>,
    #[cfg(feature = "images")]
    store: Option<isolate_images::Store>,
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
    /// Layers of an image, once it is known which.
    #[cfg(feature = "images")]
    Image(String),
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
    ///
    /// `/tmp`, `/var/tmp`, `/run` and their like are there, empty and to be written: in memory, which counts as the container's. What is
    /// written below `/usr` and `/opt` lies on the disk, in `/var/lib/isolate`, where that can hold it. [`in_memory`](Self::in_memory) and
    /// [`on_disk`](Self::on_disk) bound it.
    pub fn host() -> Self {
        Self::new(Kind::Host)
    }

    /// An image, by its name in a registry or in the store (`tomcat:10`, `localhost:5000/team/app@sha256:…`), in a layout
    /// (`oci:DIRECTORY[:NAME]`) or in an archive (`docker-archive:FILE`, `oci-archive:FILE`), as
    /// [`Source`](isolate_images::Source) reads it. It is fetched by the start if it is not in the store, unpacked once, and kept from
    /// [`prune`](isolate_images::Store::prune) as long as the container is there. The container then
    /// [does as the image says](crate::ContainerBuilder::image_config).
    ///
    /// The store is this user's own ([`Store::of_user`](isolate_images::Store::of_user)), unless [`store`](Self::store) says otherwise.
    /// Progress, credentials, mirrors and platforms are [`Pull`](isolate_images::Pull)'s: pull it first.
    ///
    /// ```no_run
    /// use isolate::{Container, Rootfs};
    /// # fn main() -> isolate::Result<()> {
    /// let tomcat = Container::builder().rootfs(Rootfs::image("tomcat:10")).publish((9000, 8080)).start()?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "images")]
    pub fn image(source: impl ToString) -> Self {
        Self::new(Kind::Image(source.to_string()))
    }

    /// Where the image is kept. For [`image`](Self::image).
    #[cfg(feature = "images")]
    pub fn store(mut self, store: &isolate_images::Store) -> Self {
        self.store = Some(store.clone());
        self
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

    /// What the container writes lies on the disk, and is no more than this, less what a file system needs for itself, about 3 %: beyond it
    /// programs get `ENOSPC`, and nobody else's room is taken. At least 1 MiB. Where `/var/lib/isolate` is on an ext4 or xfs that bounds
    /// projects (mounted with `prjquota`, Linux 5.14), by such a quota; else it is a file system of its own, in a file that takes as much as
    /// was written, on a loop device. For root; for layers, a path alone, and [`host`](Self::host).
    ///
    /// ```
    /// use isolate::{Bytes, Rootfs};
    /// let root = Rootfs::from("/srv/alpine").on_disk(Bytes::gib(1));
    /// # let _ = root;
    /// ```
    #[doc(alias = "quota")]
    #[doc(alias = "storage-opt")]
    pub fn on_disk(mut self, most: impl Into<Bytes>) -> Self {
        self.on_disk = Some(most.into());
        self
    }

    /// One more file or directory of the host, copy-on-write, at the same path. For [`host`](Self::host).
    pub fn with(mut self, path: impl AsRef<Path>) -> Self {
        self.with.push(path.as_ref().to_owned());
        self
    }

    /// What it is an image of, and where that is kept.
    #[cfg(feature = "images")]
    pub(crate) fn source(&self) -> Option<(&str, Option<&isolate_images::Store>)> {
        match &self.kind {
            Kind::Image(source) => Some((source, self.store.as_ref())),
            _ => None,
        }
    }

    /// The same, of an image's layers in its place.
    #[cfg(feature = "images")]
    pub(crate) fn of_layers(&self, bottom_up: Vec<PathBuf>) -> Self {
        Self { kind: Kind::Layers(bottom_up), ..self.clone() }
    }

    fn new(kind: Kind) -> Self {
        Self {
            kind,
            upper: None,
            in_memory: None,
            on_disk: None,
            with: Vec::new(),
            #[cfg(feature = "images")]
            store: None,
        }
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
