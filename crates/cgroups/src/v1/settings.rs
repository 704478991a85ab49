//! From limits to the files of cgroup v1: Documentation/admin-guide/cgroup-v1.

use rustix::io::Errno;

use crate::cpu::{share_us, shares};
use crate::directory::Directory;
use crate::limits::cpuset;
use crate::reader::UNLIMITED;
use crate::setting::{Absent, Held, Open, Setting, in_a_new_group};
use crate::{Bytes, Controller, Device, Error, ErrorKind, Limits, Result, swap};

const UNIFIED: &str = "boot with systemd.unified_cgroup_hierarchy=1";
pub(super) const CPUS: &str = "cpuset.cpus";
pub(super) const NODES: &str = "cpuset.mems";
const MEMORY: &str = "memory.limit_in_bytes";
const PERIOD: &str = "cpu.cfs_period_us";
const BOTH: &str = "memory.memsw.limit_in_bytes";

/// For one controller, in the order in which they are written: their files are open, since for two of them the order depends on what
/// they hold.
pub(crate) fn open<'g>(
    limits: &Limits,
    controller: Controller,
    group: &'g Directory,
    new: bool,
) -> Result<Vec<Open<'g>>> {
    if let Some(newer) = has_not(limits, controller) {
        let what = format!("{controller} is on cgroup v1, which has no {newer}");
        return Err(Error::new(ErrorKind::Unsupported, what).with_hint(UNIFIED));
    }
    match controller {
        Controller::Memory => memory(limits, group, new),
        Controller::Cpu => cpu(limits, group, new),
        Controller::Cpuset => all(cpuset(limits), group, new),
        Controller::Io => all(io(limits)?, group, new),
        _ => all(pids(limits), group, new),
    }
}

/// What these limits want that only cgroup v2 has.
fn has_not(limits: &Limits, controller: Controller) -> Option<&'static str> {
    let oom_group = limits.get_oom_group() == Some(true);
    match controller {
        Controller::Memory if oom_group => Some("memory.oom.group"),
        Controller::Memory if limits.wants_newer_memory() => {
            Some("memory_high, _low, _min, swap_high or zswap")
        }
        Controller::Cpu if limits.wants_newer_cpu() => Some("cpu_burst, _nice, _idle or _clamp"),
        Controller::Cpuset if limits.cpuset.partition.is_some() => Some("cpuset_partition"),
        Controller::Io if !limits.io.latencies.is_empty() => Some("io_latency"),
        _ => None,
    }
}

fn setting(
    controller: Controller,
    file: &'static str,
    value: String,
    held: Held,
    wants: &'static str,
) -> Setting {
    Setting { controller, file: file.into(), value, held, absent: Absent::Wants(wants), refused: None }
}

fn all<'g>(settings: Vec<Setting>, group: &'g Directory, new: bool) -> Result<Vec<Open<'g>>> {
    settings.into_iter().filter_map(|setting| setting.open(group, new).transpose()).collect()
}

fn memory<'g>(limits: &Limits, group: &'g Directory, new: bool) -> Result<Vec<Open<'g>>> {
    let Some(beyond) = swap::wanted(limits) else { return Ok(Vec::new()) };
    let memory = match limits.get_memory() {
        Some(memory) => memory,
        None => {
            let now = group.read(MEMORY)?.trim().parse().ok().filter(|limit| *limit < UNLIMITED);
            Bytes::new(now.ok_or_else(|| {
                Error::invalid(format!("swap {beyond}: on cgroup v1 only together with a memory limit"))
                    .with_hint("add .memory(…)")
            })?)
        }
    };
    let bytes = |file, value: u64| {
        // What the kernel holds for no limit, whole pages below that.
        let value = value.min(i64::MAX as u64);
        let mut setting = setting(
            Controller::Memory,
            file,
            value.to_string(),
            Held::Bytes(Bytes::new(value), 0),
            "use a kernel with CONFIG_MEMCG",
        );
        setting.refused =
            Some((Errno::BUSY, "the group uses more than that now, and it cannot be reclaimed"));
        setting
    };
    let together = swap::together(memory, beyond);
    let mut both = bytes(BOTH, together);
    both.absent = Absent::Swap(limits.get_swap());
    let Some(both) = both.open(group, new)? else {
        return all(
            limits.get_memory().map(|memory| bytes(MEMORY, memory.get())).into_iter().collect(),
            group,
            new,
        );
    };
    let memory = bytes(MEMORY, memory.get()).open(group, new)?;
    // At no moment may memory be the larger of the two: the kernel refuses that.
    let grows = both.before().parse().is_ok_and(|now: u64| together >= now);
    let mut order: Vec<_> = memory.into_iter().collect();
    order.insert(if grows { 0 } else { order.len() }, both);
    Ok(order)
}

