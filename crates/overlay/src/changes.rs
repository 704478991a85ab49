//! What an upper layer makes of the layers below it: Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fgetxattr, openat, openat2, statat,
};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::overlay::Overlay;

/// One thing that differs between an overlay and its layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    path: PathBuf,
    kind: ChangeKind,
}

/// How it differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeKind {
    /// No layer has it.
    Added,
    /// A layer has it too: its content or its attributes may be others, or for a directory something in it.
    Changed,
    /// A layer has it, and the overlay has not. Of a directory the whole, in one.
    Deleted,
}

impl Change {
    /// Seen from the overlay's root, without a slash before it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it differs.
    #[must_use]
    pub fn kind(&self) -> ChangeKind {
        self.kind
    }
}

/// As Docker writes it: `A /new`, `C /etc`, `D /old`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.kind {
            ChangeKind::Added => 'A',
            ChangeKind::Changed => 'C',
            ChangeKind::Deleted => 'D',
        };
        write!(f, "{letter} /{}", self.path.display())
    }
}

/// The changes of an overlay one by one, sorted by name, a directory before what is in it. Made by
/// [`Overlay::changes`](crate::Overlay::changes).
///
/// It holds no descriptor between two, and in memory what is left of the directories above.
#[derive(Debug)]
pub struct Changes {
    tree: Tree,
    /// The directory that is being told, and those above it.
    frames: Vec<Frame>,
    /// What is to be listed next.
    next: Option<(PathBuf, Below)>,
}

#[derive(Debug)]
struct Frame {
    path: PathBuf,
    entries: std::vec::IntoIter<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: OsString,
    kind: ChangeKind,
    /// Of a directory of the upper layer.
    below: Option<Below>,
}

/// What of the layers is below a directory.
#[derive(Clone, Debug, Default)]
struct Below {
    /// Those that have it, topmost first.
    layers: Vec<usize>,
    /// An opaque directory is above it: nothing of them is seen.
    hidden: bool,
}

impl Changes {
    pub(crate) fn of(overlay: &Overlay) -> Result<Self> {
        let tree = Tree::of(overlay)?;
        let below = Below { layers: (0..tree.layers.len()).collect(), hidden: false };
        Ok(Self { tree, frames: Vec::new(), next: Some((PathBuf::new(), below)) })
    }
}

/// After an error it goes on behind the directory that could not be read.
impl Iterator for Changes {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some((path, below)) = self.next.take() {
            match self.tree.compare(&path, &below) {
                Ok(entries) => self.frames.push(Frame { path, entries: entries.into_iter() }),
                Err(error) => return Some(Err(error)),
            }
        }
        loop {
            let frame = self.frames.last_mut()?;
            let Some(entry) = frame.entries.next() else {
                self.frames.pop();
                continue;
            };
            let path = frame.path.join(&entry.name);
            self.next = entry.below.map(|below| (path.clone(), below));
            return Some(Ok(Change { path, kind: entry.kind }));
        }
    }
}

/// The directories of an overlay, the upper one apart.
#[derive(Debug)]
struct Tree {
    upper: PathBuf,
    /// Topmost first.
    layers: Vec<PathBuf>,
    /// The names of overlayfs's own notes.
    opaque: &'static str,
    redirect: &'static str,
}

impl Tree {
    fn of(overlay: &Overlay) -> Result<Self> {
        let (opaque, redirect) = match overlay.userxattr {
            true => ("user.overlay.opaque", "user.overlay.redirect"),
            false => ("trusted.overlay.opaque", "trusted.overlay.redirect"),
        };
        let layers = overlay.layers.iter().rev().cloned().collect();
        Ok(Self { upper: upper(overlay)?.to_owned(), layers, opaque, redirect })
    }

