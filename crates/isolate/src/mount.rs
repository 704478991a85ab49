//! What a container sees besides its root.

use std::path::{Path, PathBuf};

use isolate_cgroups::Bytes;
use isolate_namespaces::Filesystem;

use crate::error::{Error, ErrorKind, Result};

/// A mount in a container; missing mount points are made.
///
/// ```
/// use isolate::{Bytes, Mount};
/// let site = Mount::bind("/srv/site", "/www").read_only();
/// let tmp = Mount::tmpfs("/tmp").size(Bytes::mib(64)).inodes(10_000).noexec();
/// # let _ = (site, tmp);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a description does nothing until a container mounts it"]
pub struct Mount {
    what: What,
    target: PathBuf,
    read_only: bool,
    noexec: bool,
    tmpfs: Tmpfs,
}

/// What is said of a file system in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tmpfs {
    size: Option<Bytes>,
    inodes: Option<u64>,
    mode: Option<u32>,
}

#[derive(Clone, Debug)]
enum What {
    Bind(PathBuf),
    Tmpfs,
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

    fn new(what: What, target: &Path) -> Self {
        let target = target.to_owned();
        Self { what, target, read_only: false, noexec: false, tmpfs: Tmpfs::default() }
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
        let mount = match &self.what {
            What::Bind(source) if self.tmpfs == Tmpfs::default() => {
                let bind = isolate_namespaces::Mount::bind(source, &self.target);
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
