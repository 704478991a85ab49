//! Where an image is to be had, in one text.

use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;
use crate::layout::Layout;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::Store;

/// Where an image is, as `skopeo` and `podman` write it: `tomcat:10` and `docker://tomcat:10` in a registry, `oci:DIRECTORY[:NAME]` in a
/// layout, `docker-archive:FILE` and `oci-archive:FILE` in an archive that has one image.
///
/// ```
/// use isolate_images::Source;
/// assert!(matches!("localhost:5000/tomcat:10".parse(), Ok(Source::Registry(_))));
/// assert!(matches!("oci:/srv/tomcat:10".parse(), Ok(Source::Layout { name: Some(name), .. }) if name == "10"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// In a registry, or in the store by this name already.
    Registry(Reference),
    /// In an OCI image layout.
    Layout {
        /// Its directory.
        directory: PathBuf,
        /// The image's name there; without one it is the only image.
        name: Option<String>,
    },
    /// In an archive.
    Archive(PathBuf),
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(place) = text.strip_prefix("oci:") {
            let (directory, name) = match place.split_once(':') {
                Some((directory, name)) => (directory, Some(name.to_owned())),
                None => (place, None),
            };
            return Ok(Self::Layout { directory: directory.into(), name });
        }
        if let Some(file) = text.strip_prefix("docker-archive:").or_else(|| text.strip_prefix("oci-archive:"))
        {
            return Ok(Self::Archive(file.into()));
        }
        text.strip_prefix("docker://").unwrap_or(text).parse().map(Self::Registry)
    }
}

impl Source {
    /// The image for this machine if it is in the store; nothing is fetched. Of an archive it is never known.
    ///
    /// # Errors
    ///
    /// As [`Layout::image`], and for what is damaged.
    pub fn find(&self, store: &Store) -> Result<Option<Image>> {
        let found = match self {
            Self::Registry(reference) => store.image(reference),
            Self::Layout { directory, name } => {
                let image = Layout::open(directory)?.image(name.as_deref(), &Platform::here())?;
                store.image_by(image.digest())
            }
            Self::Archive(_) => return Ok(None),
        };
        match found {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// The image for this machine, in the store afterwards: of a registry only if it is not there by its name, from a layout or an archive
    /// what lies there now.
    ///
    /// # Errors
    ///
    /// As [`Pull::run`](crate::Pull::run) and [`Store::load`].
    pub fn bring(&self, store: &Store) -> Result<Image> {
        match self {
            Self::Registry(reference) => match store.image(reference) {
                Err(e) if e.kind() == ErrorKind::NotFound => fetch(reference, store, e),
                other => other,
            },
            Self::Layout { directory, name } => {
                store.load_layout(&Layout::open(directory)?, name.as_deref(), &Platform::here())
            }
            Self::Archive(file) => match store.load(file)?.as_slice() {
                [first, rest @ ..] if rest.iter().all(|one| one.image.digest() == first.image.digest()) => {
                    Ok(first.image.clone())
                }
                several => {
                    let what = format!("archive {}: {} images", file.display(), several.len());
                    Err(Error::new(ErrorKind::InvalidInput, what)
                        .with_hint("load it, and choose one by its name"))
                }
            },
        }
    }
}

#[cfg(feature = "registry")]
fn fetch(reference: &Reference, store: &Store, _: Error) -> Result<Image> {
    crate::Pull::new(reference.clone()).run(store)
}

#[cfg(not(feature = "registry"))]
fn fetch(_: &Reference, _: &Store, missing: Error) -> Result<Image> {
    Err(missing)
}
