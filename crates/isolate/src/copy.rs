//! Files go into a container and come out of it.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fchmod, fchown, fstat, openat, openat2};
use rustix::io::Errno;

use crate::container::Container;
use crate::error::{Error, ErrorKind, Result};
use crate::tree::{self, Copier, Owners};

/// What is to be copied: one entry of a directory, or all.
struct From {
    directory: OwnedFd,
    /// None for all.
    name: Option<CString>,
}

/// Between the host and a container. Whatever runs in the container cannot make them lead elsewhere: links of its root lead to places in
/// that root, and none is followed below what was named.
impl Container {
    /// Copies a file or a directory of the host, with everything in it, into the running container, as `docker cp`: into `to` if that is a
    /// directory, else to that name. Of a directory named with `/.` at its end, what is in it is copied. It belongs to root inside, and
    /// keeps its modes, times and links as they are.
    ///
    /// ```no_run
    /// # fn main() -> isolate::Result<()> {
    /// let container = isolate::Container::builder().rootfs("/srv/alpine").command(["sleep", "100"]).start()?;
    /// container.copy_in("target/release/app", "/usr/local/bin/app")?;
    /// container.copy_in("fixtures/.", "/data")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if the one is not there, or no directory to put it in; [`Unsupported`](ErrorKind::Unsupported)
    /// for devices, and for a tmpfs or a volume in a container with a user namespace of its own: that file system knows no such owner
    /// as the caller. [`Kernel`](ErrorKind::Kernel) for a container that has ended.
    pub fn copy_in(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let said =
            |e: Error| e.of(format!("container `{}`: {} into {}", self.name(), from.display(), to.display()));
        let copied = (|| {
            let root = self.running_root()?;
            let within = |path: &Path| tree::directory_in(root.as_fd(), path);
            let source = find(from, there)?;
            copy(Copier::new(Owners::One(self.owner())), &source, to, from, within)
        })();
        copied.map_err(said).map_err(foreign)
    }

    /// Copies a file or a directory of the container to the host, by the same rules. It belongs to the caller, and gives nobody rights: bits
    /// of set-user-id and capabilities stay behind. After the container's end it comes from its layers, if its root has some on a disk.
    ///
    /// ```no_run
    /// # fn main() -> isolate::Result<()> {
    /// let mut container = isolate::Container::builder().rootfs("/srv/debian").command(["make", "-C", "/src"]).start()?;
    /// container.wait()?;
    /// container.copy_out("/src/target", "artifacts")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`copy_in`](Self::copy_in); what lies in /proc and /sys is not copied.
    pub fn copy_out(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let said = |e: Error| {
            e.of(format!("container `{}`: {} out to {}", self.name(), from.display(), to.display()))
        };
        let copied = (|| {
            let root = self.root_now()?;
            let within = |path: &Path| tree::directory_in(root.as_fd(), path);
            let source = find(from, within)?;
            let own = [rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()];
            copy(Copier::new(Owners::One(own)).without_rights(), &source, to, from, there)
        })();
        copied.map_err(said)
    }

    /// Opens a file of the container to be read, as it sees it; links of it are followed inside.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound), and [`Unsupported`](ErrorKind::Unsupported) for what is no file of a disk.
    pub fn open_file(&self, path: impl AsRef<Path>) -> Result<File> {
        let path = path.as_ref();
        let said = |e: Error| e.of(format!("container `{}`: {}", self.name(), path.display()));
        let root = self.root_now().map_err(said)?;
        // A pipe would make the caller wait.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let failed =
            |e: Errno| Error::io(format!("container `{}`: {}", self.name(), path.display()), &e.into());
        let file = openat2(&root, path, flags, Mode::empty(), resolve).map_err(failed)?;
        let stat = fstat(&file).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && !tree::is_kernels(&file) {
            return Ok(file.into());
        }
        let what = format!("container `{}`: {}: no file of a disk", self.name(), path.display());
        Err(Error::new(ErrorKind::Unsupported, what))
    }

