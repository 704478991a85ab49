//! The eight kinds of namespace.

use std::fmt;

/// A kind of namespace (namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Namespace {
    /// The root of the control-group tree as seen from inside (cgroup_namespaces(7), Linux 4.6).
    Cgroup,
    /// System V IPC and POSIX message queues (ipc_namespaces(7)).
    Ipc,
    /// The mounts (mount_namespaces(7)).
    Mount,
    /// Network devices, addresses, routes, ports, firewall (network_namespaces(7)).
    Net,
    /// Process numbers; the child is number 1 (pid_namespaces(7)).
    Pid,
    /// Offsets of the boot and monotonic clocks (time_namespaces(7), Linux 5.6).
    Time,
    /// User and group numbers and capabilities (user_namespaces(7)).
    User,
    /// Host and domain name (uts_namespaces(7)).
    Uts,
}

impl Namespace {
    /// All kinds that a container has new by default: every one but [`Time`](Self::Time) and [`User`](Self::User).
    pub const CONTAINER: [Self; 6] = [Self::Cgroup, Self::Ipc, Self::Mount, Self::Net, Self::Pid, Self::Uts];

    /// The name below `/proc/PID/ns`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Ipc => "ipc",
            Self::Mount => "mnt",
            Self::Net => "net",
            Self::Pid => "pid",
            Self::Time => "time",
            Self::User => "user",
            Self::Uts => "uts",
        }
    }

    pub(crate) fn flag(self) -> u64 {
        match self {
            Self::Cgroup => 0x0200_0000,
            Self::Ipc => 0x0800_0000,
            Self::Mount => 0x0002_0000,
            Self::Net => 0x4000_0000,
            Self::Pid => 0x2000_0000,
            Self::Time => 0x80,
            Self::User => 0x1000_0000,
            Self::Uts => 0x0400_0000,
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
