//! From a [`Rootfs`] to what is made on a disk before the start, and what the container mounts.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use isolate_cgroups::Bytes;
use isolate_namespaces::{Filesystem, Mount, Root};
use isolate_overlay::{Overlay, Parameter};

use super::{Kind, Limited, Preparation, Quota, Rootfs, Scratch, host};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::COUNT;

/// A compiled root.
#[derive(Debug)]
pub(crate) struct Layout {
    pub root: Root,
    /// The file system that holds upper layers, where it is not a disk.
    pub scratch: Option<Filesystem>,
    /// What belongs to the root, to be mounted before everything else.
    pub mounts: Vec<Mount>,
    /// To be made before the start, in this order.
    pub preparations: Vec<Preparation>,
    /// To be checked once those are made, for an error that says more than the kernel's.
    pub overlays: Vec<Overlay>,
    /// The root, where it is one overlay.
    pub overlay: Option<Overlay>,
    /// The same, where it is a file system of a size on a disk.
    pub limited: Option<Limited>,
    /// What it may hold on the disk, by a quota.
    pub quota: Option<Quota>,
    /// The root, where the caller is to mount it once all is made.
    pub early: Option<Early>,
    /// To be removed afterwards: the container's own directory on the disk,
    pub directory: Option<PathBuf>,
    /// and the work directory next to an upper layer that stays.
    pub work: Option<PathBuf>,
    /// Where to look for what a path in the root is, topmost first.
    pub layers: Vec<PathBuf>,
    /// Where what the container writes stays.
    pub kept: Option<PathBuf>,
    /// Whether mount points can be made.
    pub makes_mount_points: bool,
    /// Where its users are listed, topmost first.
    pub users: Vec<PathBuf>,
    /// First id of a range that the upper layer belongs to already.
    pub range: Option<u32>,
}

/// How a root is to be mounted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// Its files keep their owners' numbers in a user namespace of the container's own.
    pub mapped: bool,
    /// By an ordinary user, in a user namespace of the container's own.
    pub rootless: bool,
    /// Set-user-id bits on it have no effect.
    pub nosuid: bool,
    /// What is written stays for the next start.
    pub lasting: bool,
}

impl Rootfs {
    /// Directories of the host that must be id-mapped, if that is asked for; and the reason why this root cannot be.
    pub(crate) fn sources(&self) -> Vec<PathBuf> {
        match &self.kind {
            Kind::Writable(path) | Kind::ReadOnly(path) => vec![path.clone()],
            Kind::Layers(layers) => layers.clone(),
            #[cfg(feature = "images")]
            Kind::Image(_) => Vec::new(),
            Kind::Host => host::programs().into_iter().chain(self.with.iter().cloned()).collect(),
        }
    }

    /// An upper layer that has an owner: files in it belong to ids of the caller's user namespace, which would not be its ids.
    pub(crate) fn owned_upper(&self) -> Option<&Path> {
        self.upper.as_deref().filter(|upper| {
            let filled = std::fs::read_dir(upper).is_ok_and(|mut entries| entries.next().is_some());
            filled && range_of(upper).is_none()
        })
    }
}

/// The range whose root owns the directory.
fn range_of(directory: &Path) -> Option<u32> {
    let owner = std::fs::metadata(directory).ok()?.uid();
    (owner >= COUNT && owner.is_multiple_of(COUNT)).then_some(owner)
}

