//! The limits that were asked for are the kernel's.

use std::fs;

use isolate::{Bytes, Container, Limits};
use testkit::kernel_test;

use crate::common::{NEEDS, OnDisk, printed, sh};

/// A file of the container's group, under its name on cgroup v2 or on v1.
fn read(container: &Container, v2: &str, v1: &str) -> String {
    let paths = container.cgroup().unwrap().paths();
    let files = paths.iter().flat_map(|path| [path.join(v2), path.join(v1)]);
    let text = files.filter_map(|file| fs::read_to_string(file).ok()).next();
    text.unwrap_or_else(|| panic!("{v2} or {v1} in {paths:?}")).trim().to_owned()
}

#[test]
fn memory_processor_time_and_tasks_are_limited_as_asked() {
    kernel_test(NEEDS, || {
        let limits = Limits::new().memory(Bytes::mib(64)).cpus(0.5).pids(20);
        let container = sh("sleep 100").limits(limits).start().unwrap();
        assert_eq!(read(&container, "memory.max", "memory.limit_in_bytes"), (64 << 20).to_string());
        let quota = read(&container, "cpu.max", "cpu.cfs_quota_us");
        let period = read(&container, "cpu.max", "cpu.cfs_period_us");
        assert!(quota == "50000 100000" || (quota == "50000" && period == "100000"), "{quota} {period}");
        assert_eq!(read(&container, "pids.max", "pids.max"), "20");
        let members = read(&container, "cgroup.procs", "cgroup.procs");
        assert!(members.lines().any(|pid| pid == container.pid().to_string()), "{members}");
        let stats = container.stats().unwrap();
        assert!(stats.pids.current.is_some_and(|tasks| (2..=3).contains(&tasks)), "with its init: {stats:?}");
        container.remove().unwrap();
    });
}

#[test]
fn more_tasks_than_allowed_cannot_be() {
    kernel_test(NEEDS, || {
        let script = "n=0; while [ $n -lt 20 ]; do sleep 5 & n=$((n+1)); done 2>/dev/null; echo $n";
        let count = |limits| sh(script).limits(limits).output().unwrap();
        assert!(count(Limits::new().pids(40)).status.success());
        let refused = count(Limits::new().pids(5));
        assert!(!refused.status.success() || refused.stdout != b"20\n", "{refused:?}");
    });
}

#[test]
fn what_it_used_is_told_while_it_runs_and_after() {
    kernel_test(NEEDS, || {
        let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
        let mut container = sh(script).limits(Limits::new().memory(Bytes::mib(64))).start().unwrap();
        container.wait().unwrap();
        let used = container.stats().unwrap();
        assert!(used.cpu.usage > std::time::Duration::from_millis(1), "{used:?}");
        container.remove().unwrap();
        assert_eq!(printed(sh("echo done")), "done\n");
    });
}

#[test]
fn limits_change_while_it_runs_all_of_them_or_none() {
    kernel_test(NEEDS, || {
        let container =
            sh("exec sleep 100").limits(Limits::new().memory(Bytes::mib(64)).pids(20)).start().unwrap();
        let processors = || {
            let output =
                container.exec("grep").args(["Cpus_allowed_list", "/proc/self/status"]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let all = processors();
        container.update(&Limits::new().memory(Bytes::mib(128)).pids(10).cpuset([0])).unwrap();
        assert_eq!(
            processors(),
            "Cpus_allowed_list:\t0\n",
            "also of what is executed later, which had {all}"
        );
        let held = || {
            let stats = container.stats().unwrap();
            (stats.memory.limit, stats.pids.limit)
        };
        assert_eq!(held(), (Some(Bytes::mib(128)), Some(10)));
        let refused = Limits::new().memory(Bytes::mib(32)).pids(5).misc("isolate-none", 1);
        let error = container.update(&refused).unwrap_err();
        assert!(error.to_string().starts_with(&format!("container `{}`: ", container.name())), "{error}");
        assert_eq!(held(), (Some(Bytes::mib(128)), Some(10)));
        container.remove().unwrap();
    });
}

#[test]
fn who_may_hardly_run_is_removed_at_once() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let script = "for n in 1 2 3 4 5 6 7 8; do (while :; do :; done) & done; echo; wait";
        let mut container = disk.sh(script).stdout(isolate::Stdio::piped()).start().unwrap();
        let mut line = [0; 1];
        std::io::Read::read_exact(container.stdout.as_mut().unwrap(), &mut line).unwrap();
        container.update(&Limits::new().cpus(0.001)).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1500));
        let start = std::time::Instant::now();
        container.remove().unwrap();
        assert!(start.elapsed() < std::time::Duration::from_secs(3), "{:?}", start.elapsed());
    });
}
