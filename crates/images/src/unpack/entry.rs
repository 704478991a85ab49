//! One entry is made, with its attributes.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dev, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    fchmod, fgetxattr, flistxattr, fstat, futimens, linkat, lsetxattr, makedev, mkdirat, mknodat, openat,
    symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::Writing;
use super::place::{failed, is_whiteout, look, normal};
use crate::archive::{Archive, Entry, Kind, shown};
use crate::error::{Error, ErrorKind, Result};

/// What of a directory is set at the end.
pub(super) struct Late {
    inode: u64,
    times: Timestamps,
    mode: Mode,
}

/// Attributes that are overlayfs's own.
const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

impl Writing {
    /// The directory's own attributes.
    pub(super) fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(Error::new(ErrorKind::Refused, "the root is no directory"));
        }
        let root = self.place.open(Path::new("")).map_err(|e| failed(Path::new("."), e))?;
        self.dress(&root, OsStr::new("."), entry)?;
        self.late(Path::new("."), root.as_fd(), entry)
    }

    /// What is below is not seen there.
    pub(super) fn opaque(&mut self, directory: &Path) -> Result<()> {
        let opened = self.place.directory(directory)?;
        self.place.lower.hide_below(&opened).map_err(|e| failed(directory, e))
    }

    /// A name of the layers below is not there any more. What this layer itself has of that name stays.
    pub(super) fn whiteout(&mut self, parent: &Path, name: &[u8]) -> Result<()> {
        if matches!(name, b"" | b"." | b"..") {
            return Err(Error::new(ErrorKind::Refused, "a deletion of nothing"));
        }
        let name = OsStr::from_bytes(name);
        let path = parent.join(name);
        let wrong = |e: Errno| failed(&path, e);
        let directory = self.place.directory(parent)?;
        match look(&*directory, name).map_err(wrong)? {
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                self.place.lower.hide(&*directory, name).map_err(wrong)
            }
            Some(_) => Ok(()),
            None if self.place.lower.find(&path).map_err(wrong)?.is_none() => Ok(()),
            // Everybody may, since Linux 5.8.
            None => mknodat(&*directory, name, FileType::CharacterDevice, Mode::empty(), 0).map_err(wrong),
        }
    }

    /// Whether it was.
    pub(super) fn make<R: Read>(
        &mut self,
        entry: &Entry,
        path: &Path,
        parent: &Path,
        name: &OsStr,
        archive: &mut Archive<R>,
    ) -> Result<bool> {
        let wrong = |e: Errno| failed(path, e);
        if matches!(entry.kind, Kind::Character | Kind::Block) {
            if entry.kind == Kind::Character && entry.device == (0, 0) {
                return Err(Error::new(
                    ErrorKind::Refused,
                    "a device 0/0, which stands for a deletion in an overlay",
                ));
            }
            if self.ordinary {
                return Ok(false);
            }
        }
        let directory = self.place.directory(parent)?;
        let target = match entry.kind {
            Kind::HardLink => Some(self.target(entry, path)?),
            _ => None,
        };
        let was_deleted = self.clear(&directory, name, path, entry.kind)?;
        let device: Dev = makedev(entry.device.0, entry.device.1);
        match entry.kind {
            Kind::File => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(&*directory, name, flags, Mode::from_raw_mode(0o600)).map_err(wrong)?;
                let mut file = File::from(file);
                self.write(entry, archive, &mut file)?;
                self.dress_file(&directory, name, entry, &file)?;
                return Ok(true);
            }
            Kind::HardLink => {
                if let Some((from, old)) = target {
                    linkat(&from, &old, &*directory, name, AtFlags::empty()).map_err(wrong)?;
                }
                return Ok(true);
            }
            Kind::Symlink => {
                let target = OsStr::from_bytes(&entry.link);
                symlinkat(target, &*directory, name).map_err(wrong)?;
                self.place.forget();
            }
            Kind::Character => {
                mknodat(&*directory, name, FileType::CharacterDevice, Mode::empty(), device).map_err(wrong)?
            }
            Kind::Block => {
                mknodat(&*directory, name, FileType::BlockDevice, Mode::empty(), device).map_err(wrong)?
            }
            Kind::Fifo => mknodat(&*directory, name, FileType::Fifo, Mode::empty(), 0).map_err(wrong)?,
            Kind::Directory => {
                match mkdirat(&*directory, name, Mode::from_raw_mode(0o700)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(wrong(e)),
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = openat(&*directory, name, flags, Mode::empty()).map_err(wrong)?;
                if was_deleted {
                    self.place.lower.hide_below(&made).map_err(wrong)?;
                }
                self.dress(&directory, name, entry)?;
                self.late(path, made.as_fd(), entry)?;
                return Ok(true);
            }
        }
        self.dress(&directory, name, entry)?;
        Ok(true)
    }

    /// Takes away what an earlier entry has put there, or says that it was deleted below.
    fn clear(&mut self, directory: &OwnedFd, name: &OsStr, path: &Path, kind: Kind) -> Result<bool> {
        let wrong = |e: Errno| failed(path, e);
        let Some(stat) = look(directory, name).map_err(wrong)? else { return Ok(false) };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            unlinkat(directory, name, AtFlags::empty()).map_err(wrong)?;
            self.place.forget();
            return Ok(is_whiteout(&stat));
        }
        if kind != Kind::Directory {
            // By the descriptor: the names above it are what the archive made of them.
            let inside = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
            std::fs::remove_dir_all(inside).map_err(|e| Error::io(shown(path.as_os_str().as_bytes()), &e))?;
            self.place.forget();
        }
        Ok(false)
    }

    /// What a hard link is to: a file of this layer, by directory and name.
    fn target(&mut self, entry: &Entry, path: &Path) -> Result<(OwnedFd, OsString)> {
        let refused = |why: &str| {
            Error::new(ErrorKind::Refused, format!("a hard link to {}, {why}", shown(&entry.link)))
        };
        let target = normal(&entry.link)?;
        let Some(name) = target.file_name() else { return Err(refused("which is no file")) };
        if target == path {
            return Err(refused("itself"));
        }
        let parent = target.parent().unwrap_or(Path::new(""));
        let from = match self.place.open(parent) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(refused("which the layer has not got")),
            other => other.map_err(|e| failed(&target, e))?,
        };
        match look(&from, name).map_err(|e| failed(&target, e))? {
            None => Err(refused("which the layer has not got")),
            Some(stat) if is_whiteout(&stat) => Err(refused("which is deleted")),
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                Err(refused("a directory"))
            }
            Some(_) => Ok((from, name.to_owned())),
        }
    }

    fn write<R: Read>(&mut self, entry: &Entry, archive: &mut Archive<R>, file: &mut File) -> Result<()> {
        let failed = |e: &std::io::Error| Error::io("cannot write", e);
        let Some(segments) = &entry.segments else {
            loop {
                let read = archive.read(&mut self.buffer)?;
                if read == 0 {
                    return Ok(());
                }
                file.write_all(self.buffer.get(..read).unwrap_or_default()).map_err(|e| failed(&e))?;
            }
        };
        file.set_len(entry.size).map_err(|e| failed(&e))?;
        for &(offset, length) in segments {
            let mut done = 0;
            while done < length {
                let most = usize::try_from(length - done).unwrap_or(usize::MAX).min(self.buffer.len());
                let Some(buffer) = self.buffer.get_mut(..most) else { break };
                let read = archive.read(buffer)?;
                if read == 0 {
                    return Err(Error::new(ErrorKind::Corrupt, "it ends within a file"));
                }
                file.write_all_at(buffer.get(..read).unwrap_or_default(), offset + done)
                    .map_err(|e| failed(&e))?;
                done += read as u64;
            }
        }
        Ok(())
    }

    /// Of an open file it takes fewer steps by name.
    fn dress_file(&self, directory: &OwnedFd, name: &OsStr, entry: &Entry, file: &File) -> Result<()> {
        let wrong = |e: Errno| Error::io("its attributes", &e.into());
        if !self.ordinary {
            rustix::fs::fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
                .map_err(wrong)?;
        }
        self.xattrs(directory, name, entry)?;
        fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(wrong)?;
        futimens(file, &times(entry.mtime)).map_err(wrong)
    }

    /// Owner, then what a change of owner takes away: attributes with capabilities, mode; then times.
    fn dress(&self, directory: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<()> {
        let wrong = |e: Errno| Error::io("its attributes", &e.into());
        if !self.ordinary {
            let (user, group) = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
            chownat(directory, name, user, group, AtFlags::SYMLINK_NOFOLLOW).map_err(wrong)?;
        }
        self.xattrs(directory, name, entry)?;
        match entry.kind {
            Kind::Symlink => {}
            // An ordinary user must be able to fill it.
            Kind::Directory if self.ordinary => {
                chmodat(directory, name, Mode::from_raw_mode(entry.mode | 0o700), AtFlags::empty())
                    .map_err(wrong)?;
            }
            _ => {
                chmodat(directory, name, Mode::from_raw_mode(entry.mode), AtFlags::empty()).map_err(wrong)?
            }
        }
        utimensat(directory, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(wrong)
    }

    fn xattrs(&self, directory: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<()> {
        for (key, value) in &entry.xattrs {
            let own = if self.userxattr { &OVERLAY[..] } else { &OVERLAY[..1] };
            if own.iter().any(|prefix| key.starts_with(prefix)) {
                let what = format!("the attribute {}, which is overlayfs's own", shown(key));
                return Err(Error::new(ErrorKind::Refused, what));
            }
            // Links and devices cannot be opened; the descriptor's own link is followed, the name is not.
            let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
            path.extend(name.as_bytes());
            match lsetxattr(OsString::from_vec(path), OsStr::from_bytes(key), value, XattrFlags::empty()) {
                Ok(()) => {}
                // A label of another system's policy, or what only root may set.
                Err(Errno::OPNOTSUPP) if key.starts_with(b"security.") && *key != b"security.capability" => {}
                Err(Errno::PERM) if self.ordinary => {}
                Err(e) => return Err(Error::io(format!("the attribute {}", shown(key)), &e.into())),
            }
        }
        Ok(())
    }

    fn late(&mut self, path: &Path, directory: impl AsFd, entry: &Entry) -> Result<()> {
        let inode = fstat(directory).map_err(|e| failed(path, e))?.st_ino;
        let late = Late { inode, times: times(entry.mtime), mode: Mode::from_raw_mode(entry.mode) };
        self.place.late.insert(path.to_owned(), late);
        Ok(())
    }

    /// What is in a directory comes before it.
    pub(super) fn finish(self) -> Result<()> {
        for (path, late) in self.place.late.iter().rev() {
            // An entry may have been replaced by another one since.
            let Ok(directory) = self.place.open(path) else { continue };
            if fstat(&directory).is_ok_and(|stat| stat.st_ino == late.inode) {
                if self.ordinary {
                    fchmod(&directory, late.mode).map_err(|e| failed(path, e))?;
                }
                futimens(&directory, &late.times).map_err(|e| failed(path, e))?;
            }
        }
        Ok(())
    }
}

/// The attributes of a directory below, for one that the archive leaves out; and what of them is set at the end.
pub(super) fn as_below(
    parent: impl AsFd,
    name: &OsStr,
    like: Option<&OwnedFd>,
    ordinary: bool,
) -> rustix::io::Result<Option<Late>> {
    let Some(like) = like else {
        chmodat(parent, name, Mode::from_raw_mode(0o755), AtFlags::empty())?;
        return Ok(None);
    };
    let stat = fstat(like)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(parent, name, flags, Mode::empty())?;
    if !ordinary {
        rustix::fs::fchown(&made, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    }
    let mut names = vec![0; 64 << 10];
    let length = flistxattr(like, &mut names).unwrap_or(0);
    for key in names.get(..length).unwrap_or_default().split(|byte| *byte == 0).filter(|key| !key.is_empty())
    {
        if OVERLAY.iter().any(|prefix| key.starts_with(prefix)) {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let length = fgetxattr(like, OsStr::from_bytes(key), &mut value)?;
        rustix::fs::fsetxattr(
            &made,
            OsStr::from_bytes(key),
            value.get(..length).unwrap_or_default(),
            XattrFlags::empty(),
        )?;
    }
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    fchmod(&made, if ordinary { mode | Mode::RWXU } else { mode })?;
    let time = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
    Ok(Some(Late { inode: fstat(&made)?.st_ino, times: times(time), mode }))
}

fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