/// `state` is the container's state directory; neither it nor the scratch need exist.
pub(crate) fn compile(rootfs: &Rootfs, scratch: Scratch, id: &str, state: &Path, way: Way) -> Result<Layout> {
    let directory = |path: &Path| -> Result<()> {
        let metadata =
            std::fs::metadata(path).map_err(|e| Error::io(format!("rootfs {}", path.display()), &e))?;
        if metadata.is_dir() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidConfig, format!("rootfs {}: not a directory", path.display())))
    };
    if rootfs.upper.is_some() && !matches!(rootfs.kind, Kind::Layers(_)) {
        return Err(Error::new(ErrorKind::InvalidConfig, "rootfs: an upper layer wants layers below it"));
    }
    let scratch = match (rootfs.in_memory, rootfs.on_disk) {
        (Some(_), Some(_)) => {
            let what = "rootfs: what is written lies in memory or on the disk, not both";
            return Err(Error::new(ErrorKind::InvalidConfig, what));
        }
        (Some(most), None) => in_memory(rootfs, most)?,
        (None, Some(most)) => on_disk(rootfs, most, id, way)?,
        (None, None) => scratch,
    };
    if !rootfs.with.is_empty() && !matches!(rootfs.kind, Kind::Host) {
        let why = "rootfs: `with` names more of the host, for Rootfs::host()";
        return Err(
            Error::new(ErrorKind::InvalidConfig, why).with_hint("bind it by Container::builder().mount()")
        );
    }
    match &rootfs.kind {
        Kind::Writable(path) => {
            directory(path)?;
            let layout = Layout::of(way.root(Root::from(path.as_path())), vec![path.clone()], true);
            Ok(Layout { kept: Some(path.clone()), ..layout })
        }
        Kind::ReadOnly(path) => {
            directory(path)?;
            Ok(Layout::of(way.root(Root::from(path.as_path())).read_only(), vec![path.clone()], false))
        }
        Kind::Layers(bottom_up) => {
            bottom_up.iter().try_for_each(|path| directory(path))?;
            layers(bottom_up, rootfs.upper.as_deref(), scratch, way)
        }
        Kind::Host => the_host(&rootfs.with, scratch, state, way),
        #[cfg(feature = "images")]
        Kind::Image(source) => {
            Err(Error::new(ErrorKind::InvalidConfig, format!("rootfs: the image {source} is not unpacked")))
        }
    }
}

/// Nothing but places for mounts.
pub(crate) fn nothing(way: Way) -> Layout {
    let root = Filesystem::tmpfs().set("mode", "755").set("size", "64k");
    Layout::of(way.attributes(root).into(), Vec::new(), true)
}

/// What would be thrown away can have a size: of layers, or of the host.
fn is_thrown_away(rootfs: &Rootfs) -> Result<()> {
    if rootfs.upper.is_none() && !matches!(rootfs.kind, Kind::Writable(_) | Kind::ReadOnly(_)) {
        return Ok(());
    }
    let what = "rootfs: in memory, or in a place of a size, lies what would be thrown away, of layers or of the host";
    Err(Error::new(ErrorKind::InvalidConfig, what))
}

fn on_disk(rootfs: &Rootfs, most: Bytes, id: &str, way: Way) -> Result<Scratch> {
    is_thrown_away(rootfs)?;
    if way.rootless {
        let what = "rootfs: an ordinary user has no loop devices for a place of a size on the disk";
        return Err(Error::new(ErrorKind::Unsupported, what).with_hint("Rootfs::in_memory has a size, too"));
    }
    if most < Bytes::mib(1) {
        let what = format!("rootfs: {most} of a disk is not enough for a file system, 1 MiB");
        return Err(Error::new(ErrorKind::InvalidConfig, what));
    }
    match Scratch::limited(id, most) {
        // Its file has no name, so that it goes with the last mount of it.
        Scratch::Limited(directory, _) if way.lasting => {
            let parent = directory.parent().unwrap_or(Path::new("/")).display();
            let what = format!(
                "rootfs: a container that lasts has a size on the disk by a quota alone, and {parent} has none"
            );
            Err(Error::new(ErrorKind::Unsupported, what).with_hint("mount its ext4 or xfs with prjquota"))
        }
        scratch => Ok(scratch),
    }
}

fn in_memory(rootfs: &Rootfs, most: Bytes) -> Result<Scratch> {
    let wrong = |what: String| Err(Error::new(ErrorKind::InvalidConfig, what));
    is_thrown_away(rootfs)?;
    // For the kernel 0 is no limit.
    if most < Bytes::kib(64) {
        return wrong(format!(
            "rootfs: {most} of memory is not enough for what every container writes, 64 KiB"
        ));
    }
    Ok(Scratch::Memory(Some(most)))
}

impl Layout {
    fn of(root: Root, layers: Vec<PathBuf>, makes_mount_points: bool) -> Self {
        Self {
            root,
            scratch: None,
            limited: None,
            quota: None,
            early: None,
            mounts: Vec::new(),
            preparations: Vec::new(),
            overlays: Vec::new(),
            overlay: None,
            directory: None,
            work: None,
            kept: None,
            users: layers.clone(),
            layers,
            makes_mount_points,
            range: None,
        }
    }
}

