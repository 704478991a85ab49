//! What a container's programs may do: the defaults, and what of them the description has changed. The same for its command and for what
//! is executed in it later.

use std::path::PathBuf;

use isolate_namespaces::{
    Capabilities, Command, CpuSet, IoPriority, Resource, ResourceLimit, Scheduler, Seccomp,
};

#[cfg(feature = "landlock")]
use isolate_namespaces::Landlock;
use serde::{Deserialize, Serialize};

use crate::user::{Resolved, User};

/// Hidden in a container: what tells of the host's hardware, memory or kernel, or changes it.
const MASKED: [&str; 25] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/modules",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/bpf",
    "/sys/fs/pstore",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
    "/sys/power",
];
/// To be read only.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// Bytes that a program may lock in memory.
const MEMLOCK: u64 = 64 << 10;

/// As set by the builder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Confinement {
    pub user: Option<User>,
    pub capabilities: Capabilities,
    pub no_new_privileges: bool,
    /// `None`: unconfined.
    pub seccomp: Option<Seccomp>,
    pub limits: Vec<(Resource, ResourceLimit)>,
    pub nice: Option<i32>,
    pub scheduler: Option<Scheduler>,
    pub io_priority: Option<IoPriority>,
    pub affinity: Option<CpuSet>,
    pub oom_score_adj: Option<i32>,
    #[cfg(feature = "landlock")]
    pub landlock: Option<Landlock>,
    pub unmasked: bool,
    #[serde(with = "crate::recorded")]
    pub masked: Vec<PathBuf>,
    #[serde(with = "crate::recorded")]
    pub read_only: Vec<PathBuf>,
    pub read_only_root: bool,
}

impl Default for Confinement {
    fn default() -> Self {
        Self::new()
    }
}

impl Confinement {
    pub(crate) fn new() -> Self {
        Self {
            user: None,
            capabilities: Capabilities::DEFAULT,
            no_new_privileges: true,
            seccomp: Some(Seccomp::default_profile()),
            limits: vec![
                (Resource::Core, ResourceLimit::new(0, 0)),
                (Resource::Memlock, ResourceLimit::new(MEMLOCK, MEMLOCK)),
            ],
            nice: None,
            scheduler: None,
            io_priority: None,
            affinity: None,
            oom_score_adj: None,
            #[cfg(feature = "landlock")]
            landlock: None,
            unmasked: false,
            masked: Vec::new(),
            read_only: Vec::new(),
            read_only_root: false,
        }
    }

    /// Of each program: identity, rights, limits.
    pub(crate) fn apply(&self, user: &Resolved, may_set_groups: bool, command: &mut Command) {
        command.uid(user.uid).gid(user.gid).capabilities(self.capabilities).new_keyring();
        if may_set_groups {
            command.groups(user.groups.iter().copied());
        }
        if self.no_new_privileges {
            command.no_new_privileges();
        }
        if let Some(filter) = &self.seccomp {
            command.seccomp(filter);
        }
        for (resource, limit) in &self.limits {
            command.limit(*resource, *limit);
        }
        if let Some(value) = self.nice {
            command.nice(value);
        }
        if let Some(scheduler) = self.scheduler {
            command.scheduler(scheduler);
        }
        if let Some(priority) = self.io_priority {
            command.io_priority(priority);
        }
        if let Some(processors) = &self.affinity {
            command.cpu_affinity(processors.clone());
        }
        if let Some(value) = self.oom_score_adj {
            command.oom_score_adj(value);
        }
        #[cfg(feature = "landlock")]
        if let Some(rules) = &self.landlock {
            command.landlock(rules);
        }
    }

    /// Of the container's own mounts.
    pub(crate) fn view(&self, command: &mut Command) {
        if !self.unmasked {
            MASKED.iter().for_each(|path| {
                command.mask(path);
            });
            READ_ONLY.iter().for_each(|path| {
                command.read_only_path(path);
            });
        }
        self.masked.iter().for_each(|path| {
            command.mask(path);
        });
        self.read_only.iter().for_each(|path| {
            command.read_only_path(path);
        });
    }
}
