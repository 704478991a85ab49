//! From a [`Rootfs`] to what is made on a disk before the start, and what the container mounts.

use std::path::{Path, PathBuf};

use isolate_namespaces::{Filesystem, Mount, Root};
use isolate_overlay::Overlay;

use super::{Kind, Preparation, Rootfs, Scratch, host};
use crate::error::{Error, ErrorKind, Result};

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
    /// To be removed afterwards: the container's own directory on the disk,
    pub directory: Option<PathBuf>,
    /// and the work directory next to an upper layer that stays.
    pub work: Option<PathBuf>,
    /// Where to look for what a path in the root is, topmost first.
    pub layers: Vec<PathBuf>,
    /// Whether mount points can be made.
    pub makes_mount_points: bool,
}

/// `state` is the container's state directory; neither it nor the scratch need exist.
pub(crate) fn compile(rootfs: &Rootfs, scratch: Scratch, state: &Path) -> Result<Layout> {
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
    if !rootfs.with.is_empty() && !matches!(rootfs.kind, Kind::Host) {
        let why = "rootfs: `with` names more of the host, for Rootfs::host()";
        return Err(
            Error::new(ErrorKind::InvalidConfig, why).with_hint("bind it by Container::builder().mount()")
        );
    }
    match &rootfs.kind {
        Kind::Writable(path) => {
            directory(path)?;
            Ok(Layout::of(Root::from(path.as_path()), vec![path.clone()], true))
        }
        Kind::ReadOnly(path) => {
            directory(path)?;
            Ok(Layout::of(Root::from(path.as_path()).read_only(), vec![path.clone()], false))
        }
        Kind::Layers(bottom_up) => {
            bottom_up.iter().try_for_each(|path| directory(path))?;
            layers(bottom_up, rootfs.upper.as_deref(), scratch)
        }
        Kind::Host => the_host(&rootfs.with, scratch, state),
    }
}

impl Layout {
    fn of(root: Root, layers: Vec<PathBuf>, makes_mount_points: bool) -> Self {
        Self {
            root,
            scratch: None,
            mounts: Vec::new(),
            preparations: Vec::new(),
            overlays: Vec::new(),
            directory: None,
            work: None,
            layers,
            makes_mount_points,
        }
    }
}

fn layers(bottom_up: &[PathBuf], upper: Option<&Path>, scratch: Scratch) -> Result<Layout> {
    let [base, above @ ..] = bottom_up else {
        return Err(Error::new(ErrorKind::InvalidConfig, "rootfs: no layer"));
    };
    let overlay = above.iter().fold(Overlay::on(base), |overlay, layer| overlay.layer(layer));
    let mut seen: Vec<_> = bottom_up.iter().rev().cloned().collect();
    if let Some(upper) = upper {
        let work = work_next_to(upper)?;
        let overlay = overlay.writable(upper, &work);
        seen.insert(0, upper.to_owned());
        let mut layout = Layout::of(filesystem(&overlay)?.into(), seen, true);
        layout.preparations = vec![Preparation::Layer(upper.to_owned()), Preparation::Private(work.clone())];
        layout.overlays.push(overlay);
        layout.work = Some(work);
        return Ok(layout);
    }
    let mut layout = Layout::of(Filesystem::tmpfs().into(), seen, true);
    layout.root = throw_away(overlay, &scratch, 0, &mut layout)?.into();
    layout.finish(&scratch, 1);
    Ok(layout)
}

fn the_host(with: &[PathBuf], scratch: Scratch, state: &Path) -> Result<Layout> {
    let mut layout = Layout::of(host::skeleton().into(), Vec::new(), true);
    // In memory: a thousand small files a start would keep a disk's file system busy long after their removal.
    let etc = state.join("etc");
    layout.preparations.extend(scratch.directory().map(|path| Preparation::Private(path.to_owned())));
    layout.preparations.push(Preparation::Etc(etc.clone()));
    layout.mounts.push(Mount::bind_directory(etc, "/etc"));
    let mut pairs = 0;
    for path in host::programs().iter().chain(with) {
        if with.contains(path) && !host::named(path)?.is_dir() {
            layout.mounts.push(Mount::bind(path, path).read_only());
            continue;
        }
        let filesystem = throw_away(Overlay::on(path), &scratch, pairs, &mut layout)?;
        layout.mounts.push(Mount::filesystem(filesystem.nodev(), path));
        pairs += 1;
    }
    layout.finish(&scratch, pairs);
    Ok(layout)
}

impl Layout {
    fn finish(&mut self, scratch: &Scratch, pairs: usize) {
        self.scratch = scratch.filesystem(pairs);
        self.directory = scratch.directory().map(Path::to_owned);
    }
}

/// An overlay whose upper layer goes with the container, so that nothing of it need ever be written to the disk.
fn throw_away(overlay: Overlay, scratch: &Scratch, n: usize, layout: &mut Layout) -> Result<Filesystem> {
    let (upper, work, made) = scratch.pair(n);
    layout.preparations.extend(made);
    let overlay = match scratch {
        Scratch::Disk(_) => overlay.writable(&upper, &work),
        Scratch::Memory => overlay.scratch(&upper, &work),
    };
    let overlay = overlay.volatile(true);
    let filesystem = filesystem(&overlay)?;
    layout.overlays.push(overlay);
    Ok(filesystem)
}

fn filesystem(overlay: &Overlay) -> Result<Filesystem> {
    let parameters = overlay.parameters()?;
    Ok(parameters.into_iter().fold(Filesystem::new("overlay"), |filesystem, parameter| {
        match parameter.value {
            Some(value) => filesystem.set(parameter.key, value),
            None => filesystem.flag(parameter.key),
        }
    }))
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
