//! Each limit by what it does to programs.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use isolate_cgroups::{Bytes, Cgroup, Device, ErrorKind, IoMax, Limits, Partition};
use testkit::{Need, kernel_test};

use crate::child::{Waiting, eventually, on_either_host, unique};

on_either_host! {
    a_fifth_of_a_processor_is_a_fifth => fifth;
    weights_share_a_processor_in_their_ratio => weights;
    a_limit_can_be_lifted_again => lifted;
    what_is_refused_leaves_every_limit_as_it_was => nothing_or_all;
    a_cpuset_pins_its_processes => pins;
    a_devices_bandwidth_is_held_and_given_back => bandwidth;
    a_hundred_updates_under_load_are_all_in_force => updates;
    who_may_hardly_run_is_removed_at_once => starved;
}

const V2: [Need; 2] = [Need::Root, Need::Cgroup2];
const SPIN: &str = "while :; do :; done";

fn limited(limits: &Limits) -> Cgroup {
    let group = Cgroup::create(unique()).unwrap();
    group.apply(limits).unwrap();
    group
}

fn used(group: &Cgroup) -> Duration {
    group.stats().unwrap().cpu.usage
}

fn fifth() {
    // Before all others, so that it is the limit that holds it, and nobody else.
    let group = limited(&Limits::new().cpus(0.2).cpu_weight(10_000));
    let mut spinner = Waiting::in_group(&group, SPIN);
    spinner.go();
    let mut share = 0.0;
    let held = (0..15).any(|_| {
        let (start, before) = (Instant::now(), group.stats().unwrap().cpu);
        std::thread::sleep(Duration::from_secs(3));
        let (took, after) = (start.elapsed().as_secs_f64(), group.stats().unwrap().cpu);
        share = (after.usage - before.usage).as_secs_f64() / took;
        assert!(share < 0.21 + 0.02 / took, "{share}");
        // Of 30 periods; a machine that had no processor for it shows nothing.
        after.throttled_periods - before.throttled_periods >= 29
    });
    assert!(held && share > 0.19 - 0.02 / 3.0, "{share}");
    group.remove().unwrap();
}

fn weights() {
    // Both want the one processor that they may have.
    let spin = "exec taskset -c 0 sh -c 'while :; do :; done'";
    let groups = [100, 300].map(|weight| limited(&Limits::new().cpu_weight(weight)));
    let mut spinners = groups.each_ref().map(|group| Waiting::in_group(group, spin));
    spinners.iter_mut().for_each(Waiting::go);
    std::thread::sleep(Duration::from_millis(500));
    let before = groups.each_ref().map(used);
    std::thread::sleep(Duration::from_secs(4));
    let after = groups.each_ref().map(used);
    let ratio = (after[1] - before[1]).as_secs_f64() / (after[0] - before[0]).as_secs_f64();
    assert!((2.7..3.3).contains(&ratio), "{ratio}");
    groups.into_iter().for_each(|group| group.remove().unwrap());
}

