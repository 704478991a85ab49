//! What a container sees besides its root.

use std::path::{Path, PathBuf};

use isolate_cgroups::Bytes;
use isolate_namespaces::{Filesystem, Propagation};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::rootfs::Way;
use crate::volume::Use;

/// A mount in a container; missing mount points are made.
///
/// ```
/// use isolate::{Bytes, Mount};
/// let site = Mount::bind("/srv/site", "/www").read_only();
/// let tmp = Mount::tmpfs("/tmp").size(Bytes::mib(64)).inodes(10_000).noexec();
/// let data = Mount::volume("pgdata", "/var/lib/postgresql");
/// # let _ = (site, tmp, data);
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use = "a description does nothing until a container mounts it"]
pub struct Mount {
    what: What,
    #[serde(with = "crate::recorded")]
    target: PathBuf,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    noexec: bool,
    #[serde(default)]
    propagation: Propagation,
    #[serde(default = "so")]
    recursive: bool,
    #[serde(default)]
    tmpfs: Tmpfs,
}

/// Unless something else is said.
fn so() -> bool {
    true
}

/// What is said of a file system in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tmpfs {
    size: Option<Bytes>,
    inodes: Option<u64>,
    mode: Option<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Bind(#[serde(with = "crate::recorded")] PathBuf),
    Tmpfs,
    /// By name, or the container's own; and whether it is filled on its first use.
    Volume(Option<String>, bool),
}

/// A mount of a container, as any process sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MountInfo {
    /// What it is.
    pub kind: MountKind,
    /// The host's file or directory that is seen there: none of a tmpfs.
    #[serde(with = "crate::recorded")]
    pub source: Option<PathBuf>,
    /// Where it is in the container.
    #[serde(with = "crate::recorded")]
    pub target: PathBuf,
    /// The name of its volume.
    pub volume: Option<String>,
    /// What else was said: `ro`, `noexec`, `nonrecursive`, `shared`, `slave`, `size=BYTES`, `nr_inodes=NUMBER`, `mode=OCTAL`.
    pub options: Vec<String>,
}

/// What a mount is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MountKind {
    /// A file or directory of the host.
    Bind,
    /// A file system in memory.
    Tmpfs,
    /// A [`Volume`](crate::Volume).
    Volume,
}

/// Those of a container, by what was said.
pub(crate) fn told(mounts: &[Mount], id: &str) -> Vec<MountInfo> {
    mounts.iter().enumerate().map(|(n, mount)| mount.info(id, n)).collect()
}

/// The size of a tmpfs unless something else is said, and who may write to it: all, as in /tmp.
const SIZE: Bytes = Bytes::mib(64);
const MODE: u32 = 0o1777;

impl Mount {
    /// The host's file or directory, with the mounts below it, live in both directions. Neither set-user-id programs nor
    /// devices on it have effect.
    pub fn bind(source: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        Self::new(What::Bind(source.as_ref().to_owned()), target.as_ref())
    }

    /// An empty file system in memory, of at most 64 MiB unless [`size`](Self::size) says otherwise, writable for all. What
    /// it holds counts as the container's memory.
    pub fn tmpfs(target: impl AsRef<Path>) -> Self {
        Self::new(What::Tmpfs, target.as_ref())
    }

    /// A [`Volume`](crate::Volume) by name, made if missing. Where the container's root has something at the target, a volume that is empty
    /// is filled with that first, as Docker does: contents, owners, modes, links. An ordinary user fills it from a root that is one
    /// directory; from several layers it wants root.
    pub fn volume(name: impl Into<String>, target: impl AsRef<Path>) -> Self {
        Self::new(What::Volume(Some(name.into()), true), target.as_ref())
    }

    /// A volume without a name: it is filled as one with a name, and goes with the container.
    pub fn anonymous_volume(target: impl AsRef<Path>) -> Self {
        Self::new(What::Volume(None, true), target.as_ref())
    }

    fn new(what: What, target: &Path) -> Self {
        Self {
            what,
            target: target.to_owned(),
            read_only: false,
            noexec: false,
            propagation: Propagation::Private,
            recursive: true,
            tmpfs: Tmpfs::default(),
        }
    }

    /// A volume that is empty stays so.
    pub fn no_copy(mut self) -> Self {
        if let What::Volume(_, copy) = &mut self.what {
            *copy = false;
        }
        self
    }

