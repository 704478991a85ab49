//! A directory of images: each blob by its digest, each layer unpacked once.
//!
//! ```text
//! oci-layout, index.json   it is an image layout: every name, and what it is the name of
//! blobs/sha256/HEX         manifests, configurations, layers as they were fetched
//! layers/sha256-HEX        a layer unpacked, by its chain id
//! partial/                 what is being fetched or written
//! leases/                  who uses which layers
//! lock                     shared by who adds or uses, exclusive for who removes
//! ```

mod blobs;
mod lease;
mod prune;

pub(crate) use blobs::Blobs;
#[cfg(feature = "registry")]
pub(crate) use blobs::Partial;
pub use prune::Pruned;

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_spec::image::Descriptor;
use rustix::fs::FlockOperation;
use serde_json::{Value, json};

use crate::bounds::Bounds;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;
use crate::layers::{self, Stack};
use crate::layout::{self, Layout};
use crate::lock;
use crate::manifest;
use crate::platform::Platform;
use crate::reference::Reference;

/// Images, by name, in a directory of this machine: what has been pulled, loaded and made here.
///
/// Every blob is verified before it has its name, a layer is unpacked once and shared by all images and containers that have it.
/// Any number of threads and processes can use one at once; whatever of them is killed, the store is whole, and what is left over goes
/// with its next use. The directory is an OCI image layout, too: `skopeo copy oci:DIRECTORY:NAME …` reads it.
///
/// ```no_run
/// use isolate_images::{Pull, Store};
/// # fn main() -> isolate_images::Result<()> {
/// let store = Store::open("/var/lib/app/images")?;
/// let image = Pull::new("debian:trixie".parse()?).run(&store)?;
/// let layers = store.unpack(&image)?; // bottom first: an overlay's
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

/// A name in a [`Store`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Named {
    /// The name.
    pub reference: Reference,
    /// The digest of the manifest, or index of several platforms, that it is the name of.
    pub digest: Digest,
}

/// While this lives nothing is pruned: of [`Store::hold`].
#[derive(Debug)]
#[must_use = "it holds until it is dropped"]
pub struct Hold {
    _lock: File,
}

