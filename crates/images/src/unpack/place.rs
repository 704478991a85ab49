//! Where an entry goes: its directory, found or made, by descriptor.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, mkdirat, openat2, readlinkat, statat, unlinkat,
};
use rustix::io::Errno;

use super::entry::{self, Late};
use super::lower::{Found, Lower};
use crate::archive::shown;
use crate::error::{Error, ErrorKind, Result};

/// As the kernel has it (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// The directory that a layer is unpacked into.
pub(super) struct Place {
    root: OwnedFd,
    pub lower: Lower,
    ordinary: bool,
    /// The directory that was asked for last: entries of one come one after the other.
    last: Option<(PathBuf, Rc<OwnedFd>)>,
    /// Times are set when nothing changes in a directory any more.
    pub late: BTreeMap<PathBuf, Late>,
}

/// Without a slash before it, `.` and double slashes.
pub(super) fn normal(path: &[u8]) -> Result<PathBuf> {
    let refused = |why: &str| Err(Error::new(ErrorKind::Refused, why));
    if path.is_empty() {
        return refused("an entry without a name");
    }
    let mut normal = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(path)).components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => return refused("a name with `..` in it"),
            _ => {}
        }
    }
    Ok(normal)
}

impl Place {
    pub(super) fn new(root: OwnedFd, lower: Lower, ordinary: bool) -> Self {
        Self { root, lower, ordinary, last: None, late: BTreeMap::new() }
    }

    /// The root is as it is below, until the archive says otherwise: of an overlay it is the topmost that is seen.
    pub(super) fn begin(&mut self) -> Result<()> {
        if let Some(top) = self.lower.top() {
            let late = entry::as_below(&self.root, OsStr::new("."), Some(top), self.ordinary);
            self.late
                .extend(late.map_err(|e| failed(Path::new("."), e))?.map(|late| (PathBuf::from("."), late)));
        }
        Ok(())
    }

    /// Names may lead elsewhere from here on.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// A directory that is there.
    pub(super) fn open(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match openat2(&self.root, path, flags, Mode::empty(), resolve) {
                // Something was renamed meanwhile, anywhere.
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
    }

    /// A directory; it and those above it are made if they are missing, as they are below.
    pub(super) fn directory(&mut self, path: &Path) -> Result<Rc<OwnedFd>> {
        if let Some((last, directory)) = &self.last
            && last == path
        {
            return Ok(Rc::clone(directory));
        }
        let opened = match self.open(path) {
            Err(Errno::NOENT | Errno::NOTDIR) => self.make(path)?,
            other => other.map_err(|e| failed(path, e))?,
        };
        let directory = Rc::new(opened);
        self.last = Some((path.to_owned(), Rc::clone(&directory)));
        Ok(directory)
    }

    fn make(&mut self, path: &Path) -> Result<OwnedFd> {
        let mut wanted: Vec<OsString> =
            path.components().rev().map(|part| part.as_os_str().to_owned()).collect();
        let (mut done, mut links) = (PathBuf::new(), 0);
        let mut directory = self.open(&done).map_err(|e| failed(&done, e))?;
        while let Some(name) = wanted.pop() {
            if name == ".." {
                done.pop();
                directory = self.open(&done).map_err(|e| failed(&done, e))?;
                continue;
            }
            let here = done.join(&name);
            let link = match look(&directory, &name).map_err(|e| failed(&here, e))? {
                Some(stat) => match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => None,
                    FileType::Symlink => Some(read_link(&directory, &name).map_err(|e| failed(&here, e))?),
                    _ if is_whiteout(&stat) => {
                        unlinkat(&directory, &name, AtFlags::empty()).map_err(|e| failed(&here, e))?;
                        self.implied(&directory, &name, None, &here)?;
                        self.lower.hide(&directory, &name).map_err(|e| failed(&here, e))?;
                        None
                    }
                    _ => {
                        let what = format!("{} is no directory", shown(here.as_os_str().as_bytes()));
                        return Err(Error::new(ErrorKind::Refused, what));
                    }
                },
                None => match self.lower.find(&here).map_err(|e| failed(&here, e))? {
                    Some(Found::Link(target)) => Some(target),
                    Some(Found::Directory(like)) => {
                        self.implied(&directory, &name, Some(&like), &here)?;
                        None
                    }
                    Some(Found::Other) | None => {
                        self.implied(&directory, &name, None, &here)?;
                        None
                    }
                },
            };
            if let Some(target) = link {
                links += 1;
                if links > MOST_LINKS {
                    return Err(failed(&here, Errno::LOOP));
                }
                if target.is_absolute() {
                    done = PathBuf::new();
                }
                let parts = target.components().rev();
                wanted.extend(
                    parts
                        .filter(|part| !matches!(part, Component::RootDir | Component::CurDir))
                        .map(|part| part.as_os_str().to_owned()),
                );
            } else {
                done = here;
            }
            directory = self.open(&done).map_err(|e| failed(&done, e))?;
        }
        Ok(directory)
    }

    /// A directory that the archive does not have: as it is below, or everybody's to read.
    fn implied(
        &mut self,
        parent: impl AsFd,
        name: &OsStr,
        like: Option<&OwnedFd>,
        path: &Path,
    ) -> Result<()> {
        let made = mkdirat(&parent, name, Mode::from_raw_mode(0o700))
            .and_then(|()| entry::as_below(&parent, name, like, self.ordinary));
        let late = made.map_err(|e| failed(path, e))?;
        self.late.extend(late.map(|late| (path.to_owned(), late)));
        Ok(())
    }
}

pub(super) fn look(directory: impl AsFd, name: &OsStr) -> rustix::io::Result<Option<Stat>> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

pub(super) fn read_link(directory: impl AsFd, name: &OsStr) -> rustix::io::Result<PathBuf> {
    let target = readlinkat(directory, name, Vec::new())?;
    Ok(PathBuf::from(OsStr::from_bytes(target.to_bytes())))
}

pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(super) fn failed(path: &Path, errno: Errno) -> Error {
    Error::io(shown(path.as_os_str().as_bytes()), &io::Error::from(errno))
}