    /// Whether mounts that are made later on one side are seen on the other: of a bind, and of root's containers. What the container
    /// mounts is seen outside ([`Propagation::Shared`]) only if it is in the caller's user namespace. Default: on neither side.
    ///
    /// ```
    /// use isolate::{Mount, Propagation};
    /// let media = Mount::bind("/media", "/media").propagation(Propagation::Slave); // a stick that is put in is seen
    /// # let _ = media;
    /// ```
    pub fn propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = propagation;
        self
    }

    /// Of a bind: without the mounts below the source.
    pub fn non_recursive(mut self) -> Self {
        self.recursive = false;
        self
    }

    /// Nothing below it may be changed.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Nothing below it can be executed.
    pub fn noexec(mut self) -> Self {
        self.noexec = true;
        self
    }

    /// The most that a tmpfs may hold.
    pub fn size(mut self, size: impl Into<Bytes>) -> Self {
        self.tmpfs.size = Some(size.into());
        self
    }

    /// How many files a tmpfs may have, directories and links included. Default: the kernel's, half as many as the machine has pages.
    pub fn inodes(mut self, most: u64) -> Self {
        self.tmpfs.inodes = Some(most);
        self
    }

    /// The mode of a tmpfs's root directory. Default: `0o1777`, writable for all as /tmp.
    pub fn mode(mut self, mode: u32) -> Self {
        self.tmpfs.mode = Some(mode);
        self
    }

    /// As it is told, as the n-th mount of the container of this id.
    fn info(&self, id: &str, n: usize) -> MountInfo {
        let (kind, source, volume) = match &self.what {
            What::Bind(source) => (MountKind::Bind, Some(source.clone()), None),
            What::Tmpfs => (MountKind::Tmpfs, None, None),
            What::Volume(..) => {
                let volume = self.volume_use(id, n).ok().flatten();
                let data = volume.as_ref().and_then(|volume| volume.data().ok());
                (MountKind::Volume, data, volume.map(|volume| volume.name))
            }
        };
        let Tmpfs { size, inodes, mode } = self.tmpfs;
        let said = |is_said: bool, option: &str| is_said.then(|| option.to_owned());
        let options = [
            said(self.read_only, "ro"),
            said(self.noexec, "noexec"),
            said(!self.recursive, "nonrecursive"),
            said(self.propagation == Propagation::Shared, "shared"),
            said(self.propagation == Propagation::Slave, "slave"),
            size.map(|size| format!("size={}", size.get())),
            inodes.map(|inodes| format!("nr_inodes={inodes}")),
            mode.map(|mode| format!("mode={mode:o}")),
        ];
        let options = options.into_iter().flatten().collect();
        MountInfo { kind, source, target: self.target.clone(), volume, options }
    }

    /// The host's file or directory, of a bind.
    pub(crate) fn source(&self) -> Option<&Path> {
        match &self.what {
            What::Bind(source) => Some(source),
            What::Tmpfs | What::Volume(..) => None,
        }
    }

    pub(crate) fn is_volume(&self) -> bool {
        matches!(self.what, What::Volume(..))
    }

    /// Where it will be.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// What it uses, as the n-th mount of the container of this id.
    pub(crate) fn volume_use(&self, id: &str, n: usize) -> Result<Option<Use>> {
        match &self.what {
            What::Volume(name, copy) => Use::new(name.as_deref(), &self.target, *copy, id, n).map(Some),
            _ => Ok(None),
        }
    }

    pub(crate) fn compile(&self, way: Way, volume: Option<&Use>) -> Result<isolate_namespaces::Mount> {
        let mapped = way.mapped;
        // What hides them hides what the library writes to, and what it hides.
        let own = ["/proc", "/sys", "/dev"].iter().find(|own| {
            let normal: PathBuf = self.target.components().collect();
            normal == Path::new(own) || (**own == "/proc" && normal.starts_with(own))
        });
        if let Some(own) = own {
            let what = format!("mount at {}: a container has a {own} of its own", self.target.display());
            return Err(Error::new(ErrorKind::InvalidConfig, what));
        }
        self.check_propagation(way)?;
        let mount = match &self.what {
            What::Volume(..) => {
                let data = volume.map(Use::data).transpose()?.unwrap_or_default();
                let bind = isolate_namespaces::Mount::bind_directory(data, &self.target);
                if mapped { bind.id_mapped() } else { bind }
            }
            What::Bind(source) if self.tmpfs == Tmpfs::default() => {
                let bind =
                    isolate_namespaces::Mount::bind(source, &self.target).propagation(self.propagation);
                let bind = if self.recursive { bind } else { bind.non_recursive() };
                if mapped { bind.id_mapped() } else { bind }
            }
            What::Bind(_) => {
                let what = format!(
                    "mount at {}: a bind mount has size, inodes and mode of its source",
                    self.target.display()
                );
                return Err(Error::new(ErrorKind::InvalidConfig, what));
            }
            What::Tmpfs => isolate_namespaces::Mount::filesystem(self.filesystem()?, &self.target),
        };
        let mount = if self.noexec { mount.noexec() } else { mount };
        Ok(if self.read_only { mount.read_only() } else { mount })
    }

    fn check_propagation(&self, way: Way) -> Result<()> {
        let wrong =
            |kind, what: &str| Err(Error::new(kind, format!("mount at {}: {what}", self.target.display())));
        match self.propagation {
            Propagation::Private => Ok(()),
            _ if !matches!(self.what, What::Bind(_)) => {
                wrong(ErrorKind::InvalidConfig, "propagation is a bind's")
            }
            _ if way.rootless => {
                wrong(ErrorKind::Unsupported, "what an ordinary user binds gets no mounts of the host later")
            }
            Propagation::Shared if way.mapped => wrong(
                ErrorKind::InvalidConfig,
                "a container with a user namespace of its own mounts nothing for the host (UserNamespace::Host)",
            ),
            _ => Ok(()),
        }
    }

    fn filesystem(&self) -> Result<Filesystem> {
        let Tmpfs { size, inodes, mode } = self.tmpfs;
        let wrong = |what: String| {
            Err(Error::new(ErrorKind::InvalidConfig, format!("mount at {}: {what}", self.target.display())))
        };
        // For the kernel 0 is no limit.
        let size = size.unwrap_or(SIZE);
        if size < Bytes::kib(4) {
            return wrong(format!("a tmpfs of {size} holds nothing"));
        }
        if inodes.is_some_and(|inodes| inodes < 2) {
            return wrong("a tmpfs of less than 2 inodes holds no file".to_owned());
        }
        let mode = mode.unwrap_or(MODE);
        if mode > 0o7777 {
            return wrong(format!("{mode:o} is no mode of a directory"));
        }
        let tmpfs = Filesystem::tmpfs().set("mode", format!("{mode:o}")).set("size", size.get().to_string());
        let tmpfs = match inodes {
            Some(inodes) => tmpfs.set("nr_inodes", inodes.to_string()),
            None => tmpfs,
        };
        Ok(tmpfs.nosuid().nodev())
    }
}
