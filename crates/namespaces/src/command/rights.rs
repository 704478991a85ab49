//! Who the program is, and what it may do.

use super::Command;
use crate::capabilities::Capabilities;
use crate::cpu_set::CpuSet;
#[cfg(feature = "landlock")]
use crate::landlock::Landlock;
use crate::priority::{IoPriority, Scheduler};
use crate::resource::Resource;
use crate::resource_limit::ResourceLimit;
use crate::seccomp::Seccomp;

/// As set by the methods below; what is not set stays as the caller's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rights {
    pub user: Option<u32>,
    pub group: Option<u32>,
    pub groups: Option<Vec<u32>>,
    pub capabilities: Option<Capabilities>,
    pub no_new_privileges: bool,
    pub seccomp: Option<Seccomp>,
    #[cfg(feature = "landlock")]
    pub landlock: Option<Landlock>,
    pub limits: Vec<(Resource, ResourceLimit)>,
    pub nice: Option<i32>,
    pub scheduler: Option<Scheduler>,
    pub io_priority: Option<IoPriority>,
    pub affinity: Option<CpuSet>,
    pub oom_score_adj: Option<i32>,
    pub new_keyring: bool,
}

impl Command {
    /// The user id of the program, real, effective and saved (setresuid(2)), inside its user namespace. Any other than 0 has no
    /// capabilities. Default: 0 in a new user namespace, else the caller's.
    #[doc(alias = "setuid")]
    pub fn uid(&mut self, id: u32) -> &mut Self {
        self.rights.user = Some(id);
        self
    }

    /// The group id (setresgid(2)). Default: as of [`uid`](Self::uid).
    #[doc(alias = "setgid")]
    pub fn gid(&mut self, id: u32) -> &mut Self {
        self.rights.group = Some(id);
        self
    }

    /// The supplementary groups, exactly these (setgroups(2)). Default: none in a new user namespace where they can be dropped, else
    /// the caller's.
    #[doc(alias = "setgroups")]
    pub fn groups(&mut self, ids: impl IntoIterator<Item = u32>) -> &mut Self {
        self.rights.groups = Some(ids.into_iter().collect());
        self
    }

    /// The most that the program, and whatever it executes, can ever have (capabilities(7)): its bounding set, and for user 0 the
    /// permitted and effective ones, as far as the caller has them. The inheritable and ambient sets become empty. Default: as the kernel has it: all in a new user
    /// namespace, else the caller's.
    #[doc(alias = "cap-add")]
    #[doc(alias = "cap-drop")]
    pub fn capabilities(&mut self, capabilities: Capabilities) -> &mut Self {
        self.rights.capabilities = Some(capabilities);
        self
    }

    /// No program gains rights by its execution, by set-user-id bits or file capabilities (PR_SET_NO_NEW_PRIVS).
    pub fn no_new_privileges(&mut self) -> &mut Self {
        self.rights.no_new_privileges = true;
        self
    }

    /// A filter of system calls, in force from the execution on (seccomp(2)). Without
    /// [`no_new_privileges`](Self::no_new_privileges) it wants CAP_SYS_ADMIN, and is in force a few calls earlier, while rights are
    /// given up; it must let those pass.
    pub fn seccomp(&mut self, filter: &Seccomp) -> &mut Self {
        self.rights.seccomp = Some(filter.clone());
        self
    }

    /// Which files and ports the program may use (landlock(7)). Wants [`no_new_privileges`](Self::no_new_privileges), or
    /// CAP_SYS_ADMIN.
    #[cfg(feature = "landlock")]
    pub fn landlock(&mut self, rules: &Landlock) -> &mut Self {
        self.rights.landlock = Some(rules.clone());
        self
    }

    /// A limit of the process and what it forks (setrlimit(2)). A hard limit above the caller's own wants CAP_SYS_RESOURCE.
    #[doc(alias = "ulimit")]
    #[doc(alias = "setrlimit")]
    pub fn limit(&mut self, resource: Resource, limit: ResourceLimit) -> &mut Self {
        self.rights.limits.retain(|(other, _)| *other != resource);
        self.rights.limits.push((resource, limit));
        self
    }

    /// The nice value, from -20 (first) to 19 (last) (setpriority(2)). Below the caller's it wants CAP_SYS_NICE.
    pub fn nice(&mut self, value: i32) -> &mut Self {
        self.rights.nice = Some(value);
        self
    }

    /// The scheduling policy (sched(7)). The real-time ones want CAP_SYS_NICE.
    pub fn scheduler(&mut self, scheduler: Scheduler) -> &mut Self {
        self.rights.scheduler = Some(scheduler);
        self
    }

    /// The priority of its reads and writes (ioprio_set(2)). The real-time class wants CAP_SYS_NICE.
    #[doc(alias = "ionice")]
    pub fn io_priority(&mut self, priority: IoPriority) -> &mut Self {
        self.rights.io_priority = Some(priority);
        self
    }

    /// The processors that it may run on (sched_setaffinity(2)). It may change that itself: a limit is a cpuset.
    #[doc(alias = "taskset")]
    pub fn cpu_affinity(&mut self, processors: CpuSet) -> &mut Self {
        self.rights.affinity = Some(processors);
        self
    }

    /// How soon the kernel chooses it when memory runs out, from -1000 (never) to 1000 (first) (proc_pid_oom_score_adj(5)).
    /// Below the caller's it wants CAP_SYS_RESOURCE.
    pub fn oom_score_adj(&mut self, value: i32) -> &mut Self {
        self.rights.oom_score_adj = Some(value);
        self
    }

    /// A session keyring of its own, and none of the caller's (session-keyring(7)). Nothing is done where the kernel has no keyrings.
    pub fn new_keyring(&mut self) -> &mut Self {
        self.rights.new_keyring = true;
        self
    }
}
