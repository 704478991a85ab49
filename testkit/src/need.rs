//! What a test needs of the machine, and whether the machine has it.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::mount::{FsOpenFlags, fsopen};

use crate::{cgroup, netlink, sys};

/// Something that a test needs of the machine. `Display` gives the name that `ISOLATE_TESTS_REQUIRE` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// `root`: user id 0 with the right to make mount and network namespaces.
    Root,
    /// `userns`: user namespaces may be made.
    UserNamespaces,
    /// `overlay`: the kernel has overlayfs.
    Overlay,
    /// `cgroup2`: cgroup v2 with the cpu, memory and pids controllers.
    Cgroup2,
    /// `cgroup1`: a hybrid machine: those controllers on cgroup v1.
    CgroupV1,
    /// `nf_tables`: the kernel has nf_tables.
    NfTables,
    /// `iptables`: `iptables-restore` is installed.
    Iptables,
    /// `veth`: the kernel has veth pairs.
    Veth,
    /// `macvlan`: the kernel has macvlans.
    Macvlan,
    /// `kernel-6.5`: at least this kernel.
    Kernel(u32, u32),
    /// `program:NAME`: a program in `PATH` (or `/usr/sbin`, `/sbin`), or at this absolute path.
    Program(&'static str),
    /// `base`: the small Debian root file system that `cargo xtask rootfs base` makes.
    BaseRoot,
    /// `tomcat`: the root file system that `cargo xtask rootfs tomcat` makes.
    Tomcat,
    /// `image:NAME`: the image in several layers that `cargo xtask image NAME` makes.
    Image(&'static str),
    /// `loop`: loop devices.
    Loop,
    /// `prjquota`: an ext4 can bound projects.
    ProjectQuota,
    /// `native`: not an emulated machine, where executing a program is fifteen times slower.
    Native,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::UserNamespaces => f.write_str("userns"),
            Self::Overlay => f.write_str("overlay"),
            Self::Cgroup2 => f.write_str("cgroup2"),
            Self::CgroupV1 => f.write_str("cgroup1"),
            Self::NfTables => f.write_str("nf_tables"),
            Self::Iptables => f.write_str("iptables"),
            Self::Veth => f.write_str("veth"),
            Self::Macvlan => f.write_str("macvlan"),
            Self::Kernel(major, minor) => write!(f, "kernel-{major}.{minor}"),
            Self::Program(name) => write!(f, "program:{name}"),
            Self::BaseRoot => f.write_str("base"),
            Self::Tomcat => f.write_str("tomcat"),
            Self::Image(name) => write!(f, "image:{name}"),
            Self::Loop => f.write_str("loop"),
            Self::ProjectQuota => f.write_str("prjquota"),
            Self::Native => f.write_str("native"),
        }
    }
}

impl Need {
    /// Whether this machine has it.
    pub fn is_met(&self) -> bool {
        match self {
            Self::Root => {
                rustix::process::geteuid().is_root() && sys::on_thread_in_new_world(|| ()).is_some()
            }
            Self::UserNamespaces => user_namespaces(),
            Self::Overlay => fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).is_ok() || filesystem("overlay"),
            Self::Cgroup2 => cgroup::v2_has(&["cpu", "memory", "pids"]),
            Self::CgroupV1 => cgroup::v1_has(&["cpu", "memory", "pids"]),
            Self::NfTables => netlink::tables().is_ok(),
            Self::Iptables => program("iptables-restore"),
            Self::Veth => sys::on_thread_in_new_world(|| netlink::add_link("veth").is_ok()) == Some(true),
            Self::Macvlan => sys::on_thread_in_new_world(|| netlink::knows_link("macvlan")) == Some(true),
            Self::Kernel(major, minor) => kernel() >= (*major, *minor),
            Self::Program(name) => program(name),
            Self::BaseRoot => rootfs("base").is_some(),
            Self::Tomcat => rootfs("tomcat").is_some(),
            Self::Image(name) => image(name).is_some(),
            Self::Loop => std::fs::File::open("/dev/loop-control").is_ok(),
            Self::ProjectQuota => program("mke2fs") && module("quota_v2"),
            Self::Native => std::env::var_os("ISOLATE_VM").is_none(),
        }
    }
}

/// The root file system `name` that `cargo xtask rootfs` made: below `$ISOLATE_CACHE`, `$XDG_CACHE_HOME/isolate`
/// or `/var/cache/isolate`.
pub fn rootfs(name: &str) -> Option<PathBuf> {
    let root = cache().join("rootfs").join(name);
    root.join("etc/passwd").exists().then_some(root)
}

/// The layout that `cargo xtask image` made, at the same place. Its image is called `10`.
pub fn image(name: &str) -> Option<PathBuf> {
    let layout = cache().join("images").join(name);
    layout.join("index.json").exists().then_some(layout)
}

fn cache() -> PathBuf {
    std::env::var_os("ISOLATE_CACHE")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("XDG_CACHE_HOME").map(|home| Path::new(&home).join("isolate")))
        .unwrap_or_else(|| PathBuf::from("/var/cache/isolate"))
}

fn user_namespaces() -> bool {
    let setting =
        |path: &str| std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let root = rustix::process::geteuid().is_root();
    setting("/proc/sys/user/max_user_namespaces").is_some_and(|most| most > 0)
        && (root || setting("/proc/sys/kernel/unprivileged_userns_clone") != Some(0))
        && (root || setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") != Some(1))
}

fn filesystem(name: &str) -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.split_whitespace().next_back() == Some(name))
}

/// Loaded, or there to be.
fn module(name: &str) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let file = format!("/lib/modules/{release}/kernel/fs/quota/{name}.ko");
    Path::new("/sys/module").join(name).exists()
        || ["", ".xz", ".zst"].iter().any(|end| Path::new(&format!("{file}{end}")).exists())
}

fn kernel() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn program(name: &str) -> bool {
    let executable =
        |path: &Path| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if name.starts_with('/') {
        return executable(Path::new(name));
    }
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).any(|dir| executable(&Path::new(dir).join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_has_the_name_that_a_run_requires_it_by() {
        assert_eq!(Need::NfTables.to_string(), "nf_tables");
        assert_eq!(Need::Kernel(6, 5).to_string(), "kernel-6.5");
        assert_eq!(Need::Program("curl").to_string(), "program:curl");
    }

    #[test]
    fn what_no_machine_has_is_missing() {
        assert!(!Need::Kernel(999, 0).is_met());
        assert!(!Need::Program("no-such-program").is_met());
        assert!(!Need::Program("/etc/passwd").is_met(), "not executable");
        assert!(Need::Kernel(3, 0).is_met());
        assert!(Need::Program("sh").is_met());
    }
}
