//! Content by its digest: written aside, verified, on the disk, and only then renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::digest::{Digest, Hasher, Hashing};
use crate::error::{Error, ErrorKind, Result};
use crate::lock;

/// What is written aside begins so; what is fetched has the name of its digest and stays to be gone on with.
const ASIDE: &str = "new-";

/// The blobs of a store.
#[derive(Clone, Copy)]
pub(crate) struct Blobs<'a> {
    store: &'a Path,
}

/// A blob that is being fetched, by this thread alone.
pub(crate) struct Partial {
    file: File,
    hasher: Hasher,
    have: u64,
    digest: Digest,
    path: PathBuf,
    place: PathBuf,
}

impl<'a> Blobs<'a> {
    pub(crate) fn of(store: &'a Path) -> Self {
        Self { store }
    }

    pub(crate) fn place(self, digest: &Digest) -> PathBuf {
        self.store.join("blobs").join(digest.algorithm()).join(digest.hex())
    }

    pub(crate) fn has(self, digest: &Digest) -> bool {
        self.place(digest).exists()
    }

    /// Everything there is to read, under its SHA-256; and how long it is.
    pub(crate) fn put(self, mut content: impl Read) -> Result<(Digest, u64)> {
        self.put_by(|writer| {
            io::copy(&mut content, writer).map(drop).map_err(|e| Error::io(self.partials().display(), &e))
        })
    }

    /// Everything that is written.
    pub(crate) fn put_by<E: From<Error>>(
        self,
        write: impl FnOnce(&mut dyn Write) -> std::result::Result<(), E>,
    ) -> std::result::Result<(Digest, u64), E> {
        let partial = self.partials();
        let failed = |e: io::Error| Error::io(partial.display(), &e);
        let (file, path) = aside(&partial).map_err(failed)?;
        let mut file = Hashing::new(file, Hasher::sha256());
        let written = write(&mut file).and_then(|()| {
            let (file, digest, size) = file.finish();
            let kept = file.sync_all().and_then(|()| rename(&path, &self.place(&digest), true));
            kept.map(|()| (digest, size)).map_err(|e| failed(e).into())
        });
        if written.is_err() {
            fs::remove_file(&path).ok();
        }
        written
    }

    /// Waits for whoever fetches the same blob; none if it is there then.
    pub(crate) fn fetch(self, digest: &Digest) -> Result<Option<Partial>> {
        let path = self.partials().join(format!("{}-{}", digest.algorithm(), digest.hex()));
        let place = self.place(digest);
        let begun = loop {
            match begin(&path, &place, digest) {
                Ok(Some(file)) => break Ok(file),
                Ok(None) if place.exists() => return Ok(None),
                Ok(None) => {}
                Err(e) => break Err(e),
            }
        };
        let (file, hasher, have) = begun.map_err(|e| Error::io(path.display(), &e))?;
        Ok(Some(Partial { file, hasher, have, digest: digest.clone(), path, place }))
    }

    /// Removes what was written aside by those who were killed, for who is alone here.
    pub(crate) fn tidy(self) {
        for entry in fs::read_dir(self.partials()).into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(ASIDE.as_bytes()) {
                fs::remove_file(entry.path()).ok();
            }
        }
    }

    /// Also what was fetched in part.
    pub(crate) fn forget_partials(self) -> io::Result<()> {
        fs::read_dir(self.partials())?.try_for_each(|entry| fs::remove_file(entry?.path()))
    }

    fn partials(self) -> PathBuf {
        self.store.join("partial")
    }
}

/// Of a blob that was fetched in part there are so many bytes. None: somebody else has ended with it meanwhile, in one way or the other.
fn begin(path: &Path, place: &Path, digest: &Digest) -> io::Result<Option<(File, Hasher, u64)>> {
    let mut file = lock::exclusive(path)?;
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(now) if (now.dev(), now.ino()) == (ours.dev(), ours.ino()) => {}
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => return Ok(None),
    }
    if place.exists() {
        fs::remove_file(path)?;
        return Ok(None);
    }
    let mut hashing = Hashing::new(io::sink(), digest.hasher());
    io::copy(&mut file, &mut hashing)?;
    let (_, hasher, have) = hashing.into_parts();
    Ok(Some((file, hasher, have)))
}

impl Partial {
    /// How many bytes there are.
    #[cfg(feature = "registry")]
    pub(crate) fn have(&self) -> u64 {
        self.have
    }

    /// From the beginning.
    pub(crate) fn restart(&mut self) -> Result<()> {
        (self.hasher, self.have) = (self.digest.hasher(), 0);
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map(drop).map_err(|e| Error::io(self.path.display(), &e))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io(self.path.display(), &e))?;
        self.hasher.update(bytes);
        self.have += bytes.len() as u64;
        Ok(())
    }

    /// It has all its bytes. What is not what its digest says is removed.
    pub(crate) fn finish(self) -> Result<()> {
        if self.hasher.finish() != self.digest {
            fs::remove_file(&self.path).ok();
            let what = format!("blob {}: not what its digest says", self.digest);
            return Err(Error::new(ErrorKind::Corrupt, what));
        }
        let kept = self.file.sync_all().and_then(|()| rename(&self.path, &self.place, true));
        kept.map_err(|e| Error::io(self.path.display(), &e))
    }
}

/// A new file in this directory.
pub(super) fn aside(directory: &Path) -> io::Result<(File, PathBuf)> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("{ASIDE}{}-{number}", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            // Somebody's of the same number in another pid namespace.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other.map(|file| (file, path)),
        }
    }
}

/// Also after a crash of the machine it has the new name, or the old one. Without `replace` what is there stays.
pub(super) fn rename(from: &Path, to: &Path, replace: bool) -> io::Result<()> {
    if replace {
        fs::rename(from, to)?;
    } else {
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::EXIST) => return fs::remove_file(from),
            other => other?,
        }
    }
    to.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}
