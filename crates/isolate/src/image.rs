//! A start of an image: it is brought, what it says is said, and its layers are kept for as long as the container is there.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use isolate_images::{Config, Hold, Image, Reference, Source, Store};

use crate::builder::ContainerBuilder;
use crate::container::Container;
use crate::error::{Error, ErrorKind, Result};

/// The image of a container, and where it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    store: Store,
    image: Image,
}

/// A description in which nothing is left to an image.
pub(crate) struct Described<'a> {
    pub builder: Cow<'a, ContainerBuilder>,
    pub kept: Option<Kept>,
    /// Until the lease is known to whoever prunes.
    _hold: Option<Hold>,
}

/// What a start is to make: the image is brought and unpacked.
pub(crate) fn bring(builder: &ContainerBuilder) -> Result<Described<'_>> {
    describe(builder, |source, store| {
        let image = source.bring(store)?;
        let layers = store.unpack(&image)?;
        Ok((image, layers))
    })
}

/// The same, of what is there already: a plan makes nothing.
pub(crate) fn look(builder: &ContainerBuilder) -> Result<Described<'_>> {
    describe(builder, |source, store| {
        let missing = || {
            Error::new(ErrorKind::NotFound, "not unpacked in the store")
                .with_hint("a plan fetches nothing: pull it, and unpack it")
        };
        let image = source.find(store)?.ok_or_else(missing)?;
        let layers = store.unpacked(&image).ok_or_else(missing)?;
        Ok((image, layers))
    })
}

fn describe(
    builder: &ContainerBuilder,
    bring: impl FnOnce(&Source, &Store) -> Result<(Image, Vec<PathBuf>)>,
) -> Result<Described<'_>> {
    let Some((text, store)) = builder.rootfs.source() else {
        let builder = match &builder.image {
            None => Cow::Borrowed(builder),
            Some(_) => Cow::Owned(builder.as_image_says()?),
        };
        return Ok(Described { builder, kept: None, _hold: None });
    };
    let source: Source = text.parse().map_err(Error::from)?;
    let store = store.cloned().map_or_else(Store::of_user, Ok)?;
    let hold = store.hold()?;
    let (image, layers) = bring(&source, &store).map_err(|e| match e.to_string().starts_with("image ") {
        true => e,
        false => e.of(format!("image {text}")),
    })?;
    let mut said = builder.clone();
    said.image.get_or_insert_with(|| image.config().clone());
    said.rootfs = builder.rootfs.of_layers(layers);
    let builder = Cow::Owned(said.as_image_says()?);
    Ok(Described { builder, kept: Some(Kept { store, image }), _hold: Some(hold) })
}

impl Kept {
    /// Keeps its layers for as long as this directory exists.
    pub(crate) fn lease(&self, state: &Path) -> Result<PathBuf> {
        self.store.lease(&self.image, state).map_err(Error::from)
    }
}

/// Of a container of [`Rootfs::image`](crate::Rootfs::image).
impl Container {
    /// Its image.
    #[must_use]
    pub fn image(&self) -> Option<&Image> {
        self.inside().image.as_ref().map(|kept| &kept.image)
    }

    /// Makes an image of its image and what it has [changed](Self::diff) since, by this name, in the same store; as `docker commit`. What
    /// the image says of its program stays. While it runs, files may be caught half written: [pause](Self::pause) it before.
    ///
    /// ```no_run
    /// use isolate::{Container, Rootfs};
    /// # fn main() -> isolate::Result<()> {
    /// let mut container = Container::builder().rootfs(Rootfs::image("debian")).command(["apt-get", "-y", "install", "git"]).start()?;
    /// container.wait()?;
    /// container.commit(&"local/debian-git".parse()?)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) for a container of another root; as [`diff`](Self::diff).
    pub fn commit(&self, reference: &Reference) -> Result<Image> {
        let config = self.image().map(|image| image.config().clone()).unwrap_or_default();
        self.commit_with(reference, &config)
    }

    /// The same, and the image says this of its program.
    pub fn commit_with(&self, reference: &Reference, config: &Config) -> Result<Image> {
        let kept = self.inside().image.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, format!("container `{}`: it is not of an image", self.name()))
                .with_hint("for Rootfs::image(…); of other roots there is Container::diff")
        })?;
        let _hold = kept.store.hold()?;
        let image = kept.store.commit(&kept.image, config, |writer| self.diff(writer))?;
        kept.store.tag(&image, reference)?;
        Ok(image)
    }
}
