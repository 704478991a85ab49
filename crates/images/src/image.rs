//! An image: its configuration, and its layers, unpacked once.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::bounds::Bounds;
use crate::config::Config;
use crate::digest::Digest;
use crate::error::Result;
use crate::layers::Stack;

/// An image that was found in a [`Layout`](crate::Layout) or a [`Store`](crate::Store).
#[derive(Clone, Debug)]
pub struct Image {
    digest: Digest,
    config: Config,
    created: Option<SystemTime>,
    layers: Vec<Layer>,
}

/// A layer, as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub file: PathBuf,
    pub digest: Digest,
    pub size: u64,
    pub diff_id: Digest,
}

impl Image {
    pub(crate) fn new(
        digest: Digest,
        config: Config,
        created: Option<SystemTime>,
        layers: Vec<Layer>,
    ) -> Self {
        Self { digest, config, created, layers }
    }

    /// The digest of its manifest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// What it says of the program that is to run in it.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// When it was made, if it says so.
    #[must_use]
    pub fn created(&self) -> Option<SystemTime> {
        self.created
    }

    /// How many bytes its layers have as they are stored: compressed, as a rule.
    ///
    /// ```no_run
    /// # fn main() -> isolate_images::Result<()> {
    /// let store = isolate_images::Store::of_user()?;
    /// for named in store.images()? {
    ///     let image = store.image(&named.reference)?;
    ///     println!("{} {} {:?}", named.reference, image.size(), image.created());
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    /// Unpacks its layers below this directory, which is made if missing, and gives theirs, the bottom one first. One that is there
    /// already is not unpacked again: images that begin with the same layers share them.
    ///
    /// Whatever is killed meanwhile, a layer is there whole or not at all; what is left of it the next call removes. Several processes
    /// take turns.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::ErrorKind::Corrupt) for a layer that is not what its digests say; whatever [`Unpack::read`](crate::Unpack::read)
    /// gives.
    pub fn unpack(&self, below: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
        self.unpack_within(below, Bounds::new())
    }

    /// The same, with other [`Bounds`] for each layer.
    pub fn unpack_within(&self, below: impl AsRef<Path>, bounds: Bounds) -> Result<Vec<PathBuf>> {
        let mut stack = Stack::below(below.as_ref(), bounds)?;
        self.layers.iter().try_for_each(|layer| stack.push(layer, &mut |_| {}))?;
        Ok(stack.into_directories())
    }

    pub(crate) fn layers(&self) -> &[Layer] {
        &self.layers
    }
}
