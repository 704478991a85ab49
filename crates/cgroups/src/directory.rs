//! A group as an open directory: everything goes through its descriptor, nothing by walking the path again.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, fstatfs, mkdirat, openat, statat, unlinkat,
};
use rustix::io::{Errno, pread, retry_on_intr, write};

use crate::{Error, ErrorKind, Result};

/// `CGROUP2_SUPER_MAGIC`, include/uapi/linux/magic.h.
pub(crate) const CGROUP2: u64 = 0x6367_7270;
/// `CGROUP_SUPER_MAGIC`.
#[cfg_attr(not(feature = "cgroup-v1"), expect(dead_code, reason = "cgroup v1 only"))]
pub(crate) const CGROUP1: u64 = 0x0027_e0eb;

/// An open group of one hierarchy; the path is for messages.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Opens a mount's root and makes sure that it is a control group file system of the given version: on anything
    /// else a limit would be an ordinary file that binds nobody.
    pub(crate) fn mount(path: &Path, magic: u64) -> Result<Self> {
        let fd = open(CWD, path.as_os_str(), OFlags::DIRECTORY)
            .map_err(|errno| Error::os(path.display().to_string(), errno))?;
        let found = fstatfs(&fd).map_err(|errno| Error::os(path.display().to_string(), errno))?;
        if found.f_type as u64 != magic {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{}: not the control group file system that the mount table names", path.display()),
            )
            .with_hint("another file system is mounted over it"));
        }
        Ok(Self { fd, path: path.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// An existing group below this one.
    pub(crate) fn child(&self, name: &OsStr) -> Result<Self> {
        let path = self.path.join(name);
        match open(&self.fd, name, OFlags::DIRECTORY | OFlags::NOFOLLOW) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(errno) => Err(Error::os(path.display().to_string(), errno)),
        }
    }

    /// An existing group some levels below this one.
    pub(crate) fn descend(&self, names: &[OsString]) -> Result<Self> {
        let fd = self.try_clone_fd()?;
        names.iter().try_fold(Self { fd, path: self.path.clone() }, |at, name| at.child(name))
    }

    /// A new group below this one: an error if there is one of that name.
    pub(crate) fn make(&self, name: &OsStr) -> Result<Self> {
        let path = self.path.join(name);
        mkdirat(&self.fd, name, Mode::from_raw_mode(0o755)).map_err(|errno| {
            let error = Error::os(path.display().to_string(), errno);
            match errno {
                Errno::EXIST => {
                    error.with_hint("another program has a group of that name: take another name, or open it")
                }
                Errno::AGAIN => error
                    .with_hint("cgroup.max.depth or cgroup.max.descendants of a group above it is reached"),
                _ => error,
            }
        })?;
        self.child(name)
    }

    /// Removes this group; gone already is removed. Never one that took its name in the meantime.
    pub(crate) fn remove(&self) -> Result<(), Errno> {
        let Some(name) = self.path.file_name() else { return Err(Errno::INVAL) };
        let parent = match open(&self.fd, OsStr::new(".."), OFlags::DIRECTORY) {
            Err(Errno::NOENT) => return Ok(()),
            parent => parent?,
        };
        let mine = fstat(&self.fd)?;
        match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) if there.st_ino == mine.st_ino && there.st_dev == mine.st_dev => {}
            Ok(_) | Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        }
        match retry_on_intr(|| unlinkat(&parent, name, AtFlags::REMOVEDIR)) {
            Err(Errno::NOENT) => Ok(()),
            result => result,
        }
    }

    /// The groups right below this one.
    pub(crate) fn children(&self) -> Result<Vec<Self>, Errno> {
        let mut children = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if entry.file_type() != FileType::Directory || name == "." || name == ".." {
                continue;
            }
            match open(&self.fd, name, OFlags::DIRECTORY | OFlags::NOFOLLOW) {
                Ok(fd) => children.push(Self { fd, path: self.path.join(name) }),
                // Removed since it was listed.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(children)
    }

    pub(crate) fn has(&self, file: &str) -> bool {
        statat(&self.fd, file, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    pub(crate) fn open_read(&self, file: &str) -> Result<OwnedFd, Errno> {
        openat(&self.fd, file, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
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
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = retry_on_intr(|| pread(fd, &mut buffer, text.len() as u64))?;
        text.extend_from_slice(&buffer[..n]);
        // The kernel fills what it is given as long as there is more (seq_read_iter in fs/seq_file.c).
        if n < buffer.len() / 2 {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
    }
}

fn open(at: impl AsFd, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    retry_on_intr(|| openat(at.as_fd(), name, flags | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_no_control_group_is_refused() {
        let error = Directory::mount(Path::new("/"), CGROUP2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().starts_with("/: not the control group"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_there_is_not_invented() {
        let root = open(CWD, OsStr::new("/"), OFlags::DIRECTORY).unwrap();
        let root = Directory { fd: root, path: PathBuf::from("/") };
        let error = root.write("isolate-cgroups-no-such-file", "1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(!root.has("isolate-cgroups-no-such-file"));
    }
}
