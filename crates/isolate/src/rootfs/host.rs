//! The host's own root, as a container sees it: an allow-list.

use std::fs;
use std::path::{Path, PathBuf};

use isolate_namespaces::Filesystem;

use crate::error::{Error, ErrorKind, Result};

/// Directories that are empty in a container, with their modes.
const EMPTY: [(&str, u32); 15] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];

/// Directories of programs. Where one is a symbolic link, as /bin is on a merged /usr, the link is repeated.
const PROGRAMS: [&str; 9] = ["usr", "opt", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "gnu"];

/// The skeleton: a tmpfs with the links and the empty directories.
pub(crate) fn skeleton() -> Filesystem {
    let tmpfs = Filesystem::tmpfs().set("mode", "755").nodev();
    let tmpfs = EMPTY.iter().fold(tmpfs, |tmpfs, (path, mode)| tmpfs.directory(*path, *mode));
    PROGRAMS.iter().fold(tmpfs, |tmpfs, name| match fs::read_link(Path::new("/").join(name)) {
        Ok(to) => tmpfs.symlink(*name, to),
        Err(_) => tmpfs,
    })
}

/// The directories that become overlays.
pub(crate) fn programs() -> Vec<PathBuf> {
    let paths = PROGRAMS.iter().map(|name| Path::new("/").join(name));
    paths.filter(|path| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())).collect()
}

/// A path that the user has named: absolute, there, and not one that the skeleton fills otherwise.
pub(crate) fn named(path: &Path) -> Result<fs::Metadata> {
    let said = format!("Rootfs::host().with({path:?})");
    if !path.is_absolute() || path == Path::new("/") {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            format!("{said}: wanted an absolute path other than /"),
        ));
    }
    for own in ["/proc", "/sys", "/dev"] {
        if path.starts_with(own) {
            let why = format!("{said}: a container has a {own} of its own");
            return Err(Error::new(ErrorKind::InvalidConfig, why)
                .with_hint("bind it by Container::builder().mount()"));
        }
    }
    fs::metadata(path).map_err(|e| Error::io(said, &e))
}
