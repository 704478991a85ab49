//! Processes in namespaces: an init, those that enter later, terminals, clocks, time limits.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use isolate_namespaces::{Child, Command, ErrorKind, Mount, Namespace, Signal, Stdio, WindowSize};
use testkit::{Need, busybox_root, kernel_test, scratch};

const NEEDS: [Need; 2] = [Need::Root, Need::Program("busybox")];

fn contained(script: &str) -> Command {
    let root = scratch();
    busybox_root(&root);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).unshare(Namespace::CONTAINER).root(root.as_path());
    command.mount(Mount::proc()).mount(Mount::dev()).mount(Mount::devpts());
    command
}

fn text(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn entering(child: &Child, script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).env_clear().env("PATH", "/bin");
    let kinds = Namespace::CONTAINER.into_iter().filter(|kind| *kind != Namespace::User);
    command.join_process(child.as_fd().try_clone_to_owned().unwrap(), kinds);
    command
}

#[test]
fn an_init_reaps_passes_signals_on_and_the_status_back() {
    kernel_test(&NEEDS, || {
        let script = "cat /proc/1/comm; sh -c 'sleep 0 & exec sh -c \"sleep 0.3\"' & sleep 1; \
                      grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l; exit 7";
        let output = contained(script).init(true).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "init\n0\n");
        assert_eq!(output.status.code(), Some(7));

        let mut child = contained("trap 'exit 9' USR1; echo; while :; do sleep 0.05; done")
            .init(true)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        child.signal(Signal::USR1).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(9));
        let status = contained("kill -35 $$").init(true).status().unwrap();
        assert_eq!(status.signal(), Some(35), "real-time ones, too");
    });
}

#[test]
fn whoever_enters_is_in_the_same_namespaces_and_below_the_same_init() {
    kernel_test(&NEEDS, || {
        let mut child = contained("sleep 1000").init(true).spawn().unwrap();
        let links = "for n in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$n; done";
        let inside: Vec<String> = ["cgroup", "ipc", "mnt", "net", "pid", "uts"]
            .map(|kind| {
                fs::read_link(format!("/proc/{}/ns/{kind}", child.id())).unwrap().display().to_string()
            })
            .into();
        assert_eq!(text(&mut entering(&child, links)).lines().collect::<Vec<_>>(), inside);
        assert_eq!(text(&mut entering(&child, "cat /proc/1/comm; pwd; ls / | head -n 1")), "init\n/\nbin\n");
        assert_eq!(entering(&child, "exit 5").status().unwrap().code(), Some(5));
        // An orphan of it belongs to the init of those whose namespace it is.
        text(&mut entering(&child, "sleep 0.1 & exit 0"));
        let zombies = "sleep 0.5; grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l";
        assert_eq!(text(&mut entering(&child, zombies)), "0\n");
        child.kill().unwrap();
        let pidfd = child.as_fd().try_clone_to_owned().unwrap();
        child.wait().unwrap();
        Command::new("/bin/true").join_process(pidfd, [Namespace::Mount]).status().unwrap_err();
    });
}

#[test]
fn without_a_program_its_namespaces_and_mounts_are_there_for_others_until_it_is_asked_to_end() {
    kernel_test(&NEEDS, || {
        let mut child =
            contained("").idle(true).mount(Mount::shm(1 << 20)).stdout(Stdio::piped()).spawn().unwrap();
        let mut all = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut all).unwrap();
        assert!(all.is_empty(), "it has no descriptors");
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        assert!(status.contains("CapPrm:\t0000000000000000") && status.contains("Name:\tidle"), "{status}");
        text(&mut entering(&child, "echo one > /dev/shm/x; sleep 0.1 & exit 0"));
        let zombies = "sleep 0.5; grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l";
        assert_eq!(text(&mut entering(&child, zombies)), "0\n");
        // Mounts of another mount namespace, live in both directions.
        let theirs = || fs::File::open(format!("/proc/{}/ns/mnt", child.id())).unwrap();
        let mut beside = contained("cat /memory/x; echo two > /memory/y; echo no > /read/z");
        beside.mount(Mount::of_namespace(theirs(), "/dev/shm", "/memory"));
        beside.mount(Mount::of_namespace(theirs(), "/dev/shm", "/read").read_only()).stderr(Stdio::null());
        let plan = beside.plan().unwrap();
        assert!(plan.to_string().contains("enter the mount namespace of /dev/shm"), "{plan}");
        let output = beside.output().unwrap();
        assert_eq!((output.stdout.as_slice(), output.status.success()), (&b"one\n"[..], false));
        assert_eq!(text(&mut entering(&child, "cat /dev/shm/*")), "one\ntwo\n");
        let missing =
            contained("true").mount(Mount::of_namespace(theirs(), "/no/such", "/x")).status().unwrap_err();
        assert_eq!((missing.kind(), missing.to_string().contains("/no/such")), (ErrorKind::NotFound, true));
        child.signal(Signal::USR1).unwrap();
        assert_eq!(child.wait_timeout(Duration::from_millis(200)).unwrap(), None);
        child.signal(Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        Signal::TERM.send(&child).unwrap();
    });
}

#[test]
fn a_terminal_is_of_its_own_size_and_the_controlling_one() {
    kernel_test(&NEEDS, || {
        let mut command = contained("tty; stty size; echo > /dev/tty; read line; echo got $line; stty size");
        let mut child = command.new_session().terminal(WindowSize::new(33, 77)).spawn().unwrap();
        let mut terminal = child.terminal.take().unwrap();
        let mut shown = Vec::new();
        let mut byte = [0];
        while !shown.ends_with(b"33 77\r\n\r\n") {
            terminal.read_exact(&mut byte).unwrap();
            shown.extend(byte);
        }
        assert!(shown.starts_with(b"/dev/pts/0\r\n"), "{}", String::from_utf8_lossy(&shown));
        terminal.resize(WindowSize::new(10, 20)).unwrap();
        assert_eq!(terminal.size().unwrap(), WindowSize::new(10, 20));
        terminal.write_all(b"word\n").unwrap();
        let mut rest = String::new();
        terminal.read_to_string(&mut rest).unwrap();
        assert!(rest.ends_with("got word\r\n10 20\r\n"), "{rest}");
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn clocks_are_ahead_inside_and_only_there() {
    kernel_test(&NEEDS, || {
        let uptime = |text: &str| text.split(['.', ' ']).next().unwrap().parse::<u64>().unwrap();
        let before = uptime(&fs::read_to_string("/proc/uptime").unwrap());
        let mut command = contained("cat /proc/uptime");
        command.unshare([Namespace::Time]).boottime_offset(100_000, 0).monotonic_offset(100_000, 0);
        let inside = uptime(&text(&mut command));
        assert!((before + 100_000..before + 100_060).contains(&inside), "{before} {inside}");
        assert!(uptime(&text(&mut contained("cat /proc/uptime"))) < before + 60, "the control");
    });
}

#[test]
fn what_runs_for_too_long_is_killed_and_that_is_told() {
    kernel_test(&NEEDS, || {
        let start = Instant::now();
        let mut child = contained("sleep 1000").timeout(Duration::from_secs(2)).spawn().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert!(child.timed_out() && start.elapsed() < Duration::from_secs(20));
        // The last steps of the start are in that time, and take a part of it on a slow machine.
        assert!(child.usage().unwrap().wall >= Duration::from_secs(1));
        let mut child = contained("exit 3").timeout(Duration::from_secs(100)).spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(3));
        assert!(!child.timed_out());
    });
}
