//! What a container has written.

use std::io::Write;

use isolate_overlay::{Change, ChangeKind, Overlay};

use crate::container::Container;
use crate::error::{Error, ErrorKind, Result};

/// Of a root of layers, or a path alone, on a disk.
impl Container {
    /// What it has added, changed and deleted of its root's layers so far, as `docker diff`: sorted by name, a directory before what is
    /// in it, a deleted one alone. While it runs or after its end; what lies on mounts is none of the root's.
    ///
    /// Mount points that were missing in the root, and were made in its upper layer, are not among them; a directory of the root that
    /// they are in counts as changed.
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
        Ok(self.told()?.into_iter().filter_map(|(change, own)| own.then_some(change)).collect())
    }

    /// All, and whether each is the container's own doing.
    fn told(&self) -> Result<Vec<(Change, bool)>> {
        let all: Vec<Change> =
            self.overlay()?.changes().and_then(Iterator::collect).map_err(|e| self.said(e))?;
        let mut told: Vec<_> = all.into_iter().map(|change| (change, true)).collect();
        let points = &self.inside().mount_points;
        // What is in a directory comes behind it.
        for n in (0..told.len()).rev() {
            let Some(((change, own), behind)) = told.get_mut(n..).and_then(<[_]>::split_first_mut) else {
                break;
            };
            let path = change.path();
            let leads_to_one = points.iter().any(|point| point.starts_with(path));
            let mut inside = behind.iter().take_while(|(other, _)| other.path().starts_with(path));
            *own = change.kind() != ChangeKind::Added || !leads_to_one || inside.any(|(_, own)| *own);
        }
        Ok(told)
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
        let told = self.told()?;
        let foreign = told.iter().filter_map(|(change, own)| (!own).then_some(change.path()));
        let diff = self.overlay()?.diff().owners_from(first).without(foreign);
        diff.write_to(writer).map_err(|e| self.said(e))
    }

    pub(crate) fn overlay(&self) -> Result<&Overlay> {
        let overlay = self.inside().overlay.as_ref();
        overlay.filter(|overlay| overlay.upper().is_some()).ok_or_else(|| {
            let what = format!("container `{}`: its changes are not told", self.name());
            Error::new(ErrorKind::Unsupported, what)
                .with_hint("for a root of layers that writes to a disk: Rootfs::layers(…).upper(…)")
        })
    }
}
