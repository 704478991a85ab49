//! What only cgroup v2 limits, by what it does to programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use isolate_cgroups::{Bytes, Cgroup, Controller, Limits};
use testkit::{Need, kernel_test};

use crate::child::{Waiting, eventually, unique};

const V2: [Need; 2] = [Need::Root, Need::Cgroup2];

/// A file on the disk, out of the page cache. It goes with the value.
struct OnDisk(PathBuf);

impl OnDisk {
    fn new(mebibytes: usize) -> Self {
        let path = Path::new("/var/tmp").join(unique());
        fs::write(&path, vec![7; mebibytes << 20]).unwrap();
        let file = fs::File::open(&path).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        Self(path)
    }

    fn read(&self) -> String {
        format!("cat {} > /dev/null", self.0.display())
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Whether its neighbour's script succeeds, and what is left of 16 MiB of page cache of a group then, with 40 MiB for both.
fn beside(script: &str, limits: &Limits) -> (bool, Bytes) {
    let own = OnDisk::new(16);
    let name = unique();
    let outer = Cgroup::create(&name).unwrap();
    outer.apply(&Limits::new().memory(Bytes::mib(40))).unwrap();
    let [group, neighbour] =
        ["group", "neighbour"].map(|leaf| Cgroup::create(format!("{name}/{leaf}")).unwrap());
    group.apply(limits).unwrap();
    neighbour.enable(&[Controller::Memory]).unwrap();
    assert!(Waiting::in_group(&group, &own.read()).run().success());
    let succeeds = Waiting::in_group(&neighbour, script).run().success();
    let left = group.stats().unwrap().memory.current.unwrap();
    outer.remove().unwrap();
    (succeeds, left)
}

#[test]
fn protected_memory_is_left_to_its_group() {
    kernel_test(&V2, || {
        let wants_30 = "head -c 30m /dev/zero | tail | wc -c | grep -qx 31457280";
        let cached = OnDisk::new(64);
        let caches = format!("for n in 1 2 3; do {}; done", cached.read());
        let (least, low) =
            (Limits::new().memory_min(Bytes::mib(18)), Limits::new().memory_low(Bytes::mib(18)));
        let (succeeds, left) = beside(wants_30, &Limits::new().memory(Bytes::mib(40)));
        assert!(succeeds && left < Bytes::mib(11), "the control: {left}");
        let (succeeds, left) = beside(wants_30, &least);
        assert!(!succeeds && left > Bytes::mib(14), "rather is the neighbour killed: {left}");
        let (succeeds, left) = beside(&caches, &low);
        assert!(succeeds && left > Bytes::mib(14), "there is other memory to reclaim: {left}");
        let (succeeds, left) = beside(wants_30, &low);
        assert!(succeeds && left < Bytes::mib(11), "there is no other: {left}");
    });
}

#[test]
fn niceness_shares_as_it_does_among_processes_and_idle_yields() {
    kernel_test(&V2, || {
        let spin = "exec taskset -c 0 sh -c 'while :; do :; done'";
        let ratio = |limits: [Limits; 2]| {
            let groups = limits.map(|limits| {
                let group = Cgroup::create(unique()).unwrap();
                group.apply(&limits).unwrap();
                group
            });
            let mut spinners = groups.each_ref().map(|group| Waiting::in_group(group, spin));
            spinners.iter_mut().for_each(Waiting::go);
            std::thread::sleep(Duration::from_millis(500));
            let used = |group: &Cgroup| group.stats().unwrap().cpu.usage;
            let before = groups.each_ref().map(used);
            std::thread::sleep(Duration::from_secs(3));
            let after = groups.each_ref().map(used);
            groups.into_iter().for_each(|group| group.remove().unwrap());
            (after[1] - before[1]).as_secs_f64() / (after[0] - before[0]).as_secs_f64()
        };
        // sched_prio_to_weight: 335 for nice 5, 1024 for 0.
        let nice = ratio([Limits::new().cpu_nice(5), Limits::new().cpu_nice(0)]);
        assert!((2.6..3.5).contains(&nice), "{nice}");
        let idle = ratio([Limits::new().cpu_idle(true), Limits::new().cpu_weight(100)]);
        assert!(idle > 8.0, "{idle}");
    });
}

#[test]
fn saved_time_is_spent_in_a_burst() {
    kernel_test(&V2, || {
        let bursts = |limits: Limits| {
            let group = Cgroup::create(unique()).unwrap();
            group.apply(&limits).unwrap();
            // Rests, works for more than a period's share, and rests again.
            let script =
                "for n in 1 2 3 4 5 6; do sleep 0.5; head -c 20m /dev/zero | md5sum; done >/dev/null";
            let mut waiting = Waiting::in_group(&group, script);
            waiting.go();
            eventually(|| !group.populated().unwrap());
            let cpu = group.stats().unwrap().cpu;
            group.remove().unwrap();
            cpu
        };
        let without = bursts(Limits::new().cpus(0.1));
        assert!(without.bursts == 0 && without.throttled_periods > 0, "{without:?}");
        let with = bursts(Limits::new().cpus(0.1).cpu_burst(Duration::from_millis(10)));
        assert!(with.bursts > 0 && with.burst > Duration::ZERO, "{with:?}");
    });
}

#[test]
fn huge_pages_are_no_more_than_the_limit() {
    kernel_test(&[Need::Root, Need::Cgroup2], || {
        const RESERVE: &str = "/proc/sys/vm/nr_hugepages";
        let size = Bytes::mib(2);
        let was = fs::read_to_string(RESERVE).unwrap();
        fs::write(RESERVE, "8").unwrap();
        let held: u32 = fs::read_to_string(RESERVE).unwrap().trim().parse().unwrap();
        assert!(held >= 4, "memory is in pieces: {held}");
        let place = testkit::scratch();
        let none = rustix::mount::MountFlags::empty();
        rustix::mount::mount("hugetlbfs", &place, "hugetlbfs", none, c"pagesize=2M").unwrap();
        let group = Cgroup::create(unique()).unwrap();
        let takes = |pages: u32| {
            let file = place.join("pages");
            let script = format!("fallocate -l {} {}", u64::from(pages) * size.get(), file.display());
            let status = Waiting::in_group(&group, &script).run();
            fs::remove_file(&file).ok();
            status.success()
        };
        assert!(takes(4), "the control");
        group.apply(&Limits::new().huge_pages(size, Bytes::mib(4))).unwrap();
        assert!(takes(2) && !takes(3));
        group.apply(&Limits::new().huge_pages(size, Bytes::UNLIMITED)).unwrap();
        assert!(takes(4), "and lifted");
        group.remove().unwrap();
        rustix::mount::unmount(&place, rustix::mount::UnmountFlags::empty()).unwrap();
        fs::write(RESERVE, was.trim()).unwrap();
    });
}
