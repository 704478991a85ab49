//! An image comes from a registry into a store: documents first, then layers beside one another, each unpacked as soon as it is there.

mod download;
mod sources;

use std::fmt;
use std::sync::Arc;

use oci_spec::image::{Descriptor, MediaType};

use crate::bounds::Bounds;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;
use crate::layout::Layout;
use crate::manifest::{self, Documents, MOST};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::Credentials;
use crate::store::Store;

use sources::Sources;

/// How many layers at once.
const JOBS: usize = 3;

/// Fetches an image from its registry, as `docker pull`.
///
/// What the store has already is not fetched again. A layer that was fetched in part, by a process that was killed or over a
/// connection that broke, is gone on with where it ended. Two that pull the same image share one download.
///
/// Plain HTTP is spoken with registries of this machine, and with others only if [`plain_http`](Self::plain_http) says so. Certificates
/// are checked against the system's own; proxies are those of `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
///
/// ```no_run
/// use isolate_images::{Pull, Store};
/// # fn main() -> isolate_images::Result<()> {
/// let store = Store::of_user()?;
/// let image = Pull::new("localhost:5000/tomcat:10".parse()?)
///     .progress(|layer| eprintln!("{} of {}: {} of {} bytes", layer.number, layer.layers, layer.bytes, layer.size))
///     .run(&store)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "nothing is fetched until it is run"]
pub struct Pull {
    reference: Reference,
    platform: Platform,
    credentials: Option<Credentials>,
    mirrors: Vec<String>,
    plain_http: bool,
    jobs: usize,
    bounds: Bounds,
    progress: Option<Arc<Callback>>,
}

type Callback = dyn Fn(&Progress<'_>) + Send + Sync;

/// How far a layer is, told by [`Pull::progress`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The layer, as it is stored in the registry.
    pub layer: &'a Digest,
    /// Which one it is, from 1 on: the bottom one.
    pub number: usize,
    /// How many there are.
    pub layers: usize,
    /// What happens to it.
    pub stage: Stage,
    /// How many of its bytes that has happened to.
    pub bytes: u64,
    /// Of how many, compressed as it is stored.
    pub size: u64,
}

/// What happens to a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// It is fetched.
    Downloading,
    /// It is here, and becomes a directory.
    Unpacking,
    /// It is there.
    Done,
}

impl Pull {
    /// This image, for this machine's platform.
    pub fn new(reference: Reference) -> Self {
        Self {
            reference,
            platform: Platform::here(),
            credentials: None,
            mirrors: Vec::new(),
            plain_http: false,
            jobs: JOBS,
            bounds: Bounds::new(),
            progress: None,
        }
    }

    /// For another platform than this machine's.
    pub fn platform(mut self, platform: Platform) -> Self {
        self.platform = platform;
        self
    }

    /// Who asks. Default: [`Credentials::of_user`]. Mirrors are never told.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Where to look before the registry itself, as `https://mirror.example.org`, with a path or without; in the order in which they are
    /// said. Whatever one of them gives must be what its digest says; the digest of a tag is whatever the first that answers says.
    pub fn mirror(mut self, url: impl Into<String>) -> Self {
        self.mirrors.push(url.into());
        self
    }

    /// Speaks HTTP with the registry: whoever is between can read it and, if the reference has no digest, give another image.
    pub fn plain_http(mut self, on: bool) -> Self {
        self.plain_http = on;
        self
    }

