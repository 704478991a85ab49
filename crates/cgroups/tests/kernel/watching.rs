//! Who watches is woken, and not before.

use std::os::fd::AsFd;
use std::time::Duration;

use isolate_cgroups::{Bytes, Cgroup, ErrorKind, Limits, Resource, Share};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use testkit::{Need, kernel_test};

use crate::child::{Waiting, on_either_host, unique};

const LONG: Duration = Duration::from_secs(20);

on_either_host! {
    the_last_one_to_leave_and_the_end_of_a_group_are_told => state;
    waiting_for_a_processor_passes_a_threshold => pressure;
}

fn ready(fd: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::PRI)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
}

fn state() {
    let group = Cgroup::create(unique()).unwrap();
    let watch = group.watch_state().unwrap();
    assert!(!watch.read().unwrap().populated);
    assert!(!ready(&watch) && !watch.wait(Duration::from_millis(50)).unwrap(), "nothing has happened");
    let waiting = Waiting::in_group(&group, "");
    assert!(watch.wait(LONG).unwrap());
    assert!(watch.read().unwrap().populated);
    assert!(!ready(&watch), "it was read");
    group.freeze().unwrap();
    // The kernel tells of two changes within 10 ms at the end of these (CGROUP_FILE_NOTIFY_MIN_INTV).
    assert!(watch.wait(LONG).unwrap() && watch.read().unwrap().frozen);
    group.thaw().unwrap();
    assert!(!watch.read().unwrap().frozen);
    assert!(waiting.run().success());
    while watch.read().unwrap().populated {
        assert!(watch.wait(LONG).unwrap());
    }
    group.remove().unwrap();
    assert!(watch.wait(LONG).unwrap() && watch.read().unwrap().removed);
}

fn pressure() {
    let group = Cgroup::create(unique()).unwrap();
    let watch = |stall, window| group.watch_pressure(Resource::Cpu, Share::Some, stall, window);
    let (stall, window) = (Duration::from_millis(100), Duration::from_secs(2));
    for (stall, window) in [(stall, stall), (window, stall), (Duration::ZERO, window), (stall, 10 * window)] {
        assert_eq!(watch(stall, window).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let watch = match watch(stall, window) {
        Ok(watch) => watch,
        Err(error) => {
            assert!(!std::path::Path::new("/proc/pressure/cpu").exists(), "{error}");
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            return;
        }
    };
    assert!(!watch.wait(Duration::from_millis(100)).unwrap());
    let mut spinners: Vec<_> =
        (0..3).map(|_| Waiting::in_group(&group, "exec taskset -c 0 sh -c 'while :; do :; done'")).collect();
    spinners.iter_mut().for_each(Waiting::go);
    assert!(watch.wait(LONG).unwrap(), "three on one processor wait");
    group.remove().unwrap();
}

#[test]
fn each_end_for_want_of_memory_is_told() {
    kernel_test(&[Need::Root, Need::Cgroup2], || {
        let group = Cgroup::create(unique()).unwrap();
        group.apply(&Limits::new().memory(Bytes::mib(16))).unwrap();
        let watch = group.watch_memory().unwrap();
        let before = watch.read().unwrap();
        assert!(!ready(&watch));
        for n in 1..=2 {
            assert!(!Waiting::in_group(&group, "exec tail /dev/zero").run().success());
            assert!(watch.wait(LONG).unwrap());
            let events = watch.read().unwrap();
            assert_eq!(
                (events.oom_kill, events.oom >= n, events.max > before.max),
                (n, true, true),
                "{events:?}"
            );
        }
        group.remove().unwrap();
        assert!(watch.read().unwrap().removed);
    });
}

#[test]
fn on_a_hybrid_host_events_of_memory_are_an_error_with_its_remedy() {
    kernel_test(&[Need::Root, Need::CgroupV1], || {
        let group = Cgroup::create(unique()).unwrap();
        let error = group.watch_memory().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("memory.events") && error.hint().is_some(), "{error:?}");
    });
}
