//! What this machine can limit, and what to do about the rest.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::directory::Directory;
use crate::mountinfo::Mounts;
use crate::{Error, ErrorKind, Result};

/// Something that control groups can do, where the machine has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Controller {
    /// Memory and swap.
    Memory,
    /// Processor time and weight.
    Cpu,
    /// The number of tasks.
    Pids,
    /// Disk bandwidth.
    Io,
    /// Which processors and memory nodes.
    Cpuset,
    /// Memory in huge pages.
    Hugetlb,
    /// Resources that the kernel counts by name: `misc.capacity`. Linux 5.13.
    Misc,
    /// Handles and objects of RDMA devices.
    Rdma,
    /// [`Cgroup::freeze`](crate::Cgroup::freeze): `cgroup.freeze`, Linux 5.2.
    Freezer,
    /// `cgroup.kill`, Linux 5.14; below it [`Cgroup::kill`](crate::Cgroup::kill) freezes and signals each process.
    Kill,
    /// [`Limits::oom_group`](crate::Limits::oom_group): `memory.oom.group`, Linux 4.19, with memory on cgroup v2.
    OomGroup,
}

/// Where a controller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Availability {
    /// On cgroup v2.
    V2,
    /// On a cgroup v1 hierarchy of its own. This crate uses memory, cpu, pids, cpuset and io there, with the feature `cgroup-v1`.
    V1,
    /// Nowhere.
    Missing,
}

impl Controller {
    /// All that this crate asks about.
    pub const ALL: [Self; 11] = [
        Self::Memory,
        Self::Cpu,
        Self::Pids,
        Self::Io,
        Self::Cpuset,
        Self::Hugetlb,
        Self::Misc,
        Self::Rdma,
        Self::Freezer,
        Self::Kill,
        Self::OomGroup,
    ];

