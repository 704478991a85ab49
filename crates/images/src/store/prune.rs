//! What no name and no lease leads to goes.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::image::Descriptor;
use serde_json::Value;

use super::Store;
use crate::digest::{Digest, Hashing};
use crate::error::{Error, ErrorKind, Result};
use crate::layers;
use crate::lock;
use crate::manifest::{self, Documents as _, MOST};

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// Manifests, configurations and layers as they were fetched.
    pub blobs: u64,
    /// Bytes in those.
    pub bytes: u64,
    /// Layers that were unpacked.
    pub layers: u64,
}

/// Everything that is to stay.
#[derive(Default)]
struct Reached {
    blobs: HashSet<PathBuf>,
    layers: HashSet<String>,
}

impl Store {
    /// Removes everything that no name and no [`lease`](Self::lease) leads to: blobs, unpacked layers, what was fetched in part. It waits
    /// for pulls that go on.
    pub fn prune(&self) -> Result<Pruned> {
        let failed = |e: &io::Error| Error::io(format!("store {}", self.directory.display()), e);
        let _lock = lock::exclusive(&self.directory.join("lock")).map_err(|e| failed(&e))?;
        let mut reached = Reached::default();
        for named in self.entries()? {
            self.reach(&manifest::digest(&named)?, &mut reached)?;
        }
        for leased in self.leased().map_err(|e| failed(&e))? {
            self.reach(&leased, &mut reached)?;
        }
        self.sweep(&reached).map_err(|e| failed(&e))
    }

    fn sweep(&self, reached: &Reached) -> io::Result<Pruned> {
        let mut pruned = Pruned::default();
        self.blobs().forget_partials()?;
        for algorithm in ["sha256", "sha512"] {
            for entry in fs::read_dir(self.directory.join("blobs").join(algorithm))? {
                let entry = entry?;
                if !reached.blobs.contains(&entry.path()) {
                    pruned.blobs += 1;
                    pruned.bytes += entry.metadata()?.len();
                    fs::remove_file(entry.path())?;
                }
            }
        }
        let below = self.layers();
        layers::clear(&below)?;
        for entry in fs::read_dir(&below)? {
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type()?.is_dir() && !name.to_str().is_some_and(|name| reached.layers.contains(name))
            {
                layers::remove(&below, &entry.path())?;
                pruned.layers += 1;
            }
        }
        Ok(pruned)
    }

    /// Of an index there may be the manifests of some platforms only.
    fn reach(&self, digest: &Digest, reached: &mut Reached) -> Result<()> {
        let place = self.blobs().place(digest);
        if !place.exists() || !reached.blobs.insert(place.clone()) {
            return Ok(());
        }
        let corrupt =
            |e: &dyn std::fmt::Display| Error::new(ErrorKind::Corrupt, format!("{}: {e}", place.display()));
        if fs::metadata(&place).is_ok_and(|file| file.len() > MOST) {
            return Err(corrupt(&"no manifest"));
        }
        let text = fs::read(&place).map_err(|e| Error::io(place.display(), &e))?;
        let document: Value = serde_json::from_slice(&text).map_err(|e| corrupt(&e))?;
        let descriptor =
            |value: &Value| serde_json::from_value::<Descriptor>(value.clone()).map_err(|e| corrupt(&e));
        for inner in document.get("manifests").and_then(Value::as_array).into_iter().flatten() {
            self.reach(&manifest::digest(&descriptor(inner)?)?, reached)?;
        }
        let Some(config) = document.get("config") else { return Ok(()) };
        let config = descriptor(config)?;
        reached.blobs.insert(self.blobs().place(&manifest::digest(&config)?));
        for layer in document.get("layers").and_then(Value::as_array).into_iter().flatten() {
            reached.blobs.insert(self.blobs().place(&manifest::digest(&descriptor(layer)?)?));
        }
        // A pull that was killed may have left the manifest alone.
        if let Ok(image) = self
            .layout()
            .document(&config)
            .and_then(|_| manifest::manifest(&self.layout(), digest.clone(), &text))
        {
            reached.layers.extend(layers::names(image.layers()));
        }
        Ok(())
    }

    /// Reads everything, and gives what is not what its digest says, and what a name leads to and is not here: nothing, as a rule.
    pub fn verify(&self) -> Result<Vec<Error>> {
        let _using = self.enter()?;
        let failed = |e: &io::Error| Error::io(format!("store {}", self.directory.display()), e);
        let mut wrong = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            for entry in fs::read_dir(self.directory.join("blobs").join(algorithm)).map_err(|e| failed(&e))? {
                let path = entry.map_err(|e| failed(&e))?.path();
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let right =
                    format!("{algorithm}:{name}").parse::<Digest>().is_ok_and(|digest| is_of(&path, &digest));
                if !right {
                    wrong.push(Error::new(
                        ErrorKind::Corrupt,
                        format!("{}: not what its digest says", path.display()),
                    ));
                }
            }
        }
        for named in self.entries()? {
            let mut reached = Reached::default();
            let digest = manifest::digest(&named)?;
            if !self.blobs().has(&digest) {
                wrong.push(Error::new(ErrorKind::NotFound, format!("{digest}, which has a name: not here")));
            }
            wrong.extend(self.reach(&digest, &mut reached).err());
            let missing = reached.blobs.into_iter().filter(|blob| !blob.exists());
            wrong.extend(
                missing.map(|blob| Error::new(ErrorKind::NotFound, format!("{}: not there", blob.display()))),
            );
        }
        Ok(wrong)
    }
}

fn is_of(path: &Path, digest: &Digest) -> bool {
    let mut hashing = Hashing::new(io::sink(), digest.hasher());
    let read = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hashing));
    read.is_ok() && hashing.finish().1 == *digest
}

/// A directory with everything in it; none is no error.
pub(super) fn remove_tree(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
