//! The state directory: one directory a container, a lock in each, one lock over all.
//!
//! ```text
//! /run/isolate/lock                      held while names, leases and networks change
//! /run/isolate/containers/NAME/lock      held as long as the container or its owner lives
//! /run/isolate/containers/NAME/record    what there is to undo, as JSON
//! /run/isolate/networks/NAME/record      what the network is, as JSON
//! /run/isolate/networks/NAME/owner       held by who is to remove it
//! /run/isolate/networks/NAME/leases/ADDRESS  a symbolic link to the name of the container that has it
//! /run/isolate/ids/BASE                  the same for 65,536 user and group ids from BASE on
//! /run/isolate/pools/ID                  held by a process that has places ready, and ids for them
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, ErrorKind, Result};
use crate::parallel;
use crate::record::Record;

/// The state directory of this user.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    root: PathBuf,
}

/// While this lives no other thread or process changes names, leases or networks.
#[derive(Debug)]
pub(crate) struct Guard(#[expect(dead_code, reason = "held for the lock")] File);

/// A container's directory, locked.
#[derive(Debug)]
pub(crate) struct Entry {
    path: PathBuf,
    lock: File,
}

impl Store {
    /// `/run/isolate` for root, else `$XDG_RUNTIME_DIR/isolate`; without that `/run/user/UID/isolate` or `/tmp/isolate-UID`. Made if
    /// missing, for its owner only.
    pub(crate) fn open() -> Result<Self> {
        Self::at(Self::path()?)
    }

    /// In this directory. Made if missing.
    pub(crate) fn at(root: PathBuf) -> Result<Self> {
        make_directory(&root)?;
        make_directory(&root.join("containers"))?;
        make_directory(&root.join("networks"))?;
        make_directory(&root.join("ids"))?;
        make_directory(&root.join("pools"))?;
        Ok(Self { root })
    }

    /// Where it is, whether it exists or not.
    pub(crate) fn path() -> Result<PathBuf> {
        if rustix::process::geteuid().is_root() {
            return Ok(PathBuf::from("/run/isolate"));
        }
        match std::env::var_os("XDG_RUNTIME_DIR") {
            Some(directory) if Path::new(&directory).is_absolute() => {
                Ok(Path::new(&directory).join("isolate"))
            }
            _ => Ok(Self::of_user(rustix::process::geteuid().as_raw())),
        }
    }

    /// Without a session manager's word: its directory all the same, if it is there, else one below /tmp that is checked to be this
    /// user's alone.
    fn of_user(uid: u32) -> PathBuf {
        let session = PathBuf::from(format!("/run/user/{uid}"));
        match fs::metadata(&session) {
            Ok(metadata) if metadata.is_dir() && metadata.uid() == uid => session.join("isolate"),
            _ => PathBuf::from(format!("/tmp/isolate-{uid}")),
        }
    }

    pub(crate) fn lock(&self) -> Result<Guard> {
        let path = self.root.join("lock");
        let lock = open_lock(&path)?;
        retry(|| flock(&lock, FlockOperation::LockExclusive)).map_err(|e| Error::io(path.display(), &e))?;
        Ok(Guard(lock))
    }

    /// A directory for a new container. The name is free if the directory is not there.
    pub(crate) fn create(&self, _: &Guard, name: &str) -> Result<Entry> {
        let path = self.container(name);
        DirBuilder::new().mode(0o700).create(&path).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => Error::new(ErrorKind::AlreadyExists, "the name is in use")
                .with_hint("another container has it; choose another name or remove that container"),
            _ => Error::io(path.display(), &e),
        })?;
        let locked = open_lock(&path.join("lock")).and_then(|lock| {
            retry(|| flock(&lock, FlockOperation::NonBlockingLockExclusive))
                .map_err(|e| Error::io(path.display(), &e))?;
            Ok(lock)
        });
        match locked {
            Ok(lock) => Ok(Entry { path, lock }),
            Err(e) => {
                fs::remove_dir_all(&path).ok();
                Err(e)
            }
        }
    }

    pub(crate) fn container(&self, name: &str) -> PathBuf {
        self.containers().join(name)
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// Whether there is no container of this name. One that cannot be looked at is there: what it has is not somebody else's.
    pub(crate) fn is_gone(&self, container: &str) -> bool {
        fs::symlink_metadata(self.container(container)).is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
    }

    pub(crate) fn networks(&self) -> PathBuf {
        self.root.join("networks")
    }

    pub(crate) fn network(&self, name: &str) -> PathBuf {
        self.networks().join(name)
    }

    /// One of the directory's own files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Leases of id ranges.
    pub(crate) fn ids(&self) -> PathBuf {
        self.root.join("ids")
    }

    /// Who has places ready.
    pub(crate) fn pools(&self) -> PathBuf {
        self.root.join("pools")
    }

    /// What is known of every container, living or dead, at this moment.
    pub(crate) fn records(&self) -> Vec<Record> {
        let entries = fs::read_dir(self.containers()).into_iter().flatten().flatten();
        let paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        parallel::map(paths, |path| Record::read(&path).ok().flatten()).into_iter().flatten().collect()
    }

    /// The names of all containers that have a directory here.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let directory = self.containers();
        let entries = fs::read_dir(&directory).map_err(|e| Error::io(directory.display(), &e))?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    /// Whether there is a container of this name whose lock nobody holds.
    pub(crate) fn is_unowned(&self, _: &Guard, name: &str) -> bool {
        let lock = File::open(self.container(name).join("lock"));
        lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockShared).is_ok())
    }

    /// Whether somebody holds the lock of a container of this name.
    pub(crate) fn is_owned(&self, name: &str) -> bool {
        let lock = File::open(self.container(name).join("lock"));
        lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockShared).is_err())
    }

    /// The containers whose lock nobody holds, each locked now, with what is known of it.
    pub(crate) fn dead(&self, guard: &Guard) -> Result<Vec<(Entry, Option<Record>)>> {
        let directory = self.containers();
        let mut dead = Vec::new();
        for entry in fs::read_dir(&directory).map_err(|e| Error::io(directory.display(), &e))? {
            let name = entry.map_err(|e| Error::io(directory.display(), &e))?.file_name();
            dead.extend(name.to_str().and_then(|name| self.dead_one(guard, name)));
        }
        Ok(dead)
    }

    /// The same of one.
    pub(crate) fn dead_one(&self, _: &Guard, name: &str) -> Option<(Entry, Option<Record>)> {
        let path = self.container(name);
        // Gone between two calls: its owner removed it.
        let lock = open_lock(&path.join("lock")).ok()?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
        // One that cannot be read is left to who can: its directory is all that tells what there is.
        let record = Record::read(&path).ok()?;
        Some((Entry { path, lock }, record))
    }
}

