//! A file, or a directory with everything in it, is copied by descriptors: no link that somebody else puts there is followed, on
//! either side.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags,
    chownat, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat, fstatfs, futimens, linkat, mkdirat,
    mknodat, openat, readlinkat, seek, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};

/// Directories in one another: nobody has more of them that means well.
const DEEPEST: usize = 512;
/// No value of an extended attribute is longer (xattr(7)).
const LONGEST: usize = 64 << 10;
/// What overlayfs keeps for itself.
const OVERLAYS: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// Who the copies belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owners {
    /// Who the originals belong to, moved by this much.
    Kept(i64),
    /// All to one.
    One([u32; 2]),
}

/// What is copied how.
pub(crate) struct Copier {
    owners: Owners,
    /// Whether set-user-id and set-group-id bits and the rights of files stay.
    rights: bool,
    /// Files of several names stay one, in a directory that nobody else has.
    links: Option<Links>,
    devices: bool,
    /// Where it is, for messages and for links.
    at: PathBuf,
    buffer: Vec<u8>,
}

/// Files of several names, by device and inode, and where the first of these is below the top.
struct Links {
    top: OwnedFd,
    known: HashMap<(u64, u64), PathBuf>,
}

impl Copier {
    pub(crate) fn new(owners: Owners) -> Self {
        let buffer = vec![0; 128 << 10];
        Self { owners, rights: true, links: None, devices: false, at: PathBuf::new(), buffer }
    }

    /// For a directory that nobody else can reach: device nodes are made, and files of several names stay one.
    pub(crate) fn private(mut self, top: OwnedFd) -> Self {
        self.devices = true;
        self.links = Some(Links { top, known: HashMap::new() });
        self
    }

    /// What it copies gives nobody rights: no set-user-id bits, no capabilities.
    pub(crate) fn without_rights(mut self) -> Self {
        self.rights = false;
        self
    }

    /// Everything in a directory into another, which becomes like it.
    pub(crate) fn contents(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
        let stat = fstat(from).map_err(|e| self.failed(e))?;
        self.entries(from, to)?;
        self.finish(from, to, &stat)
    }

