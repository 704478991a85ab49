//! What the layers below have at a path, seen as one: Documentation/filesystems/overlayfs.rst.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, XattrFlags, fgetxattr, fsetxattr, openat};
use rustix::io::Errno;

use super::place::{is_whiteout, look, read_link};
use crate::error::{Error, Result};

/// The layers below one, topmost first.
pub(super) struct Lower {
    layers: Vec<OwnedFd>,
    opaque: &'static str,
}

/// What is there.
pub(super) enum Found {
    /// The topmost of those that are seen as one: its attributes are the directory's.
    Directory(OwnedFd),
    Link(PathBuf),
    Other,
}

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Lower {
    pub(super) fn open(bottom_up: &[PathBuf], userxattr: bool) -> Result<Self> {
        let open = |path: &PathBuf| {
            openat(CWD, path, FLAGS, Mode::empty())
                .map_err(|e| Error::io(format!("layer {}", path.display()), &e.into()))
        };
        let layers = bottom_up.iter().rev().map(open).collect::<Result<_>>()?;
        let opaque = if userxattr { "user.overlay.opaque" } else { "trusted.overlay.opaque" };
        Ok(Self { layers, opaque })
    }

    /// The root of the topmost.
    pub(super) fn top(&self) -> Option<&OwnedFd> {
        self.layers.first()
    }

    /// By names alone: a link on the way is none of what is looked for.
    pub(super) fn find(&self, path: &Path) -> rustix::io::Result<Option<Found>> {
        let (parent, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
        'layers: for layer in &self.layers {
            let mut hides = false;
            let mut directory = layer.try_clone().map_err(|_| Errno::MFILE)?;
            for part in parent.components() {
                let Some(stat) = look(&directory, part.as_os_str())? else {
                    if hides {
                        return Ok(None);
                    }
                    continue 'layers;
                };
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    return Ok(None);
                }
                directory = openat(&directory, part.as_os_str(), FLAGS, Mode::empty())?;
                hides |= self.is_opaque(&directory);
            }
            match look(&directory, name)? {
                None if hides => return Ok(None),
                None => {}
                Some(stat) if is_whiteout(&stat) => return Ok(None),
                Some(stat) => {
                    return Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
                        FileType::Directory => {
                            Found::Directory(openat(&directory, name, FLAGS, Mode::empty())?)
                        }
                        FileType::Symlink => Found::Link(read_link(&directory, name)?),
                        _ => Found::Other,
                    }));
                }
            }
        }
        Ok(None)
    }

    /// Lets a directory hide what is below it.
    pub(super) fn hide(&self, parent: impl AsFd, name: &OsStr) -> rustix::io::Result<()> {
        self.hide_below(&openat(parent, name, FLAGS, Mode::empty())?)
    }

    pub(super) fn hide_below(&self, directory: &OwnedFd) -> rustix::io::Result<()> {
        fsetxattr(directory, self.opaque, b"y", XattrFlags::empty())
    }

    fn is_opaque(&self, directory: &OwnedFd) -> bool {
        let mut value = [0; 8];
        fgetxattr(directory, self.opaque, &mut value).is_ok_and(|length| value.get(..length) == Some(b"y"))
    }
}
