//! From a descriptor to an image: OCI image-spec, manifest.md and image-index.md. Docker's documents are the same by other names.

use std::path::PathBuf;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};

use crate::config::{self, Rest};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Image, Layer};
use crate::platform::Platform;

/// Of a document, in bytes: what registries take at most.
pub(crate) const MOST: u64 = 4 << 20;
/// An index in an index in an index.
const DEPTH: usize = 4;
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKERS_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Of Docker's first registries: signed, and without a configuration.
const OLD: &str = "application/vnd.docker.distribution.manifest.v1";

/// Where documents are.
pub(crate) trait Documents {
    /// An index, manifest or configuration, which is what its descriptor says.
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>>;
    /// Where a layer is stored, or will be.
    fn place(&self, digest: &Digest) -> PathBuf;
    /// For messages.
    fn origin(&self) -> String;
}

/// The image for a platform that a descriptor leads to.
pub(crate) fn resolve(from: &impl Documents, descriptor: &Descriptor, platform: &Platform) -> Result<Image> {
    let mut descriptor = descriptor.clone();
    for _ in 0..=DEPTH {
        let bytes = from.document(&descriptor)?;
        let digest = digest(&descriptor)?;
        let corrupt =
            |why: &str| Error::new(ErrorKind::Corrupt, format!("{}: {digest}: {why}", from.origin()));
        match descriptor.media_type() {
            MediaType::ImageIndex => {}
            MediaType::Other(other) if other == DOCKERS_INDEX => {}
            MediaType::Other(other) if other.starts_with(OLD) => {
                let what = format!("{}: a manifest of Docker's schema 1", from.origin());
                return Err(Error::new(ErrorKind::Unsupported, what)
                    .with_hint("push it again with any tool of the last ten years"));
            }
            _ => return manifest(from, digest, &bytes),
        }
        let index = ImageIndex::from_reader(&bytes[..]).map_err(|e| corrupt(&e.to_string()))?;
        descriptor = pick(index.manifests(), platform)
            .ok_or_else(|| {
                let there: Vec<String> = index
                    .manifests()
                    .iter()
                    .filter_map(|one| one.platform().as_ref())
                    .map(|other| format!("{}/{}", other.os(), other.architecture()))
                    .collect();
                let what = format!("{}: no image for {platform}", from.origin());
                Error::new(ErrorKind::NotFound, what).with_hint(format!("there is: {}", there.join(", ")))
            })?
            .clone();
    }
    Err(Error::new(ErrorKind::Corrupt, format!("{}: indexes in one another", from.origin())))
}

/// Of an index: the first one for the platform, or the only one there is if it says none.
fn pick<'a>(all: &'a [Descriptor], platform: &Platform) -> Option<&'a Descriptor> {
    let takes = |one: &&Descriptor| one.platform().as_ref().is_some_and(|other| platform.takes(other));
    all.iter().find(takes).or(match all {
        [one] if one.platform().is_none() => Some(one),
        _ => None,
    })
}

pub(crate) fn manifest(from: &impl Documents, digest: Digest, bytes: &[u8]) -> Result<Image> {
    let wrong = |why: &str| Error::new(ErrorKind::Corrupt, format!("{}: {digest}: {why}", from.origin()));
    let manifest = ImageManifest::from_reader(bytes).map_err(|e| wrong(&e.to_string()))?;
    let config = from.document(manifest.config())?;
    let (config, Rest { diff_ids, created }) = config::read(&config)?;
    if diff_ids.len() != manifest.layers().len() {
        return Err(wrong("as many layers as its configuration names it has not"));
    }
    let layer = |(layer, diff_id): (&Descriptor, Digest)| {
        let digest = self::digest(layer)?;
        Ok(Layer { file: from.place(&digest), digest, size: layer.size(), diff_id })
    };
    let layers: Result<Vec<Layer>> = manifest.layers().iter().zip(diff_ids).map(layer).collect();
    Ok(Image::new(digest.clone(), config, created, layers?))
}

/// The digest of what a descriptor is of.
pub(crate) fn digest(descriptor: &Descriptor) -> Result<Digest> {
    descriptor.digest().to_string().parse()
}

#[cfg(feature = "registry")]
pub(crate) fn descriptor(digest: &Digest, media_type: &str, size: u64) -> Result<Descriptor> {
    let document = serde_json::json!({ "mediaType": media_type, "digest": digest.to_string(), "size": size });
    serde_json::from_value(document).map_err(|e| Error::new(ErrorKind::Corrupt, format!("{digest}: {e}")))
}
