//! Hierarchies that most groups never need, cpuset and blkio: a group is made there with the first limit of theirs.

use crate::directory::{CGROUP1, Directory};
use crate::limits::cpuset;
use crate::mountinfo::Mounts;
use crate::name::Name;
use crate::setting::{Held, Setting};
use crate::{Controller, Device, Error, ErrorKind, Limits, Result};

pub(super) const CONTROLLERS: [Controller; 2] = [Controller::Cpuset, Controller::Io];
const UNIFIED: &str = "boot with systemd.unified_cgroup_hierarchy=1";
const CPUS: &str = "cpuset.cpus";
const NODES: &str = "cpuset.mems";

/// The name of the hierarchy.
pub(super) fn hierarchy(controller: Controller) -> &'static str {
    if controller == Controller::Io { "blkio" } else { controller.name() }
}

/// The group, new or there. `None` where the controller is not on cgroup v1.
pub(super) fn make(mounts: &Mounts, name: &Name, controller: Controller) -> Result<Option<Directory>> {
    let Some(point) = mounts.v1(hierarchy(controller)) else { return Ok(None) };
    let parent =
        Directory::mount(&point, CGROUP1)?.descend(name.parents()).map_err(|error| match error.kind() {
            ErrorKind::NotFound => error.with_hint(format!("limit {controller} of the group above it first")),
            _ => error,
        })?;
    let group = parent.make(name.leaf())?;
    if controller == Controller::Cpuset {
        // Until it has both, it takes no process (cgroup-v1/cpusets.rst). What the group above has is no limit.
        let filled = [CPUS, NODES].iter().try_for_each(|file| group.write(file, parent.read(file)?.trim()));
        if let Err(error) = filled {
            let _ = group.remove();
            return Err(error);
        }
    }
    Ok(Some(group))
}

/// The values for a group there.
pub(crate) fn settings(limits: &Limits, controller: Controller) -> Result<Vec<Setting>> {
    let has_not = |what: &str| {
        let what = format!("{controller} is on cgroup v1, which has no {what}");
        Err(Error::new(ErrorKind::Unsupported, what).with_hint(UNIFIED))
    };
    let mut all = Vec::new();
    let mut add = |file: &'static str, value, held, wants| {
        all.push(Setting { controller, file: file.into(), value, held, wants });
    };
    if controller == Controller::Cpuset {
        if limits.cpuset.partition.is_some() {
            return has_not("cpuset_partition");
        }
        for (file, set) in [(CPUS, &limits.cpuset.cpus), (NODES, &limits.cpuset.nodes)] {
            if let Some(set) = set {
                add(file, cpuset::list(set), Held::Exactly, "use a kernel with CONFIG_CPUSETS");
            }
        }
        return Ok(all);
    }
    if !limits.io.latencies.is_empty() {
        return has_not("io_latency");
    }
    const FILES: [&str; 4] = [
        "blkio.throttle.read_bps_device",
        "blkio.throttle.write_bps_device",
        "blkio.throttle.read_iops_device",
        "blkio.throttle.write_iops_device",
    ];
    let number = |device: &Device| device.resolve().map(|(major, minor)| format!("{major}:{minor}"));
    for (device, max) in &limits.io.max {
        let device = number(device)?;
        for (file, most) in FILES.into_iter().zip(max.values()) {
            // 0 takes a limit back.
            let value = format!("{device} {}", most.unwrap_or(0));
            add(file, value, Held::Line("0"), "use a kernel with CONFIG_BLK_DEV_THROTTLING");
        }
    }
    const WEIGHT: &str = "weights on cgroup v1 want the scheduler bfq";
    if let Some(weight) = limits.io.weight {
        add("blkio.bfq.weight", weight.to_string(), Held::Exactly, WEIGHT);
    }
    for (device, weight) in &limits.io.weights {
        add("blkio.bfq.weight_device", format!("{} {weight}", number(device)?), Held::Line("0"), WEIGHT);
    }
    Ok(all)
}
