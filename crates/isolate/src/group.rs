//! A container's control group: its name, and its limits.

use std::path::Path;

use isolate_cgroups::{Cgroup, Controller, ErrorKind as GroupErrorKind, Limits};

use crate::builder::ContainerBuilder;
use crate::error::{Error, Result};

/// How many processes and threads a container may have unless its limits say otherwise.
const PIDS: u32 = 4096;

/// Unique for as long as the record exists, also among users with state directories of their own, by twelve random digits. An ordinary
/// user's lies in what is delegated to it.
pub(crate) fn name(container: &str, id: &str, privileged: bool) -> String {
    let own = format!("isolate-{container}-{id}");
    if privileged {
        return own;
    }
    match Cgroup::delegated() {
        Ok(Some(group)) => group.join(own).display().to_string(),
        _ => own,
    }
}

/// The same, below its pod's, if it has one.
pub(crate) fn of(builder: &ContainerBuilder, own: &str) -> String {
    builder.member.as_ref().map_or_else(
        || own.to_owned(),
        |member| Path::new(&member.pod.cgroup).join(own).display().to_string(),
    )
}

/// Without the groups above.
pub(crate) fn leaf(group: &str) -> &str {
    group.rsplit('/').next().unwrap_or(group)
}

/// Those of a pod are those that its containers have together: nobody forgets what each of them has anyway.
pub(crate) fn limits(builder: &ContainerBuilder) -> Limits {
    let limits = builder.limits.clone();
    if limits.get_pids().is_some() || builder.holds.is_some() { limits } else { limits.pids(PIDS) }
}

/// In words.
pub(crate) fn words(limits: &Limits) -> Vec<String> {
    limits.words().map(|(what, value)| format!("limit its {what} to {value}")).collect()
}

/// Made, with its limits. Without privileges there need not be one, if no limit was asked for.
pub(crate) fn make(name: &str, builder: &ContainerBuilder, privileged: bool) -> Result<Option<Cgroup>> {
    let said = &builder.limits;
    let cgroup = match Cgroup::create(name) {
        Err(_) if !privileged && *said == Limits::new() => return Ok(None),
        Err(e) if !privileged => {
            return Err(Error::from(e).with_hint(
                "limits want a control group that is delegated to this user, with the caller in a group below it, since the kernel \
                 gives no controller to the children of a group with processes: systemd-run --user -p Delegate=yes \
                 -p DelegateSubgroup=caller",
            ));
        }
        other => other?,
    };
    // For the figures. Where it cannot be had there are none, and a limit of it is an error.
    if said.get_memory().is_none() {
        let _ = cgroup.enable(&[Controller::Memory]);
    }
    match cgroup.apply(&limits(builder)) {
        // What nobody asked for by name is not worth a failure where it cannot be had.
        Err(e) if e.kind() == GroupErrorKind::Unsupported && said.get_pids().is_none() => {
            cgroup.apply(said)?
        }
        other => other?,
    }
    Ok(Some(cgroup))
}
