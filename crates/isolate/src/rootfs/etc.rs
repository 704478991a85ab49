//! What everybody may read of `/etc`, copied: everything else is not there.

use std::ffi::CStr;
use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, StatxFlags, fchmod, fchown, fstat, mkdirat, openat,
    readlinkat, statx, symlinkat,
};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Read and search for others.
const DIRECTORY: u32 = 0o005;
/// Read for others.
const FILE: u32 = 0o004;
/// What a copy keeps of a file's mode: neither set-user-id nor sticky.
const KEPT: Mode = Mode::from_raw_mode(0o755);
/// Beyond this a file is no configuration.
const BIGGEST: u64 = 16 << 20;

/// Copies `from` to `to`, which must not exist: directories that everybody may read and search, files that everybody may read,
/// symbolic links as they are. Devices, sockets and pipes are left out, and so is another file system mounted below.
///
/// Everything goes by descriptors, one statx(2) a name: a host has a thousand. The copies belong to `owner`, or to the caller.
pub(crate) fn copy(from: &Path, to: &Path, owner: Option<u32>) -> Result<()> {
    let failed =
        |e: Errno| Error::io(format!("cannot copy {} to {}", from.display(), to.display()), &e.into());
    let source =
        openat(CWD, from, OPEN_DIRECTORY.difference(OFlags::NOFOLLOW), Mode::empty()).map_err(failed)?;
    // Not the device: on an overlay the files of one mount have several numbers.
    let mount = statx(&source, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map_err(failed)?.stx_mnt_id;
    mkdirat(CWD, to, KEPT).map_err(failed)?;
    let target = openat(CWD, to, OPEN_DIRECTORY, Mode::empty()).map_err(failed)?;
    directory(source, &target, mount, owner).map_err(failed)
}

/// fchown(2) for both ids, if there is another owner.
fn give(file: &OwnedFd, owner: Option<u32>) -> rustix::io::Result<()> {
    match owner {
        Some(id) => fchown(file, Some(rustix::fs::Uid::from_raw(id)), Some(rustix::fs::Gid::from_raw(id))),
        None => Ok(()),
    }
}

const OPEN_DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn directory(from: OwnedFd, to: &OwnedFd, mount: u64, owner: Option<u32>) -> rustix::io::Result<()> {
    // As if the caller had no umask.
    fchmod(to, KEPT)?;
    give(to, owner)?;
    let mut entries = Dir::new(from)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        match one(entries.fd()?, to, name, mount, owner) {
            // Gone meanwhile, or something else in its place.
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => {}
            other => other?,
        }
    }
    Ok(())
}

fn one(
    from: BorrowedFd<'_>,
    to: &OwnedFd,
    name: &CStr,
    mount: u64,
    owner: Option<u32>,
) -> rustix::io::Result<()> {
    let wanted = StatxFlags::TYPE | StatxFlags::MODE | StatxFlags::SIZE | StatxFlags::MNT_ID;
    // What is mounted on a name has the number of its own mount.
    let found = statx(from, name, AtFlags::SYMLINK_NOFOLLOW, wanted)?;
    let mode = u32::from(found.stx_mode);
    if found.stx_mnt_id != mount {
        return Ok(());
    }
    match FileType::from_raw_mode(mode) {
        FileType::Symlink => symlinkat(readlinkat(from, name, Vec::new())?.as_c_str(), to, name),
        FileType::Directory if mode & DIRECTORY == DIRECTORY => {
            let source = openat(from, name, OPEN_DIRECTORY, Mode::empty())?;
            mkdirat(to, name, KEPT)?;
            directory(source, &openat(to, name, OPEN_DIRECTORY, Mode::empty())?, mount, owner)
        }
        FileType::RegularFile if mode & FILE == FILE && found.stx_size <= BIGGEST => {
            file(from, to, name, owner)
        }
        _ => Ok(()),
    }
}

fn file(from: BorrowedFd<'_>, to: &OwnedFd, name: &CStr, owner: Option<u32>) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = openat(from, name, flags, Mode::empty())?;
    // Of what is open, not of what the name was a moment ago.
    let mode = fstat(&source)?.st_mode;
    if FileType::from_raw_mode(mode) != FileType::RegularFile || mode & FILE == 0 {
        return Ok(());
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let target = openat(to, name, flags, Mode::RUSR)?;
    fchmod(&target, Mode::from_raw_mode(mode) & KEPT)?;
    give(&target, owner)?;
    let (mut source, mut target) = (std::fs::File::from(source), std::fs::File::from(target));
    let mut buffer = [0; 16 << 10];
    let mut left = BIGGEST;
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) if count as u64 > left => return Err(Errno::FBIG),
            Ok(count) => {
                left -= count as u64;
                target.write_all(&buffer[..count]).map_err(errno)?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(errno(e)),
        }
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, DirBuilder, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

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
        copy(&from, &to, None).unwrap();
        let exists = |path: &str| fs::symlink_metadata(to.join(path)).is_ok();
        assert!(exists("passwd") && exists("ssl/ca") && exists("link"));
        assert!(!exists("shadow") && !exists("ssl/private") && !exists("secret"));
        assert_eq!(fs::read(to.join("passwd")).unwrap(), b"passwd");
        assert_eq!(fs::metadata(to.join("tool")).unwrap().mode() & 0o7777, 0o755, "not set-user-id any more");
        fs::remove_dir_all(&base).unwrap();
    }
}