fn cpu<'g>(limits: &Limits, group: &'g Directory, new: bool) -> Result<Vec<Open<'g>>> {
    let exactly = |file, value: String, wants| setting(Controller::Cpu, file, value, Held::Exactly, wants);
    let mut settings = Vec::new();
    if let Some(weight) = limits.get_cpu_weight() {
        settings.push(exactly(
            "cpu.shares",
            shares(weight).to_string(),
            "use a kernel with CONFIG_FAIR_GROUP_SCHED",
        ));
    }
    let share = |value: String| {
        let mut share = exactly("cpu.cfs_quota_us", value, "use a kernel with CONFIG_CFS_BANDWIDTH");
        share.refused =
            Some((Errno::INVAL, "on cgroup v1 a group may not have more cores than the group above it"));
        share
    };
    let mut order = all(settings, group, new)?;
    match limits.get_cpus() {
        None => {}
        Some(f64::INFINITY) => order.extend(share("-1".to_owned()).open(group, new)?),
        Some(cores) => {
            let (quota, period) = share_us(cores);
            order.extend(share(quota.to_string()).open(group, new)?);
            let wants = "use a kernel with CONFIG_CFS_BANDWIDTH";
            if new && in_a_new_group(PERIOD) == Some(&*period.to_string()) {
                return Ok(order);
            }
            let setting = exactly(PERIOD, period.to_string(), wants);
            if let Some(open) = setting.open(group, new)? {
                // At no moment may the share be larger than asked for, nor less than 1 ms.
                match open.before().parse::<u64>() {
                    Ok(now) if now == period => {}
                    Ok(now) if now > period => order.push(open),
                    _ => order.insert(order.len().saturating_sub(1), open),
                }
            }
        }
    }
    Ok(order)
}

fn pids(limits: &Limits) -> Vec<Setting> {
    let value = |most: u32| if most == u32::MAX { "max".to_owned() } else { most.to_string() };
    let setting = |most| {
        setting(
            Controller::Pids,
            "pids.max",
            value(most),
            Held::Exactly,
            "use a kernel with CONFIG_CGROUP_PIDS",
        )
    };
    limits.get_pids().map(setting).into_iter().collect()
}

fn cpuset(limits: &Limits) -> Vec<Setting> {
    let sets = [(CPUS, &limits.cpuset.cpus), (NODES, &limits.cpuset.nodes)];
    let setting = |(file, set): (&'static str, &Option<_>)| {
        let value = cpuset::list(set.as_ref()?);
        Some(setting(Controller::Cpuset, file, value, Held::Exactly, "use a kernel with CONFIG_CPUSETS"))
    };
    sets.into_iter().filter_map(setting).collect()
}

fn io(limits: &Limits) -> Result<Vec<Setting>> {
    const FILES: [&str; 4] = [
        "blkio.throttle.read_bps_device",
        "blkio.throttle.write_bps_device",
        "blkio.throttle.read_iops_device",
        "blkio.throttle.write_iops_device",
    ];
    const WEIGHT: &str = "weights on cgroup v1 want the scheduler bfq";
    let number = |device: &Device| device.resolve().map(|(major, minor)| format!("{major}:{minor}"));
    let mut settings = Vec::new();
    let mut add = |file, value, held, wants| settings.push(setting(Controller::Io, file, value, held, wants));
    for (device, max) in &limits.io.max {
        let device = number(device)?;
        for (file, most) in FILES.into_iter().zip(max.values()) {
            // 0 takes a limit back.
            let value = format!("{device} {}", most.unwrap_or(0));
            add(file, value, Held::Line("0"), "use a kernel with CONFIG_BLK_DEV_THROTTLING");
        }
    }
    if let Some(weight) = limits.io.weight {
        add("blkio.bfq.weight", weight.to_string(), Held::Exactly, WEIGHT);
    }
    for (device, weight) in &limits.io.weights {
        add("blkio.bfq.weight_device", format!("{} {weight}", number(device)?), Held::Line("0"), WEIGHT);
    }
    Ok(settings)
}
