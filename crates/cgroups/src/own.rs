//! Where a process without root's rights may make groups: what was delegated to it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, statat};

use crate::directory::Directory;
use crate::mountinfo::Mounts;
use crate::{ErrorKind, Result};

/// The group of the calling thread, or the nearest above it that is the same user's and has no process.
pub(crate) fn delegated(mounts: &Mounts) -> Result<Option<PathBuf>> {
    let Some(mount) = mounts.v2() else { return Ok(None) };
    let Ok(table) = std::fs::read("/proc/thread-self/cgroup") else { return Ok(None) };
    // Elsewhere in the hierarchy than the mount's root: a group that has no name here.
    let Some(own) = name(&table).filter(|_| mount.root == b"/") else { return Ok(None) };
    if own.as_os_str().is_empty() {
        return Ok(None);
    }
    let user = rustix::process::geteuid().as_raw();
    let names: Vec<OsString> = own.iter().map(OsStr::to_owned).collect();
    for depth in (1..=names.len()).rev() {
        let Some(names) = names.get(..depth) else { break };
        let group = match Directory::below(mount, names) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => break,
            group => group?,
        };
        if statat(&group, c"", AtFlags::EMPTY_PATH).map_or(true, |found| found.st_uid != user) {
            break;
        }
        if group.read("cgroup.procs").is_ok_and(|pids| pids.is_empty()) {
            return Ok(Some(names.iter().collect()));
        }
    }
    Ok(Some(own))
}

/// The line `0::/a/b` of cgroups(7), without the first slash.
fn name(table: &[u8]) -> Option<PathBuf> {
    let line = table.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::/"))?;
    Some(Path::new(OsStr::from_bytes(line)).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_that_of_cgroup_v2() {
        let of = |table: &[u8]| name(table);
        assert_eq!(of(b"5:memory:/x\n0::/user.slice/a b\n"), Some(PathBuf::from("user.slice/a b")));
        assert_eq!(of(b"0::/\n"), Some(PathBuf::new()));
        assert_eq!(of(b"1:cpu:/\n"), None);
    }
}