fn layers(bottom_up: &[PathBuf], upper: Option<&Path>, scratch: Scratch, way: Way) -> Result<Layout> {
    let [base, above @ ..] = bottom_up else {
        return Err(Error::new(ErrorKind::InvalidConfig, "rootfs: no layer"));
    };
    let overlay = above.iter().fold(Overlay::on(base), |overlay, layer| overlay.layer(layer));
    let mut seen: Vec<_> = bottom_up.iter().rev().cloned().collect();
    if let Some(upper) = upper {
        let work = work_next_to(upper)?;
        let overlay = plain(overlay.writable(upper, &work), way);
        seen.insert(0, upper.to_owned());
        let filesystem = way.filesystem(&overlay, bottom_up, false)?;
        let mut layout = Layout::of(filesystem.into(), seen, true);
        layout.early = Early::of(&overlay, way);
        layout.range = range_of(upper).filter(|_| way.mapped);
        layout.preparations = vec![Preparation::Layer(upper.to_owned()), Preparation::Private(work.clone())];
        layout.overlay = Some(overlay.clone());
        layout.overlays.push(overlay);
        layout.work = Some(work);
        layout.kept = Some(upper.to_owned());
        return Ok(layout);
    }
    let mut layout = Layout::of(Filesystem::tmpfs().into(), seen, true);
    layout.root = throw_away(overlay, bottom_up, &scratch, 0, &mut layout, way)?.into();
    layout.overlay = layout.overlays.first().cloned();
    layout.early = layout.overlay.as_ref().and_then(|overlay| Early::of(overlay, way));
    layout.finish(&scratch, 1, way);
    Ok(layout)
}

fn the_host(with: &[PathBuf], scratch: Scratch, state: &Path, way: Way) -> Result<Layout> {
    let mut layout = Layout::of(way.attributes(host::skeleton()).into(), Vec::new(), true);
    layout.users = vec![PathBuf::from("/")];
    // In memory: a thousand small files a start would keep a disk's file system busy long after their removal.
    let place = scratch.directory().filter(|_| way.lasting).unwrap_or(state);
    let etc = place.join("etc");
    layout.preparations.extend(scratch.directory().map(|path| Preparation::Private(path.to_owned())));
    layout.preparations.push(Preparation::Etc(etc.clone()));
    layout.mounts.push(Mount::bind_directory(etc, "/etc"));
    let mut pairs = 0;
    for path in host::programs().iter().chain(with) {
        if with.contains(path) && !host::named(path)?.is_dir() {
            layout.mounts.push(way.mount(Mount::bind(path, path).read_only()));
            continue;
        }
        holds_no_upper(path, &scratch)?;
        let layers = std::slice::from_ref(path);
        let filesystem = throw_away(Overlay::on(path), layers, &scratch, pairs, &mut layout, way)?;
        layout.mounts.push(Mount::filesystem(filesystem, path));
        pairs += 1;
    }
    layout.finish(&scratch, pairs, way);
    Ok(layout)
}

/// What is written to a directory of the host's cannot lie in that directory.
fn holds_no_upper(path: &Path, scratch: &Scratch) -> Result<()> {
    let Some(upper) = scratch.directory().filter(|upper| upper.starts_with(path)) else { return Ok(()) };
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let there = upper.ancestors().find(|upper| upper.exists());
    if there.and_then(device) != device(path) {
        return Ok(());
    }
    let path = path.display();
    let what = format!(
        "Rootfs::host().with(\"{path}\"): what the container writes would lie in it, in {}",
        upper.display()
    );
    Err(Error::new(ErrorKind::InvalidConfig, what).with_hint(
        "name directories below it that are wanted; or keep what is written in memory, Rootfs::in_memory",
    ))
}

impl Layout {
    fn finish(&mut self, scratch: &Scratch, pairs: usize, way: Way) {
        let filesystem = scratch.filesystem(pairs);
        self.scratch = if way.mapped { filesystem.map(Filesystem::outside) } else { filesystem };
        self.directory = scratch.directory().map(Path::to_owned);
        if let Scratch::Project(directory, most) = scratch {
            self.quota = Some(Quota { directory: directory.clone(), most: *most });
        }
        if let Scratch::Limited(directory, most) = scratch {
            self.limited = Some(Limited { directory: directory.clone(), most: *most, pairs });
        }
    }
}

