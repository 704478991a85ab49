//! A directory with images in it: OCI image-spec, image-layout.md. What `skopeo copy … oci:DIRECTORY` and `umoci` make.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageIndex};

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;
use crate::manifest::{self, Documents, MOST};
use crate::platform::Platform;

/// The annotation of an index's entry that is its name.
pub(crate) const NAME: &str = "org.opencontainers.image.ref.name";

/// An OCI image layout: a directory with an index, and everything in it by its digest.
///
/// ```no_run
/// use isolate_images::{Layout, Platform};
/// # fn main() -> isolate_images::Result<()> {
/// let image = Layout::open("/srv/tomcat")?.image(Some("10"), &Platform::here())?;
/// let layers = image.unpack("/var/lib/app/layers")?; // bottom first: an overlay's
/// println!("{:?} in {layers:?}", image.config().argv().collect::<Vec<_>>());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Layout {
    directory: PathBuf,
}

impl Layout {
    /// Opens the directory. It is never written.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) for one without `oci-layout`, [`Unsupported`](ErrorKind::Unsupported) for another version.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        let layout = Self { directory: directory.as_ref().to_owned() };
        let version: serde_json::Value = serde_json::from_slice(&layout.read("oci-layout")?)
            .map_err(|e| layout.corrupt("oci-layout", &e.to_string()))?;
        match version.get("imageLayoutVersion").and_then(serde_json::Value::as_str) {
            Some(version) if version.starts_with("1.") => Ok(layout),
            other => {
                let what = format!("layout {}: its version is {other:?}", layout.directory.display());
                Err(Error::new(ErrorKind::Unsupported, what).with_hint("1.0.0 is known"))
            }
        }
    }

    /// One that is known to be a layout.
    pub(crate) fn of(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The names of its images: their tags, as a rule.
    pub fn names(&self) -> Result<Vec<String>> {
        Ok(self.index()?.manifests().iter().filter_map(|one| name(one).map(str::to_owned)).collect())
    }

    /// The image of this name, or without one the only image there is, for a platform.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) with the names, or platforms, that there are; [`Corrupt`](ErrorKind::Corrupt) for a document
    /// that is not what its digest says, or none.
    pub fn image(&self, wanted: Option<&str>, platform: &Platform) -> Result<Image> {
        manifest::resolve(self, &self.find(wanted, platform)?, platform)
    }

    pub(crate) fn find(&self, wanted: Option<&str>, platform: &Platform) -> Result<Descriptor> {
        let index = self.index()?;
        let all: Vec<&Descriptor> = index.manifests().iter().collect();
        let found: Vec<&Descriptor> = match wanted {
            Some(wanted) => all.iter().copied().filter(|one| name(one) == Some(wanted)).collect(),
            None => all,
        };
        let missing = |what: String| {
            let names = self.names().unwrap_or_default().join(", ");
            Error::new(ErrorKind::NotFound, format!("layout {}: {what}", self.directory.display()))
                .with_hint(format!("it has: {names}"))
        };
        let of_platform =
            |one: &&&Descriptor| one.platform().as_ref().is_none_or(|other| platform.takes(other));
        match (found.as_slice(), found.iter().find(of_platform)) {
            ([], _) => Err(missing(format!("no image {}", wanted.unwrap_or("at all")))),
            ([_, _, ..], _) if wanted.is_none() && found.iter().all(|one| one.platform().is_none()) => {
                Err(missing("several images, and none is named".to_owned()))
            }
            (_, Some(one)) => Ok((**one).clone()),
            (_, None) => Err(self.no_platform(platform)),
        }
    }

    pub(crate) fn index(&self) -> Result<ImageIndex> {
        let bytes = self.read("index.json")?;
        ImageIndex::from_reader(&bytes[..]).map_err(|e| self.corrupt("index.json", &e.to_string()))
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        let path = self.directory.join(path);
        let failed = |e| Error::io(path.display(), &e);
        let mut bytes = Vec::new();
        File::open(&path).and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes)).map_err(failed)?;
        if bytes.len() as u64 > MOST {
            let what = format!("{}: more than {MOST} bytes", path.display());
            return Err(Error::new(ErrorKind::Refused, what));
        }
        Ok(bytes)
    }

    fn no_platform(&self, platform: &Platform) -> Error {
        let what = format!("layout {}: no image for {platform}", self.directory.display());
        Error::new(ErrorKind::NotFound, what)
    }

    fn corrupt(&self, path: &str, why: &str) -> Error {
        Error::new(ErrorKind::Corrupt, format!("{}: {why}", self.directory.join(path).display()))
    }
}

impl Documents for Layout {
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let digest = manifest::digest(descriptor)?;
        let path = format!("blobs/{}/{}", digest.algorithm(), digest.hex());
        let bytes = self.read(&path)?;
        if bytes.len() as u64 != descriptor.size() || !digest.is_of(&bytes) {
            return Err(self.corrupt(&path, "not what its digest says"));
        }
        Ok(bytes)
    }

    fn place(&self, digest: &Digest) -> PathBuf {
        self.directory.join("blobs").join(digest.algorithm()).join(digest.hex())
    }

    fn origin(&self) -> String {
        format!("layout {}", self.directory.display())
    }
}

pub(crate) fn name(descriptor: &Descriptor) -> Option<&str> {
    descriptor.annotations().as_ref()?.get(NAME).map(String::as_str)
}
