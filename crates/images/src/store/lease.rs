//! Who uses which layers, in the store itself: known to every process that prunes it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Store, prune};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::Image;

/// The two files of a lease: a path, and an image's digest.
const WHILE: &str = "while";
const IMAGE: &str = "image";

impl Store {
    /// Keeps an image, with its layers, from [`prune`](Self::prune) for as long as this path exists: a directory or file of whoever uses
    /// them. Gives a directory, with which the lease can be removed before.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = isolate_images::Store::of_user()?;
    /// let image = store.image(&"tomcat:10".parse()?)?;
    /// let lease = store.lease(&image, "/run/app/tomcat5")?;
    /// let layers = store.unpack(&image)?;
    /// // … and when nobody uses them any more:
    /// std::fs::remove_dir_all(lease)?;
    /// # Ok(()) }
    /// ```
    pub fn lease(&self, image: &Image, while_exists: impl AsRef<Path>) -> Result<PathBuf> {
        let _using = self.enter()?;
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let leases = self.directory.join("leases");
        let made = loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let lease = leases.join(format!("{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&lease) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                other => break other.map(|()| lease),
            }
        };
        let written = made.and_then(|lease| {
            let path = std::path::absolute(&while_exists)?;
            fs::write(lease.join(IMAGE), image.digest().to_string())?;
            fs::write(lease.join(WHILE), path.as_os_str().as_bytes())?;
            Ok(lease)
        });
        written.map_err(|e| Error::io(leases.display(), &e))
    }

    /// What is leased. Leases of what is gone are removed, for who is alone here.
    pub(super) fn leased(&self) -> io::Result<Vec<Digest>> {
        let mut leased = Vec::new();
        for entry in fs::read_dir(self.directory.join("leases"))? {
            let lease = entry?.path();
            let path =
                fs::read(lease.join(WHILE)).map(|bytes| PathBuf::from(std::ffi::OsString::from_vec(bytes)));
            let image = fs::read_to_string(lease.join(IMAGE)).ok().and_then(|text| text.parse().ok());
            match (path, image) {
                (Ok(path), Some(image)) if path.symlink_metadata().is_ok() => leased.push(image),
                _ => prune::remove_tree(&lease)?,
            }
        }
        Ok(leased)
    }
}
