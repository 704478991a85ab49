//! Images without a network: directories and archives of them, into a store.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use oci_spec::image::{Descriptor, ImageIndex};
use serde_json::Value;

use crate::archive::{Archive, Kind, shown};
use crate::bounds::Bounds;
use crate::decompress::Decompress;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;
use crate::layout::{self, Layout};
use crate::manifest::{self, Documents, MOST};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::Store;

/// How many bytes of documents an archive may have.
const DOCUMENTS: usize = 64 << 20;
/// Of containerd, and of Docker since its version 25: the whole name.
const WHOLE_NAME: &str = "io.containerd.image.name";
/// Links to links to links.
const LINKS: usize = 8;

/// An image that [`Store::load`] brought.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The name that it has now in the store; none if it had none but a tag where it came from.
    pub reference: Option<Reference>,
    /// The image.
    pub image: Image,
}

impl Store {
    /// Brings the images of an OCI image layout, or of an archive: what `docker save`, `podman save`, `skopeo copy … oci-archive:FILE`
    /// and `docker-archive:FILE` write, compressed or not. They have their names from there; of an image for several platforms there
    /// must be this machine's.
    ///
    /// ```no_run
    /// # fn main() -> isolate_images::Result<()> {
    /// let store = isolate_images::Store::of_user()?;
    /// for loaded in store.load("tomcat.tar")? {
    ///     println!("{:?} is {}", loaded.reference, loaded.image.digest());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) for an archive of something else; [`Corrupt`](ErrorKind::Corrupt) for a blob that is not
    /// what its digest says; [`NotFound`](ErrorKind::NotFound) for one that is missing, or no image for this platform.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<Vec<Loaded>> {
        let path = path.as_ref();
        if path.is_dir() {
            let layout = Layout::open(path)?;
            let entries = layout.index()?.manifests().clone();
            return self.load_entries(&entries, &Platform::here(), |one| self.copy(&layout, one));
        }
        let file = File::open(path).map_err(|e| Error::io(path.display(), &e))?;
        self.load_archive(file).map_err(|e| e.of(path.display()))
    }

    /// The same of an archive that is read from anywhere.
    pub fn load_archive(&self, archive: impl Read) -> Result<Vec<Loaded>> {
        let _using = self.enter()?;
        self.unpack_archive(archive)?.load(self, &Platform::here())
    }

    /// One image of a layout, by its name there, or the only one. It has no name in the store.
    pub(crate) fn load_layout(
        &self,
        layout: &Layout,
        name: Option<&str>,
        platform: &Platform,
    ) -> Result<Image> {
        let _using = self.enter()?;
        let descriptor = layout.find(name, platform)?;
        self.copy(layout, &descriptor)?;
        manifest::resolve(&self.layout(), &descriptor, platform)
    }

    fn load_entries(
        &self,
        entries: &[Descriptor],
        platform: &Platform,
        bring: impl Fn(&Descriptor) -> Result<()>,
    ) -> Result<Vec<Loaded>> {
        let _using = self.enter()?;
        let mut loaded = Vec::new();
        for entry in entries {
            bring(entry)?;
            let image = manifest::resolve(&self.layout(), entry, platform)?;
            let reference = reference(entry);
            if let Some(reference) = &reference {
                self.name(reference, &manifest::digest(entry)?, entry.media_type().as_ref(), entry.size())?;
            }
            loaded.push(Loaded { reference, image });
        }
        Ok(loaded)
    }

    /// Everything that is there of what a descriptor leads to.
    fn copy(&self, from: &Layout, descriptor: &Descriptor) -> Result<()> {
        self.copy_blob(from, descriptor)?;
        let document = self.layout().document(descriptor)?;
        let wrong =
            |e: serde_json::Error| Error::new(ErrorKind::Corrupt, format!("{}: {e}", descriptor.digest()));
        let document: Value = serde_json::from_slice(&document).map_err(wrong)?;
        let of = |value: &Value| serde_json::from_value::<Descriptor>(value.clone()).map_err(wrong);
        for inner in document.get("manifests").and_then(Value::as_array).into_iter().flatten() {
            let inner = of(inner)?;
            // Of other platforms there may be nothing but the name.
            if from.place(&manifest::digest(&inner)?).exists() {
                self.copy(from, &inner)?;
            }
        }
        let layers = document.get("layers").and_then(Value::as_array).into_iter().flatten();
        document.get("config").into_iter().chain(layers).try_for_each(|blob| self.copy_blob(from, &of(blob)?))
    }

    fn copy_blob(&self, from: &Layout, descriptor: &Descriptor) -> Result<()> {
        let digest = manifest::digest(descriptor)?;
        let Some(mut blob) = self.blobs().fetch(&digest)? else { return Ok(()) };
        blob.restart()?;
        let place = from.place(&digest);
        let failed = |e: &std::io::Error| Error::io(place.display(), e);
        let mut file = File::open(&place).map_err(|e| failed(&e))?;
        let mut buffer = vec![0; 128 << 10];
        loop {
            match file.read(&mut buffer).map_err(|e| failed(&e))? {
                0 => return blob.finish().map_err(|e| e.of(from.origin())),
                read => blob.write(buffer.get(..read).unwrap_or_default())?,
            }
        }
    }

    /// Large files become blobs, and what may be a document is kept in memory.
    fn unpack_archive(&self, archive: impl Read) -> Result<Files> {
        let bounds = Bounds::new();
        let plain = Decompress::new(archive, bounds).map_err(|e| Error::io("archive", &e))?;
        let mut archive = Archive::new(plain, bounds);
        let (mut files, mut documents) = (Files::default(), 0);
        while let Some(entry) = archive.next()? {
            let path = normal(&entry.path, &[]);
            match entry.kind {
                Kind::File if entry.segments.is_some() => {
                    let what = format!("entry {}: a file with holes", shown(&entry.path));
                    return Err(Error::new(ErrorKind::Unsupported, what));
                }
                Kind::File
                    if entry.size <= MOST && !path.starts_with("blobs/") && !path.ends_with(".tar") =>
                {
                    let mut bytes = vec![0; usize::try_from(entry.size).unwrap_or_default()];
                    let mut filled = 0;
                    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                        filled += archive.read(rest)?;
                    }
                    documents += bytes.len();
                    if documents > DOCUMENTS {
                        let what = format!("archive: documents of more than {DOCUMENTS} bytes");
                        return Err(Error::new(ErrorKind::Refused, what));
                    }
                    files.documents.insert(path, bytes);
                }
                Kind::File => {
                    let stored = self.blobs().put(Within(&mut archive))?;
                    files.blobs.insert(path, stored);
                }
                Kind::Symlink => {
                    let directory = entry.path.rsplitn(2, |byte| *byte == b'/').nth(1).unwrap_or_default();
                    files.links.insert(path, normal(&entry.link, directory));
                }
                Kind::HardLink => drop(files.links.insert(path, normal(&entry.link, &[]))),
                _ => {}
            }
        }
        Ok(files)
    }
}

