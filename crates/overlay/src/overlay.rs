//! The description of an overlay.

use std::path::{Path, PathBuf};

use crate::changes::Changes;
use crate::diff::Diff;
use crate::error::Result;
use crate::mount::{self, DetachedMount};
use crate::mounted::Mounted;
use crate::parameter::{self, Parameter};
use crate::{check, support};

/// Directories that are seen as one: layers that are never written, and perhaps an upper one that takes the writes
/// (Documentation/filesystems/overlayfs.rst).
///
/// Setters never fail: what is wrong is told by [`check`](Self::check), [`mount`](Self::mount) and their like.
///
/// ```
/// use isolate_overlay::Overlay;
/// let overlay = Overlay::on("/srv/layers/debian") // the bottom
///     .layer("/srv/layers/jre")
///     .layer("/srv/layers/app") // the top of those that are never written
///     .writable("/var/tmp/upper", "/var/tmp/work");
/// # let _ = overlay;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a description does nothing until it is mounted"]
pub struct Overlay {
    /// Bottom first.
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) upper: Option<Upper>,
    pub(crate) volatile: bool,
    pub(crate) userxattr: bool,
    /// What is said of these; else the kernel's configuration counts.
    pub(crate) switches: Switches,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Switches {
    pub index: Option<bool>,
    pub metacopy: Option<bool>,
    pub redirect_dir: Option<bool>,
    pub xino: Option<bool>,
}

#[derive(Clone, Debug)]
pub(crate) struct Upper {
    pub directory: PathBuf,
    pub work: PathBuf,
    /// The names are for whoever mounts, seen from its current directory.
    pub relative: bool,
}

impl Overlay {
    /// `base` is the bottom layer; every [`layer`](Self::layer) goes on top of those before it.
    pub fn on(base: impl AsRef<Path>) -> Self {
        Self {
            layers: vec![base.as_ref().to_owned()],
            upper: None,
            volatile: false,
            userxattr: false,
            switches: Switches::default(),
        }
    }

    /// One more layer, on top of those before it. A file in it hides one of the same name below.
    pub fn layer(mut self, directory: impl AsRef<Path>) -> Self {
        self.layers.push(directory.as_ref().to_owned());
        self
    }

    /// More layers, bottom first. The kernel takes 500 in all.
    pub fn layers(mut self, bottom_up: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        self.layers.extend(bottom_up.into_iter().map(|layer| layer.as_ref().to_owned()));
        self
    }

    /// Writes land in `upper`; `work` is an empty directory on the same file system for the kernel's own use. Without them the
    /// overlay is read-only. Neither may be used by another overlay at the same time.
    #[doc(alias = "upperdir")]
    #[doc(alias = "workdir")]
    pub fn writable(mut self, upper: impl AsRef<Path>, work: impl AsRef<Path>) -> Self {
        self.upper =
            Some(Upper { directory: upper.as_ref().into(), work: work.as_ref().into(), relative: false });
        self
    }

    /// As [`writable`](Self::writable), with relative names that mean something only to the process which will mount it, by
    /// [`parameters`](Self::parameters): directories on a tmpfs that only that process sees.
    pub fn scratch(mut self, upper: impl AsRef<Path>, work: impl AsRef<Path>) -> Self {
        self.upper =
            Some(Upper { directory: upper.as_ref().into(), work: work.as_ref().into(), relative: true });
        self
    }

    /// Nothing is written to the disk for safety's sake (Linux 5.10): faster, and for an upper layer that is thrown away. After a
    /// crash of the machine it may be incomplete; so the kernel leaves a mark, the directory `work/incompat` in the work directory,
    /// also when the overlay is unmounted, and mounts neither directory again until it is removed.
    pub fn volatile(mut self, volatile: bool) -> Self {
        self.volatile = volatile;
        self
    }

    /// Keeps overlayfs's own notes in `user.` extended attributes, as a mount in a user namespace must (Linux 5.11).
    pub fn userxattr(mut self, userxattr: bool) -> Self {
        self.userxattr = userxattr;
        self
    }

    /// Whether a file with several names in a layer keeps them all when it is written (Linux 4.13). It makes the upper layer one that
    /// belongs to these layers alone. Default: what the kernel was built with (`CONFIG_OVERLAY_FS_INDEX`).
    pub fn index(mut self, index: bool) -> Self {
        self.switches.index = Some(index);
        self
    }

    /// Whether of a file whose attributes are changed only these are copied up (Linux 4.19): faster, and the upper layer is no layer
    /// by itself any more. Default: what the kernel was built with (`CONFIG_OVERLAY_FS_METACOPY`).
    pub fn metacopy(mut self, metacopy: bool) -> Self {
        self.switches.metacopy = Some(metacopy);
        self
    }

    /// Whether a directory of a layer can be renamed (Linux 4.10), which leaves a note in the upper layer; without, the kernel says
    /// EXDEV, and programs copy it. Default: what the kernel was built with (`CONFIG_OVERLAY_FS_REDIRECT_DIR`).
    pub fn redirect_dir(mut self, redirect_dir: bool) -> Self {
        self.switches.redirect_dir = Some(redirect_dir);
        self
    }

    /// Whether inode numbers are made unique where layers are on several file systems (Linux 4.17). Default: what the kernel was
    /// built with (`CONFIG_OVERLAY_FS_XINO_AUTO`).
    pub fn xino(mut self, xino: bool) -> Self {
        self.switches.xino = Some(xino);
        self
    }