    /// How many layers are fetched at once, at least one. Default: 3.
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = jobs.max(1);
        self
    }

    /// What each layer may be at most.
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Is told how far each layer is, by several threads at once, some times a MiB.
    pub fn progress(mut self, told: impl Fn(&Progress<'_>) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(told));
        self
    }

    /// Fetches and unpacks it, and gives it its name in the store. It waits for the network: in an asynchronous program, on a thread
    /// that may.
    ///
    /// # Errors
    ///
    /// [`Registry`](ErrorKind::Registry) for one that cannot be reached or does not answer as one, after five attempts;
    /// [`Unauthorized`](ErrorKind::Unauthorized); [`NotFound`](ErrorKind::NotFound) for an image that is not there, or not for this
    /// platform; [`Corrupt`](ErrorKind::Corrupt) for what is not what its digest says; as [`Image::unpack`].
    pub fn run(&self, store: &Store) -> Result<Image> {
        self.fetch(store).map_err(|e| e.of(format!("image {}", self.reference)))
    }

    fn fetch(&self, store: &Store) -> Result<Image> {
        let _using = store.enter()?;
        let credentials = self.credentials.clone().or_else(|| Credentials::of_user(&self.reference));
        let sources = Sources::new(&self.reference, &self.mirrors, self.plain_http, credentials)?;
        let remote = Remote { sources: &sources, store, layout: store.layout() };
        let top = remote.top(&self.reference)?;
        let image = manifest::resolve(&remote, &top, &self.platform)?;
        download::layers(self, &image, &sources, store)?;
        let digest = manifest::digest(&top)?;
        store.name(&self.reference, &digest, top.media_type().as_ref(), top.size())?;
        Ok(image)
    }

    fn tell(&self, layer: &Digest, number: usize, layers: usize, stage: Stage, bytes: u64, size: u64) {
        if let Some(told) = &self.progress {
            told(&Progress { layer, number, layers, stage, bytes, size });
        }
    }
}

impl fmt::Debug for Pull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pull")
            .field("reference", &self.reference)
            .field("platform", &self.platform)
            .field("credentials", &self.credentials)
            .field("mirrors", &self.mirrors)
            .finish_non_exhaustive()
    }
}

/// Documents of a registry, which are in the store once they have been read.
struct Remote<'a> {
    sources: &'a Sources,
    store: &'a Store,
    layout: Layout,
}

impl Remote<'_> {
    /// What the name is the name of.
    fn top(&self, reference: &Reference) -> Result<Descriptor> {
        let wanted = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_owned(),
        };
        let named = self.store.find(reference)?;
        let here = match &named {
            Some(named) => Some(manifest::digest(named)?).filter(|digest| self.store.blobs().has(digest)),
            None => None,
        };
        match (self.sources.each(|registry| registry.document(&wanted, here.as_ref()))?, named) {
            (None, Some(named)) => Ok(named),
            (None, None) => Err(Error::new(ErrorKind::Registry, "no manifest")),
            (Some(document), _) => {
                self.keep(&document.digest, &document.bytes)?;
                manifest::descriptor(
                    &document.digest,
                    &media_type(&document.media_type, &document.bytes),
                    document.bytes.len() as u64,
                )
            }
        }
    }

    fn keep(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let Some(mut blob) = self.store.blobs().fetch(digest)? else { return Ok(()) };
        blob.restart()?;
        blob.write(bytes)?;
        blob.finish()
    }
}

impl Documents for Remote<'_> {
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let digest = manifest::digest(descriptor)?;
        if !self.store.blobs().has(&digest) {
            if descriptor.size() > MOST {
                return Err(Error::new(ErrorKind::Refused, format!("{digest}: more than {MOST} bytes")));
            }
            let is_manifest = match descriptor.media_type() {
                MediaType::ImageIndex | MediaType::ImageManifest => true,
                other => other.as_ref().contains(".distribution.manifest."),
            };
            if is_manifest {
                let found = self.sources.each(|registry| registry.document(&digest.to_string(), None))?;
                found.map_or(Ok(()), |document| self.keep(&digest, &document.bytes))?;
            } else {
                self.sources.each(|registry| {
                    download::blob(registry, self.store.blobs(), &digest, descriptor.size(), &mut |_| Ok(()))
                })?;
            }
        }
        self.layout.document(descriptor)
    }

    fn place(&self, digest: &Digest) -> std::path::PathBuf {
        self.layout.place(digest)
    }

    fn origin(&self) -> String {
        self.sources.words()
    }
}

/// What a document says of itself goes before what the registry says of it.
fn media_type(said: &str, bytes: &[u8]) -> String {
    let own = serde_json::from_slice::<serde_json::Value>(bytes).ok();
    let own = own.as_ref().and_then(|document| document.get("mediaType")?.as_str());
    own.unwrap_or_else(|| said.split(';').next().unwrap_or_default().trim()).to_owned()
}