/// What was in an archive.
#[derive(Default)]
struct Files {
    blobs: HashMap<String, (Digest, u64)>,
    documents: HashMap<String, Vec<u8>>,
    links: HashMap<String, String>,
}

impl Files {
    fn load(&self, store: &Store, platform: &Platform) -> Result<Vec<Loaded>> {
        if let Some(dockers) = self.documents.get("manifest.json") {
            return self.dockers(store, dockers);
        }
        let Some(index) = self.documents.get("index.json") else {
            let what = "neither an archive of images nor of an image layout";
            return Err(Error::new(ErrorKind::Unsupported, what)
                .with_hint("an archive of a root file system becomes an image by Store::import"));
        };
        let index = ImageIndex::from_reader(&index[..])
            .map_err(|e| Error::new(ErrorKind::Corrupt, format!("index.json: {e}")))?;
        // What is there is stored by its digest already.
        store.load_entries(index.manifests(), platform, |_| Ok(()))
    }

    /// Docker's own list: moby's image/spec, "combined image JSON + filesystem changeset format".
    fn dockers(&self, store: &Store, list: &[u8]) -> Result<Vec<Loaded>> {
        let wrong = |why: &str| Error::new(ErrorKind::Corrupt, format!("manifest.json: {why}"));
        let list: Value = serde_json::from_slice(list).map_err(|e| wrong(&e.to_string()))?;
        let mut loaded = Vec::new();
        for one in list.as_array().ok_or_else(|| wrong("no list"))? {
            let text = |value: &Value| {
                value.as_str().map(str::to_owned).ok_or_else(|| wrong("no text where a path should be"))
            };
            let all = |name: &str| one.get(name).and_then(Value::as_array).into_iter().flatten().map(text);
            let config = text(one.get("Config").unwrap_or(&Value::Null))?;
            let layers: Vec<String> = all("Layers").collect::<Result<_>>()?;
            let layers: Vec<(Digest, u64)> =
                layers.iter().map(|path| self.blob(store, path)).collect::<Result<_>>()?;
            let image = store.image_of(&self.blob(store, &config)?, &layers)?;
            let mut names = Vec::new();
            for name in all("RepoTags") {
                let reference: Reference = name?.parse()?;
                store.tag(&image, &reference)?;
                names.push(reference);
            }
            if names.is_empty() {
                loaded.push(Loaded { reference: None, image: image.clone() });
            }
            loaded
                .extend(names.into_iter().map(|name| Loaded { reference: Some(name), image: image.clone() }));
        }
        Ok(loaded)
    }

    /// A file of the archive, as a blob.
    fn blob(&self, store: &Store, path: &str) -> Result<(Digest, u64)> {
        let mut path = normal(path.as_bytes(), &[]);
        for _ in 0..LINKS {
            if let Some(stored) = self.blobs.get(&path) {
                return Ok(stored.clone());
            }
            if let Some(bytes) = self.documents.get(&path) {
                return store.blobs().put(&bytes[..]);
            }
            match self.links.get(&path) {
                Some(target) => path.clone_from(target),
                None => break,
            }
        }
        Err(Error::new(ErrorKind::NotFound, format!("archive: no file {path:?}")))
    }
}

/// What an entry of an index is called, if that is a whole name.
fn reference(entry: &Descriptor) -> Option<Reference> {
    let annotations = entry.annotations().as_ref()?;
    let whole = annotations.get(WHOLE_NAME).and_then(|name| name.parse().ok());
    whole.or_else(|| layout::name(entry).filter(|name| name.contains([':', '/']))?.parse().ok())
}

/// Without `.` and `..`, from the archive's root on.
fn normal(path: &[u8], directory: &[u8]) -> String {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in directory.split(|byte| *byte == b'/').chain(path.split(|byte| *byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    String::from_utf8_lossy(&parts.join(&b'/')).into_owned()
}

/// The data of the entry that was told last.
struct Within<'a, R>(&'a mut Archive<R>);

impl<R: Read> Read for Within<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer).map_err(|e| std::io::Error::other(e.to_string()))
    }
}
