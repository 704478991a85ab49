//! A group that others are made in by who is in it: a container with containers, with `nsdelegate` or without.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process;

use isolate_cgroups::{Bytes, Cgroup, Controller, ErrorKind, Limits};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use testkit::{Need, kernel_test, scratch};

use crate::child::{Waiting, unique};

const V2: [Need; 2] = [Need::Root, Need::Cgroup2];

#[test]
fn groups_in_a_cgroup_namespace_are_made_below_its_root() {
    kernel_test(&V2, || {
        let outer = Cgroup::create(unique()).unwrap();
        outer.enable(&[Controller::Memory, Controller::Pids]).unwrap();
        outer.add(process::id()).unwrap();
        // The namespace is one thread's; the others see the whole hierarchy.
        std::thread::scope(|scope| scope.spawn(|| inside(&outer)).join()).unwrap();
        let top = outer.path().parent().unwrap();
        fs::write(top.join("cgroup.procs"), process::id().to_string()).unwrap();
        outer.remove().unwrap();
    });
}

fn inside(outer: &Cgroup) {
    unshare(CloneFlags::CLONE_NEWCGROUP).unwrap();
    let point = scratch();
    mount("cgroup2", &point, "cgroup2", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)
        .unwrap();
    assert_eq!(Cgroup::delegated().unwrap(), None, "the root of a namespace is where groups are made");

    let inner = Cgroup::create("isolate-test-inner").unwrap();
    assert!(inner.path().starts_with(&point), "{}", inner.path().display());
    assert!(outer.path().join("isolate-test-inner").is_dir(), "below the group that the thread is in");
    let limits = Limits::new().memory(Bytes::mib(16)).pids(20);
    let error = inner.apply(&limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    let hint = format!("move those of {} below it", point.display());
    assert!(error.hint().is_some_and(|said| said.contains(&hint)), "nobody is moved: {error:?}");
    assert_eq!(outer.pids().unwrap(), [process::id()]);

    let own = Cgroup::create("isolate-test-own").unwrap();
    own.add(process::id()).unwrap();
    inner.apply(&limits).unwrap();
    let status = Waiting::in_group(&inner, "exec tail /dev/zero").run();
    assert_eq!(status.signal(), Some(9), "{status}");
    assert_eq!(inner.stats().unwrap().memory.oom_kills, Some(1));
    let delegated = fs::read_to_string("/sys/kernel/cgroup/delegate").unwrap();
    assert!(delegated.contains("cgroup.procs"));
    // What the namespace's owner gave it, it cannot change.
    fs::write(point.join("memory.max"), "max").expect_err("nsdelegate");
    inner.remove().unwrap();
    // The others are above, and can move it out.
    own.keep();
    unmount(&point, UnmountFlags::DETACH).unwrap();
}

#[test]
fn a_process_in_a_group_of_its_users_has_it_delegated() {
    kernel_test(&V2, || {
        assert_eq!(Cgroup::delegated().unwrap(), None, "in the hierarchy's root");
        let name = unique();
        let outer = Cgroup::create(&name).unwrap();
        let caller = Cgroup::create(format!("{name}/caller")).unwrap();
        let top = outer.path().parent().unwrap().join("cgroup.procs");
        outer.add(process::id()).unwrap();
        assert_eq!(
            Cgroup::delegated().unwrap().as_deref(),
            Some(name.as_ref()),
            "with processes, for want of a better"
        );
        caller.add(process::id()).unwrap();
        assert_eq!(Cgroup::delegated().unwrap().as_deref(), Some(name.as_ref()), "the one above has none");
        let group = Cgroup::create(Cgroup::delegated().unwrap().unwrap().join("inner")).unwrap();
        group.apply(&Limits::new().memory(Bytes::mib(16))).unwrap();
        fs::write(top, process::id().to_string()).unwrap();
        group.remove().unwrap();
        caller.remove().unwrap();
        outer.remove().unwrap();
    });
}

#[test]
fn a_limit_switches_on_its_controller_and_no_other() {
    kernel_test(&V2, || {
        let name = unique();
        let outer = Cgroup::create(&name).unwrap();
        let inner = Cgroup::create(format!("{name}/inner")).unwrap();
        let on = || fs::read_to_string(outer.path().join("cgroup.subtree_control")).unwrap();
        assert_eq!(on().trim(), "", "a group alone needs none");
        inner.apply(&Limits::new().pids(7)).unwrap();
        assert_eq!(on().trim(), "pids");
        inner.enable(&[Controller::Memory]).unwrap();
        assert_eq!(on().trim(), "memory pids");
        assert!(inner.stats().unwrap().memory.current.is_some());
        inner.remove().unwrap();
        outer.remove().unwrap();
    });
}