    /// What fsconfig(2) is to be told, in order, for a process that mounts by itself. Topmost layer first.
    ///
    /// An error if a path cannot be said that way: longer than 255 bytes; and below Linux 6.7, where all layers are one value,
    /// a comma or more than 255 bytes in all. [`mount`](Self::mount) has a way around that.
    ///
    /// ```
    /// use isolate_overlay::Overlay;
    /// # fn main() -> isolate_overlay::Result<()> {
    /// let parameters = Overlay::on("/srv/base").scratch("upper", "work").parameters()?;
    /// assert_eq!(parameters.last().map(|p| p.key), Some("workdir"));
    /// # Ok(()) }
    /// ```
    pub fn parameters(&self) -> Result<Vec<Parameter>> {
        parameter::refuse_single(self)?;
        if support::appends() { parameter::appended(self) } else { parameter::joined(self) }
    }

    /// Looks for what the kernel would refuse with an error that says little. Reads only; needs no privilege beyond reading.
    pub fn check(&self) -> Result<()> {
        check::overlay(self)
    }

    /// A mount that no path leads to. Wants CAP_SYS_ADMIN. One layer without an upper one is seen read-only as it is, without the
    /// mounts below it. Linux 6.7 and later: fsopen(2) and `lowerdir+`; before: mount(2) in
    /// a mount namespace of a thread that is made for it.
    #[doc(alias = "fsopen")]
    pub fn mount(&self) -> Result<DetachedMount> {
        check::what_is_taken(self)?;
        // What the kernel refuses is looked for once it has.
        mount::detached(self).map_err(|e| self.check().err().unwrap_or_else(|| check::explain(self, e)))
    }

    /// Mounted at a directory of the caller's mount namespace.
    ///
    /// ```no_run
    /// use isolate_overlay::Overlay;
    /// # fn main() -> isolate_overlay::Result<()> {
    /// let scratch = Overlay::on("/srv/alpine").writable("/var/tmp/upper", "/var/tmp/work").mount_at("/mnt")?;
    /// std::fs::write(scratch.path().join("note"), "only in upper").ok();
    /// scratch.unmount()?; // or drop it
    /// # Ok(()) }
    /// ```
    pub fn mount_at(&self, target: impl AsRef<Path>) -> Result<Mounted> {
        self.mount()?.attach(target)
    }

    /// What the upper layer changes of the others, one by one: what a container has added, changed and deleted. Reads the directories
    /// as they are, whether or not the overlay is mounted; what is changed meanwhile is told as it was or as it is.
    ///
    /// It follows no symbolic link. A file that was opened for writing counts as changed, whatever was written.
    ///
    /// ```no_run
    /// use isolate_overlay::Overlay;
    /// # fn main() -> isolate_overlay::Result<()> {
    /// for change in Overlay::on("/srv/alpine").writable("/var/tmp/upper", "/var/tmp/work").changes()? {
    ///     println!("{}", change?); // A /new, C /etc, D /old
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) without an upper layer that has a path here; each directory that cannot be
    /// read is an error of its own, and so is one that was renamed with [`redirect_dir`](Self::redirect_dir).
    pub fn changes(&self) -> Result<Changes> {
        Changes::of(self)
    }

    /// The same as a layer of an image: a tar archive that, applied to the layers, gives what the overlay shows, but for the attributes
    /// of its root directory. Needs files as they are in the upper layer, without [`metacopy`](Self::metacopy).
    ///
    /// ```no_run
    /// use isolate_overlay::Overlay;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let overlay = Overlay::on("/srv/alpine").writable("/var/tmp/upper", "/var/tmp/work");
    /// overlay.diff().write_to(std::fs::File::create("/srv/layer.tar")?)?;
    /// # Ok(()) }
    /// ```
    pub fn diff(&self) -> Diff<'_> {
        Diff::of(self)
    }

    /// Everything that it shows, as a tar archive: not a layer, but a root file system. It is read from a mount of its own, which no path
    /// leads to and which writes nothing; as long as another mount writes to the upper layer, what changes meanwhile may be in it or not.
    ///
    /// ```no_run
    /// use isolate_overlay::Overlay;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let overlay = Overlay::on("/srv/alpine").writable("/var/tmp/upper", "/var/tmp/work");
    /// overlay.whole().write_to(std::fs::File::create("/srv/rootfs.tar")?)?;
    /// # Ok(()) }
    /// ```
    pub fn whole(&self) -> Diff<'_> {
        Diff::whole(self)
    }

    /// The same, never written: the upper layer is the topmost of those below, and is seen as it is at the time.
    pub fn frozen(&self) -> Self {
        let mut frozen = self.clone();
        frozen.layers.extend(self.upper().map(Path::to_owned));
        (frozen.upper, frozen.volatile) = (None, false);
        frozen
    }

    /// The upper layer, if there is one that has a path here.
    #[must_use]
    pub fn upper(&self) -> Option<&Path> {
        self.upper.as_ref().filter(|upper| !upper.relative).map(|upper| &*upper.directory)
    }

    /// What is compared with nothing; it is never mounted.
    pub(crate) fn above_nothing(directory: PathBuf) -> Self {
        let mut overlay = Self::on("").writable(directory, "");
        overlay.layers.clear();
        overlay
    }

    /// Every directory with what it is called.
    pub(crate) fn directories(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let lower = self.layers.iter().map(|layer| ("lower layer", layer.as_path()));
        let upper = self.upper.iter().map(|upper| ("upper layer", upper.directory.as_path()));
        let work = self.upper.iter().map(|upper| ("work directory", upper.work.as_path()));
        lower.chain(upper).chain(work)
    }
}
