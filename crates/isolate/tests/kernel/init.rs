//! Process 1: an init of this library, or the command.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use isolate::{Container, Signal, Stdio};
use testkit::{Need, kernel_test};

use crate::common::{OnDisk, printed, until};

const NEEDS: &[Need] = &[Need::Root, Need::Overlay, Need::Program("busybox")];

const TRAPS: &str = "trap 'echo hup' HUP; trap 'echo usr' USR1; trap 'echo rt; exit 9' 37; echo ready; \
                     while :; do sleep 0.05; done";

#[test]
fn signals_reach_the_command_by_name_and_by_number() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let mut container = disk.sh(TRAPS).stdout(Stdio::piped()).start().unwrap();
        let mut lines = BufReader::new(container.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert_eq!(lines.next().unwrap(), "ready");
        for (signal, shown) in [("HUP", "hup"), ("SIGUSR1", "usr"), ("RTMIN+3", "rt")] {
            container.signal(signal.parse().unwrap()).unwrap();
            assert_eq!(lines.next().unwrap(), shown);
        }
        assert_eq!(container.wait().unwrap().code(), Some(9));
        container.signal(Signal::TERM).unwrap();
        container.remove().unwrap();
    });
}

fn stopped(mut container: Container) -> (Duration, std::process::ExitStatus) {
    let start = Instant::now();
    let status = container.stop(Duration::from_secs(3)).unwrap();
    container.remove().unwrap();
    (start.elapsed(), status)
}

#[test]
fn a_command_without_a_handler_is_stopped_at_once_and_as_process_one_it_is_not() {
    use std::os::unix::process::ExitStatusExt;
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let (took, status) = stopped(disk.sh("exec sleep 1000").start().unwrap());
        assert_eq!(status.signal(), Some(15));
        assert!(took < Duration::from_secs(2), "{took:?}");
        let (took, status) = stopped(disk.sh("exec sleep 1000").init(false).start().unwrap());
        assert_eq!(status.signal(), Some(9), "the grace was over");
        assert!(took >= Duration::from_secs(3), "{took:?}");
    });
}

#[test]
fn orphans_are_reaped_and_without_an_init_they_stay() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        // They end when told, once the shell that could reap them has become `sleep`.
        let orphans = "for i in 1 2 3; do sh -c '(until [ -e /dev/shm/end ]; do sleep 0.1; done) & true'; done; \
                       exec sleep 1000";
        let end = "until for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f; echo; done | grep -qx 'sleep 1000 '; \
                   do sleep 0.1; done; touch /dev/shm/end";
        let shells = |container: &Container, state: &str| {
            let count = format!("cat /proc/[0-9]*/stat | grep -c '(sh) {state}'");
            let output = container.exec("sh").args(["-c", &count]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let with = disk.sh(orphans).start().unwrap();
        let without = disk.sh(orphans).init(false).start().unwrap();
        for container in [&with, &without] {
            assert!(container.exec("sh").args(["-c", end]).status().unwrap().success());
        }
        until(Duration::from_secs(10), || (shells(&without, "Z") == "3\n").then_some(())).expect("they stay");
        // One is left, which counts.
        until(Duration::from_secs(10), || (shells(&with, "") == "1\n").then_some(()))
            .expect("they are reaped");
        with.remove().unwrap();
        without.remove().unwrap();
    });
}

#[test]
fn the_init_is_small_shows_its_name_and_cannot_be_looked_into() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let all = isolate::Capabilities::all();
        let look = "cat /proc/1/comm; cat /proc/1/cmdline | tr '\\0' '.'; echo; \
                    for f in exe fd/0 root cwd; do readlink /proc/1/$f || echo no $f; done; \
                    cat /proc/1/mem /proc/1/maps /proc/1/environ 2>/dev/null | wc -c; readlink /proc/self/exe";
        let shown = printed(disk.sh(look).capabilities(all).seccomp_unconfined().stderr(Stdio::null()));
        let expected =
            "init\ninit................................\nno exe\nno fd/0\nno root\nno cwd\n0\n/bin/busybox\n";
        let tidy = |text: &str| text.replace('.', "");
        assert_eq!(tidy(&shown), tidy(expected));

        let container = disk.sh("exec sleep 1000").start().unwrap();
        std::thread::sleep(Duration::from_millis(200));
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", container.pid())).unwrap();
        let dirty = rollup.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
        let kib: u32 = dirty.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kib <= 24, "{rollup}");
        container.remove().unwrap();
    });
}

#[test]
fn a_command_that_is_an_init_itself_is_process_one() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        std::fs::write(disk.0.join("root/bin/tini"), "#!/bin/sh\necho $$\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(disk.0.join("root/bin/tini"), mode).unwrap();
        let started = |container: isolate::ContainerBuilder| printed(container.command(["tini"]));
        assert_eq!(started(disk.sh("")), "1\n");
        assert_eq!(started(disk.sh("").init(true)), "2\n");
    });
}
