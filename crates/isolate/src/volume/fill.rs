//! A volume's first use: what the root has at its place is in it, whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use isolate_overlay::Overlay;
use rustix::fs::{FlockOperation, flock};

use super::Use;
use crate::error::{Error, Result};
use crate::tree::{self, Copier, Owners};
use crate::undo::remove_tree;

/// The directory, empty.
pub(super) fn make(directory: &Path) -> Result<()> {
    let _lock = lock(directory)?;
    empty(directory)
}

/// For a container whose root has these layers, topmost first. `others` says whether another container has it, too: then nothing in it is
/// replaced, not even by something.
pub(crate) fn prepare(volume: &Use, layers: &[PathBuf], others: bool) -> Result<()> {
    let directory = volume.directory()?;
    let named = |e: Error| e.of(format!("volume `{}`", volume.name));
    let _lock = lock(&directory).map_err(named)?;
    let data = directory.join("data");
    let (there, nothing) = match fs::read_dir(&data) {
        Ok(mut entries) => (true, entries.next().is_none()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => (false, true),
        Err(e) => return Err(named(Error::io(data.display(), &e))),
    };
    if volume.copy && nothing && !(others && there) && !layers.is_empty() {
        let root = merged(layers).map_err(named)?;
        let failed = |e: rustix::io::Errno| Error::io(volume.target.display(), &e.into());
        if let Some(from) = tree::directory_in(root.as_fd(), &volume.target).map_err(failed).map_err(named)? {
            return fill(&directory, &from).map_err(named);
        }
    }
    empty(&directory).map_err(named)
}

fn fill(directory: &Path, from: &OwnedFd) -> Result<()> {
    let (filling, data) = (directory.join("filling"), directory.join("data"));
    let failed = |e: io::Error| Error::io(filling.display(), &e);
    remove_tree(&filling)?;
    DirBuilder::new().mode(0o700).create(&filling).map_err(failed)?;
    let to = tree::directory(&filling).map_err(|e| failed(e.into()))?;
    let top = to.try_clone().map_err(failed)?;
    let copied = Copier::new(Owners::Kept(0)).private(top).contents(from.as_fd(), to.as_fd());
    let kept = copied.and_then(|()| {
        rustix::fs::syncfs(&to).map_err(|e| failed(e.into()))?;
        fs::rename(&filling, &data).map_err(failed)
    });
    if kept.is_err() {
        remove_tree(&filling).ok();
    }
    kept
}

/// The data's directory, if it is not there.
fn empty(directory: &Path) -> Result<()> {
    let data = directory.join("data");
    let made = match DirBuilder::new().mode(0o755).create(&data) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Whatever the caller's umask is.
        Ok(()) => fs::set_permissions(&data, Permissions::from_mode(0o755)),
        other => other,
    };
    made.map_err(|e| Error::io(data.display(), &e))
}

/// Its lock; the directory is made if missing.
fn lock(directory: &Path) -> Result<File> {
    let failed = |e: io::Error| Error::io(directory.display(), &e);
    super::make_root(directory)?;
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed(e)),
        _ => {}
    }
    let path = directory.join("lock");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(failed)?;
    loop {
        match flock(&file, FlockOperation::LockExclusive) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(|()| file).map_err(|e| failed(e.into())),
        }
    }
}

/// The root as the container will see it.
fn merged(layers: &[PathBuf]) -> Result<OwnedFd> {
    let mut there = Vec::new();
    for layer in layers {
        match fs::metadata(layer) {
            Ok(metadata) if metadata.is_dir() => there.push(layer),
            // One that cannot be looked at must not let those below, or the host's root, show through.
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io(layer.display(), &e)),
            _ => {}
        }
    }
    match there.as_slice() {
        [] | [_] => {
            let only = there.first().map_or(Path::new("/"), |layer| layer.as_path());
            tree::directory(only).map_err(|e| Error::io(only.display(), &e.into()))
        }
        [above @ .., base] => {
            let overlay = above.iter().rev().fold(Overlay::on(base), |overlay, layer| overlay.layer(layer));
            Ok(overlay.mount()?.into())
        }
    }
}
