//! Freezing, thawing, killing.

use std::time::{Duration, Instant};

use isolate_cgroups::{Cgroup, ErrorKind, Glance, Limits};

use crate::child::{Waiting, eventually, on_either_host, unique};

on_either_host! {
    a_frozen_group_stands_still_until_it_is_thawed => frozen;
    a_glance_sees_who_is_in_a_group_and_whether_they_stand_still => glance;
    an_empty_group_freezes_and_thaws_at_once => empty;
    a_tree_that_goes_on_forking_is_killed_whole => bomb;
    a_frozen_group_can_be_killed_and_removed => frozen_removed;
    a_process_born_into_a_frozen_group_waits => born_frozen;
    waiting_for_the_end_gives_up_in_time => waiting;
}

const BUSY: &str = "while :; do :; done";
const PAUSE: Duration = Duration::from_millis(300);

/// The processor time that a group uses in a while.
fn progress(group: &Cgroup) -> Duration {
    let before = group.stats().unwrap().cpu.usage;
    std::thread::sleep(PAUSE);
    group.stats().unwrap().cpu.usage - before
}

fn runs(group: &Cgroup) -> bool {
    eventually(|| progress(group) > Duration::from_millis(10))
}

/// What ran on another processor until it stopped is added to the count a moment later.
fn stands_still(group: &Cgroup) -> bool {
    eventually(|| progress(group) < Duration::from_millis(2))
}

fn frozen() {
    let group = Cgroup::create(unique()).unwrap();
    let mut busy = Waiting::in_group(&group, BUSY);
    busy.go();
    assert!(runs(&group), "it runs before");
    group.freeze().unwrap();
    assert!(stands_still(&group), "and not while frozen");
    assert!(group.populated().unwrap());
    group.freeze().unwrap();
    group.thaw().unwrap();
    assert!(runs(&group), "and goes on after");
    group.remove().unwrap();
}

fn glance() {
    let glance = Glance::new().unwrap();
    let name = unique();
    let error = glance.state(&name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&name), "{error}");
    assert_eq!(glance.state("../a").unwrap_err().kind(), ErrorKind::InvalidInput);
    let group = Cgroup::create(&name).unwrap();
    assert!(!glance.state(&name).unwrap().populated && glance.pids(&name).unwrap().is_empty());
    let waiting = Waiting::in_group(&group, "");
    assert!(glance.state(&name).unwrap().populated && !glance.state(&name).unwrap().frozen);
    assert_eq!(glance.pids(&name).unwrap(), group.pids().unwrap());
    assert_eq!(glance.pids(group.path()).unwrap().len(), 1);
    group.freeze().unwrap();
    assert!(eventually(|| glance.state(&name).unwrap().frozen));
    group.thaw().unwrap();
    assert!(waiting.run().success());
    group.remove().unwrap();
    assert_eq!(glance.state(&name).unwrap_err().kind(), ErrorKind::NotFound);
}

fn empty() {
    let group = Cgroup::create(unique()).unwrap();
    let start = Instant::now();
    group.freeze().unwrap();
    group.thaw().unwrap();
    group.thaw().unwrap();
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(!group.populated().unwrap());
}

fn bomb() {
    let group = Cgroup::create(unique()).unwrap();
    group.apply(&Limits::new().pids(100)).unwrap();
    let mut shell = Waiting::in_group(&group, "b() { b & b & sleep 300; }; b");
    shell.go();
    assert!(eventually(|| group.pids().unwrap().len() > 20), "it forks");
    group.kill().unwrap();
    assert!(group.wait_empty(Duration::from_secs(20)).unwrap());
    assert!(group.pids().unwrap().is_empty());
    group.remove().unwrap();
}

fn frozen_removed() {
    let group = Cgroup::create(unique()).unwrap();
    let mut busy = Waiting::in_group(&group, BUSY);
    busy.go();
    group.freeze().unwrap();
    let path = group.path().to_owned();
    let start = Instant::now();
    group.remove().unwrap();
    assert!(!path.exists());
    assert!(start.elapsed() < Duration::from_secs(4));
}

fn born_frozen() {
    let group = Cgroup::create(unique()).unwrap();
    group.freeze().unwrap();
    let mut busy = Waiting::in_group(&group, BUSY);
    busy.go();
    assert!(stands_still(&group), "it is frozen from the first");
    group.thaw().unwrap();
    assert!(runs(&group), "and runs when it is thawed");
}

fn waiting() {
    let group = Cgroup::create(unique()).unwrap();
    let shell = Waiting::in_group(&group, "");
    let start = Instant::now();
    assert!(!group.wait_empty(Duration::from_millis(200)).unwrap());
    assert!((200..2000).contains(&start.elapsed().as_millis()));
    assert!(shell.run().success());
    assert!(group.wait_empty(Duration::from_secs(5)).unwrap());
}
