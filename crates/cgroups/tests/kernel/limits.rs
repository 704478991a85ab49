//! Limits as the kernel holds them, and as programs feel them.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use isolate_cgroups::{Bytes, Cgroup, ErrorKind, Limits};

use crate::child::{Waiting, eventually, on_either_host, unique};

on_either_host! {
    limits_are_read_back_from_the_kernel => limits_are_read_back;
    limits_can_be_raised_and_lowered_while_the_group_lives => raised_and_lowered;
    a_memory_limit_kills_who_goes_beyond_it_and_counts_that => memory_kills;
    a_memory_limit_lets_live_who_stays_below_it => memory_spares;
    a_pids_limit_makes_fork_fail => pids_fail;
    a_cpu_limit_throttles => cpu_throttles;
    a_value_out_of_range_changes_nothing => out_of_range;
    a_group_below_another_has_limits_of_its_own => nested;
}

/// What a file of the group says, in the hierarchy that has it.
fn file(group: &Cgroup, names: [&str; 2]) -> String {
    let read = |path: &Path| names.iter().find_map(|name| std::fs::read_to_string(path.join(name)).ok());
    group.paths().iter().find_map(|path| read(path)).unwrap().trim().to_owned()
}

fn memory(group: &Cgroup) -> String {
    file(group, ["memory.max", "memory.limit_in_bytes"])
}

/// Swap beyond memory, whichever way the kernel counts.
fn swap(group: &Cgroup) -> Option<u64> {
    let read = |path: &Path, name: &str| std::fs::read_to_string(path.join(name)).ok()?.trim().parse().ok();
    group.paths().iter().find_map(|path| {
        let both = || Some(read(path, "memory.memsw.limit_in_bytes")? - read(path, "memory.limit_in_bytes")?);
        read(path, "memory.swap.max").or_else(both)
    })
}

fn limits_are_read_back() {
    let group = Cgroup::create(unique()).unwrap();
    group.apply(&Limits::new().memory((64 << 20) + 100).cpus(0.5).cpu_weight(200).pids(77)).unwrap();
    assert_eq!(memory(&group), (64 << 20).to_string(), "rounded down to a page");
    assert_eq!(swap(&group), Some(0), "no swap unless it is said");
    assert_eq!(file(&group, ["cpu.max", "cpu.cfs_quota_us"]).split(' ').next(), Some("50000"));
    let weight = file(&group, ["cpu.weight", "cpu.shares"]);
    assert!(weight == "200" || weight == "2048", "{weight}");
    assert_eq!(file(&group, ["pids.max", "pids.max"]), "77");
    let stats = group.stats().unwrap();
    assert_eq!(stats.memory.limit, Some(Bytes::mib(64)));
    assert_eq!(stats.pids.limit, Some(77));
    assert_eq!(stats.pids.current, Some(0));
    assert_eq!(stats.memory.oom_kills, Some(0));
    assert!(stats.memory.current.is_some());
    group.remove().unwrap();
}

fn raised_and_lowered() {
    let group = Cgroup::create(unique()).unwrap();
    for (megabytes, beyond) in
        [(64, Some(16)), (128, Some(0)), (32, None), (64, Some(64)), (200, None), (8, Some(1))]
    {
        let limits = Limits::new().memory(Bytes::mib(megabytes));
        let limits = beyond.map_or(limits.clone(), |swap| limits.swap(Bytes::mib(swap)));
        group.apply(&limits).unwrap();
        assert_eq!(memory(&group), (megabytes << 20).to_string());
        assert_eq!(swap(&group), Some(beyond.unwrap_or(0) << 20));
    }
    group.apply(&Limits::new().swap(Bytes::mib(2))).unwrap();
    assert_eq!(memory(&group), (8 << 20).to_string(), "what is not said stays");
    assert_eq!(swap(&group), Some(2 << 20));
    group.apply(&Limits::new().cpus(3.0).pids(5)).unwrap();
    group.apply(&Limits::new().cpus(0.25).pids(9)).unwrap();
    assert_eq!(file(&group, ["cpu.max", "cpu.cfs_quota_us"]).split(' ').next(), Some("25000"));
    assert_eq!(file(&group, ["pids.max", "pids.max"]), "9");
}

/// `tail` keeps the last line, and /dev/zero is one line: as much memory as it is given.
const GREEDY: &str = "exec tail /dev/zero";

fn memory_kills() {
    let group = Cgroup::create(unique()).unwrap();
    group.apply(&Limits::new().memory(Bytes::mib(16))).unwrap();
    let status = Waiting::in_group(&group, GREEDY).run();
    assert_eq!(status.signal(), Some(9), "{status}");
    let memory = group.stats().unwrap().memory;
    assert_eq!(memory.oom_kills, Some(1));
    if let Some(peak) = memory.peak {
        assert!(peak <= Bytes::mib(16) && peak > Bytes::mib(12), "{peak}");
    }
    group.remove().unwrap();
}

