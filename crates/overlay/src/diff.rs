//! The changes of an overlay as a layer: OCI image-spec, layer.md. Deletions are whiteouts (`.wh.NAME`), never opaque directories.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat, getxattr, listxattr, major, minor, openat, readlinkat};
use rustix::io::Errno;
use tar::{Builder, EntryType, Header};

use crate::changes::{ChangeKind, Changes, look, open, upper};
use crate::error::{Error, Result};
use crate::overlay::Overlay;

const WHITEOUT: &[u8] = b".wh.";

/// A layer of what an overlay changes. Made by [`Overlay::diff`](crate::Overlay::diff).
#[derive(Debug)]
#[must_use = "nothing is read until it is written"]
pub struct Diff<'o> {
    overlay: &'o Overlay,
    first: u32,
    without: HashSet<PathBuf>,
    whole: bool,
}

impl<'o> Diff<'o> {
    pub(crate) fn of(overlay: &'o Overlay) -> Self {
        Self { overlay, first: 0, without: HashSet::new(), whole: false }
    }

    /// Of everything.
    pub(crate) fn whole(overlay: &'o Overlay) -> Self {
        Self { whole: true, ..Self::of(overlay) }
    }

    /// Owners are those of a user namespace whose id 0 is this on the disk: in the layer they are counted from it. Default: 0. In the
    /// [whole](Overlay::whole) those below it, which are the layers' own, stay.
    pub fn owners_from(mut self, first: u32) -> Self {
        self.first = first;
        self
    }

    /// Leaves these paths out, as [`Change::path`](crate::Change::path) tells them; what is in a directory is not left out with it.
    pub fn without(mut self, paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        self.without.extend(paths.into_iter().map(|path| path.as_ref().to_owned()));
        self
    }

    /// Writes it as a tar archive, uncompressed, to its end. What changes meanwhile is in it as it was or as it is, file by file.
    ///
    /// Sockets are left out, as in every layer: they mean nothing without the process that made them.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or the archive not be written; [`InvalidInput`](crate::ErrorKind::InvalidInput) for a file whose
    /// name begins with `.wh.`, which in a layer stands for a deletion, and for an owner below the first id.
    pub fn write_to(self, writer: impl Write) -> Result<()> {
        if !self.whole {
            return self.write(self.overlay, writer);
        }
        let view: OwnedFd = self.overlay.frozen().mount()?.into();
        // Over nothing, everything is added.
        let above_nothing =
            Overlay::above_nothing(PathBuf::from(format!("/proc/self/fd/{}", view.as_raw_fd())));
        self.write(&above_nothing, writer)
    }

    fn write(&self, overlay: &Overlay, writer: impl Write) -> Result<()> {
        let mut layer = Layer {
            upper: upper(overlay)?.to_owned(),
            first: self.first,
            whole: self.whole,
            archive: Builder::new(writer),
            linked: HashMap::new(),
        };
        for change in Changes::of(overlay)? {
            let change = change?;
            if self.without.contains(change.path()) {
                continue;
            }
            match change.kind() {
                ChangeKind::Deleted => layer.whiteout(change.path())?,
                _ => layer.entry(change.path())?,
            }
        }
        layer.archive.into_inner().and_then(|mut writer| writer.flush()).map_err(|e| not_written(&e))
    }
}

struct Layer<W: Write> {
    upper: PathBuf,
    first: u32,
    whole: bool,
    archive: Builder<W>,
    /// Files with more than one name, by device and inode.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Layer<W> {
    fn whiteout(&mut self, path: &Path) -> Result<()> {
        let mut name = OsString::from_vec(WHITEOUT.to_vec());
        name.push(path.file_name().unwrap_or_default());
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        self.archive
            .append_data(&mut header, path.with_file_name(name), io::empty())
            .map_err(|e| not_written(&e))
    }

