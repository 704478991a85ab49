//! A root as it is written down: one of five kinds, and what else was said.

use std::path::PathBuf;

use isolate_cgroups::Bytes;
use serde::{Deserialize, Serialize};

use super::{Kind, Rootfs};

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Written {
    #[serde(with = "crate::recorded", skip_serializing_if = "Option::is_none")]
    writable: Option<PathBuf>,
    #[serde(with = "crate::recorded", skip_serializing_if = "Option::is_none")]
    read_only: Option<PathBuf>,
    #[serde(with = "crate::recorded", skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<PathBuf>>,
    #[serde(skip_serializing_if = "is_false")]
    host: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    #[serde(with = "crate::recorded", skip_serializing_if = "Option::is_none")]
    upper: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_memory: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_disk: Option<Bytes>,
    #[serde(with = "crate::recorded", skip_serializing_if = "Vec::is_empty")]
    with: Vec<PathBuf>,
    /// The directory of the store of images.
    #[serde(with = "crate::recorded", skip_serializing_if = "Option::is_none")]
    store: Option<PathBuf>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl From<Rootfs> for Written {
    fn from(root: Rootfs) -> Self {
        let mut written = Self {
            upper: root.upper,
            in_memory: root.in_memory,
            on_disk: root.on_disk,
            with: root.with,
            ..Self::default()
        };
        match root.kind {
            Kind::Writable(directory) => written.writable = Some(directory),
            Kind::ReadOnly(directory) => written.read_only = Some(directory),
            Kind::Layers(layers) => written.layers = Some(layers),
            Kind::Host => written.host = true,
            #[cfg(feature = "images")]
            Kind::Image(source) => written.image = Some(source),
        }
        #[cfg(feature = "images")]
        {
            written.store = root.store.map(|store| store.directory().to_owned());
        }
        written
    }
}

impl TryFrom<Written> for Rootfs {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { writable, read_only, layers, host, image, upper, in_memory, on_disk, with, store } =
            written;
        #[cfg(feature = "images")]
        let image = image.map(Kind::Image);
        #[cfg(not(feature = "images"))]
        let image = match (image, &store) {
            (Some(image), _) => return Err(format!("root image {image}: wants the feature `images`")),
            (None, Some(_)) => return Err("a store of images wants the feature `images`".to_owned()),
            (None, None) => None,
        };
        let mut kinds = [
            writable.map(Kind::Writable),
            read_only.map(Kind::ReadOnly),
            layers.map(Kind::Layers),
            host.then_some(Kind::Host),
            image,
        ]
        .into_iter()
        .flatten();
        let (Some(kind), None) = (kinds.next(), kinds.next()) else {
            return Err("a root is one of writable, read_only, layers, host and image".to_owned());
        };
        Ok(Self {
            kind,
            upper,
            in_memory,
            on_disk,
            with,
            #[cfg(feature = "images")]
            store: store.map(isolate_images::Store::open).transpose().map_err(|e| e.to_string())?,
        })
    }
}
