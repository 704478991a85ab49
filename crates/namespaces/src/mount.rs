//! What a child mounts in its own mount namespace.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::filesystem::{Entry, Filesystem, NODEV, NOEXEC, NOSUID, RDONLY};

/// A mount in the child's own mount namespace; missing mount points are made. The target is resolved inside the child's
/// root: a symbolic link in it cannot lead out.
///
/// ```no_run
/// use isolate_namespaces::{Command, Mount, Namespace};
/// # fn main() -> isolate_namespaces::Result<()> {
/// let status = Command::new("/bin/ls")
///     .unshare([Namespace::Mount, Namespace::Pid])
///     .root("/srv/alpine")
///     .mount(Mount::proc())
///     .mount(Mount::bind("/srv/data", "/data").read_only())
///     .status()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a description does nothing until a Command mounts it"]
pub struct Mount {
    pub(crate) what: What,
    pub(crate) target: PathBuf,
    /// A symbolic link at the target is an error.
    pub(crate) strict: bool,
    pub(crate) id_mapped: bool,
    pub(crate) propagation: Propagation,
    /// With the mounts below it.
    pub(crate) recursive: bool,
}

/// What becomes of mounts that are made below a bind's source or its copy later (mount_namespaces(7), "shared subtrees").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Propagation {
    /// They are seen where they are made.
    #[default]
    Private,
    /// Those below the source are seen in the copy, too, if the source is a shared mount: as on most hosts `/` is.
    Slave,
    /// And those below the copy at the source. Whoever may mount in the child then mounts for the caller.
    Shared,
}

/// How a copy of a mount differs from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traits {
    pub attributes: u64,
    pub propagation: Propagation,
    pub recursive: bool,
}

impl Traits {
    /// Private, with the mounts below it.
    pub(crate) fn of(attributes: u64) -> Self {
        Self { attributes, propagation: Propagation::Private, recursive: true }
    }

    /// For mount_setattr(2); 0 leaves it as it is at the source.
    pub(crate) fn propagation_flag(self) -> u64 {
        match self.propagation {
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Slave => libc::MS_SLAVE,
            Propagation::Shared => 0,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Bind {
        source: PathBuf,
        attributes: u64,
        late: Option<Late>,
    },
    Tree {
        tree: Arc<OwnedFd>,
        attributes: u64,
    },
    /// Of another mount namespace.
    Foreign {
        namespace: Arc<OwnedFd>,
        source: PathBuf,
        attributes: u64,
    },
    Filesystem(Filesystem),
}

impl Mount {
    /// The file or directory at `source`, with the mounts below it, seen at `target`: live in both directions. Neither
    /// set-user-id programs nor devices have effect there. The source is looked up by the caller when the plan is made.
    pub fn bind(source: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        let what = What::Bind { source: source.as_ref().to_owned(), attributes: NOSUID | NODEV, late: None };
        Self::of(what, target.as_ref())
    }

    /// As [`bind`](Self::bind), of a device, which keeps its effect.
    pub fn device(source: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        let what = What::Bind { source: source.as_ref().to_owned(), attributes: NOSUID | NOEXEC, late: None };
        Self::of(what, target.as_ref())
    }

    /// As [`bind`](Self::bind), of a file that need not exist before the program is started.
    pub fn bind_file(source: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        Self::bind(source, target).late(Late::File)
    }

    /// As [`bind`](Self::bind), of a directory that need not exist before the program is started.
    pub fn bind_directory(source: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        Self::bind(source, target).late(Late::Directory)
    }

    /// A directory that is open, or a detached mount.
    pub fn tree(tree: impl Into<OwnedFd>, target: impl AsRef<Path>) -> Self {
        let what = What::Tree { tree: Arc::new(tree.into()), attributes: 0 };
        Self::of(what, target.as_ref())
    }

    /// The directory at `source` as those in another mount namespace see it, live in both directions: a descriptor of `/proc/PID/ns/mnt`. A
    /// mount of another namespace can be copied only there, so the launcher goes there for it. Wants CAP_SYS_ADMIN and CAP_SYS_CHROOT, and
    /// CAP_SYS_ADMIN in the user namespace that owns the other one.
    pub fn of_namespace(
        namespace: impl Into<OwnedFd>,
        source: impl AsRef<Path>,
        target: impl AsRef<Path>,
    ) -> Self {
        let (namespace, source) = (Arc::new(namespace.into()), source.as_ref().to_owned());
        Self::of(What::Foreign { namespace, source, attributes: NOSUID | NODEV }, target.as_ref())
    }

    /// A file system of its own.
    pub fn filesystem(filesystem: Filesystem, target: impl AsRef<Path>) -> Self {
        Self::of(What::Filesystem(filesystem), target.as_ref())
    }

    /// The child's own /proc. Wants [`Namespace::Pid`](crate::Namespace::Pid), else it would show the caller's processes.
    pub fn proc() -> Self {
        Self::built_in(Filesystem::new("proc").nosuid().nodev().noexec(), "/proc")
    }

    /// /dev on a tmpfs: null, zero, full, random, urandom, tty, a place for a console, and the links fd, stdin, stdout, stderr and
    /// ptmx.
    pub fn dev() -> Self {
        let mut dev = Filesystem::tmpfs().set("mode", "755").set("size", "64k").nosuid().noexec();
        for (name, minor) in [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)] {
            dev = dev.device(name, 1, minor);
        }
        dev = dev.device("tty", 5, 0).file("console");
        for directory in ["pts", "shm", "mqueue"] {
            dev = dev.directory(directory, 0o755);
        }
        for (name, to) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
            dev = dev.symlink(name, format!("/proc/self/fd{to}"));
        }
        Self::built_in(dev.symlink("ptmx", "pts/ptmx"), "/dev")
    }

