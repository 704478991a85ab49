//! A layer becomes a directory that overlayfs takes as one: OCI image-spec, layer.md, "applying".
//!
//! Whoever wrote the archive is not trusted. Nothing is reached by a path from the host's root: every name is looked up from the
//! directory's descriptor, as if it were `/` (openat2(2), `RESOLVE_IN_ROOT`), and what cannot be kept as it is ends the whole.

mod entry;
mod lower;
mod place;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::archive::{Archive, Entry, shown};
use crate::bounds::Bounds;
use crate::decompress::Decompress;
use crate::digest::{Digest, Hasher, Hashing};
use crate::error::{Error, ErrorKind, Result};

use lower::Lower;
use place::Place;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Marks of aufs, which layers are free to have.
const MARKS: &[u8] = b".wh..wh.";

/// Unpacks layers into directories.
///
/// A layer is a tar archive (ustar, pax, GNU; compressed by gzip or zstd, or not) with deletions as files whose names begin with
/// `.wh.`. Kept are types, modes, owners, times, links, devices, holes and extended attributes with capabilities; deletions become
/// whiteouts and opaque directories of overlayfs, so that the directory is a layer of an overlay.
///
/// ```no_run
/// use isolate_images::{Bounds, Unpack};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layer = std::fs::File::open("layer.tar.gz")?;
/// let unpacked = Unpack::into("/srv/layers/app").over(["/srv/layers/debian"]).bounds(Bounds::new().bytes(1 << 30)).read(layer)?;
/// println!("{} entries, {}", unpacked.entries, unpacked.diff_id);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is unpacked until an archive is read"]
pub struct Unpack {
    directory: PathBuf,
    below: Vec<PathBuf>,
    bounds: Bounds,
    userxattr: bool,
    ordinary: bool,
}

/// What was unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unpacked {
    /// The digest of the archive, uncompressed: what an image's configuration knows the layer by.
    pub diff_id: Digest,
    /// Files, directories, links and deletions in the archive.
    pub entries: u64,
    /// Bytes in its files, holes included.
    pub bytes: u64,
    /// Devices that an ordinary user may not make, and left out.
    pub left_out: u64,
}

impl Unpack {
    /// Into this directory, which is there and empty. Until [`read`](Self::read) returns nobody else may change it.
    pub fn into(directory: impl AsRef<Path>) -> Self {
        let ordinary = !rustix::process::geteuid().is_root();
        Self {
            directory: directory.as_ref().to_owned(),
            below: Vec::new(),
            bounds: Bounds::new(),
            userxattr: ordinary,
            ordinary,
        }
    }

    /// The layers below it, the last one on top, unpacked. A directory that the archive leaves out, because it is there, has the
    /// attributes that it has there, and a symbolic link there leads where it leads.
    pub fn over(mut self, bottom_up: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        self.below = bottom_up.into_iter().map(|layer| layer.as_ref().to_owned()).collect();
        self
    }

    /// What it may be at most. Default: [`Bounds::new`].
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Whether opaque directories are marked by `user.overlay.opaque`, for overlays that an ordinary user mounts (`userxattr`, Linux
    /// 5.11), and not by `trusted.overlay.opaque`. Default: as the caller is one or root.
    pub fn userxattr(mut self, on: bool) -> Self {
        self.userxattr = on;
        self
    }

    /// Reads a layer to its end. Of an ordinary user, all files are that user's, and devices are left out.
    ///
    /// # Errors
    ///
    /// [`Refused`](ErrorKind::Refused) for names with `..`, for what overlayfs keeps for itself (its attributes, a device 0/0), for
    /// links that lead to nothing in the layer, and beyond a bound; [`Corrupt`](ErrorKind::Corrupt) for what is no archive, or cut off;
    /// whatever the kernel refuses, by the entry's name. What was unpacked until then is left to be removed with the directory.
    pub fn read(&self, layer: impl Read) -> Result<Unpacked> {
        let failed = |e: &io::Error| Error::io(self.directory.display(), e);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, &self.directory, flags, Mode::empty()).map_err(|e| failed(&e.into()))?;
        let plain = Decompress::new(layer, self.bounds).map_err(|e| Error::io("layer", &e))?;
        let read = plain.counter();
        let mut archive = Archive::new(Hashing::new(plain, Hasher::sha256()), self.bounds);
        let mut writing = Writing {
            place: Place::new(root, Lower::open(&self.below, self.userxattr)?, self.ordinary),
            userxattr: self.userxattr,
            ordinary: self.ordinary,
            buffer: vec![0; 128 << 10],
        };
        writing.place.begin()?;
        let (mut bytes, mut left_out) = (0_u64, 0);
        while let Some(entry) = archive.next()? {
            bytes = bytes.saturating_add(entry.size);
            if bytes > self.bounds.bytes {
                let what =
                    format!("archive, at {}: more than {} bytes", shown(&entry.path), self.bounds.bytes);
                return Err(Error::new(ErrorKind::Refused, what));
            }
            if Bounds::are_too_many(archive.entries(), read.get()) {
                let what =
                    format!("archive: {} entries in {} compressed bytes", archive.entries(), read.get());
                return Err(Error::new(ErrorKind::Refused, what));
            }
            let made = writing
                .put(&entry, &mut archive)
                .map_err(|e| e.of(format!("entry {}", shown(&entry.path))))?;
            left_out += u64::from(!made);
        }
        writing.finish()?;
        let entries = archive.entries();
        let mut rest = archive.into_inner();
        // Behind the end there may be zeros, which the digest counts.
        io::copy(&mut rest, &mut io::sink()).map_err(|e| match e.kind() {
            io::ErrorKind::QuotaExceeded => Error::new(ErrorKind::Refused, format!("layer: {e}")),
            _ => Error::new(ErrorKind::Corrupt, format!("layer: {e}")),
        })?;
        let (_, diff_id, _) = rest.finish();
        Ok(Unpacked { diff_id, entries, bytes, left_out })
    }
}

/// A directory that is being filled.
struct Writing {
    place: Place,
    userxattr: bool,
    ordinary: bool,
    buffer: Vec<u8>,
}

impl Writing {
    /// Whether it was made.
    fn put<R: Read>(&mut self, entry: &Entry, archive: &mut Archive<R>) -> Result<bool> {
        let path = place::normal(&entry.path)?;
        let Some(name) = path.file_name() else {
            return self.root(entry).map(|()| true);
        };
        let name = name.to_owned();
        let parent = path.parent().unwrap_or(Path::new(""));
        let bytes = std::os::unix::ffi::OsStrExt::as_bytes(&*name);
        if bytes == OPAQUE {
            self.opaque(parent)?;
        } else if bytes.starts_with(MARKS) {
        } else if let Some(deleted) = bytes.strip_prefix(WHITEOUT) {
            self.whiteout(parent, deleted)?;
        } else {
            return self.make(entry, &path, parent, &name, archive);
        }
        Ok(true)
    }
}
