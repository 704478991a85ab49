//! A group as an open directory: everything goes through its descriptor, nothing by walking the path again.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, StatxFlags, mkdirat, openat, statat, statx, unlinkat,
};
use rustix::io::{Errno, pread, retry_on_intr, write};

use crate::mountinfo::Mount;
use crate::{Error, ErrorKind, Result};

/// An open group of one hierarchy; the path is for messages.
#[derive(Debug)]
pub(crate) struct Directory {
    /// A place (`O_PATH`), which is opened faster than a directory to be listed.
    fd: OwnedFd,
    path: PathBuf,
    /// Its inode: by its name it may be another later.
    inode: u64,
}

impl Directory {
    /// Opens the group of these names below a mount, all in one walk; without names the mount's root.
    ///
    /// Makes sure that it is in the mount that the table names: on anything else a limit would be an ordinary file that binds nobody.
    pub(crate) fn below(mount: &Mount, names: &[OsString]) -> Result<Self> {
        match Self::at(mount, below(mount, names)) {
            // One of those above may be what is missing.
            Err(error) if error.kind() == ErrorKind::NotFound && names.len() > 1 => {
                names.iter().try_fold(Self::below(mount, &[])?, |at, name| at.child(name))
            }
            found => found,
        }
    }

    /// Makes the group of these names below a mount, in groups that are there: an error if there is one of that name.
    pub(crate) fn make_below(mount: &Mount, names: &[OsString]) -> Result<Self> {
        let path = below(mount, names);
        if let Err(errno) = mkdirat(CWD, &path, MODE) {
            if let (Errno::NOENT, Some((_, parents))) = (errno, names.split_last()) {
                Self::below(mount, parents)?;
            }
            return Err(not_made(&path, errno));
        }
        Self::at(mount, path).inspect_err(|_| {
            let _ = unlinkat(CWD, below(mount, names), AtFlags::REMOVEDIR);
        })
    }

    fn at(mount: &Mount, path: PathBuf) -> Result<Self> {
        match open(CWD, path.as_os_str(), OFlags::DIRECTORY | OFlags::NOFOLLOW) {
            Ok(fd) => Self::of(mount, fd, path),
            Err(errno) => Err(Error::os(path.display().to_string(), errno)),
        }
    }

