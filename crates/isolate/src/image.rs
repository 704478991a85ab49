//! A start of an image: it is brought, what it says is said, and its layers are kept for as long as the container is there.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use isolate_images::{Config, Hold, Image, Reference, Source, Store};

use crate::builder::ContainerBuilder;
use crate::container::Container;
use crate::detached::{Detached, DetachedRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::recorded::Recorded;

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

    /// The digest of its manifest.
    pub(crate) fn digest(&self) -> String {
        self.image.digest().to_string()
    }

    /// Of a detached container. The lease itself may be another one's by now: only where it is counts.
    fn of(record: &DetachedRecord) -> Result<Option<Self>> {
        let (Some(lease), Some(digest)) = (&record.image, &record.digest) else { return Ok(None) };
        let store = Store::open(lease.ancestors().nth(2).unwrap_or(lease))?;
        let image = store.image_by(&digest.parse()?)?;
        Ok(Some(Self { store, image }))
    }

    fn commit(&self, container: &Container, reference: &Reference, config: &Config) -> Result<Image> {
        let _hold = self.store.hold()?;
        let image = self.store.commit(&self.image, config, |writer| container.diff(writer))?;
        self.store.tag(&image, reference)?;
        Ok(image)
    }
}

/// Leases a detached container's image for this directory of it, too. Until the result goes, nothing is pruned; with it comes the lease that
/// it had.
pub(crate) fn lease_again(record: &mut DetachedRecord, directory: &Path) -> Result<Option<(Hold, Recorded)>> {
    let Some(kept) = Kept::of(record)? else { return Ok(None) };
    let hold = kept.store.hold()?;
    let old = record.image.replace(kept.lease(directory)?.into());
    Ok(old.map(|old| (hold, old)))
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
        let kept = self.inside().image.as_ref().ok_or_else(|| self.said(of_no_image()))?;
        kept.commit(self, reference, config)
    }
}

/// Of one of [`Rootfs::image`](crate::Rootfs::image).
impl Detached {
    /// Its image.
    ///
    /// # Errors
    /// What its store cannot be read for.
    pub fn image(&self) -> Result<Option<Image>> {
        Ok(self.said(self.kept_image())?.map(|kept| kept.image))
    }

    /// Makes an image of its image and what it has [changed](Self::changes) over all its runs, as [`Container::commit`]: while it runs, or
    /// when it does not.
    ///
    /// ```no_run
    /// # fn main() -> isolate::Result<()> {
    /// let web = isolate::Container::open("web")?;
    /// web.pause()?; // no file is caught half written
    /// let image = web.commit(&"local/web:2".parse()?);
    /// web.resume()?;
    /// println!("{}", image?.digest());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As there.
    pub fn commit(&self, reference: &Reference) -> Result<Image> {
        let config = self.image()?.map(|image| image.config().clone()).unwrap_or_default();
        self.commit_with(reference, &config)
    }

    /// The same, and the image says this of its program.
    ///
    /// # Errors
    /// As there.
    pub fn commit_with(&self, reference: &Reference, config: &Config) -> Result<Image> {
        let kept = self.kept_image().and_then(|kept| kept.ok_or_else(of_no_image));
        self.said(kept.and_then(|kept| kept.commit(&*self.files()?, reference, config)))
    }

    fn kept_image(&self) -> Result<Option<Kept>> {
        Kept::of(&self.record()?)
    }
}

fn of_no_image() -> Error {
    Error::new(ErrorKind::Unsupported, "it is not of an image")
        .with_hint("for Rootfs::image(…); of other roots there is the diff")
}
