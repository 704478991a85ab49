//! A file system to be mounted by the child: what fsopen(2), fsconfig(2) and fsmount(2) are told.

use std::ffi::OsString;
use std::path::PathBuf;

/// A file system of its own, mounted in the child's mount namespace (Linux 5.2: fsopen(2)).
///
/// ```
/// use isolate_namespaces::Filesystem;
/// let scratch = Filesystem::tmpfs().set("size", "64m").directory("upper", 0o755).directory("work", 0o755);
/// let root = Filesystem::new("overlay")
///     .set("lowerdir+", "/srv/layers/app")
///     .set("lowerdir+", "/srv/layers/base")
///     .set("upperdir", "upper") // relative: into the scratch file system
///     .set("workdir", "work");
/// # let _ = (scratch, root);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a description does nothing until a Command mounts it"]
pub struct Filesystem {
    pub(crate) kind: String,
    pub(crate) parameters: Vec<(String, Value)>,
    pub(crate) attributes: u64,
    pub(crate) entries: Vec<Entry>,
    /// Made by the launcher, where the child's user namespace is another.
    pub(crate) outside: bool,
}

/// What a parameter is set to.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Flag,
    Text(OsString),
    /// A lower layer of an overlay.
    Layer(PathBuf),
}

/// What is made in a fresh file system before anybody else sees it.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Directory { path: PathBuf, mode: u32 },
    Symlink { path: PathBuf, to: PathBuf },
    Device { path: PathBuf, major: u32, minor: u32 },
    File { path: PathBuf },
}

pub(crate) const RDONLY: u64 = 1;
pub(crate) const NOSUID: u64 = 2;
pub(crate) const NODEV: u64 = 4;
pub(crate) const NOEXEC: u64 = 8;

impl Filesystem {
    /// A file system by the kernel's name for its type (`/proc/filesystems`).
    pub fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), parameters: Vec::new(), attributes: 0, entries: Vec::new(), outside: false }
    }

    /// A tmpfs (tmpfs(5)). Without `size` it may take half of the memory.
    pub fn tmpfs() -> Self {
        Self::new("tmpfs")
    }

    /// A parameter with a value, as in `-o key=value`.
    pub fn set(mut self, key: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.parameters.push((key.into(), Value::Text(value.into())));
        self
    }

    /// A parameter without one.
    pub fn flag(mut self, key: impl Into<String>) -> Self {
        self.parameters.push((key.into(), Value::Flag));
        self
    }

    /// One more lower layer of an overlay, the topmost first: `lowerdir+`, which is Linux 6.7. Of one that is made
    /// [outside](Self::outside) every kernel takes them, and each is [id-mapped](crate::Mount::id_mapped).
    pub fn layer(mut self, directory: impl Into<PathBuf>) -> Self {
        self.parameters.push(("lowerdir+".into(), Value::Layer(directory.into())));
        self
    }

    /// Made by the launcher, with the rights of the caller, where the child has a user namespace of its own: what a user namespace may
    /// not mount, or not with trusted attributes. Its [entries](Self::directory) belong to root inside, and so does a tmpfs.
    pub fn outside(mut self) -> Self {
        self.outside = true;
        self
    }

    /// Nothing on it may be changed.
    pub fn read_only(self) -> Self {
        self.attribute(RDONLY)
    }

    /// Set-user-id bits and file capabilities on it have no effect.
    pub fn nosuid(self) -> Self {
        self.attribute(NOSUID)
    }

    /// Device nodes on it cannot be opened.
    pub fn nodev(self) -> Self {
        self.attribute(NODEV)
    }

    /// Nothing on it can be executed.
    pub fn noexec(self) -> Self {
        self.attribute(NOEXEC)
    }

    /// A directory in it, made before anybody sees it. Parents first.
    pub fn directory(mut self, path: impl Into<PathBuf>, mode: u32) -> Self {
        self.entries.push(Entry::Directory { path: path.into(), mode });
        self
    }

    /// A symbolic link in it.
    pub fn symlink(mut self, path: impl Into<PathBuf>, to: impl Into<PathBuf>) -> Self {
        self.entries.push(Entry::Symlink { path: path.into(), to: to.into() });
        self
    }

    /// An empty file in it, for something to be bound to.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.entries.push(Entry::File { path: path.into() });
        self
    }

    /// A character device in it, readable and writable for all. In a user namespace, where CAP_MKNOD is not enough, it is the caller's
    /// device of that name, bound from `/dev`; unless the file system is made [outside](Self::outside).
    pub fn device(mut self, path: impl Into<PathBuf>, major: u32, minor: u32) -> Self {
        self.entries.push(Entry::Device { path: path.into(), major, minor });
        self
    }

    pub(crate) fn layers(&self) -> impl Iterator<Item = &PathBuf> {
        self.parameters.iter().filter_map(|(_, value)| match value {
            Value::Layer(path) => Some(path),
            _ => None,
        })
    }

    /// Whether mount(2) makes it as well: nothing is to be put into it, and read-only would be said of the file system, not of
    /// the mount.
    pub(crate) fn is_plain(&self) -> bool {
        self.entries.is_empty() && self.attributes & RDONLY == 0
    }

    fn attribute(mut self, attribute: u64) -> Self {
        self.attributes |= attribute;
        self
    }
}