/// A thousandth of a processor: the end of eight shells takes seconds of that.
fn starved() {
    let group = limited(&Limits::new().cpus(0.001));
    let mut spinners: Vec<_> = (0..8).map(|_| Waiting::in_group(&group, SPIN)).collect();
    spinners.iter_mut().for_each(Waiting::go);
    assert!(eventually(|| group.stats().unwrap().cpu.throttled_periods > 0));
    let start = Instant::now();
    group.remove().unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

fn lifted() {
    let group = limited(&Limits::new().memory(Bytes::mib(16)).cpus(0.005).pids(3));
    let stats = group.stats().unwrap();
    assert_eq!((stats.memory.limit, stats.pids.limit), (Some(Bytes::mib(16)), Some(3)));
    let none = Limits::new().memory(Bytes::UNLIMITED).cpus(f64::INFINITY).pids(u32::MAX);
    group.apply(&none).unwrap();
    let stats = group.stats().unwrap();
    assert_eq!((stats.memory.limit, stats.pids.limit), (None, None));
    let script = "head -c 40m /dev/zero | tail | wc -c | grep -qx 41943040";
    assert!(Waiting::in_group(&group, script).run().success());
    group.remove().unwrap();
}

fn nothing_or_all() {
    let limits = Limits::new().memory(Bytes::mib(64)).cpus(0.5).cpu_weight(50).pids(40);
    let name = unique();
    let outer = Cgroup::create(&name).unwrap();
    let group = Cgroup::create(format!("{name}/inner")).unwrap();
    group.apply(&limits).unwrap();
    let held = |group: &Cgroup| {
        let files = [
            "memory.max",
            "memory.high",
            "memory.swap.max",
            "cpu.max",
            "cpu.weight",
            "pids.max",
            "cpuset.cpus",
            "memory.limit_in_bytes",
            "memory.memsw.limit_in_bytes",
            "cpu.cfs_quota_us",
            "cpu.cfs_period_us",
            "cpu.shares",
        ];
        let all = group.paths().into_iter().flat_map(|path| files.map(|file| path.join(file)));
        let said = all.filter_map(|path| Some((path.clone(), fs::read_to_string(path).ok()?)));
        // A controller that was handed down for what was refused has a file that says nothing.
        said.filter(|(_, text)| !text.trim().is_empty()).collect::<Vec<_>>()
    };
    let before = held(&group);
    assert!(before.len() >= 4, "{before:?}");
    // Cpus are written before memory, and a name that no kernel knows after all that this machine has.
    let other = Limits::new().memory(Bytes::mib(32)).cpus(0.25).cpu_weight(70).pids(7);
    for refused in [
        other.clone().misc("isolate-none", 1),
        other.clone().io_max(Device::from((0, 0)), IoMax::new().write(1)),
        other.clone().cpuset([1_000_000]),
    ] {
        let error = group.apply(&refused).unwrap_err();
        assert_ne!(error.kind(), ErrorKind::InvalidInput, "the kernel's refusal: {error}");
        assert_eq!(held(&group), before, "{error}");
    }
    group.apply(&other).unwrap();
    assert_ne!(held(&group), before, "the control");
    group.remove().unwrap();
    outer.remove().unwrap();
}

fn updates() {
    let group = limited(&Limits::new().memory(Bytes::mib(64)).cpus(1.0).pids(64));
    let forks = "while :; do for i in 1 2 3 4 5 6 7 8; do ( : ) & done; wait; done";
    let mut forking = Waiting::in_group(&group, forks);
    forking.go();
    for n in 1..=100u32 {
        let limits =
            Limits::new().memory(Bytes::mib(64 + u64::from(n))).cpus(f64::from(n) / 100.0 + 0.2).pids(64 + n);
        group.apply(&limits).unwrap();
        let stats = group.stats().unwrap();
        assert_eq!(stats.memory.limit, Some(Bytes::mib(64 + u64::from(n))));
        assert_eq!(stats.pids.limit, Some((64 + n).into()));
    }
    assert!(group.populated().unwrap(), "and it forks on");
    group.remove().unwrap();
}

#[test]
fn memory_high_slows_and_does_not_kill() {
    kernel_test(&V2, || {
        let script = "head -c 24m /dev/zero | tail > /dev/null";
        let free = limited(&Limits::new().memory(Bytes::mib(256)));
        let start = Instant::now();
        assert!(Waiting::in_group(&free, script).run().success());
        let took = start.elapsed();
        free.remove().unwrap();

        // What cannot be reclaimed (there is no swap for it) is waited for instead.
        let group = limited(&Limits::new().memory_high(Bytes::mib(8)).swap(0));
        let mut slowed = Waiting::in_group(&group, script);
        slowed.go();
        std::thread::sleep(2 * took + Duration::from_secs(3));
        assert!(group.populated().unwrap(), "not done in twice the {took:?}");
        let memory = group.stats().unwrap().memory;
        assert!(
            memory.high_events.is_some_and(|times| times > 0) && memory.oom_kills == Some(0),
            "{memory:?}"
        );
        group.apply(&Limits::new().memory_high(Bytes::UNLIMITED)).unwrap();
        assert!(slowed.run().success(), "and done once it is lifted");
        group.remove().unwrap();
    });
}

fn pins() {
    let group = Cgroup::create(unique()).unwrap();
    let before = Waiting::in_group(&group, "");
    group.apply(&Limits::new().cpuset([0]).memory_nodes([0])).unwrap();
    let after = Waiting::in_group(&group, "");
    for waiting in [&before, &after] {
        let status = fs::read_to_string(format!("/proc/{}/status", waiting.id())).unwrap();
        assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    }
    assert!(group.apply(&Limits::new().cpuset([1_000_000])).is_err());
    drop((before, after));
    group.remove().unwrap();
}

#[test]
fn processors_of_its_own_are_that_or_an_error() {
    kernel_test(&V2, || {
        let group = limited(&Limits::new().cpuset([0]));
        // A group at the top may have processors of its own; where it may not, that is an error and not a silent member.
        match group.apply(&Limits::new().cpuset_partition(Partition::Isolated)) {
            Ok(()) => group.apply(&Limits::new().cpuset_partition(Partition::Member)).unwrap(),
            Err(error) => assert!(error.to_string().contains("cpuset.cpus.partition"), "{error}"),
        }
        assert_eq!(fs::read_to_string(group.path().join("cpuset.cpus.partition")).unwrap().trim(), "member");
        group.remove().unwrap();
    });
}

/// On a machine's own disk nothing is written by this test but a file of 8 MiB.
fn bandwidth() {
    let file = Path::new("/var/tmp").join(unique());
    File::create(&file).unwrap();
    let device = Device::from(file.as_path());
    // Somebody's machine may have all its files in memory, or on another's disk.
    let numbers = device.resolve().expect("/var/tmp on a block device");
    // As dd measures it: the start of a program takes long where it is emulated.
    let log = testkit::scratch().join("dd");
    let write = |group: &Cgroup| {
        let script =
            format!("dd if=/dev/zero of={} bs=1M count=8 oflag=direct 2>{}", file.display(), log.display());
        assert!(Waiting::in_group(group, &script).run().success());
        let said = fs::read_to_string(&log).unwrap();
        let seconds = said.split(", ").find_map(|part| part.trim().strip_suffix(" s")?.parse::<f64>().ok());
        seconds.unwrap_or_else(|| panic!("{said}"))
    };
    // 8 MiB, in few parts: each waits for a tick of the kernel's more than it must.
    let limits = Limits::new().io_max(file.as_path(), IoMax::new().write(Bytes::mib(2)));
    let group = limited(&limits);
    // Never faster than the limit; and not slower, unless the machine has no time for it.
    let mut took = write(&group);
    for _ in 0..9 {
        assert!(took > 3.6, "{took} s");
        if took < 4.4 {
            break;
        }
        took = write(&group);
    }
    let io = group.stats().unwrap().io;
    let device = io.iter().find(|stats| stats.device == numbers);
    assert!(device.is_some_and(|stats| stats.written >= Bytes::mib(8) && stats.writes >= 8), "{io:?}");
    group.apply(&Limits::new().io_max(numbers, IoMax::new())).unwrap();
    let free = write(&group);
    group.remove().unwrap();
    fs::remove_file(&file).unwrap();
    assert!((3.6..4.4).contains(&took), "{took} s");
    assert!(free < took / 2.0, "the control: {free} s");
}

#[test]
fn swap_holds_no_more_than_its_limit() {
    kernel_test(&[Need::Root, Need::Cgroup2, Need::Program("mkswap")], || {
        let file = Path::new("/var/tmp").join(unique());
        let zeros = vec![0; 1 << 20];
        let swap = File::create(&file).unwrap();
        (0..64).for_each(|n| swap.write_all_at(&zeros, n << 20).unwrap());
        let run = |program: &str| {
            #[expect(clippy::disallowed_methods, reason = "swap of the test's own")]
            let output = Command::new(program).arg(&file).output().unwrap();
            assert!(output.status.success(), "{program}: {output:?}");
        };
        run("mkswap");
        run("swapon");
        // 24 MiB: half of it fits in memory, half of the rest in swap.
        let script = "head -c 24m /dev/zero | tail | wc -c";
        let ends = |swap: u64| {
            let group = limited(&Limits::new().memory(Bytes::mib(16)).swap(Bytes::mib(swap)));
            let status = Waiting::in_group(&group, &format!("{script} | grep -qx 25165824")).run();
            let kills = group.stats().unwrap().memory.oom_kills.unwrap();
            group.remove().unwrap();
            (status, kills)
        };
        let (held, kills) = ends(2);
        let (fits, none) = ends(48);
        run("swapoff");
        fs::remove_file(&file).unwrap();
        assert!(kills > 0 && !held.success(), "{held} {:?}", held.signal());
        assert!(fits.success() && none == 0, "the control: {fits}, {none}");
    });
}

#[test]
fn what_the_kernel_has_not_got_is_named_with_its_remedy() {
    kernel_test(&V2, || {
        let group = Cgroup::create(unique()).unwrap();
        let error = group.apply(&Limits::new().huge_pages(Bytes::kib(4), Bytes::mib(4))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("hugetlb.4KB.max") && error.hint().is_some(), "{error:?}");
        let error = group.apply(&Limits::new().io_max("/proc/version", IoMax::new().write(1))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        let error = group.apply(&Limits::new().cpu_weight(5).cpu_idle(true)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        group.apply(&Limits::new().cpu_nice(5).cpu_burst(Duration::from_millis(20)).cpus(0.5)).unwrap();
        group
            .apply(&Limits::new().memory_low(Bytes::mib(4)).memory_min(0).memory_high(Bytes::mib(64)))
            .unwrap();
        group.apply(&Limits::new().oom_group(true).swap_high(Bytes::mib(1))).unwrap();
        group.apply(&Limits::new().cpu_idle(true)).unwrap();
        assert!(eventually(|| !group.populated().unwrap()));
        group.remove().unwrap();
    });
}
