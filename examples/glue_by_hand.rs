//! The four small crates without the facade: they meet in file descriptors.
use isolate_cgroups::{Bytes, Cgroup, Limits};
use isolate_namespaces::{Command, Namespace};
use isolate_netns::NetworkNamespace;
use isolate_overlay::Overlay;
use std::os::fd::OwnedFd;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let group = Cgroup::create(format!("isolate-by-hand-{}", std::process::id()))?;
    group.apply(&Limits::new().memory(Bytes::mib(64)))?;
    let root = Overlay::on("/").mount()?; // read-only: the host as it is, without the mounts below it

    let status = Command::new("/bin/echo")
        .arg("from a cgroup, an overlay and a network namespace that were made one by one")
        .unshare([Namespace::Mount, Namespace::Pid, Namespace::Ipc])
        .cgroup(group.try_clone_fd()?) // of a cgroup directory
        .cgroup_files(group.join_files()?) // of its cgroup v1 counterparts, if there are any
        .root(OwnedFd::from(root)) // of a detached mount
        .join(NetworkNamespace::new()?) // of a namespace
        .status()?;
    assert!(status.success());
    Ok(())
}
