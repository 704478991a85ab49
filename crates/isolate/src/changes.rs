//! What a container has written.

use std::io::Write;

use isolate_overlay::{Change, Overlay};

use crate::container::Container;
use crate::error::{Error, ErrorKind, Result};

/// Of a root of layers, or a path alone, on a disk.
impl Container {
    /// What it has added, changed and deleted of its root's layers so far, as `docker diff`: sorted by name, a directory before what is
    /// in it, a deleted one alone. While it runs or after its end; what lies on mounts is none of the root's.
    ///
    /// The mount points that were missing in the root are there: they were made in its upper layer.
    ///
    /// ```no_run
    /// # fn main() -> isolate::Result<()> {
    /// let mut container = isolate::Container::builder().rootfs("/srv/alpine").command(["apk", "add", "git"]).start()?;
    /// container.wait()?;
    /// for change in container.changes()? {
    ///     println!("{change}"); // C /etc, A /usr/bin/git
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) for other roots, and where the upper layer is in memory, which only the container sees.
    pub fn changes(&self) -> Result<Vec<Change>> {
        let changes = self.overlay()?.changes().map_err(|e| self.said(e))?;
        changes.map(|change| change.map_err(|e| self.said(e))).collect()
    }

    /// The same as a layer of an image: a tar archive, uncompressed, with whiteouts for what was deleted (OCI image-spec, layer.md).
    /// Owners in it are as the container sees them.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut container = isolate::Container::builder().rootfs("/srv/alpine").command(["apk", "add", "git"]).start()?;
    /// container.wait()?;
    /// container.diff(std::fs::File::create("/srv/git.tar")?)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`changes`](Self::changes); [`InvalidConfig`](ErrorKind::InvalidConfig) for a file whose name begins with `.wh.`, which stands
    /// for a deletion in a layer.
    pub fn diff(&self, writer: impl Write) -> Result<()> {
        let first = self.root_outside().map_or(0, |[user, _]| user);
        self.overlay()?.diff().owners_from(first).write_to(writer).map_err(|e| self.said(e))
    }

    fn overlay(&self) -> Result<&Overlay> {
        let overlay = self.inside().overlay.as_ref();
        overlay.filter(|overlay| overlay.upper().is_some()).ok_or_else(|| {
            let what = format!("container `{}`: its changes are not told", self.name());
            Error::new(ErrorKind::Unsupported, what)
                .with_hint("for a root of layers that writes to a disk: Rootfs::layers(…).upper(…)")
        })
    }
}