impl Entry {
    /// The lock for somebody else to hold, too: it is free when all have let go.
    pub(crate) fn share_lock(&self) -> Result<OwnedFd> {
        self.lock.try_clone().map(Into::into).map_err(|e| Error::io(self.path.display(), &e))
    }

    pub(crate) fn write(&self, record: &Record) -> Result<()> {
        record.write(&self.path)
    }

    /// Whether the directory is the one that was locked: with a pod its containers are removed, and somebody else can have the name then.
    fn is_here(&self) -> Result<bool> {
        let failed = |e| Error::io(self.path.display(), &e);
        let own = self.lock.metadata().map_err(failed)?;
        match fs::metadata(self.path.join("lock")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            there => there.map_err(failed).map(|there| (own.dev(), own.ino()) == (there.dev(), there.ino())),
        }
    }

    /// Removes the directories in it.
    pub(crate) fn clear(&self) -> Result<()> {
        if !self.is_here()? {
            return Ok(());
        }
        let failed = |e| Error::io(self.path.display(), &e);
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                fs::remove_dir_all(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Removes the directory; the lock goes with it. Who looks for the dead meanwhile would make a new one.
    pub(crate) fn remove(self, _: &Guard) -> Result<()> {
        if !self.is_here()? {
            return Ok(());
        }
        match fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(self.path.display(), &e)),
            _ => Ok(()),
        }
    }
}

/// Where this user's things are that outlive the machine's end: `/var/lib/isolate` for root, else `$XDG_DATA_HOME/isolate` or the same
/// below `~/.local/share`.
pub(crate) fn data() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/isolate"));
    }
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
    data.map(|data| data.join("isolate")).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "no directory for this user's volumes and containers")
            .with_hint("set HOME or XDG_DATA_HOME")
    })
}

/// A directory for its owner only. One that is there must be the owner's.
pub(crate) fn make_directory(path: &Path) -> Result<()> {
    let failed = |e| Error::io(format!("state directory {}", path.display()), &e);
    DirBuilder::new().mode(0o700).recursive(true).create(path).map_err(failed)?;
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    let own = metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw();
    if own && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    let whose = if !own { "it is another user's" } else { "others may write there" };
    let why = format!("state directory {}: {whose}", path.display());
    Err(Error::new(ErrorKind::PermissionDenied, why)
        .with_hint("remove it, or set XDG_RUNTIME_DIR to a directory of your own"))
}

/// A file, locked as long as it is open; `None` if somebody else has it.
pub(crate) fn try_lock(path: &Path) -> Result<Option<File>> {
    let lock = open_lock(path)?;
    match retry(|| flock(&lock, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(Some(lock)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(Error::io(path.display(), &e)),
    }
}

/// The same, once nobody else has it. The file is there.
pub(crate) fn wait_lock(path: &Path) -> Result<File> {
    let failed = |e: io::Error| Error::io(path.display(), &e);
    let lock = File::open(path).map_err(failed)?;
    retry(|| flock(&lock, FlockOperation::LockExclusive)).map_err(failed)?;
    Ok(lock)
}

fn open_lock(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let opened = match opened {
        // One that is there can be held all the same.
        Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(path).map_err(|_| e),
        other => other,
    };
    opened.map_err(|e| Error::io(path.display(), &e))
}

fn retry(mut call: impl FnMut() -> rustix::io::Result<()>) -> io::Result<()> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map_err(Into::into),
        }
    }
}