    /// /dev/pts: pseudo-terminals of its own (Documentation/filesystems/devpts.rst). They belong to group 5, tty, where the child's user
    /// namespace has one of that number.
    pub fn devpts() -> Self {
        let pts = Filesystem::new("devpts").set("ptmxmode", "0666").set("mode", "0620");
        Self::built_in(pts.nosuid().noexec(), "/dev/pts")
    }

    /// /dev/shm for POSIX shared memory, at most `size` bytes.
    pub fn shm(size: u64) -> Self {
        let shm = Filesystem::tmpfs().set("mode", "1777").set("size", size.to_string());
        Self::built_in(shm.nosuid().nodev().noexec(), "/dev/shm")
    }

    /// /dev/mqueue: the message queues of the child's IPC namespace (mq_overview(7)).
    pub fn mqueue() -> Self {
        Self::built_in(Filesystem::new("mqueue").nosuid().nodev().noexec(), "/dev/mqueue")
    }

    /// /sys, read-only. Shows the child's network namespace, and is refused where the child's user namespace does not own
    /// that.
    pub fn sysfs() -> Self {
        Self::built_in(Filesystem::new("sysfs").nosuid().nodev().noexec().read_only(), "/sys")
    }

    /// A tmpfs of at most `size` bytes, writable for all like /tmp.
    pub fn tmpfs(target: impl AsRef<Path>, size: u64) -> Self {
        let tmpfs = Filesystem::tmpfs().set("mode", "1777").set("size", size.to_string());
        Self::filesystem(tmpfs.nosuid().nodev(), target)
    }

    /// Paths that are directories once this is mounted.
    pub(crate) fn directories(&self) -> impl Iterator<Item = PathBuf> {
        let entries = match &self.what {
            What::Filesystem(filesystem) => filesystem.entries.as_slice(),
            _ => &[],
        };
        entries.iter().filter_map(|entry| match entry {
            Entry::Directory { path, .. } => Some(self.target.join(path)),
            _ => None,
        })
    }

    /// Nothing below it may be changed; mounts below a bind are read-only too, and there is no moment when they are not.
    pub fn read_only(mut self) -> Self {
        match &mut self.what {
            What::Bind { attributes, .. }
            | What::Tree { attributes, .. }
            | What::Foreign { attributes, .. } => *attributes |= RDONLY,
            What::Filesystem(filesystem) => filesystem.attributes |= RDONLY,
        }
        self
    }

    /// Nothing below it can be executed.
    pub fn noexec(mut self) -> Self {
        match &mut self.what {
            What::Bind { attributes, .. }
            | What::Tree { attributes, .. }
            | What::Foreign { attributes, .. } => *attributes |= NOEXEC,
            What::Filesystem(filesystem) => filesystem.attributes |= NOEXEC,
        }
        self
    }