    /// Writes a file in the running container, in a directory that is there; what has the name already is replaced.
    ///
    /// ```no_run
    /// # fn main() -> isolate::Result<()> {
    /// let container = isolate::Container::builder().rootfs("/srv/alpine").command(["sleep", "100"]).start()?;
    /// container.write_file("/etc/app.conf", &b"debug = true\n"[..], 0o644)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`copy_in`](Self::copy_in), and whatever the reader gives.
    pub fn write_file(&self, path: impl AsRef<Path>, mut contents: impl Read, mode: u32) -> Result<()> {
        let path = path.as_ref();
        let failed = |e: &io::Error| Error::io(format!("container `{}`: {}", self.name(), path.display()), e);
        let root = self.running_root()?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(failed(&io::ErrorKind::IsADirectory.into()));
        };
        let directory = tree::directory_in(root.as_fd(), parent).map_err(|e| failed(&e.into()))?;
        let directory = directory.ok_or_else(|| failed(&io::ErrorKind::NotFound.into()))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || openat(&directory, name, flags, Mode::from_raw_mode(0o600));
        let made = match make() {
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(&directory, name, rustix::fs::AtFlags::empty()).and_then(|()| make())
            }
            other => other,
        };
        let written = made.map_err(io::Error::from).and_then(|file| {
            let mut file = File::from(file);
            io::copy(&mut contents, &mut file)?;
            file.flush()?;
            let [user, group] = self.owner();
            fchown(&file, Some(rustix::fs::Uid::from_raw(user)), Some(rustix::fs::Gid::from_raw(group)))?;
            fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?;
            Ok(())
        });
        written.map_err(|e| failed(&e)).map_err(foreign)
    }

    /// Writes its whole root as a tar archive, as `docker export`: layers and changes, without what is mounted on it. Owners are as it
    /// sees them. Of a root of layers; while it runs, files may be caught half written.
    ///
    /// # Errors
    ///
    /// As [`diff`](Self::diff).
    pub fn export(&self, writer: impl Write) -> Result<()> {
        let first = self.root_outside().map_or(0, |[user, _]| user);
        let whole = self.overlay()?.whole().owners_from(first);
        whole.write_to(writer).map_err(|e| self.said(e))
    }

    /// Who root inside is.
    fn owner(&self) -> [u32; 2] {
        let own = || [rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()];
        self.root_outside().unwrap_or_else(own)
    }

    /// What it sees as `/`, with its mounts, while it runs; else its layers.
    fn root_now(&self) -> Result<OwnedFd> {
        match self.running_root() {
            Err(e) if e.kind() == ErrorKind::Lost => Ok(self.overlay()?.frozen().mount()?.into()),
            other => other,
        }
    }

    fn running_root(&self) -> Result<OwnedFd> {
        let path = format!("/proc/{}/root", self.pid());
        let root = tree::directory(Path::new(&path));
        // If it still runs, the number was its own.
        if self.has_ended()? {
            return Err(Error::new(ErrorKind::Lost, "it has ended"));
        }
        root.map_err(|e| Error::io(path, &e.into()))
    }
}

/// A directory of the host; none if there is no such one.
fn there(path: &Path) -> rustix::io::Result<Option<OwnedFd>> {
    match tree::directory(path) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        other => other.map(Some),
    }
}

fn missing(path: &Path) -> Error {
    Error::io(path.display(), &io::ErrorKind::NotFound.into())
}

fn find(path: &Path, open: impl Fn(&Path) -> rustix::io::Result<Option<OwnedFd>>) -> Result<From> {
    let directory = |path: &Path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        open(path).map_err(|e| Error::io(path.display(), &e.into()))?.ok_or_else(|| missing(path))
    };
    match path.file_name().filter(|_| !path.as_os_str().as_bytes().ends_with(b"/.")) {
        Some(name) => {
            let directory = directory(path.parent().unwrap_or(Path::new("")))?;
            Ok(From { directory, name: Some(c_string(name)?) })
        }
        None => Ok(From { directory: directory(path)?, name: None }),
    }
}

fn copy(
    mut copier: Copier,
    from: &From,
    to: &Path,
    named: &Path,
    open: impl Fn(&Path) -> rustix::io::Result<Option<OwnedFd>>,
) -> Result<()> {
    let look = |path: &Path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        open(path).map_err(|e| Error::io(path.display(), &e.into()))
    };
    if let Some(into) = look(to)? {
        return match &from.name {
            Some(name) => copier.entry(from.directory.as_fd(), name, into.as_fd(), name),
            None => copier.entries(from.directory.as_fd(), into.as_fd()),
        };
    }
    let name =
        to.file_name().filter(|_| !to.as_os_str().as_bytes().ends_with(b"/")).ok_or_else(|| missing(to))?;
    let parent = to.parent().unwrap_or(Path::new(""));
    let into = look(parent)?.ok_or_else(|| missing(parent))?;
    match &from.name {
        Some(old) => copier.entry(from.directory.as_fd(), old, into.as_fd(), &c_string(name)?),
        None => Err(missing(to).of(format!("what is in {}", named.display()))),
    }
}

fn c_string(name: &OsStr) -> Result<CString> {
    let why = |_| Error::new(ErrorKind::InvalidConfig, format!("{name:?}: a name with a NUL"));
    CString::new(name.as_bytes()).map_err(why)
}

/// EOVERFLOW says nothing to who does not know of id maps.
fn foreign(error: Error) -> Error {
    if error.raw_os_error() != Some(Errno::OVERFLOW.raw_os_error()) {
        return error;
    }
    Error::new(ErrorKind::Unsupported, error.to_string())
        .with_hint("it lies in a file system of the container's own user namespace: write to it by exec, or to a volume on the host")
}
