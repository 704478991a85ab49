//! Hierarchies that most groups never need, cpuset and blkio: a group is made there with the first limit of theirs.

use crate::directory::Directory;
use crate::mountinfo::Mounts;
use crate::name::Name;
use crate::v1::settings::{CPUS, NODES};
use crate::{Controller, ErrorKind, Result};

pub(super) const CONTROLLERS: [Controller; 2] = [Controller::Cpuset, Controller::Io];

/// The name of the hierarchy.
pub(super) fn hierarchy(controller: Controller) -> &'static str {
    if controller == Controller::Io { "blkio" } else { controller.name() }
}

/// The group, new or there. `None` where the controller is not on cgroup v1.
pub(super) fn make(mounts: &Mounts, name: &Name, controller: Controller) -> Result<Option<Directory>> {
    let Some(mount) = mounts.v1(hierarchy(controller)) else { return Ok(None) };
    let group = Directory::make_below(mount, name.components()).map_err(|error| match error.kind() {
        ErrorKind::NotFound => error.with_hint(format!("limit {controller} of the group above it first")),
        _ => error,
    })?;
    if controller == Controller::Cpuset {
        let parent = Directory::below(mount, name.parents())?;
        // Until it has both, it takes no process (cgroup-v1/cpusets.rst). What the group above has is no limit.
        let filled = [CPUS, NODES].iter().try_for_each(|file| group.write(file, parent.read(file)?.trim()));
        if let Err(error) = filled {
            let _ = group.remove();
            return Err(error);
        }
    }
    Ok(Some(group))
}
