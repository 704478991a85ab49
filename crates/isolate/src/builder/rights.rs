//! Who a container's programs are, and what they may do.

use std::path::Path;

use isolate_namespaces::{Capabilities, CpuSet, IoPriority, Resource, ResourceLimit, Scheduler, Seccomp};

use super::ContainerBuilder;
use crate::user::User;

impl ContainerBuilder {
    /// The user that its command runs as, by number or by the names of its own `/etc/passwd` and `/etc/group`, as `docker run --user`.
    /// Default: 0, which has the [capabilities](Self::capabilities).
    ///
    /// ```
    /// use isolate::{Container, User};
    /// let as_web = Container::builder().user(User::named("www-data"));
    /// let by_number = Container::builder().user(User::id_and_group(1000, 1000));
    /// # let _ = (as_web, by_number);
    /// ```
    pub fn user(mut self, user: impl Into<User>) -> Self {
        self.confinement.user = Some(user.into());
        self
    }

    /// The most that its programs can ever have (capabilities(7)), exactly these. Default: [`Capabilities::DEFAULT`], eight; those of
    /// Docker and Podman are presets, too. Of use to user 0 only.
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.confinement.capabilities = capabilities;
        self
    }

    /// These beside the others.
    #[doc(alias = "cap-add")]
    pub fn add_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.confinement.capabilities |= capabilities;
        self
    }

    /// The others without these.
    #[doc(alias = "cap-drop")]
    pub fn drop_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.confinement.capabilities -= capabilities;
        self
    }

    /// Whether programs gain no rights by being executed, by set-user-id bits or file capabilities (PR_SET_NO_NEW_PRIVS). Default: so
    /// it is. Without, set-user-id programs of its root have effect.
    pub fn no_new_privileges(mut self, none: bool) -> Self {
        self.confinement.no_new_privileges = none;
        self
    }

    /// Another filter of system calls than [`Seccomp::default_profile`].
    #[doc(alias = "security-opt")]
    pub fn seccomp(mut self, filter: Seccomp) -> Self {
        self.confinement.seccomp = Some(filter);
        self
    }

    /// No filter of system calls: **the whole kernel is within reach** of what runs inside.
    #[doc(alias = "security-opt")]
    pub fn seccomp_unconfined(mut self) -> Self {
        self.confinement.seccomp = None;
        self
    }

    /// Which files and ports its command may use, by landlock(7); paths are those inside.
    #[cfg(feature = "landlock")]
    pub fn landlock(mut self, rules: isolate_namespaces::Landlock) -> Self {
        self.confinement.landlock = Some(rules);
        self
    }

    /// A limit of each process (setrlimit(2)). Default: no core files, 64 KiB of locked memory, all else as the caller's. What the
    /// container may use as a whole is for [`limits`](Self::limits).
    #[doc(alias = "setrlimit")]
    pub fn ulimit(mut self, resource: Resource, limit: impl Into<ResourceLimit>) -> Self {
        self.confinement.limits.retain(|(other, _)| *other != resource);
        self.confinement.limits.push((resource, limit.into()));
        self
    }

    /// The nice value of its command, from -20 (first) to 19 (last).
    pub fn nice(mut self, value: i32) -> Self {
        self.confinement.nice = Some(value);
        self
    }

    /// The scheduling policy of its command (sched(7)).
    pub fn scheduler(mut self, scheduler: Scheduler) -> Self {
        self.confinement.scheduler = Some(scheduler);
        self
    }

    /// The priority of its reads and writes (ioprio_set(2)).
    #[doc(alias = "ionice")]
    pub fn io_priority(mut self, priority: IoPriority) -> Self {
        self.confinement.io_priority = Some(priority);
        self
    }

    /// The processors that its command starts on (sched_setaffinity(2)).
    #[doc(alias = "cpuset-cpus")]
    pub fn cpu_affinity(mut self, processors: CpuSet) -> Self {
        self.confinement.affinity = Some(processors);
        self
    }

    /// How soon the kernel chooses it when memory runs out, from -1000 (never) to 1000 (first).
    pub fn oom_score_adj(mut self, value: i32) -> Self {
        self.confinement.oom_score_adj = Some(value);
        self
    }

    /// A kernel parameter of its own namespaces: `net.*` on a network of its own, `kernel.shm*`, `kernel.msg*`, `kernel.sem` and
    /// `fs.mqueue.*` in an IPC namespace of its own. Any other is the whole machine's, and an error.
    pub fn sysctl(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.sysctls.push((name.into(), value.into()));
        self
    }

    /// A device of the host, at the same path below `/dev`, besides the six that it has.
    pub fn device(mut self, path: impl AsRef<Path>) -> Self {
        self.devices.push(path.as_ref().to_owned());
        self
    }

    /// Hides one more path: a directory by an empty one, a file by `/dev/null`.
    pub fn mask(mut self, path: impl AsRef<Path>) -> Self {
        self.confinement.masked.push(path.as_ref().to_owned());
        self
    }

    /// One more path that nothing can be changed at, or below.
    pub fn read_only_path(mut self, path: impl AsRef<Path>) -> Self {
        self.confinement.read_only.push(path.as_ref().to_owned());
        self
    }

    /// Nothing of its root can be changed from inside, whatever that is of: an image, layers, the host. What is mounted on it, volumes,
    /// binds and tmpfs, can, unless they are read-only themselves: what a program must write, as `/tmp`, becomes a [tmpfs](crate::Mount::tmpfs).
    ///
    /// ```
    /// use isolate::{Container, Mount};
    /// let builder = Container::builder().read_only_root(true).mount(Mount::tmpfs("/tmp"));
    /// # let _ = builder;
    /// ```
    #[doc(alias = "read-only")]
    pub fn read_only_root(mut self, read_only: bool) -> Self {
        self.confinement.read_only_root = read_only;
        self
    }

    /// Hides none of the paths below `/proc` and `/sys` that are hidden by default, and lets those below `/proc` be changed as far as
    /// its user may.
    #[doc(alias = "security-opt")]
    pub fn unmasked(mut self) -> Self {
        self.confinement.unmasked = true;
        self
    }
}
