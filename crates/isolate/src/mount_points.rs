//! Mount points that are made in a root that stays, and go with the container.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, openat2, statat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::recorded::Recorded;
use crate::tree;

/// What was not there before a start: paths in the root, each before what is in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Made {
    root: Recorded,
    paths: Vec<Recorded>,
}

impl Made {
    /// Which of the mount points, with the directories that lead to them, are in none of the layers. They will be made in `root`.
    pub(crate) fn of<'a>(
        root: &Path,
        layers: &[PathBuf],
        points: impl IntoIterator<Item = &'a Path>,
    ) -> Option<Self> {
        let layers: Vec<_> = layers.iter().filter_map(|layer| tree::directory(layer).ok()).collect();
        let there = |path: &Path| layers.iter().any(|layer| exists(layer.as_fd(), path));
        let mut paths: Vec<PathBuf> = Vec::new();
        for point in points {
            // Where a link leads nobody knows before.
            let plain =
                point.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
            let mut path = PathBuf::new();
            for part in point.components().filter(|_| plain) {
                if let Component::Normal(name) = part {
                    path.push(name);
                    if !paths.contains(&path) && !there(&path) {
                        paths.push(path.clone());
                    }
                }
            }
        }
        let root = std::path::absolute(root).ok()?;
        let paths: Vec<Recorded> = paths.into_iter().map(Into::into).collect();
        (!paths.is_empty()).then_some(Self { root: root.into(), paths })
    }

    /// Removes what is still as it was made: directories with nothing in them, files of no length. No link is followed.
    pub(crate) fn remove(&self) -> Result<()> {
        let root = match tree::directory(&self.root) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(|e| Error::io(self.root.display(), &e.into()))?,
        };
        self.paths.iter().rev().try_for_each(|path| {
            one(root.as_fd(), path).map_err(|e| Error::io(self.root.join(&**path).display(), &e.into()))
        })
    }
}

fn exists(root: BorrowedFd<'_>, path: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS).is_ok()
}

fn one(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let parent = match openat2(root, parent, flags, Mode::empty(), resolve) {
        // Somebody has put something else there.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Ok(()),
        other => other?,
    };
    let removed = match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if stat.st_mode & 0o170_000 == 0o040_000 => unlinkat(&parent, name, AtFlags::REMOVEDIR),
        Ok(stat) if stat.st_mode & 0o170_000 == 0o100_000 && stat.st_size == 0 => {
            unlinkat(&parent, name, AtFlags::empty())
        }
        _ => return Ok(()),
    };
    match removed {
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT | Errno::BUSY) => Ok(()),
        other => other,
    }
}
