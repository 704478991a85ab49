//! The devices that a container may use: its own, and those that it was given.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use isolate_cgroups::{Cgroup, DeviceRule, ErrorKind};
use rustix::fs::{major, minor};

use crate::error::{Error, Result};

/// By a program of its group. Where the kernel has none, or another filter around us refuses bpf(2), what is left is that no mount but
/// /dev takes devices, and that nobody can make one there: for who `can_make` them that is an error.
pub(crate) fn allow(cgroup: &Cgroup, given: &[PathBuf], can_make: bool) -> Result<()> {
    let mut rules = DeviceRule::container().to_vec();
    for path in given {
        let found =
            std::fs::metadata(path).map_err(|e| Error::io(format!("device {}", path.display()), &e))?;
        let (major, minor) = (major(found.rdev()), minor(found.rdev()));
        let rule = match found.file_type().is_block_device() {
            true => DeviceRule::block(major, minor),
            false => DeviceRule::character(major, minor),
        };
        rules.push(rule.without_mknod());
    }
    match cgroup.allow_devices(&rules) {
        Err(e) if [ErrorKind::Unsupported, ErrorKind::PermissionDenied].contains(&e.kind()) && !can_make => {
            Ok(())
        }
        done => Ok(done?),
    }
}