    /// What was opened at a path, if it is in that mount.
    fn of(mount: &Mount, fd: OwnedFd, path: PathBuf) -> Result<Self> {
        let refused = |errno| Error::os(path.display().to_string(), errno);
        let found =
            statx(&fd, c"", AtFlags::EMPTY_PATH, StatxFlags::INO | StatxFlags::MNT_ID).map_err(refused)?;
        // Below Linux 5.8 the number of the mount is not told.
        let told = found.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        let same = (found.stx_dev_major, found.stx_dev_minor) == mount.device
            && (!told || found.stx_mnt_id == mount.id);
        if !same {
            let what =
                format!("{}: not the control group file system that the mount table names", path.display());
            return Err(
                Error::new(ErrorKind::Unsupported, what).with_hint("another file system is mounted over it")
            );
        }
        Ok(Self { fd, path, inode: found.stx_ino })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// An existing group right below this one.
    pub(crate) fn child(&self, name: &OsStr) -> Result<Self> {
        self.try_child(name).map_err(|errno| Error::os(self.path.join(name).display().to_string(), errno))
    }

    fn try_child(&self, name: &OsStr) -> Result<Self, Errno> {
        let fd = open(&self.fd, name, OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
        let inode = statat(&fd, c"", AtFlags::EMPTY_PATH)?.st_ino;
        Ok(Self { fd, path: self.path.join(name), inode })
    }

    /// Removes this group; gone already is removed. Never one that took its name in the meantime.
    pub(crate) fn remove(&self) -> Result<(), Errno> {
        let Some(name) = self.path.file_name() else { return Err(Errno::INVAL) };
        // Seen from inside, whatever is mounted at the path by now.
        let beside = Path::new("..").join(name);
        match statat(&self.fd, &beside, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) if there.st_ino == self.inode => {}
            Ok(_) | Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        }
        match retry_on_intr(|| unlinkat(&self.fd, &beside, AtFlags::REMOVEDIR)) {
            Err(Errno::NOENT) => Ok(()),
            result => result,
        }
    }

    /// The groups right below this one.
    pub(crate) fn children(&self) -> Result<Vec<Self>, Errno> {
        let mut children = Vec::new();
        let list = self.open_read(".")?;
        for entry in Dir::new(list)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if entry.file_type() != FileType::Directory || name == "." || name == ".." {
                continue;
            }
            match self.try_child(name) {
                Ok(child) => children.push(child),
                // Removed since it was listed.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(children)
    }

    /// Whether somebody has removed it: then it has none of its files.
    pub(crate) fn is_gone(&self) -> bool {
        !self.has("cgroup.procs")
    }

    pub(crate) fn has(&self, file: &str) -> bool {
        statat(&self.fd, file, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    pub(crate) fn open_read(&self, file: &str) -> Result<OwnedFd, Errno> {
        open_read(&self.fd, OsStr::new(file))
    }

    pub(crate) fn open_both(&self, file: &str) -> Result<OwnedFd, Errno> {
        openat(&self.fd, file, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
    }

    /// Never creates: without O_CREAT a file that the kernel has not got is an error.
    pub(crate) fn open_write(&self, file: &str) -> Result<OwnedFd, Errno> {
        openat(&self.fd, file, OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
    }

    /// The whole text of a file of this group.
    pub(crate) fn read(&self, file: &str) -> Result<String> {
        self.try_read(file)
            .map_err(|errno| Error::os(format!("cannot read {}", self.path.join(file).display()), errno))
    }

    /// The whole text of a file of the group of these names below this one, which is opened for nothing else.
    pub(crate) fn read_below(&self, group: &Path, file: &str) -> Result<String> {
        let path = group.join(file);
        open_read(&self.fd, path.as_os_str())
            .and_then(|fd| text(&fd))
            .map_err(|errno| Error::os(format!("cannot read {}", self.path.join(path).display()), errno))
    }

    /// As [`read`](Self::read); `None` where the kernel has no such file.
    pub(crate) fn read_optional(&self, file: &str) -> Result<Option<String>> {
        match self.try_read(file) {
            Ok(text) => Ok(Some(text)),
            Err(Errno::NOENT | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(Error::os(format!("cannot read {}", self.path.join(file).display()), errno)),
        }
    }

    fn try_read(&self, file: &str) -> Result<String, Errno> {
        text(&self.open_read(file)?)
    }

    /// Writes a value, in one write: the kernel takes each as a whole.
    pub(crate) fn write(&self, file: &str, value: &str) -> Result<()> {
        self.try_write(file, value).map_err(|errno| {
            Error::os(format!("cannot write {value} to {}", self.path.join(file).display()), errno)
        })
    }

    pub(crate) fn try_write(&self, file: &str, value: &str) -> Result<(), Errno> {
        let fd = self.open_write(file)?;
        retry_on_intr(|| write(&fd, value.as_bytes())).map(drop)
    }

    pub(crate) fn try_clone_fd(&self) -> Result<OwnedFd> {
        rustix::io::fcntl_dupfd_cloexec(&self.fd, 0)
            .map_err(|errno| Error::os(self.path.display().to_string(), errno))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The whole text of an open file, from its beginning.
pub(crate) fn text(fd: &OwnedFd) -> Result<String, Errno> {
    // Most are one value.
    let mut short = [0; 256];
    let n = retry_on_intr(|| pread(fd, &mut short, 0))?;
    if is_all(n, short.len()) {
        return Ok(String::from_utf8_lossy(&short[..n]).into_owned());
    }
    let mut text = vec![0; 8192];
    let mut length = 0;
    loop {
        let n = retry_on_intr(|| pread(fd, &mut text[length..], length as u64))?;
        length += n;
        if is_all(n, text.len() - (length - n)) {
            text.truncate(length);
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
        text.resize(2 * text.len(), 0);
    }
}

/// Whether a read of so much was the last, in so much space: the kernel fills what it is given as long as there is more
/// (seq_read_iter in fs/seq_file.c), but for a line that does not fit.
pub(crate) fn is_all(read: usize, space: usize) -> bool {
    read == 0 || read < space / 2
}

const MODE: Mode = Mode::from_raw_mode(0o755);

fn below(mount: &Mount, names: &[OsString]) -> PathBuf {
    let length = names.iter().fold(mount.point.as_os_str().len(), |length, name| length + 1 + name.len());
    let mut path = PathBuf::with_capacity(length);
    path.push(&mount.point);
    path.extend(names);
    path
}

fn not_made(path: &Path, errno: Errno) -> Error {
    let error = Error::os(path.display().to_string(), errno);
    match errno {
        Errno::EXIST => {
            error.with_hint("another program has a group of that name: take another name, or open it")
        }
        Errno::AGAIN => {
            error.with_hint("cgroup.max.depth or cgroup.max.descendants of a group above it is reached")
        }
        _ => error,
    }
}

fn open_read(at: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    openat(at, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
}

fn open(at: impl AsFd, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    retry_on_intr(|| openat(at.as_fd(), name, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_not_in_its_mount_is_refused() {
        let named = Mount { point: PathBuf::from("/"), id: u64::MAX, device: (0, 0), ..Mount::default() };
        let error = Directory::below(&named, &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().starts_with("/: not the control group"), "{error}");
        let name = OsString::from(format!("isolate-cgroups-{}", std::process::id()));
        let tmp = Mount { point: std::env::temp_dir(), ..named };
        let error = Directory::make_below(&tmp, std::slice::from_ref(&name)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(!tmp.point.join(name).exists(), "nothing is left behind");
    }

    #[test]
    fn a_file_that_is_not_there_is_not_invented() {
        let root = open(CWD, OsStr::new("/"), OFlags::DIRECTORY).unwrap();
        let root = Directory { fd: root, path: PathBuf::from("/"), inode: 0 };
        let error = root.write("isolate-cgroups-no-such-file", "1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(!root.has("isolate-cgroups-no-such-file"));
    }
}
