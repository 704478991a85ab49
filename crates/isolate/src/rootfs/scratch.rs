//! Where a container's upper layers lie while it lives: on a disk, or in memory where the disk cannot hold one.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use isolate_cgroups::Bytes;
use isolate_namespaces::Filesystem;
use isolate_overlay::Project;
use rustix::fs::{AtFlags, Gid, Mode, Uid, chmodat, chownat, mkdirat};

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
    /// A directory of the container's own, of a project that may hold so many bytes.
    Project(PathBuf, Bytes),
    /// A file system of at most so many bytes, in a file in this directory.
    Limited(PathBuf, Bytes),
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
        let existing = existing(disk);
        if isolate_overlay::can_hold_upper(existing) { Self::Disk(disk.join(id)) } else { Self::Memory(None) }
    }

    /// The place of a size for the container of this id: by the file system's own quotas where it has them.
    pub(crate) fn limited(id: &str, most: Bytes) -> Self {
        let disk = Path::new(DISK);
        let existing = existing(disk);
        match isolate_overlay::can_hold_upper(existing) && Project::is_supported(existing) {
            true => Self::Project(disk.join(id), most),
            false => Self::Limited(disk.join(id), most),
        }
    }

    pub(crate) fn directory(&self) -> Option<&Path> {
        match self {
            Self::Disk(directory) | Self::Project(directory, _) | Self::Limited(directory, _) => {
                Some(directory)
            }
            Self::Memory(_) => None,
        }
    }

    /// Paths of the n-th pair, as the mounting process will find them, and what must be made for it.
    pub(crate) fn pair(&self, n: usize) -> (PathBuf, PathBuf, Vec<Preparation>) {
        let base = match self {
            Self::Disk(directory) | Self::Project(directory, _) => directory.clone(),
            Self::Memory(_) | Self::Limited(..) => PathBuf::new(),
        };
        let (upper, work) = (base.join(format!("upper{n}")), base.join(format!("work{n}")));
        let made = match self {
            Self::Disk(directory) | Self::Project(directory, _) => {
                let private = Preparation::Private(directory.clone());
                vec![private, Preparation::Layer(upper.clone()), Preparation::Private(work.clone())]
            }
            Self::Limited(directory, _) => vec![Preparation::Private(directory.clone())],
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

/// What a container's directory and those in it may hold together.
#[derive(Clone, Debug)]
pub(crate) struct Quota {
    pub directory: PathBuf,
    pub most: Bytes,
}

/// Numbers that nobody has by hand: as those of containers' ids.
const PROJECTS: u32 = 0x6000_0000;

impl Quota {
    pub(crate) fn words(&self) -> String {
        format!("let {} hold {}, by a quota of a project", self.directory.display(), self.most)
    }

    /// A number that is neither another container's nor anybody else's.
    pub(crate) fn choose(&self, taken: &[u32]) -> Result<u32> {
        let parent = self.directory.parent().unwrap_or(Path::new("/"));
        for _ in 0..100 {
            let random = u32::from_str_radix(&crate::name::random()[..6], 16).unwrap_or(0);
            let number = PROJECTS + random;
            if !taken.contains(&number) && Project::on(existing(parent), number).is_free()? {
                return Ok(number);
            }
        }
        Err(Error::new(crate::ErrorKind::Unsupported, format!("{}: no project is free", parent.display())))
    }

    /// Once the directories are there, and nothing is in them.
    pub(crate) fn make(&self, number: u32) -> Result<()> {
        let project = Project::on(&self.directory, number);
        project.limit(self.most.get())?;
        project.assign(&self.directory)?;
        let failed = |e: io::Error| Error::io(self.directory.display(), &e);
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            project.assign(entry.map_err(failed)?.path())?;
        }
        Ok(())
    }
}

/// Nothing is of it any more.
pub(crate) fn release_project(number: u32) -> Result<()> {
    Ok(Project::on(existing(Path::new(DISK)), number).limit(0)?)
}

fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

/// A file system of its own for upper layers, to be made by the caller.
#[derive(Clone, Debug)]
pub(crate) struct Limited {
    pub directory: PathBuf,
    pub most: Bytes,
    pub pairs: usize,
}

impl Limited {
    pub(crate) fn words(&self) -> String {
        format!("make a file system of {} in {}, on a loop device", self.most, self.directory.display())
    }

    /// Its mount, which no path leads to. The file has no name any more, so that nothing is left of it when the mount has gone.
    pub(crate) fn make(&self, owner: Option<u32>) -> Result<OwnedFd> {
        let file = self.directory.join("disk");
        let mount: OwnedFd = isolate_overlay::limited(&file, self.most.get())?.into();
        let failed = |e: io::Error| Error::io(file.display(), &e);
        fs::remove_file(&file).map_err(failed)?;
        let id = owner.map(|id| (Uid::from_raw(id), Gid::from_raw(id))).unzip();
        for n in 0..self.pairs {
            for (name, mode, id) in [("upper", 0o755, id), ("work", 0o700, (None, None))] {
                let name = format!("{name}{n}");
                let made = mkdirat(&mount, &*name, Mode::from_raw_mode(mode))
                    // As if the caller had no umask.
                    .and_then(|()| chmodat(&mount, &*name, Mode::from_raw_mode(mode), AtFlags::empty()))
                    .and_then(|()| chownat(&mount, &*name, id.0, id.1, AtFlags::empty()));
                made.map_err(|e| failed(e.into()))?;
            }
        }
        Ok(mount)
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
            // Of an earlier start.
            Self::Etc(path) if path.is_dir() => return Ok(()),
            Self::Etc(path) => return copy_etc(path, owner),
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

/// There as a whole, or not at all.
fn copy_etc(path: &Path, owner: Option<u32>) -> Result<()> {
    let aside = path.with_extension("new");
    crate::undo::remove_tree(&aside)?;
    etc::copy(Path::new("/etc"), &aside, owner)?;
    fs::rename(&aside, path).map_err(|e| Error::io(path.display(), &e))
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}
