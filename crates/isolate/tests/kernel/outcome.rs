//! How a run ended, and what it took.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use isolate::{Bytes, Limits, Outcome, Signal};
use testkit::{Need, kernel_test};

use crate::common::{OnDisk, slow};

const NEEDS: &[Need] = &[Need::Root, Need::Overlay, Need::Program("busybox")];

/// Every kind of end in turn: a code, a signal, a real-time signal.
fn ends(n: usize) -> (String, Outcome) {
    match n % 3 {
        0 => (format!("exit {}", n % 256), Outcome::Exited((n % 256) as i32)),
        1 => {
            let number = [1, 2, 12, 6, 9, 11, 14, 15][n / 3 % 8];
            (format!("ulimit -c 0; kill -{number} $$"), Outcome::Signaled(Signal::try_from(number).unwrap()))
        }
        _ => {
            let number = 34 + (n / 3 % 31) as i32;
            (format!("kill -{number} $$"), Outcome::Signaled(Signal::try_from(number).unwrap()))
        }
    }
}

#[test]
fn ten_thousand_containers_have_ten_thousand_ends() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let each = if slow() { 6 } else { 2_500 };
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let disk = &disk;
                scope.spawn(move || {
                    for n in 0..each {
                        let (script, expected) = ends(thread * 7 + n);
                        let run = disk.sh(&script).run().unwrap();
                        assert_eq!(run.outcome, expected, "{script}");
                    }
                });
            }
        });
    });
}

/// As above, where a start is a millisecond: with namespaces and an init, and nothing else.
#[test]
fn ten_thousand_programs_of_a_millisecond_have_ten_thousand_ends() {
    use isolate::namespaces::{Command, Namespace};
    kernel_test(&[Need::Root], || {
        let each = if slow() { 20 } else { 5_000 };
        std::thread::scope(|scope| {
            for thread in 0..2 {
                scope.spawn(move || {
                    for n in 0..each {
                        let (script, expected) = ends(thread * 5_000 + n);
                        let mut command = Command::new("/bin/sh");
                        command.args(["-c", &script]).unshare([Namespace::Pid]).init(n % 2 == 0);
                        let status = command.status().unwrap();
                        // Without an init the program is process 1, which no signal of its own ends.
                        match (expected, n % 2 == 0) {
                            (Outcome::Exited(code), _) => assert_eq!(status.code(), Some(code)),
                            (Outcome::Signaled(signal), true) => {
                                assert_eq!(status.signal(), Some(signal.number()), "{script}");
                            }
                            _ => assert_eq!(status.code(), Some(0), "{script}"),
                        }
                    }
                });
            }
        });
    });
}

#[test]
fn over_its_memory_over_its_time_and_never_started_are_told_apart() {
    kernel_test(NEEDS, || {
        if !(Need::Cgroup2.is_met() || Need::CgroupV1.is_met()) {
            return;
        }
        let disk = OnDisk::root();
        let limits = Limits::new().memory(Bytes::mib(24));
        let eats = "x=0123456789abcdef; while :; do x=$x$x; done";
        let run = disk.sh(eats).limits(limits.clone()).run().unwrap();
        assert_eq!(run.outcome, Outcome::OutOfMemory);
        let run = disk.sh(&format!("sh -c '{eats}'; exit 5")).limits(limits).run().unwrap();
        assert_eq!(run.outcome, Outcome::Exited(5), "it went on without the child that was killed");

        let start = Instant::now();
        let run = disk.sh("sleep 1000").timeout(Duration::from_secs(1)).run().unwrap();
        assert_eq!(run.outcome, Outcome::TimedOut);
        // The start is in that second, and takes a part of it on a slow machine.
        assert!(run.usage.wall >= Duration::from_millis(500) && start.elapsed() < Duration::from_secs(10));
        assert!(run.usage.user < Duration::from_millis(100), "{:?}", run.usage);
        let run = disk.sh("exit 0").timeout(Duration::from_secs(60)).run().unwrap();
        assert_eq!(run.outcome, Outcome::Exited(0));
        let run = disk.sh("kill -9 $$").run().unwrap();
        assert_eq!(run.outcome, Outcome::Signaled(Signal::KILL), "nobody's memory was short");

        // With less than a program needs, it is killed on the way to it: by its first page, or with the exec half done.
        let run = disk.sh("true").limits(Limits::new().memory(Bytes::kib(64))).run().unwrap();
        assert_eq!(run.outcome, Outcome::NeverStarted);
        assert!(run.stdout.is_empty() && run.usage == isolate::Usage::default());
    });
}

#[test]
fn a_run_is_measured_with_its_whole_tree_and_without_its_start() {
    kernel_test(&[Need::Root, Need::Overlay, Need::Program("busybox"), Need::Native], || {
        let disk = OnDisk::root();
        // A program that knows its own processor time is a clock to compare with.
        let spin = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done";
        let seconds = |shown: &str| {
            let (minutes, seconds) = shown.trim_end_matches('s').split_once('m').unwrap();
            minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
        };
        // Each prints what it took and, in a second line, what its children did.
        let clocks = |stdout: Vec<u8>| -> f64 {
            let shown = String::from_utf8(stdout).unwrap();
            shown.lines().step_by(2).flat_map(str::split_whitespace).map(seconds).sum()
        };
        let near = |a: f64, b: f64| (a - b).abs() < 0.15 * b + 0.03;
        let total = |usage: isolate::Usage| (usage.user + usage.system).as_secs_f64();
        let alone = disk.sh(&format!("{spin}; times")).run().unwrap();
        let own = clocks(alone.stdout);
        assert!(near(total(alone.usage), own), "{:?} against {own} s", alone.usage);
        assert!(alone.usage.wall.as_secs_f64() > 0.8 * own);

        let both = format!(
            "({spin}; times >/dev/shm/a) & ({spin}; times >/dev/shm/b) & wait; cat /dev/shm/a /dev/shm/b"
        );
        let two = disk.sh(&both).run().unwrap();
        let own = clocks(two.stdout);
        assert!(near(total(two.usage), own), "{:?} against {own} s", two.usage);
        let nothing = disk.sh("exit 0").run().unwrap();
        assert!(total(nothing.usage) < 0.02, "{:?}", nothing.usage);
        let sleeps = disk.sh("sleep 0.3").run().unwrap();
        assert!(
            sleeps.usage.wall >= Duration::from_millis(295) && total(sleeps.usage) < 0.03,
            "{:?}",
            sleeps.usage
        );

        let holds = disk.sh("dd if=/dev/zero of=/dev/shm/x bs=1M count=50 2>/dev/null").run().unwrap();
        let peak = holds.usage.peak_memory.expect("kept here").get() as f64 / f64::from(1 << 20);
        assert!((48.0..65.0).contains(&peak), "{peak} MiB");
    });
}
