//! Images that are made here.

use std::io::{self, Read, Write};
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::bounds::Bounds;
use crate::config::{self, Config};
use crate::decompress::Decompress;
use crate::digest::{Digest, Hasher, Hashing};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;
use crate::manifest::{self, MANIFEST};
use crate::moment;
use crate::platform::Platform;
use crate::store::Store;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

impl Store {
    /// Makes an image of one layer, the archive of a root file system, compressed or not, as `docker import`.
    ///
    /// ```no_run
    /// use isolate_images::{Config, Store};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::of_user()?;
    /// let mut config = Config::default();
    /// config.command = vec!["/bin/sh".into()];
    /// let image = store.import(std::fs::File::open("rootfs.tar.zst")?, &config)?;
    /// store.tag(&image, &"local/debian:trixie".parse()?)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Corrupt`](ErrorKind::Corrupt) for what is no archive; it is looked at no closer before it is unpacked.
    pub fn import(&self, archive: impl Read, config: &Config) -> Result<Image> {
        let _using = self.enter()?;
        let (digest, size) = self.blobs().put(archive)?;
        let diff_id = self.diff_id(&digest)?;
        let platform = Platform::here();
        let whole = json!({
            "created": now(), "os": platform.os(), "architecture": platform.architecture(), "config": config::write(config),
            "rootfs": { "type": "layers", "diff_ids": [diff_id.to_string()] },
            "history": [{ "created_by": "import" }],
        });
        let layer =
            json!({ "mediaType": self.media_type(&digest)?, "digest": digest.to_string(), "size": size });
        self.put_image(&whole, vec![layer])
    }

    /// Makes an image of another one's layers and one more, with another configuration. The layer is what is written, an archive as
    /// `Overlay::diff` of the crate `isolate-overlay` makes them, with whiteouts for what is gone.
    ///
    /// # Errors
    ///
    /// Whatever `layer` gives; as [`import`](Self::import).
    pub fn commit<E: From<Error>>(
        &self,
        base: &Image,
        config: &Config,
        layer: impl FnOnce(&mut dyn Write) -> std::result::Result<(), E>,
    ) -> std::result::Result<Image, E> {
        let _using = self.enter()?;
        let (digest, size) = self.blobs().put_by(layer)?;
        Ok(self.on_top(base, config, &digest, size)?)
    }

    fn on_top(&self, base: &Image, config: &Config, digest: &Digest, size: u64) -> Result<Image> {
        let manifest = self.json(base.digest())?;
        let below = manifest.get("layers").and_then(Value::as_array).cloned().unwrap_or_default();
        let its_config = manifest.pointer("/config/digest").and_then(Value::as_str).unwrap_or_default();
        let mut whole = self.json(&its_config.parse()?)?;
        let diff_id = self.diff_id(digest)?;
        let corrupt =
            || Error::new(ErrorKind::Corrupt, format!("image {}: its configuration", base.digest()));
        whole
            .pointer_mut("/rootfs/diff_ids")
            .and_then(Value::as_array_mut)
            .ok_or_else(corrupt)?
            .push(json!(diff_id.to_string()));
        let all = whole.as_object_mut().ok_or_else(corrupt)?;
        all.insert("config".into(), config::write(config));
        all.insert("created".into(), now().into());
        if let Some(history) = all.get_mut("history").and_then(Value::as_array_mut) {
            history.push(json!({ "created_by": "commit" }));
        }
        let mut layers: Vec<Value> = below.into_iter().map(of_oci).collect();
        layers.push(json!({ "mediaType": LAYER, "digest": digest.to_string(), "size": size }));
        self.put_image(&whole, layers)
    }

    /// An image of blobs that are stored.
    pub(crate) fn image_of(&self, config: &(Digest, u64), layers: &[(Digest, u64)]) -> Result<Image> {
        let described = |(digest, size): &(Digest, u64)| {
            Ok(json!({ "mediaType": self.media_type(digest)?, "digest": digest.to_string(), "size": size }))
        };
        let layers: Vec<Value> = layers.iter().map(described).collect::<Result<_>>()?;
        self.put_manifest(config, &layers)
    }

    fn put_image(&self, config: &Value, layers: Vec<Value>) -> Result<Image> {
        let config = self.blobs().put(config.to_string().as_bytes())?;
        self.put_manifest(&config, &layers)
    }

    fn put_manifest(&self, (config, size): &(Digest, u64), layers: &[Value]) -> Result<Image> {
        let text = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": layers,
            "config": { "mediaType": CONFIG, "digest": config.to_string(), "size": size },
        })
        .to_string();
        let (digest, _) = self.blobs().put(text.as_bytes())?;
        manifest::manifest(&self.layout(), digest, text.as_bytes())
    }

    fn json(&self, digest: &Digest) -> Result<Value> {
        let place = self.blobs().place(digest);
        let text = std::fs::read(&place).map_err(|e| Error::io(place.display(), &e))?;
        serde_json::from_slice(&text)
            .map_err(|e| Error::new(ErrorKind::Corrupt, format!("{}: {e}", place.display())))
    }

    /// The digest of a stored layer, uncompressed.
    fn diff_id(&self, digest: &Digest) -> Result<Digest> {
        let place = self.blobs().place(digest);
        let hashed = std::fs::File::open(&place)
            .and_then(|file| Decompress::new(file, Bounds::new()))
            .and_then(|mut plain| {
                let mut hashing = Hashing::new(io::sink(), Hasher::sha256());
                io::copy(&mut plain, &mut hashing)?;
                Ok(hashing.finish().1)
            });
        hashed.map_err(|e| Error::new(ErrorKind::Corrupt, format!("layer {digest}: {e}")))
    }

    /// By its first bytes.
    fn media_type(&self, digest: &Digest) -> Result<String> {
        let place = self.blobs().place(digest);
        let mut magic = Vec::new();
        let read = std::fs::File::open(&place).and_then(|file| file.take(4).read_to_end(&mut magic));
        read.map_err(|e| Error::io(place.display(), &e))?;
        Ok(match magic.as_slice() {
            [0x1f, 0x8b, ..] => format!("{LAYER}+gzip"),
            [0x28, 0xb5, 0x2f, 0xfd] => format!("{LAYER}+zstd"),
            _ => LAYER.to_owned(),
        })
    }
}

fn now() -> String {
    moment::write(SystemTime::now())
}

/// A layer of Docker's manifest, as one of OCI's.
fn of_oci(mut layer: Value) -> Value {
    const DOCKERS: &str = "application/vnd.docker.image.rootfs.diff.tar";
    let own = layer.get("mediaType").and_then(Value::as_str).and_then(|name| name.strip_prefix(DOCKERS));
    if let Some(suffix) = own.map(|suffix| suffix.replace('.', "+")) {
        layer["mediaType"] = json!(format!("{LAYER}{suffix}"));
    }
    layer
}