/// A root whose layers have long paths, below Linux 6.7: they go into no value of fsconfig(2). mount(2) has a page for them.
#[derive(Debug)]
pub(crate) struct Early {
    overlay: Overlay,
    way: Way,
}

impl Early {
    fn of(overlay: &Overlay, way: Way) -> Option<Self> {
        let too_long =
            !way.mapped && !way.rootless && overlay.upper().is_some() && overlay.parameters().is_err();
        too_long.then(|| Self { overlay: overlay.clone(), way })
    }

    /// Once upper and work directory are there.
    pub(crate) fn root(&self) -> Result<Root> {
        Ok(self.way.root(Root::from(OwnedFd::from(self.overlay.mount()?))))
    }
}

/// Files in its upper layer are whole, and where they are seen: a layer by itself, whatever the kernel was built with.
fn plain(overlay: Overlay, way: Way) -> Overlay {
    overlay.userxattr(way.rootless).redirect_dir(false).metacopy(false)
}

/// An overlay whose upper layer goes with the container, so that nothing of it need ever be written to the disk.
fn throw_away(
    overlay: Overlay,
    bottom_up: &[PathBuf],
    scratch: &Scratch,
    n: usize,
    layout: &mut Layout,
    way: Way,
) -> Result<Filesystem> {
    let (upper, work, made) = scratch.pair(n);
    layout.preparations.extend(made);
    let overlay = match scratch {
        Scratch::Disk(_) | Scratch::Project(..) => overlay.writable(&upper, &work),
        Scratch::Memory(_) | Scratch::Limited(..) => overlay.scratch(&upper, &work),
    };
    let overlay = plain(overlay, way).volatile(!way.lasting);
    let filesystem = way.filesystem(&overlay, bottom_up, !way.lasting)?;
    layout.overlays.push(overlay);
    Ok(filesystem)
}

impl Way {
    fn root(self, root: Root) -> Root {
        let root = if self.mapped { root.id_mapped() } else { root };
        if self.nosuid { root.contained() } else { root.nodev() }
    }

    fn mount(self, mount: Mount) -> Mount {
        if self.mapped { mount.id_mapped() } else { mount }
    }

    fn attributes(self, filesystem: Filesystem) -> Filesystem {
        if self.nosuid { filesystem.nosuid().nodev() } else { filesystem.nodev() }
    }

    fn filesystem(self, overlay: &Overlay, bottom_up: &[PathBuf], volatile: bool) -> Result<Filesystem> {
        let plain = Filesystem::new("overlay");
        if Early::of(overlay, self).is_some() {
            return Ok(self.attributes(plain));
        }
        if !self.mapped {
            let parameters = overlay.parameters()?;
            let filesystem =
                parameters.into_iter().fold(plain, |filesystem, parameter| match parameter.value {
                    Some(value) => filesystem.set(parameter.key, value),
                    None => filesystem.flag(parameter.key),
                });
            return Ok(self.attributes(filesystem));
        }
        let plain = plain.set("redirect_dir", "off").set("metacopy", "off");
        let mut filesystem = bottom_up.iter().rev().fold(plain, |filesystem, layer| filesystem.layer(layer));
        // As the kernel reads them: it takes a backslash for the beginning of something.
        let own = |parameter: &Parameter| ["upperdir", "workdir"].contains(&parameter.key);
        for parameter in overlay.parameters()?.into_iter().filter(own) {
            filesystem = filesystem.set(parameter.key, parameter.value.unwrap_or_default());
        }
        if volatile {
            filesystem = filesystem.flag("volatile");
        }
        Ok(self.attributes(filesystem).outside())
    }
}

fn work_next_to(upper: &Path) -> Result<PathBuf> {
    let name = upper.file_name().ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidConfig,
            format!("upper layer {}: wanted a directory with a name", upper.display()),
        )
    })?;
    let mut work = name.to_owned();
    work.push(".work");
    Ok(upper.with_file_name(work))
}
