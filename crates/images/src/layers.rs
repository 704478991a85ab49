//! Unpacked layers in a directory: each is there whole or not at all, and shared by the images that begin with the same ones.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::bounds::Bounds;
use crate::digest::{Digest, Hashing};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Layer;
use crate::lock;
use crate::unpack::Unpack;

/// What is being made, until it is whole.
const UNFINISHED: &str = "unfinished";

/// An image's layers, bottom first, as far as they have been pushed.
pub(crate) struct Stack<'a> {
    below: &'a Path,
    bounds: Bounds,
    directories: Vec<PathBuf>,
    chain: Option<Digest>,
}

impl<'a> Stack<'a> {
    /// In this directory, which is made if missing.
    pub(crate) fn below(below: &'a Path, bounds: Bounds) -> Result<Self> {
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(below)
            .map_err(|e| Error::io(below.display(), &e))?;
        Ok(Self { below, bounds, directories: Vec::new(), chain: None })
    }

    /// Unpacks one more, unless it is there. It tells how many bytes have been read of what is stored.
    pub(crate) fn push(&mut self, layer: &Layer, read: &mut dyn FnMut(u64)) -> Result<()> {
        let failed = |e: &io::Error| Error::io(self.below.display(), e);
        let (directory, chain) = self.next(layer);
        if !directory.exists() {
            let _lock = lock::exclusive(&self.below.join("lock")).map_err(|e| failed(&e))?;
            let unfinished = self.below.join(UNFINISHED);
            clear(self.below).map_err(|e| failed(&e))?;
            // Somebody else may have been first.
            if !directory.exists() {
                fs::create_dir(&unfinished).map_err(|e| failed(&e))?;
                // Whatever the caller's umask is.
                let mode = Permissions::from_mode(0o755);
                fs::set_permissions(&unfinished, mode).map_err(|e| failed(&e))?;
                let made = unpack(layer, &unfinished, &self.directories, self.bounds, read).and_then(|()| {
                    // What has the name must be on the disk.
                    let root = File::open(&unfinished).map_err(|e| failed(&e))?;
                    rustix::fs::syncfs(&root).map_err(|e| failed(&e.into()))?;
                    fs::rename(&unfinished, &directory).map_err(|e| failed(&e))
                });
                if made.is_err() {
                    fs::remove_dir_all(&unfinished).ok();
                }
                made.map_err(|e| e.of(format!("layer {}", layer.digest)))?;
            }
        }
        self.directories.push(directory);
        self.chain = Some(chain);
        Ok(())
    }

    pub(crate) fn into_directories(self) -> Vec<PathBuf> {
        self.directories
    }

    /// Its directory, and what it and those below it are known by.
    fn next(&self, layer: &Layer) -> (PathBuf, Digest) {
        let id = chain_id(self.chain.as_ref(), layer);
        (self.below.join(name(&id)), id)
    }
}

/// Removes what somebody began who was killed. For whoever has the lock, or is alone.
pub(crate) fn clear(below: &Path) -> io::Result<()> {
    match fs::remove_dir_all(below.join(UNFINISHED)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Removes a layer, which is whole or has not its name any more. For who is alone.
pub(crate) fn remove(below: &Path, directory: &Path) -> io::Result<()> {
    clear(below)?;
    fs::rename(directory, below.join(UNFINISHED))?;
    clear(below)
}

/// The names of an image's layers in the directory.
pub(crate) fn names(layers: &[Layer]) -> Vec<String> {
    let mut chain = None;
    layers
        .iter()
        .map(|layer| {
            let id = chain_id(chain.as_ref(), layer);
            let name = name(&id);
            chain = Some(id);
            name
        })
        .collect()
}

/// OCI image-spec, config.md, "layer chain id".
fn chain_id(below: Option<&Digest>, layer: &Layer) -> Digest {
    match below {
        None => layer.diff_id.clone(),
        Some(below) => Digest::of(format!("{below} {}", layer.diff_id).as_bytes()),
    }
}

fn name(chain_id: &Digest) -> String {
    format!("{}-{}", chain_id.algorithm(), chain_id.hex())
}

fn unpack(
    layer: &Layer,
    directory: &Path,
    below: &[PathBuf],
    bounds: Bounds,
    read: &mut dyn FnMut(u64),
) -> Result<()> {
    let corrupt = |why: &str| Error::new(ErrorKind::Corrupt, format!("{}: {why}", layer.file.display()));
    let failed = |e: &io::Error| Error::io(layer.file.display(), e);
    let file = File::open(&layer.file).map_err(|e| failed(&e))?;
    if file.metadata().map_err(|e| failed(&e))?.len() != layer.size {
        return Err(corrupt("not as long as its manifest says"));
    }
    let mut stored = Hashing::new(Counting { inner: file, bytes: 0, read }, layer.digest.hasher());
    let unpacked = Unpack::into(directory).over(below).bounds(bounds).read(&mut stored)?;
    // What a decoder has no need of.
    io::copy(&mut stored, &mut io::sink()).map_err(|e| failed(&e))?;
    let (_, digest, _) = stored.finish();
    if digest != layer.digest {
        return Err(corrupt("not what its digest says"));
    }
    if unpacked.diff_id != layer.diff_id {
        return Err(corrupt("not what the image's configuration says it is, uncompressed"));
    }
    Ok(())
}

/// Tells how far it has been read.
struct Counting<'a> {
    inner: File,
    bytes: u64,
    read: &'a mut dyn FnMut(u64),
}

impl Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        (self.read)(self.bytes);
        Ok(read)
    }
}
