//! Controllers of cgroup v2, and how they are handed down: Documentation/admin-guide/cgroup-v2.rst.

use std::ffi::OsString;

use rustix::io::Errno;

use crate::directory::Directory;
use crate::{Controller, Error, ErrorKind, Result};

const FILE: &str = "cgroup.subtree_control";

/// Whether this group has the controller.
pub(crate) fn has(group: &Directory, controller: Controller) -> Result<bool> {
    Ok(lists(&group.read("cgroup.controllers")?, controller))
}

/// Hands a controller down from the mount's root to the groups below the last of `parents`. `false` if the root
/// has not got it.
pub(crate) fn enable(root: &Directory, parents: &[OsString], controller: Controller) -> Result<bool> {
    if !enable_below(root, controller)? {
        return Ok(false);
    }
    let mut at = root.descend(&[])?;
    for name in parents {
        at = at.child(name)?;
        if !enable_below(&at, controller)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Hands down what is there of these, as far as it can be: without a limit nobody misses the rest, and whoever sets one tries again
/// and is told.
pub(crate) fn enable_what_is_there(
    root: &Directory,
    parents: &[OsString],
    controllers: &[Controller],
) -> Result<()> {
    let mut at = root.descend(&[])?;
    let mut below = parents.iter();
    loop {
        let on = at.read(FILE)?;
        let off: Vec<_> = controllers.iter().filter(|controller| !lists(&on, **controller)).collect();
        if !off.is_empty() {
            let there = at.read("cgroup.controllers")?;
            for controller in off.into_iter().filter(|controller| lists(&there, **controller)) {
                let _ = enable_below(&at, *controller);
            }
        }
        let Some(name) = below.next() else { return Ok(()) };
        at = at.child(name)?;
    }
}

fn enable_below(group: &Directory, controller: Controller) -> Result<bool> {
    if lists(&group.read(FILE)?, controller) {
        return Ok(true);
    }
    if !has(group, controller)? {
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