    fn entry(&mut self, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default();
        let full = self.upper.join(path);
        if name.as_bytes().starts_with(WHITEOUT) && !self.whole {
            let what = format!("{}: a name that stands for a deletion in a layer", full.display());
            return Err(Error::invalid(what).with_hint("rename it, or remove it"));
        }
        let directory = open(&self.upper, path.parent().unwrap_or(Path::new("")))?;
        // Gone since it was listed.
        let Some(stat) = look(&directory, name, full.parent().unwrap_or(&full))? else { return Ok(()) };
        let refused = |errno: Errno| Error::io(full.display(), &errno.into());
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mut header = self.header(&stat, &full)?;
        if kind != FileType::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)) {
                header.set_entry_type(EntryType::Link);
                header.set_size(0);
                let first = first.clone();
                return self.archive.append_link(&mut header, path, first).map_err(|e| not_written(&e));
            }
            self.linked.insert((stat.st_dev, stat.st_ino), path.to_owned());
        }
        let place =
            openat(&directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
                .map_err(refused)?;
        let mut records = records(&stat, &place).map_err(refused)?;
        if records.iter().any(|(key, _)| key.ends_with(".overlay.metacopy")) {
            return Err(Error::invalid(format!("{}: its attributes alone were copied up", full.display()))
                .with_hint("Overlay::metacopy(false) before it is mounted"));
        }
        if kind == FileType::Symlink {
            let target = readlinkat(&directory, name, Vec::new()).map_err(refused)?;
            // As it is: the archive's own way would take `//a` for `/a`.
            if header.set_link_name_literal(target.as_bytes()).is_err() {
                records.push(("linkpath".to_owned(), target.into_bytes()));
            }
        }
        if kind != FileType::Socket {
            let records = records.iter().map(|(key, value)| (&**key, &**value));
            self.archive.append_pax_extensions(records).map_err(|e| not_written(&e))?;
        }
        let done = match kind {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = File::from(openat(&directory, name, flags, Mode::empty()).map_err(refused)?);
                let size = stat.st_size.cast_unsigned();
                header.set_entry_type(EntryType::Regular);
                header.set_size(size);
                // As long as it was, should it have become shorter or longer by now.
                self.archive.append_data(&mut header, path, file.chain(io::repeat(0)).take(size))
            }
            FileType::Directory => {
                header.set_entry_type(EntryType::Directory);
                self.archive.append_data(&mut header, path, io::empty())
            }
            FileType::Symlink => {
                header.set_entry_type(EntryType::Symlink);
                self.archive.append_data(&mut header, path, io::empty())
            }
            FileType::Fifo => {
                header.set_entry_type(EntryType::Fifo);
                self.archive.append_data(&mut header, path, io::empty())
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let is_block = kind == FileType::BlockDevice;
                header.set_entry_type(if is_block { EntryType::Block } else { EntryType::Char });
                header
                    .set_device_major(major(stat.st_rdev))
                    .and_then(|()| header.set_device_minor(minor(stat.st_rdev)))
                    .and_then(|()| self.archive.append_data(&mut header, path, io::empty()))
            }
            _ => Ok(()),
        };
        done.map_err(|e| not_written(&e))
    }

    fn header(&self, stat: &Stat, full: &Path) -> Result<Header> {
        let own = |id: u32| {
            id.checked_sub(self.first).or(self.whole.then_some(id)).ok_or_else(|| {
                Error::invalid(format!(
                    "{}: its owner {id} is below the first, {}",
                    full.display(),
                    self.first
                ))
            })
        };
        let mut header = Header::new_gnu();
        header.set_size(0);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(own(stat.st_uid)?.into());
        header.set_gid(own(stat.st_gid)?.into());
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        Ok(header)
    }
}

/// What a header has no room for: the exact time, and extended attributes. Overlayfs's own are none of the file's.
fn records(stat: &Stat, place: &OwnedFd) -> Result<Vec<(String, Vec<u8>)>, Errno> {
    let mut records = Vec::new();
    if stat.st_mtime_nsec != 0 || stat.st_mtime < 0 {
        // One number: below zero the part of a second counts the other way.
        let nanoseconds = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
        let sign = if nanoseconds < 0 { "-" } else { "" };
        let (whole, part) =
            (nanoseconds.unsigned_abs() / 1_000_000_000, nanoseconds.unsigned_abs() % 1_000_000_000);
        records.push(("mtime".to_owned(), format!("{sign}{whole}.{part:09}").into_bytes()));
    }
    // Through its descriptor, which may be of anything.
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    let mut list = vec![0; 64 << 10];
    let length = match listxattr(&*path, &mut list) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(errno) => return Err(errno),
    };
    list.truncate(length);
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = std::str::from_utf8(name).map_err(|_| Errno::ILSEQ)?;
        let own = ["trusted.overlay.", "user.overlay."].iter().any(|own| name.starts_with(own));
        if own && !name.ends_with(".metacopy") {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let length = getxattr(&*path, name, &mut value)?;
        value.truncate(length);
        records.push((format!("SCHILY.xattr.{name}"), value));
    }
    Ok(records)
}

fn not_written(error: &io::Error) -> Error {
    Error::io("the layer", error)
}
