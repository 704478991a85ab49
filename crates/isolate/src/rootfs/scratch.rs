//! Where a container's upper layers lie while it lives: on a disk, or in memory where the disk cannot hold one.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use isolate_cgroups::Bytes;
use isolate_namespaces::Filesystem;

use super::etc;
use crate::error::{Error, Result};

/// One directory a container below it.
const DISK: &str = "/var/lib/isolate";

/// Room for pairs of an upper and a work directory.
#[derive(Debug)]
pub(crate) enum Scratch {
    /// A directory of the container's own.
    Disk(PathBuf),
    /// A tmpfs that the container mounts, of at most so many bytes; it counts as its memory.
    Memory(Option<Bytes>),
}

/// Something to be made on a disk before the start.
#[derive(Clone, Debug)]
pub(crate) enum Preparation {
    /// A directory for its owner only, as are its missing parents.
    Private(PathBuf),
    /// A directory that becomes the root of a layer.
    Layer(PathBuf),
    /// A copy of what everybody may read of `/etc`.
    Etc(PathBuf),
}

impl Scratch {
    /// The place for the container of this id. Without privileges it is memory: a file system of the container's own.
    pub(crate) fn choose(id: &str, privileged: bool) -> Self {
        if !privileged {
            return Self::Memory(None);
        }
        let disk = Path::new(DISK);
        let existing = disk.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        if isolate_overlay::can_hold_upper(existing) { Self::Disk(disk.join(id)) } else { Self::Memory(None) }
    }

    pub(crate) fn directory(&self) -> Option<&Path> {
        match self {
            Self::Disk(directory) => Some(directory),
            Self::Memory(_) => None,
        }
    }

    /// Paths of the n-th pair, as the mounting process will find them, and what must be made for it.
    pub(crate) fn pair(&self, n: usize) -> (PathBuf, PathBuf, Vec<Preparation>) {
        let base = match self {
            Self::Disk(directory) => directory.clone(),
            Self::Memory(_) => PathBuf::new(),
        };
        let (upper, work) = (base.join(format!("upper{n}")), base.join(format!("work{n}")));
        let made = match self {
            Self::Disk(directory) => {
                let private = Preparation::Private(directory.clone());
                vec![private, Preparation::Layer(upper.clone()), Preparation::Private(work.clone())]
            }
            Self::Memory(_) => Vec::new(),
        };
        (upper, work, made)
    }

    /// The file system for `pairs` of them, if it is the container that makes it.
    pub(crate) fn filesystem(&self, pairs: usize) -> Option<Filesystem> {
        match self {
            Self::Memory(most) if pairs > 0 => {
                let tmpfs = Filesystem::tmpfs().set("mode", "700");
                let tmpfs = match most {
                    Some(most) => tmpfs.set("size", most.get().to_string()),
                    None => tmpfs,
                };
                Some((0..pairs).fold(tmpfs, |tmpfs, n| {
                    tmpfs.directory(format!("upper{n}"), 0o755).directory(format!("work{n}"), 0o700)
                }))
            }
            _ => None,
        }
    }
}

impl Preparation {
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Private(path) | Self::Layer(path) => format!("make directory {}", path.display()),
            Self::Etc(path) => format!("copy what everybody may read of /etc to {}", path.display()),
        }
    }

    /// What root inside sees as its own belongs to `owner`, who that is outside.
    pub(crate) fn make(&self, owner: Option<u32>) -> Result<()> {
        let (path, mode, owner) = match self {
            Self::Private(path) => (path, 0o700, None),
            Self::Layer(path) => (path, 0o755, owner),
            Self::Etc(path) => return etc::copy(Path::new("/etc"), path, owner),
        };
        let failed = |e| Error::io(format!("cannot make directory {}", path.display()), &e);
        if let Some(parent) = path.parent() {
            DirBuilder::new().mode(0o700).recursive(true).create(parent).map_err(failed)?;
        }
        match DirBuilder::new().mode(mode).create(path) {
            Err(e) if !path.is_dir() => Err(failed(e)),
            // As if the caller had no umask, which it keeps.
            Ok(()) => {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
                fs::set_permissions(path, mode).map_err(failed)?;
                std::os::unix::fs::chown(path, owner, owner).map_err(failed)
            }
            // One that is there is the caller's: it has an owner, unless nothing is in it yet.
            Err(_) => match owner {
                Some(_) if is_empty(path) => std::os::unix::fs::chown(path, owner, owner).map_err(failed),
                _ => Ok(()),
            },
        }
    }
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}