    /// What a directory of the upper layer makes of those below.
    fn compare(&self, path: &Path, below: &Below) -> Result<Vec<Entry>> {
        let upper = open(&self.upper, path)?;
        if fgetxattr(&upper, self.redirect, &mut [0; 0]).is_ok() {
            let what = format!("{}: a directory that was renamed", self.upper.join(path).display());
            return Err(Error::invalid(what).with_hint("Overlay::redirect_dir(false) before it is mounted"));
        }
        // The root cannot be.
        let hidden = below.hidden || (!path.as_os_str().is_empty() && self.is_opaque(&upper));
        let mut layers = Vec::new();
        for &layer in &below.layers {
            layers.push((layer, open(self.layer(layer), path)?));
        }
        let mut entries = BTreeMap::new();
        for name in names(&upper, &self.upper.join(path))? {
            let Some(stat) = look(&upper, &name, &self.upper.join(path))? else { continue };
            let in_layers = self.find(&layers, &name)?;
            let (kind, below) = match (is_whiteout(&stat), in_layers) {
                (true, None) => continue,
                (true, Some(_)) => (ChangeKind::Deleted, None),
                (false, found) => {
                    let kind = if found.is_some() { ChangeKind::Changed } else { ChangeKind::Added };
                    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                    let below = Below { layers: found.unwrap_or_default(), hidden };
                    (kind, is_directory.then_some(below))
                }
            };
            entries.insert(name.clone(), Entry { name, kind, below });
        }
        if hidden {
            for (layer, directory) in &layers {
                for name in names(directory, &self.layer(*layer).join(path))? {
                    if !entries.contains_key(&name) && self.find(&layers, &name)?.is_some() {
                        let deleted = Entry { name: name.clone(), kind: ChangeKind::Deleted, below: None };
                        entries.insert(name, deleted);
                    }
                }
            }
        }
        Ok(entries.into_values().collect())
    }

    /// Whether the layers, seen as one, have a name. The layers whose directories of that name are seen as one, topmost first;
    /// none for what is no directory.
    fn find(&self, layers: &[(usize, OwnedFd)], name: &OsStr) -> Result<Option<Vec<usize>>> {
        let mut found: Option<Vec<usize>> = None;
        for (layer, directory) in layers {
            let Some(stat) = look(directory, name, self.layer(*layer))? else { continue };
            if is_whiteout(&stat) {
                break;
            }
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                // Below a directory it is not seen.
                found.get_or_insert_default();
                break;
            }
            found.get_or_insert_default().push(*layer);
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = openat(directory, name, flags, Mode::empty());
            if opened.is_ok_and(|directory| self.is_opaque(&directory)) {
                break;
            }
        }
        Ok(found)
    }

    fn layer(&self, number: usize) -> &Path {
        self.layers.get(number).map_or(Path::new(""), PathBuf::as_path)
    }

    fn is_opaque(&self, directory: &OwnedFd) -> bool {
        let mut value = [0; 8];
        fgetxattr(directory, self.opaque, &mut value).is_ok_and(|length| value.get(..length) == Some(b"y"))
    }
}

/// The upper layer, which is where the changes are.
pub(crate) fn upper(overlay: &Overlay) -> Result<&Path> {
    overlay.upper().ok_or_else(|| {
        Error::invalid("an overlay without an upper layer that has a path here: its changes are not told")
            .with_hint("Overlay::writable, with directories on a disk")
    })
}

/// A directory below another, by names alone: what is in there is the container's, and may be changed meanwhile.
pub(crate) fn open(root: &Path, path: &Path) -> Result<OwnedFd> {
    let refused = |errno: Errno| Error::io(root.join(path).display(), &errno.into());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = openat(CWD, root, flags, Mode::empty()).map_err(refused)?;
    if path.as_os_str().is_empty() {
        return Ok(top);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(&top, path, flags, Mode::empty(), resolve).map_err(refused)
}

/// `None` for what is gone by now.
pub(crate) fn look(directory: impl AsFd, name: &OsStr, place: &Path) -> Result<Option<Stat>> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Error::io(place.join(name).display(), &errno.into())),
    }
}

fn names(directory: &OwnedFd, place: &Path) -> Result<Vec<OsString>> {
    let refused = |errno: Errno| Error::io(place.display(), &errno.into());
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).map_err(refused)? {
        let entry = entry.map_err(refused)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// A character device 0/0.
fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}