impl Store {
    /// The store in this directory, which is made if missing, for its owner only.
    ///
    /// # Errors
    ///
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) for a directory of somebody else, or one that others may write to.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        let store = Self { directory: directory.as_ref().to_owned() };
        let failed = |e| Error::io(format!("store {}", store.directory.display()), &e);
        let make = |path: &Path| DirBuilder::new().mode(0o700).recursive(true).create(path).map_err(failed);
        make(&store.directory)?;
        let metadata = fs::metadata(&store.directory).map_err(failed)?;
        let own = metadata.uid() == rustix::process::geteuid().as_raw();
        if !own || metadata.mode() & 0o022 != 0 {
            let whose = if own { "others may write there" } else { "it is another user's" };
            let what = format!("store {}: {whose}", store.directory.display());
            return Err(Error::new(ErrorKind::PermissionDenied, what));
        }
        for part in ["blobs/sha256", "blobs/sha512", "partial", "leases", "layers"] {
            make(&store.directory.join(part))?;
        }
        if !store.directory.join("oci-layout").exists() {
            store.write("index.json", &json!({ "schemaVersion": 2, "manifests": [] }), false)?;
            store.write("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }), false)?;
        }
        Ok(store)
    }

    /// This user's own: `/var/lib/isolate/images` for root, else `$XDG_DATA_HOME/isolate/images`, or the same in `~/.local/share`.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); [`NotFound`](ErrorKind::NotFound) for a user without a home.
    pub fn of_user() -> Result<Self> {
        if rustix::process::geteuid().is_root() {
            return Self::open("/var/lib/isolate/images");
        }
        let set = |name: &str| {
            std::env::var_os(name).map(PathBuf::from).filter(|directory| directory.is_absolute())
        };
        let data = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
        let data = data.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "no directory for this user's images")
                .with_hint("set HOME or XDG_DATA_HOME, or open a store by its directory")
        })?;
        Self::open(data.join("isolate/images"))
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Every name, sorted.
    pub fn images(&self) -> Result<Vec<Named>> {
        let mut named: Vec<Named> = self
            .entries()?
            .iter()
            .filter_map(|one| {
                let reference = layout::name(one)?.parse().ok()?;
                Some(Named { reference, digest: manifest::digest(one).ok()? })
            })
            .collect();
        named.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(named)
    }

    /// The image of this name, for this machine.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) for a name, or a platform of it, that is not here.
    pub fn image(&self, reference: &Reference) -> Result<Image> {
        self.image_for(reference, &Platform::here())
    }

    /// The same for a platform.
    pub fn image_for(&self, reference: &Reference, platform: &Platform) -> Result<Image> {
        let found = self.find(reference)?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("image {reference}: not in {}", self.directory.display()))
                .with_hint("pull or load it first")
        })?;
        manifest::resolve(&self.layout(), &found, platform).map_err(|e| e.of(format!("image {reference}")))
    }

    /// The image of this digest of a manifest, whether it has a name or not.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) for one that is not here.
    pub fn image_by(&self, digest: &Digest) -> Result<Image> {
        let place = self.blobs().place(digest);
        let text = fs::read(&place).map_err(|e| Error::io(place.display(), &e))?;
        manifest::manifest(&self.layout(), digest.clone(), &text)
    }

    /// Gives an image one more name; what had it before loses it.
    pub fn tag(&self, image: &Image, reference: &Reference) -> Result<()> {
        let _using = self.enter()?;
        let place = self.blobs().place(image.digest());
        let size = fs::metadata(&place).map_err(|e| Error::io(place.display(), &e))?.len();
        self.name(reference, image.digest(), manifest::MANIFEST, size)
    }

    /// Removes a name. What it was the name of stays until [`prune`](Self::prune), and as long as a container has it.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) for a name that is not here.
    pub fn remove(&self, reference: &Reference) -> Result<()> {
        let name = reference.to_string();
        let mut found = false;
        self.change(|entries| {
            entries.retain(|one| {
                let wanted = name_of(one) == Some(&name);
                found |= wanted;
                !wanted
            });
        })?;
        if found {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotFound, format!("image {name}: not in {}", self.directory.display())))
    }

    /// The image's layers, bottom first, unpacked now if they are not yet. They are nobody's to write.
    ///
    /// Who uses them for longer than until the next [`prune`](Self::prune) takes a [`lease`](Self::lease).
    ///
    /// # Errors
    ///
    /// As [`Image::unpack`].
    pub fn unpack(&self, image: &Image) -> Result<Vec<PathBuf>> {
        self.unpack_within(image, Bounds::new())
    }

    /// The same, with other [`Bounds`] for each layer.
    pub fn unpack_within(&self, image: &Image, bounds: Bounds) -> Result<Vec<PathBuf>> {
        let _using = self.enter()?;
        let layers = self.layers();
        let mut stack = Stack::below(&layers, bounds)?;
        image.layers().iter().try_for_each(|layer| stack.push(layer, &mut |_| {}))?;
        Ok(stack.into_directories())
    }

    /// The same if they are all unpacked; nothing is made.
    #[must_use]
    pub fn unpacked(&self, image: &Image) -> Option<Vec<PathBuf>> {
        let below = self.layers();
        let layers: Vec<PathBuf> =
            layers::names(image.layers()).iter().map(|name| below.join(name)).collect();
        layers.iter().all(|layer| layer.exists()).then_some(layers)
    }

    /// While the result lives nothing is pruned, in any process: for what is not named or leased yet.
    pub fn hold(&self) -> Result<Hold> {
        self.enter()
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.directory.join("layers")
    }

    pub(crate) fn blobs(&self) -> Blobs<'_> {
        Blobs::of(&self.directory)
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::of(&self.directory)
    }

    /// What has this name.
    pub(crate) fn find(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        let name = reference.to_string();
        Ok(self.entries()?.into_iter().find(|one| layout::name(one) == Some(&name)))
    }

    /// Gives a document that is stored a name; what had it before loses it.
    pub(crate) fn name(
        &self,
        reference: &Reference,
        digest: &Digest,
        media_type: &str,
        size: u64,
    ) -> Result<()> {
        let name = reference.to_string();
        self.change(|entries| {
            entries.retain(|one| name_of(one) != Some(&name));
            entries.push(json!({
                "mediaType": media_type, "digest": digest.to_string(), "size": size,
                "annotations": { layout::NAME: name },
            }));
        })
    }

    /// While the result lives nothing is pruned. If nobody else is here, what was left by those who were killed goes.
    pub(crate) fn enter(&self) -> Result<Hold> {
        let path = self.directory.join("lock");
        let entered = lock::open(&path).and_then(|file| {
            if lock::try_exclusive(&file)? {
                self.blobs().tidy();
            }
            lock::wait(&file, FlockOperation::LockShared)?;
            Ok(Hold { _lock: file })
        });
        entered.map_err(|e| Error::io(path.display(), &e))
    }

    fn entries(&self) -> Result<Vec<Descriptor>> {
        Ok(self.layout().index()?.manifests().clone())
    }

    /// Changes the names, one process at a time: written aside and renamed.
    fn change(&self, change: impl FnOnce(&mut Vec<Value>)) -> Result<()> {
        let path = self.directory.join("index.json");
        let failed = |e: &io::Error| Error::io(path.display(), e);
        let _lock = lock::exclusive(&self.directory.join("names")).map_err(|e| failed(&e))?;
        let text = fs::read(&path).map_err(|e| failed(&e))?;
        let mut index: Value = serde_json::from_slice(&text).map_err(|e| failed(&e.into()))?;
        match index.get_mut("manifests").and_then(Value::as_array_mut) {
            Some(entries) => change(entries),
            None => return Err(failed(&io::Error::other("an index without manifests"))),
        }
        self.write("index.json", &index, true)
    }

    /// A document of the layout itself.
    fn write(&self, name: &str, document: &Value, replace: bool) -> Result<()> {
        let (path, aside) = (self.directory.join(name), self.directory.join("partial"));
        let written = blobs::aside(&aside).and_then(|(mut file, aside)| {
            let written = file
                .write_all(document.to_string().as_bytes())
                .and_then(|()| file.sync_all())
                .and_then(|()| blobs::rename(&aside, &path, replace));
            if written.is_err() {
                fs::remove_file(&aside).ok();
            }
            written
        });
        written.map_err(|e| Error::io(path.display(), &e))
    }
}

fn name_of(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get(layout::NAME)?.as_str()
}