    /// Its name in `cgroup.controllers`; for what is no controller of its own, its file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
            Self::Io => "io",
            Self::Cpuset => "cpuset",
            Self::Hugetlb => "hugetlb",
            Self::Misc => "misc",
            Self::Rdma => "rdma",
            Self::Freezer => "cgroup.freeze",
            Self::Kill => "cgroup.kill",
            Self::OomGroup => "memory.oom.group",
        }
    }

    /// Its name on cgroup v1.
    const fn v1_name(self) -> Option<&'static str> {
        match self {
            Self::Memory | Self::Cpu | Self::Pids | Self::Cpuset => Some(self.name()),
            Self::Hugetlb | Self::Misc | Self::Rdma => Some(self.name()),
            Self::Io => Some("blkio"),
            Self::Freezer | Self::Kill | Self::OomGroup => None,
        }
    }

    /// The kernel that has the file, for what is no controller of its own.
    const fn since(self) -> (u32, u32) {
        match self {
            Self::Freezer => (5, 2),
            Self::Kill => (5, 14),
            Self::OomGroup => (4, 19),
            _ => (0, 0),
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What this machine can limit, as the calling thread sees it.
///
/// ```no_run
/// use isolate_cgroups::{Controller, Controllers};
///
/// let controllers = Controllers::detect()?;
/// for controller in Controller::ALL {
///     println!("{controller}: {:?}", controllers.get(controller));
///     if let Some(remedy) = controllers.remedy(controller) {
///         println!("  {remedy}");
///     }
/// }
/// # Ok::<(), isolate_cgroups::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Controllers {
    /// The mount of cgroup v2 has a group above it that this thread may not see.
    delegated: bool,
    v2_point: Option<PathBuf>,
    /// `cgroup.controllers` of the mount's root.
    v2: Vec<String>,
    /// Those on cgroup v1, and where.
    v1: Vec<(Controller, PathBuf)>,
    kernel: (u32, u32),
    /// Compiled in, and switched off on the kernel's command line.
    disabled: Vec<String>,
}

impl Controllers {
    /// Reads the mount table, `cgroup.controllers` and the kernel's version. Needs no privilege.
    ///
    /// # Errors
    ///
    /// When /proc is not mounted, or the mounted cgroup v2 cannot be read. That there is none is no error: everything
    /// is [`Missing`](Availability::Missing) then, or on cgroup v1.
    pub fn detect() -> Result<Self> {
        Self::among(&Mounts::read()?)
    }

    /// Where cgroup v2 is mounted, if it is.
    #[must_use]
    pub fn mount_point() -> Option<PathBuf> {
        Mounts::read().ok()?.v2().map(|mount| mount.point.clone())
    }

    pub(crate) fn among(mounts: &Mounts) -> Result<Self> {
        let root = mounts.v2().map(|mount| Directory::below(mount, &[])).transpose()?;
        let v2 = match &root {
            Some(root) => root.read("cgroup.controllers")?.split_whitespace().map(str::to_owned).collect(),
            None => Vec::new(),
        };
        let on_v1 = |controller: Controller| {
            let mount = controller.v1_name().and_then(|name| mounts.v1(name))?;
            Some((controller, mount.point.clone()))
        };
        Ok(Self {
            // The machine's own root has no such file (cgroup-v2.rst, "Core Interface Files").
            delegated: root.as_ref().is_some_and(|root| root.has("cgroup.events")),
            v2_point: root.map(|root| root.path().to_owned()),
            v2,
            v1: Controller::ALL.into_iter().filter_map(on_v1).collect(),
            kernel: kernel(&rustix::system::uname().release().to_string_lossy()),
            disabled: disabled(&std::fs::read_to_string(Path::new("/proc/cgroups")).unwrap_or_default()),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn get(&self, controller: Controller) -> Availability {
        let on_v2 = match controller {
            Controller::Freezer | Controller::Kill => {
                self.v2_point.is_some() && self.kernel >= controller.since()
            }
            Controller::OomGroup => self.has_v2(Controller::Memory) && self.kernel >= controller.since(),
            _ => self.has_v2(controller),
        };
        match on_v2 {
            true => Availability::V2,
            false if self.point_on_v1(controller).is_some() => Availability::V1,
            false => Availability::Missing,
        }
    }

    /// The mount of the hierarchy that has it.
    #[must_use]
    pub fn point(&self, controller: Controller) -> Option<&Path> {
        match self.get(controller) {
            Availability::V2 => self.v2_point.as_deref(),
            Availability::V1 => self.point_on_v1(controller),
            Availability::Missing => None,
        }
    }

    fn point_on_v1(&self, controller: Controller) -> Option<&Path> {
        self.v1.iter().find(|(on_v1, _)| *on_v1 == controller).map(|(_, point)| &**point)
    }

    /// The one line that gives what is missing; `None` where nothing is.
    ///
    /// On cgroup v1, [`Memory`](Controller::Memory), [`Cpu`](Controller::Cpu) and [`Pids`](Controller::Pids) need
    /// none with the feature `cgroup-v1`.
    #[must_use]
    pub fn remedy(&self, controller: Controller) -> Option<String> {
        const UNIFIED: &str = "boot with systemd.unified_cgroup_hierarchy=1";
        let name = controller.name();
        match (self.get(controller), controller) {
            (Availability::V2, _) => None,
            (_, Controller::Freezer | Controller::Kill) if self.v2_point.is_some() => {
                let (major, minor) = controller.since();
                Some(format!("{name} needs Linux {major}.{minor}"))
            }
            (_, Controller::OomGroup) if self.point_on_v1(Controller::Memory).is_some() => {
                Some(format!("the memory controller is on cgroup v1, which has no {name}: {UNIFIED}"))
            }
            (
                Availability::V1,
                Controller::Memory | Controller::Cpu | Controller::Pids | Controller::Cpuset | Controller::Io,
            ) => {
                if cfg!(feature = "cgroup-v1") {
                    return None;
                }
                Some(format!("{name} is on cgroup v1: build with the feature `cgroup-v1`, or {UNIFIED}"))
            }
            (Availability::V1, _) => Some(format!("{name} is on cgroup v1: {UNIFIED}")),
            (Availability::Missing, _) => Some(self.remedy_for_missing(controller)),
        }
    }

    fn remedy_for_missing(&self, controller: Controller) -> String {
        let name = if controller == Controller::OomGroup { "memory" } else { controller.name() };
        match &self.v2_point {
            _ if self.disabled.iter().any(|disabled| disabled == name) => {
                format!("boot with cgroup_enable={name} (and without cgroup_disable={name})")
            }
            None => "mount -t cgroup2 cgroup2 /sys/fs/cgroup".to_owned(),
            Some(point) if self.delegated => {
                let point = point.display();
                format!(
                    "{point} is a delegated group without {name}: write +{name} to cgroup.subtree_control above it \
                     (systemd: Delegate=yes)"
                )
            }
            Some(_) => format!("this kernel has no {name} controller: use one with {}", config(name)),
        }
    }

    fn has_v2(&self, controller: Controller) -> bool {
        self.v2.iter().any(|name| name == controller.name())
    }

    /// The error for a limit that no hierarchy of this machine can enforce.
    pub(crate) fn missing(&self, controller: Controller) -> Error {
        let place = match self.get(controller) {
            Availability::V1 => "is on cgroup v1 here, out of reach",
            _ => "is missing",
        };
        let error = Error::new(ErrorKind::Unsupported, format!("the {controller} controller {place}"));
        match self.remedy(controller) {
            Some(remedy) => error.with_hint(remedy),
            None => error,
        }
    }
}

/// The kernel option that compiles a controller in: init/Kconfig.
fn config(name: &str) -> &'static str {
    match name {
        "memory" => "CONFIG_MEMCG",
        "cpu" => "CONFIG_CGROUP_SCHED and CONFIG_CFS_BANDWIDTH",
        "pids" => "CONFIG_CGROUP_PIDS",
        "io" => "CONFIG_BLK_CGROUP",
        "cpuset" => "CONFIG_CPUSETS",
        "hugetlb" => "CONFIG_CGROUP_HUGETLB",
        "misc" => "CONFIG_CGROUP_MISC",
        "rdma" => "CONFIG_CGROUP_RDMA",
        _ => "CONFIG_CGROUPS",
    }
}

/// `6.1.0-44-amd64` is 6.1.
fn kernel(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The names in /proc/cgroups whose last column, `enabled`, is 0.
fn disabled(table: &str) -> Vec<String> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?;
        (fields.next_back()? == "0").then(|| name.to_owned())
    };
    table.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn machine(v2: &[&str], v1: &[Controller]) -> Controllers {
        Controllers {
            delegated: false,
            v2_point: Some(PathBuf::from("/sys/fs/cgroup")),
            v2: v2.iter().map(|name| (*name).to_owned()).collect(),
            v1: v1.iter().map(|controller| (*controller, Path::new("/v1").join(controller.name()))).collect(),
            kernel: (6, 1),
            disabled: Vec::new(),
        }
    }

    #[test]
    fn a_unified_host_lacks_nothing() {
        let host = machine(&["memory", "cpu", "pids", "io", "cpuset", "hugetlb", "misc", "rdma"], &[]);
        for controller in Controller::ALL {
            assert_eq!(host.get(controller), Availability::V2, "{controller}");
            assert_eq!(host.remedy(controller), None);
        }
    }

    #[test]
    fn a_hybrid_host_has_freeze_and_kill_and_no_group_kill() {
        let host = machine(&["hugetlb"], &[Controller::Memory, Controller::Cpu, Controller::Pids]);
        assert_eq!(host.get(Controller::Freezer), Availability::V2);
        assert_eq!(host.get(Controller::Kill), Availability::V2);
        assert_eq!(host.get(Controller::Memory), Availability::V1);
        assert_eq!(host.point(Controller::Memory), Some(Path::new("/v1/memory")));
        assert_eq!(host.point(Controller::Kill), Some(Path::new("/sys/fs/cgroup")));
        assert_eq!(host.point(Controller::OomGroup), None);
        assert_eq!(host.get(Controller::OomGroup), Availability::Missing);
        assert!(host.remedy(Controller::OomGroup).unwrap().contains("systemd.unified_cgroup_hierarchy=1"));
        assert_eq!(host.remedy(Controller::Memory).is_none(), cfg!(feature = "cgroup-v1"));
    }

    #[test]
    fn each_way_of_missing_has_its_remedy() {
        let mut host = machine(&["cpu"], &[]);
        assert!(host.remedy(Controller::Pids).unwrap().contains("CONFIG_CGROUP_PIDS"));
        host.delegated = true;
        assert!(host.remedy(Controller::Pids).unwrap().contains("Delegate=yes"));
        host.disabled.push("memory".to_owned());
        assert!(host.remedy(Controller::Memory).unwrap().contains("cgroup_enable=memory"));
        host.kernel = (5, 4);
        assert_eq!(host.remedy(Controller::Kill).unwrap(), "cgroup.kill needs Linux 5.14");
        host.v2_point = None;
        assert!(host.remedy(Controller::Freezer).unwrap().contains("mount -t cgroup2"));
    }

    #[test]
    fn the_error_names_the_controller_and_the_remedy() {
        let error = machine(&[], &[]).missing(Controller::Memory);
        assert_eq!(error.to_string(), "the memory controller is missing");
        assert!(error.hint().is_some_and(|hint| hint.contains("CONFIG_MEMCG")));
    }

    #[test]
    fn releases_and_tables_are_read() {
        assert_eq!(kernel("6.1.0-44-amd64"), (6, 1));
        assert_eq!(kernel("6.18.44-fc"), (6, 18));
        assert_eq!(kernel(""), (0, 0));
        let table = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\nmemory\t0\t1\t0\n";
        assert_eq!(disabled(table), ["memory"]);
    }

    proptest! {
        #[test]
        fn releases_and_names_are_read_as_they_were(
            release: (u16, u16), rest in "[-.a-z][-.a-z0-9]{0,10}",
            table in proptest::collection::btree_map("[a-z_]{1,10}", any::<bool>(), 0..8),
        ) {
            prop_assert_eq!(kernel(&format!("{}.{}{rest}", release.0, release.1)), (release.0.into(), release.1.into()));
            let line = |(name, on): (&String, &bool)| format!("{name}\t1\t1\t{}\n", u8::from(*on));
            let printed = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n".to_owned() + &table.iter().map(line).collect::<String>();
            let off: Vec<String> = table.into_iter().filter(|(_, on)| !on).map(|(name, _)| name).collect();
            prop_assert_eq!(disabled(&printed), off);
        }
    }
}