    /// Everything in a directory into another, which stays as it is.
    pub(crate) fn entries(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
        if self.at.components().count() > DEEPEST {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("more than {DEEPEST} directories in one another"),
            ));
        }
        for entry in Dir::read_from(from).map_err(|e| self.failed(e))? {
            let entry = entry.map_err(|e| self.failed(e))?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                self.entry(from, name, to, name)?;
            }
        }
        Ok(())
    }

    /// One entry, in a directory where it replaces what is no directory.
    pub(crate) fn entry(
        &mut self,
        from: BorrowedFd<'_>,
        name: &CStr,
        to: BorrowedFd<'_>,
        new: &CStr,
    ) -> Result<()> {
        self.at.push(OsStr::from_bytes(new.to_bytes()));
        let copied = self.one(from, name, to, new);
        self.at.pop();
        copied
    }

    fn one(&mut self, from: BorrowedFd<'_>, name: &CStr, to: BorrowedFd<'_>, new: &CStr) -> Result<()> {
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| self.failed(e))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let inner = openat(from, name, flags, Mode::empty()).map_err(|e| self.failed(e))?;
                match mkdirat(to, new, Mode::from_raw_mode(0o700)) {
                    Err(Errno::EXIST) => {}
                    other => other.map_err(|e| self.failed(e))?,
                }
                let copy = openat(to, new, flags, Mode::empty()).map_err(|e| self.failed(e))?;
                // What the kernel shows there is nobody's data.
                if is_kernels(&inner) { Ok(()) } else { self.contents(inner.as_fd(), copy.as_fd()) }
            }
            FileType::RegularFile => self.file(from, name, to, new),
            FileType::Symlink => {
                let target = readlinkat(from, name, Vec::new()).map_err(|e| self.failed(e))?;
                self.replace(to, new, |to| symlinkat(target.as_c_str(), to, new))?;
                self.owner_at(to, new, &stat)?;
                utimensat(to, new, &times(&stat), AtFlags::SYMLINK_NOFOLLOW).map_err(|e| self.failed(e))
            }
            kind @ (FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice)
                if self.devices || kind == FileType::Fifo =>
            {
                let mode = Mode::from_raw_mode(stat.st_mode & 0o777);
                match self.replace(to, new, |to| mknodat(to, new, kind, mode, stat.st_rdev)) {
                    // An ordinary user makes no devices.
                    Err(e) if e.kind() == ErrorKind::Kernel && !crate::host::is_root() => Ok(()),
                    other => other.and_then(|()| self.owner_at(to, new, &stat)),
                }
            }
            // Of no use without who listens on it.
            FileType::Socket => Ok(()),
            other => Err(Error::new(ErrorKind::Unsupported, format!("{}: a {other:?}", self.at.display()))),
        }
    }

    fn file(&mut self, from: BorrowedFd<'_>, name: &CStr, to: BorrowedFd<'_>, new: &CStr) -> Result<()> {
        // It may have become a pipe since.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let source = openat(from, name, flags, Mode::empty()).map_err(|e| self.failed(e))?;
        let stat = fstat(&source).map_err(|e| self.failed(e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || is_kernels(&source) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{}: no file of a disk", self.at.display()),
            ));
        }
        let inode = (stat.st_dev, stat.st_ino);
        if let Some(Links { top, known }) = &self.links
            && stat.st_nlink > 1
            && let Some(other) = known.get(&inode)
        {
            return self.replace(to, new, |to| linkat(top, other, to, new, AtFlags::empty()));
        }
        let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut copy = None;
        self.replace(to, new, |to| {
            copy = Some(openat(to, new, create, Mode::from_raw_mode(0o600))?);
            Ok(())
        })?;
        let Some(copy) = copy else { return Ok(()) };
        self.data(&source, &copy, &stat)?;
        self.finish(source.as_fd(), copy.as_fd(), &stat)?;
        if let Some(Links { known, .. }) = &mut self.links
            && stat.st_nlink > 1
        {
            known.insert(inode, self.at.clone());
        }
        Ok(())
    }

    /// As much as there was when it was opened, and its holes.
    fn data(&mut self, from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> Result<()> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        rustix::fs::ftruncate(to, size).map_err(|e| self.failed(e))?;
        let mut at = 0;
        while at < size {
            let start = match seek(from, SeekFrom::Data(at)) {
                Err(Errno::NXIO) => break,
                Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
                other => other.map_err(|e| self.failed(e))?,
            };
            let end = seek(from, SeekFrom::Hole(start)).unwrap_or(size).min(size);
            at = start;
            while at < end {
                let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(self.buffer.len());
                let buffer = self.buffer.get_mut(..most).unwrap_or_default();
                let read = rustix::io::pread(from, buffer, at);
                let read = read.map_err(|e| Error::io(self.at.display(), &e.into()))?;
                if read == 0 {
                    return Ok(());
                }
                let mut rest = self.buffer.get(..read).unwrap_or_default();
                while !rest.is_empty() {
                    let written = rustix::io::pwrite(to, rest, at).map_err(|e| self.failed(e))?;
                    rest = rest.get(written..).unwrap_or_default();
                    at += written as u64;
                }
            }
        }
        Ok(())
    }

    /// Owner, mode, attributes and times, in the order in which none undoes another.
    fn finish(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> Result<()> {
        let (user, group) = self.owner(stat)?;
        self.allowed(fchown(to, Some(user), Some(group)))?;
        let mask = if self.rights { 0o7777 } else { 0o1777 };
        fchmod(to, Mode::from_raw_mode(stat.st_mode & mask)).map_err(|e| self.failed(e))?;
        self.attributes(from, to)?;
        futimens(to, &times(stat)).map_err(|e| self.failed(e))
    }

    fn attributes(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
        let mut names = vec![0; LONGEST];
        let length = match flistxattr(from, &mut names[..]) {
            Err(Errno::OPNOTSUPP) => return Ok(()),
            other => other.map_err(|e| self.failed(e))?,
        };
        let names = names.get(..length).unwrap_or_default();
        for name in
            names.split_inclusive(|byte| *byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok())
        {
            let text = name.to_bytes();
            let kept = self.rights || text.starts_with(b"user.") || text.starts_with(b"system.posix_acl");
            if !kept || OVERLAYS.iter().any(|prefix| text.starts_with(prefix)) {
                continue;
            }
            let mut value = vec![0; LONGEST];
            let length = match fgetxattr(from, name, &mut value[..]) {
                // Gone, or nobody's to read.
                Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => continue,
                other => other.map_err(|e| self.failed(e))?,
            };
            match fsetxattr(to, name, value.get(..length).unwrap_or_default(), XattrFlags::empty()) {
                Err(Errno::OPNOTSUPP) => {}
                other => self.allowed(other)?,
            }
        }
        Ok(())
    }

    fn owner(&self, stat: &Stat) -> Result<(Uid, Gid)> {
        let moved = |id: u32, by: i64| {
            u32::try_from(i64::from(id) + by).map_err(|_| {
                Error::new(
                    ErrorKind::Unsupported,
                    format!("{}: its owner {id} is none inside", self.at.display()),
                )
            })
        };
        let [user, group] = match self.owners {
            Owners::One(one) => one,
            Owners::Kept(by) => [moved(stat.st_uid, by)?, moved(stat.st_gid, by)?],
        };
        Ok((Uid::from_raw(user), Gid::from_raw(group)))
    }

    fn owner_at(&self, to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<()> {
        let (user, group) = self.owner(stat)?;
        self.allowed(chownat(to, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW))
    }

    /// An ordinary user's copies are that user's.
    fn allowed(&self, done: rustix::io::Result<()>) -> Result<()> {
        match done {
            Err(Errno::PERM) if !crate::host::is_root() => Ok(()),
            other => other.map_err(|e| self.failed(e)),
        }
    }

    /// Makes something in the place of what is there.
    fn replace(
        &self,
        to: BorrowedFd<'_>,
        name: &CStr,
        mut make: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<()>,
    ) -> Result<()> {
        let made = match make(to) {
            Err(Errno::EXIST) => unlinkat(to, name, AtFlags::empty()).and_then(|()| make(to)),
            other => other,
        };
        made.map_err(|e| self.failed(e))
    }

    fn failed(&self, error: Errno) -> Error {
        let error = io::Error::from(error);
        let what = if self.at.as_os_str().is_empty() { Path::new(".") } else { &self.at };
        Error::io(what.display(), &error)
    }
}

/// Whether it lies on a file system in which the kernel shows itself: what is read there depends on who reads.
pub(crate) fn is_kernels(fd: &OwnedFd) -> bool {
    // linux/magic.h: proc, sysfs, cgroup, cgroup2, debugfs, tracefs, securityfs, bpf, nsfs.
    const SHOWN: [u64; 9] = [
        0x9fa0,
        0x6265_6572,
        0x0027_e0eb,
        0x6367_7270,
        0x6462_6720,
        0x7472_6163,
        0x7363_6673,
        0xcafe_4a11,
        0x6e73_6673,
    ];
    fstatfs(fd).is_ok_and(|found| SHOWN.contains(&found.f_type.cast_unsigned()))
}

fn times(stat: &Stat) -> Timestamps {
    let mtime = Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ };
    Timestamps { last_access: mtime, last_modification: mtime }
}

/// A directory in a root, whose links lead nowhere else; none if there is no such directory.
pub(crate) fn directory_in(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<Option<OwnedFd>> {
    use rustix::fs::{ResolveFlags, openat2};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match openat2(root, path, flags, Mode::empty(), resolve) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        other => other.map(Some),
    }
}

/// A directory of the caller's.
pub(crate) fn directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}
