//! Hybrid hosts: the controllers memory, cpu and pids on cgroup v1 hierarchies, Documentation/admin-guide/cgroup-v1.
//!
//! Groups are made, joined, read and removed by descriptor as on cgroup v2. The values are set by cgroups-rs, one
//! setter at a time and never by its `apply`, which is `Ok` though a limit was refused; it is handed the one group's
//! own descriptor as a path, so that it touches no other hierarchy; and each value is read back.

pub(crate) mod later;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;

use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use cgroups_rs::fs::{MaxValue, error::Error as V1Error};
use rustix::io::Errno;

use crate::cpu::{share_us, shares};
use crate::directory::{CGROUP1, Directory};
use crate::mountinfo::Mounts;
use crate::name::Name;
use crate::reader::{PEAK_V1 as PEAK, UNLIMITED, What};
use crate::setting::{Held, verify};
use crate::{Bytes, Controller, Error, ErrorKind, Limits, Result, swap};

/// The controllers that limits need.
pub(crate) const CONTROLLERS: [Controller; 3] = [Controller::Memory, Controller::Cpu, Controller::Pids];

/// A group's namesakes in the hierarchies of cgroup v1 that have a controller of ours.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: Vec<Group>,
    /// By [`later::CONTROLLERS`]: made when they are wanted.
    later: [OnceLock<Directory>; 2],
}

/// What one controller held before a limit was set.
#[derive(Debug)]
pub(crate) struct Before {
    controller: Controller,
    limits: Limits,
    files: Vec<(&'static str, String)>,
}

/// One directory; several controllers may be mounted together.
#[derive(Debug)]
struct Group {
    controllers: Vec<Controller>,
    directory: Directory,
}

impl Groups {
    /// Makes the groups; those made are removed again when one fails.
    pub(crate) fn create(mounts: &Mounts, name: &Name) -> Result<Self> {
        let mut made = Self::default();
        for (point, controllers) in hierarchies(mounts) {
            let result = Directory::mount(&point, CGROUP1)
                .and_then(|root| root.descend(name.parents()))
                .and_then(|parent| parent.make(name.leaf()));
            match result {
                Ok(directory) => made.groups.push(Group { controllers, directory }),
                Err(error) => {
                    for group in &made.groups {
                        let _ = group.directory.remove();
                    }
                    return Err(error);
                }
            }
        }
        Ok(made)
    }

