//! Controllers of cgroup v2, and how they are handed down: Documentation/admin-guide/cgroup-v2.rst.

use std::ffi::OsString;

use rustix::io::Errno;

use crate::directory::Directory;
use crate::mountinfo::Mounts;
use crate::{Controller, Error, ErrorKind, Result};

const FILE: &str = "cgroup.subtree_control";

/// Hands a controller down from the mount's root to the groups below the last of `parents`. `false` if the root
/// has not got it.
pub(crate) fn enable(mounts: &Mounts, parents: &[OsString], controller: Controller) -> Result<bool> {
    let mut at = Directory::below(mounts.unified()?, &[])?;
    if !enable_below(&at, controller)? {
        return Ok(false);
    }
    for name in parents {
        at = at.child(name)?;
        if !enable_below(&at, controller)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn enable_below(group: &Directory, controller: Controller) -> Result<bool> {
    if lists(&group.read(FILE)?, controller) {
        return Ok(true);
    }
    if !lists(&group.read("cgroup.controllers")?, controller) {
        return Ok(false);
    }
    // The kernel refuses memory here, but for cpu and pids it would turn the group into the root of a threaded
    // subtree, and what is below could hold no process (cgroup-v2.rst, "Threads"). The machine's own root may.
    let procs = if group.has("cgroup.type") { group.read_optional("cgroup.procs")? } else { None };
    if procs.is_some_and(|procs| !procs.is_empty()) {
        let path = group.path().display();
        return Err(Error::new(
            ErrorKind::Busy,
            format!("cannot write +{controller} to {path}/{FILE}: it holds processes"),
        )
        .with_hint(format!(
            "only a group without processes hands controllers down: move those of {path} below it"
        )));
    }
    match group.write(FILE, &format!("+{controller}")) {
        Ok(()) => Ok(true),
        Err(error)
            if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) && controller == Controller::Cpu =>
        {
            Err(error.with_hint(
                "a real-time process outside the root group keeps the cpu controller from being enabled",
            ))
        }
        Err(error) => Err(error),
    }
}

pub(crate) fn lists(names: &str, controller: Controller) -> bool {
    names.split_whitespace().any(|name| name == controller.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_found_by_their_whole_name() {
        assert!(lists("cpuset cpu io\n", Controller::Cpu));
        assert!(!lists("cpuset io", Controller::Cpu));
        assert!(!lists("", Controller::Memory));
    }
}