    /// Files keep their owners' numbers in the child's new user namespace: what belongs to user 0 outside does so inside, and what
    /// user 0 inside makes belongs to 0 outside (mount_setattr(2), Linux 5.12; its file system must support it). For a bind, of which the
    /// mounts below it must do so too. Wants CAP_SYS_ADMIN in the user namespace that the file system was mounted in. Without a new
    /// user namespace nothing is to be mapped.
    #[doc(alias = "idmap")]
    pub fn id_mapped(mut self) -> Self {
        self.id_mapped = true;
        self
    }

    /// A [`filesystem`](Self::filesystem) is made [outside](Filesystem::outside).
    pub fn outside(mut self) -> Self {
        if let What::Filesystem(filesystem) = &mut self.what {
            filesystem.outside = true;
        }
        self
    }

    /// Where it will be seen.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Whether mounts that are made later on one side are seen on the other. For a bind; default: on neither. The copies of a child
    /// without privileges are always private.
    pub fn propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = propagation;
        self
    }

    /// Without the mounts below the source: what they hide is seen. For a bind.
    pub fn non_recursive(mut self) -> Self {
        self.recursive = false;
        self
    }

    /// How the copy is to be.
    pub(crate) fn traits(&self, attributes: u64) -> Traits {
        Traits { attributes, propagation: self.propagation, recursive: self.recursive }
    }

    fn of(what: What, target: &Path) -> Self {
        let propagation = Propagation::Private;
        Self {
            what,
            target: target.to_owned(),
            strict: false,
            id_mapped: false,
            propagation,
            recursive: true,
        }
    }

    fn late(mut self, kind: Late) -> Self {
        if let What::Bind { late, .. } = &mut self.what {
            *late = Some(kind);
        }
        self
    }

    fn built_in(filesystem: Filesystem, target: &str) -> Self {
        Self { strict: true, ..Self::filesystem(filesystem, target) }
    }
}

/// What a source will be that need not exist yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    File,
    Directory,
}

/// What becomes the child's `/`.
#[derive(Clone, Debug)]
pub struct Root {
    pub(crate) what: What,
    pub(crate) id_mapped: bool,
}

impl From<OwnedFd> for Root {
    fn from(tree: OwnedFd) -> Self {
        Self::of(What::Tree { tree: Arc::new(tree), attributes: 0 })
    }
}

impl From<std::fs::File> for Root {
    fn from(directory: std::fs::File) -> Self {
        OwnedFd::from(directory).into()
    }
}

impl From<Filesystem> for Root {
    fn from(filesystem: Filesystem) -> Self {
        Self::of(What::Filesystem(filesystem))
    }
}

impl From<&Path> for Root {
    fn from(directory: &Path) -> Self {
        Self::of(What::Bind { source: directory.to_owned(), attributes: 0, late: None })
    }
}

impl From<PathBuf> for Root {
    fn from(directory: PathBuf) -> Self {
        Self::of(What::Bind { source: directory, attributes: 0, late: None })
    }
}

impl From<&str> for Root {
    fn from(directory: &str) -> Self {
        Path::new(directory).into()
    }
}

impl Root {
    fn of(what: What) -> Self {
        Self { what, id_mapped: false }
    }

    /// As [`Mount::id_mapped`].
    #[must_use]
    pub fn id_mapped(mut self) -> Self {
        self.id_mapped = true;
        self
    }

    /// Nothing on it may be changed; mount points must be there already.
    #[must_use]
    pub fn read_only(self) -> Self {
        self.with(RDONLY)
    }

    /// Device nodes on it have no effect.
    #[must_use]
    pub fn nodev(self) -> Self {
        self.with(NODEV)
    }

    /// Neither set-user-id programs nor device nodes on it have effect.
    #[must_use]
    pub fn contained(self) -> Self {
        self.with(NOSUID | NODEV)
    }

    fn with(mut self, more: u64) -> Self {
        match &mut self.what {
            What::Bind { attributes, .. }
            | What::Tree { attributes, .. }
            | What::Foreign { attributes, .. } => *attributes |= more,
            What::Filesystem(filesystem) => filesystem.attributes |= more,
        }
        self
    }
}