    /// Those that are there.
    pub(crate) fn open(mounts: &Mounts, name: &Name) -> Result<Self> {
        let mut found = Vec::new();
        for (point, controllers) in hierarchies(mounts) {
            match Directory::mount(&point, CGROUP1)?.descend(name.components()) {
                Ok(directory) => found.push(Group { controllers, directory }),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let later = later::CONTROLLERS.map(|controller| {
            let point = mounts.v1(later::hierarchy(controller));
            let root = point.and_then(|point| Directory::mount(&point, CGROUP1).ok());
            root.and_then(|root| root.descend(name.components()).ok())
                .map_or_else(OnceLock::new, OnceLock::from)
        });
        Ok(Self { groups: found, later })
    }

    pub(crate) fn has(&self, controller: Controller) -> bool {
        self.find(controller).is_some()
    }

    pub(crate) fn find(&self, controller: Controller) -> Option<&Directory> {
        let group = self.groups.iter().find(|group| group.controllers.contains(&controller));
        let later = || {
            later::CONTROLLERS.iter().position(|later| *later == controller).and_then(|n| self.later[n].get())
        };
        group.map(|group| &group.directory).or_else(later)
    }

    /// The group of a controller that is not there before it is wanted; `None` where it is not on cgroup v1.
    pub(crate) fn begin(
        &self,
        mounts: &Mounts,
        name: &Name,
        controller: Controller,
    ) -> Result<Option<&Directory>> {
        let place = later::CONTROLLERS.iter().zip(&self.later).find(|(later, _)| **later == controller);
        let Some((_, place)) = place else { return Ok(None) };
        match later::make(mounts, name, controller) {
            Ok(Some(made)) => Ok(Some(place.get_or_init(|| made))),
            // By another thread, just now.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && place.get().is_some() => {
                Ok(place.get())
            }
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn directories(&self) -> impl Iterator<Item = &Directory> {
        self.groups.iter().map(|group| &group.directory).chain(self.later.iter().filter_map(OnceLock::get))
    }

    /// Sets the limits of one controller.
    pub(crate) fn set(&self, controller: Controller, limits: &Limits) -> Result<()> {
        let missing = || Error::new(ErrorKind::Unsupported, format!("no cgroup v1 group has {controller}"));
        let group = self.find(controller).ok_or_else(missing)?;
        let newer = match controller {
            Controller::Memory => {
                limits.wants_newer_memory().then_some("memory_high, _low, _min, swap_high or zswap")
            }
            Controller::Cpu => limits.wants_newer_cpu().then_some("cpu_burst, _nice, _idle or _clamp"),
            _ => None,
        };
        if let Some(newer) = newer {
            let what = format!("{controller} is on cgroup v1, which has no {newer}");
            return Err(Error::new(ErrorKind::Unsupported, what)
                .with_hint("boot with systemd.unified_cgroup_hierarchy=1"));
        }
        match controller {
            Controller::Memory => set_memory(group, limits),
            Controller::Cpu => set_cpu(group, limits),
            _ => set_pids(group, limits),
        }
    }

    /// What is held now of one controller's limits.
    pub(crate) fn before(&self, controller: Controller) -> Result<Before> {
        let mut before = Before { controller, limits: Limits::new(), files: Vec::new() };
        let Some(group) = self.find(controller) else { return Ok(before) };
        let bytes = |value: u64| if value < UNLIMITED { Bytes::new(value) } else { Bytes::UNLIMITED };
        match controller {
            Controller::Memory => {
                before.limits.memory = number(group, LIMIT)?.map(bytes);
                before.limits.swap = match (before.limits.memory, number(group, BOTH)?.map(bytes)) {
                    (Some(memory), Some(both)) if both != Bytes::UNLIMITED => {
                        Some(Bytes::new(both.get().saturating_sub(memory.get())))
                    }
                    (_, both) => both,
                };
            }
            Controller::Cpu => {
                before.files =
                    vec![SHARES, PERIOD, QUOTA].into_iter().map(|file| (file, String::new())).collect()
            }
            _ => before.files = vec![("pids.max", String::new())],
        }
        for (file, value) in &mut before.files {
            *value = group.read_optional(file)?.unwrap_or_default().trim().to_owned();
        }
        Ok(before)
    }

    pub(crate) fn put_back(&self, before: &Before) -> Result<()> {
        let Some(group) = self.find(before.controller) else { return Ok(()) };
        if before.controller == Controller::Memory {
            return set_memory(group, &before.limits);
        }
        // A share that fits neither period is no moment's: none, then the period, then the share.
        if before.controller == Controller::Cpu && group.has(QUOTA) {
            group.write(QUOTA, "-1")?;
        }
        let files = before.files.iter().filter(|(_, value)| !value.is_empty());
        files.into_iter().try_for_each(|(file, value)| group.write(file, value))
    }

    pub(crate) fn add(&self, pid: u32) -> Result<()> {
        self.directories().try_for_each(|group| group.write("cgroup.procs", &pid.to_string()))
    }

    pub(crate) fn join_files(&self) -> Result<Vec<OwnedFd>> {
        let open = |group: &Directory| {
            let path = group.path().join("tasks");
            group.open_write("tasks").map_err(|errno| Error::os(path.display().to_string(), errno))
        };
        self.directories().map(open).collect()
    }

    /// The files that tell what cgroup v2 has not got, in the order in which they are read.
    pub(crate) fn readings(&self) -> impl Iterator<Item = (What, &Directory, &'static str)> {
        use crate::reader::Memory::{Both, Current, DetailsV1, Failures, Limit, OomControl, Peak};
        const FILES: [(Controller, What, &str); 13] = [
            (Controller::Io, What::IoBytes, "blkio.throttle.io_service_bytes_recursive"),
            (Controller::Io, What::IoOperations, "blkio.throttle.io_serviced_recursive"),
            (Controller::Cpu, What::Throttling, "cpu.stat"),
            (Controller::Pids, What::PidsCurrent, "pids.current"),
            (Controller::Pids, What::PidsPeak, "pids.peak"),
            (Controller::Pids, What::PidsLimit, "pids.max"),
            (Controller::Memory, What::Memory(Current), "memory.usage_in_bytes"),
            (Controller::Memory, What::Memory(Peak), PEAK),
            (Controller::Memory, What::Memory(Limit), LIMIT),
            (Controller::Memory, What::Memory(Both), "memory.memsw.usage_in_bytes"),
            (Controller::Memory, What::Memory(OomControl), "memory.oom_control"),
            (Controller::Memory, What::Memory(Failures), "memory.failcnt"),
            (Controller::Memory, What::Memory(DetailsV1), "memory.stat"),
        ];
        FILES.into_iter().filter_map(|(controller, what, file)| Some((what, self.find(controller)?, file)))
    }
}

/// A file that holds one number; `None` where it is not there.
fn number(group: &Directory, file: &str) -> Result<Option<u64>> {
    let Some(text) = group.read_optional(file)? else { return Ok(None) };
    let path = group.path().join(file);
    let wrong =
        |_| Error::new(ErrorKind::Kernel, format!("{}: `{}` is no number", path.display(), text.trim()));
    text.trim().parse().map(Some).map_err(wrong)
}

/// The hierarchies with a controller of ours, each once.
fn hierarchies(mounts: &Mounts) -> Vec<(PathBuf, Vec<Controller>)> {
    let mut found: Vec<(PathBuf, Vec<Controller>)> = Vec::new();
    for controller in CONTROLLERS {
        let Some(point) = mounts.v1(controller.name()) else { continue };
        match found.iter_mut().find(|(known, _)| *known == point) {
            Some((_, controllers)) => controllers.push(controller),
            None => found.push((point, vec![controller])),
        }
    }
    found
}

const SHARES: &str = "cpu.shares";
const PERIOD: &str = "cpu.cfs_period_us";
const QUOTA: &str = "cpu.cfs_quota_us";
const LIMIT: &str = "memory.limit_in_bytes";
const BOTH: &str = "memory.memsw.limit_in_bytes";

fn set_memory(group: &Directory, limits: &Limits) -> Result<()> {
    if limits.get_oom_group() == Some(true) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "memory is on cgroup v1, which has no memory.oom.group",
        )
        .with_hint("boot with systemd.unified_cgroup_hierarchy=1"));
    }
    let limit = |value| set_bytes(group, LIMIT, value, MemController::set_limit);
    if !group.has(BOTH) {
        swap::without_accounting(limits, BOTH)?;
        return limits.get_memory().map_or(Ok(()), |memory| limit(memory.get()));
    }
    let Some(beyond) = swap::wanted(limits) else { return Ok(()) };
    let memory = match limits.get_memory() {
        Some(memory) => memory,
        None => Bytes::new(number(group, LIMIT)?.filter(|limit| *limit < UNLIMITED).ok_or_else(|| {
            Error::invalid(format!("swap {beyond}: on cgroup v1 only together with a memory limit"))
                .with_hint("add .memory(…)")
        })?),
    };
    let together = swap::together(memory, beyond);
    let both = || set_bytes(group, BOTH, together, MemController::set_memswap_limit);
    // At no moment may memory be the larger of the two: the kernel refuses that.
    if number(group, BOTH)?.is_some_and(|now| together >= now) {
        both()?;
        limit(memory.get())
    } else {
        limit(memory.get())?;
        both()
    }
}

fn set_bytes(
    group: &Directory,
    file: &str,
    value: u64,
    setter: fn(&MemController, i64) -> Result<(), V1Error>,
) -> Result<()> {
    let controller = MemController::new(through_descriptor(group), PathBuf::new(), false);
    // What the kernel holds for no limit, whole pages below that.
    let value = value.min(i64::MAX as u64);
    setter(&controller, value as i64).map_err(|error| {
        let refused = refused(group, file, &value.to_string(), &error);
        match refused.kind() {
            ErrorKind::Busy => {
                refused.with_hint("the group uses more than that now, and it cannot be reclaimed")
            }
            _ => refused,
        }
    })?;
    verify(group, file, &value.to_string(), Held::Bytes(Bytes::new(value), 0))
}

fn set_cpu(group: &Directory, limits: &Limits) -> Result<()> {
    let controller = CpuController::new(through_descriptor(group), PathBuf::new(), false);
    let wrote = |file, value: u64, result: Result<(), V1Error>| {
        let value = value.to_string();
        result.map_err(|error| refused(group, file, &value, &error))?;
        verify(group, file, &value, Held::Exactly)
    };
    if let Some(weight) = limits.get_cpu_weight() {
        wrote(SHARES, shares(weight), controller.set_shares(shares(weight)))?;
    }
    let Some(cores) = limits.get_cpus() else { return Ok(()) };
    if !group.has(QUOTA) {
        return Err(Error::new(ErrorKind::Unsupported, format!("{cores} cores: this kernel has no {QUOTA}"))
            .with_hint("use a kernel with CONFIG_CFS_BANDWIDTH"));
    }
    if cores == f64::INFINITY {
        let result = controller.set_cfs_quota(-1);
        result.map_err(|error| refused(group, QUOTA, "-1", &error))?;
        return verify(group, QUOTA, "-1", Held::Exactly);
    }
    let (quota, period) = share_us(cores);
    // At no moment may the share be larger than asked for, nor less than 1 ms.
    let was = number(group, PERIOD)?.unwrap_or(period);
    if period > was {
        wrote(PERIOD, period, controller.set_cfs_period(period))?;
    }
    let result = wrote(QUOTA, quota, controller.set_cfs_quota(quota as i64));
    let result = result.and_then(|()| wrote(PERIOD, period, controller.set_cfs_period(period)));
    result.map_err(|error| match error.raw_os_error() {
        Some(errno) if errno == Errno::INVAL.raw_os_error() => {
            error.with_hint("on cgroup v1 a group may not have more cores than the group above it")
        }
        _ => error,
    })
}

fn set_pids(group: &Directory, limits: &Limits) -> Result<()> {
    const FILE: &str = "pids.max";
    let Some(max) = limits.get_pids() else { return Ok(()) };
    let controller = PidController::new(through_descriptor(group), PathBuf::new(), false);
    let (value, text) = match max {
        u32::MAX => (MaxValue::Max, "max".to_owned()),
        max => (MaxValue::Value(i64::from(max)), max.to_string()),
    };
    controller.set_pid_max(value).map_err(|error| refused(group, FILE, &text, &error))?;
    verify(group, FILE, &text, Held::Exactly)
}

/// cgroups-rs wants a path: this one ends in the group that is open, whatever is mounted where.
fn through_descriptor(group: &Directory) -> PathBuf {
    PathBuf::from(format!("/proc/thread-self/fd/{}", group.as_fd().as_raw_fd()))
}

fn refused(group: &Directory, file: &str, value: &str, error: &V1Error) -> Error {
    let what = format!("cannot write {value} to {}", group.path().join(file).display());
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    match cause.and_then(io::Error::raw_os_error) {
        Some(errno) => Error::os(what, Errno::from_raw_os_error(errno)),
        None => Error::new(ErrorKind::Kernel, format!("{what}: {error}")),
    }
}
