//! What everybody may read of `/etc`, copied: everything else is not there.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::error::{Error, Result};

/// Read and search for others.
const DIRECTORY: u32 = 0o005;
/// Read for others.
const FILE: u32 = 0o004;
/// What a copy keeps of a file's mode: neither set-user-id nor sticky.
const KEPT: u32 = 0o755;
/// Beyond this a file is no configuration.
const BIGGEST: u64 = 16 << 20;

/// Copies `from` to `to`, which must not exist: directories that everybody may read and search, files that everybody may read,
/// symbolic links as they are. Devices, sockets and pipes are left out, and so is another file system mounted below.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let failed = |e: io::Error| Error::io(format!("cannot copy {} to {}", from.display(), to.display()), &e);
    let mount = mount_of(from).map_err(failed)?;
    directory(from, to, mount).map_err(failed)
}

/// The number of the mount that a file is seen through, the file itself if something is mounted on it. On an overlay the files
/// of one mount have several device numbers.
fn mount_of(path: &Path) -> io::Result<u64> {
    Ok(statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID)?.stx_mnt_id)
}

fn directory(from: &Path, to: &Path, mount: u64) -> io::Result<()> {
    DirBuilder::new().mode(KEPT).create(to)?;
    fs::set_permissions(to, Permissions::from_mode(KEPT))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match fs::symlink_metadata(&from).and_then(|metadata| one(&from, &to, &metadata, mount)) {
            // Gone meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

fn one(from: &Path, to: &Path, metadata: &Metadata, mount: u64) -> io::Result<()> {
    let mode = metadata.mode();
    if mount_of(from)? != mount {
        return Ok(());
    }
    if metadata.is_symlink() {
        symlink(fs::read_link(from)?, to)
    } else if metadata.is_dir() && mode & DIRECTORY == DIRECTORY {
        directory(from, to, mount)
    } else if metadata.is_file() && mode & FILE == FILE && metadata.len() <= BIGGEST {
        fs::copy(from, to)?;
        fs::set_permissions(to, Permissions::from_mode(mode & KEPT))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_may_not_read_along_the_whole_path_is_not_there() {
        let base = std::env::temp_dir().join(format!("etc-{}", std::process::id()));
        let from = base.join("etc");
        for (path, mode) in [("ssl", 0o755), ("ssl/private", 0o710), ("secret", 0o750)] {
            DirBuilder::new().recursive(true).create(from.join(path)).unwrap();
            fs::set_permissions(from.join(path), Permissions::from_mode(mode)).unwrap();
        }
        for (path, mode) in [
            ("passwd", 0o644),
            ("shadow", 0o640),
            ("ssl/private/key", 0o644),
            ("ssl/ca", 0o444),
            ("secret/x", 0o777),
        ] {
            fs::write(from.join(path), path).unwrap();
            fs::set_permissions(from.join(path), Permissions::from_mode(mode)).unwrap();
        }
        fs::write(from.join("tool"), "x").unwrap();
        fs::set_permissions(from.join("tool"), Permissions::from_mode(0o4755)).unwrap();
        symlink("shadow", from.join("link")).unwrap();

        let to = base.join("copy");
        copy(&from, &to).unwrap();
        let exists = |path: &str| fs::symlink_metadata(to.join(path)).is_ok();
        assert!(exists("passwd") && exists("ssl/ca") && exists("link"));
        assert!(!exists("shadow") && !exists("ssl/private") && !exists("secret"));
        assert_eq!(fs::read(to.join("passwd")).unwrap(), b"passwd");
        assert_eq!(fs::metadata(to.join("tool")).unwrap().mode() & 0o7777, 0o755, "not set-user-id any more");
        fs::remove_dir_all(&base).unwrap();
    }
}