fn memory_spares() {
    let group = Cgroup::create(unique()).unwrap();
    group.apply(&Limits::new().memory(Bytes::mib(256))).unwrap();
    let status = Waiting::in_group(&group, "head -c 20m /dev/zero | tail | wc -c | grep -qx 20971520").run();
    assert!(status.success(), "{status}");
    let memory = group.stats().unwrap().memory;
    assert_eq!(memory.oom_kills, Some(0));
    assert!(memory.peak.is_none_or(|peak| peak > Bytes::mib(16)), "{memory:?}");
}

const TWENTY: &str = "i=0; while [ $i -lt 20 ]; do sleep 300 & i=$((i+1)); done";

fn pids_fail() {
    let group = Cgroup::create(unique()).unwrap();
    group.apply(&Limits::new().pids(10)).unwrap();
    let status = Waiting::in_group(&group, TWENTY).run();
    assert_eq!(status.code(), Some(2), "dash gives up when it cannot fork: {status}");
    assert_eq!(group.stats().unwrap().pids.current, Some(9), "all ten were there until the shell left");
    group.kill().unwrap();
    assert!(group.wait_empty(Duration::from_secs(10)).unwrap());

    group.apply(&Limits::new().pids(30)).unwrap();
    let status = Waiting::in_group(&group, TWENTY).run();
    assert!(status.success(), "with a higher limit the same works: {status}");
    group.remove().unwrap();
}

fn cpu_throttles() {
    const BUSY: &str = "while :; do :; done";
    let used = |limits: Option<Limits>, long_enough: fn(&isolate_cgroups::CpuStats) -> bool| {
        let group = Cgroup::create(unique()).unwrap();
        if let Some(limits) = limits {
            group.apply(&limits).unwrap();
        }
        let mut busy = Waiting::in_group(&group, BUSY);
        busy.go();
        let start = Instant::now();
        assert!(eventually(|| long_enough(&group.stats().unwrap().cpu)), "{:?}", group.stats().unwrap().cpu);
        let (took, cpu) = (start.elapsed(), group.stats().unwrap().cpu);
        group.remove().unwrap();
        (took, cpu)
    };
    let (_, free) = used(None, |cpu| cpu.usage > Duration::from_millis(200));
    assert_eq!(free.throttled_periods, 0);
    let (took, bound) = used(Some(Limits::new().cpus(0.1)), |cpu| cpu.throttled_periods >= 10);
    assert!(bound.throttled > Duration::from_millis(100), "{bound:?}");
    assert!(bound.periods >= bound.throttled_periods);
    // A tenth of the time, and a period's share more for each processor.
    assert!(bound.usage < took / 10 + Duration::from_millis(100), "{bound:?} in {took:?}");
    assert!(bound.user + bound.system <= bound.usage + Duration::from_millis(1), "{bound:?}");
}

fn out_of_range() {
    let group = Cgroup::create(unique()).unwrap();
    group.apply(&Limits::new().pids(12)).unwrap();
    for (limits, words) in [
        (Limits::new().pids(7).memory(0), "memory: 0 B is not between"),
        (Limits::new().pids(7).cpus(f64::NAN), "cpus: NaN is not between"),
        (Limits::new().memory(Bytes::mib(8)).pids(0), "pids: 0 is not between"),
    ] {
        let error = group.apply(&limits).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(words), "{error}");
    }
    let stats = group.stats().unwrap();
    assert_eq!(stats.pids.limit, Some(12), "checked before the first is written");
    assert_eq!(stats.memory.limit, None);
    let paths = group.paths();
    drop(group);
    assert!(paths.iter().all(|path| !path.exists()), "{paths:?}");
}

fn nested() {
    let parent = unique();
    let outer = Cgroup::create(&parent).unwrap();
    outer.apply(&Limits::new().pids(50)).unwrap();
    let inner = Cgroup::create(format!("{parent}/inner")).unwrap();
    inner.apply(&Limits::new().memory(Bytes::mib(32)).pids(5)).unwrap();
    assert_eq!(inner.stats().unwrap().pids.limit, Some(5));
    assert_eq!(outer.stats().unwrap().pids.limit, Some(50));
    let waiting = Waiting::in_group(&inner, "");
    assert_eq!(outer.pids().unwrap(), [waiting.id()], "what is below counts");
    assert!(outer.populated().unwrap());
    let paths = inner.paths();
    outer.remove().unwrap();
    assert!(paths.iter().all(|path| !path.exists()), "what is below goes with it: {paths:?}");
    inner.remove().unwrap();
}
