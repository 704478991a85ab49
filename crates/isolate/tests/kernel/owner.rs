//! A container's life and its owner's: a thread, a process that is killed, one that lets go.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use isolate::Container;
use testkit::{Need, kernel_test};

use crate::common::{OnDisk, until};

const NEEDS: &[Need] = &[Need::Root, Need::Overlay, Need::Program("busybox")];
/// Set for the owner, a program of its own: what it does. And the root that its container has.
const OWNER: &str = "ISOLATE_TEST_OWNER";
const ROOT: &str = "ISOLATE_TEST_OWNER_ROOT";

fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// The owner: starts a container and something in it, says both numbers, and waits to be killed or goes.
fn owner(what: &str) {
    let root = isolate::Rootfs::from(std::path::PathBuf::from(std::env::var_os(ROOT).unwrap()));
    let container =
        Container::builder().name("owned").rootfs(root).command(["sleep", "1000"]).start().unwrap();
    let child = container.exec("sleep").arg("1000").spawn().unwrap();
    println!("\nstarted {} {}", container.pid(), child.pid());
    if what == "detach" {
        drop(child);
        assert_eq!(container.detach().unwrap(), "owned");
        // Nobody reads what the test harness would still say.
        std::process::exit(0);
    }
    std::thread::sleep(Duration::from_secs(1000));
}

/// The owner's process, and what it has started.
fn run(test: &str, what: &str, root: &OnDisk) -> (std::process::Child, [u32; 2]) {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(OWNER, what)
        .env(ROOT, root.0.join("root"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(owner.stdout.take().unwrap()));
    let started = lines.map(Result::unwrap).find(|line| line.starts_with("started ")).unwrap();
    let mut pids = started.split(' ').skip(1).map(|pid| pid.parse().unwrap());
    (owner, [pids.next().unwrap(), pids.next().unwrap()])
}

#[test]
fn an_owner_that_is_killed_ends_its_containers_within_a_second() {
    if let Ok(what) = std::env::var(OWNER) {
        return owner(&what);
    }
    kernel_test(NEEDS, || {
        let root = OnDisk::root();
        let test = "owner::an_owner_that_is_killed_ends_its_containers_within_a_second";
        let (mut owner, pids) = run(test, "wait", &root);
        assert!(pids.iter().all(|pid| is_alive(*pid)));
        owner.kill().unwrap();
        let start = Instant::now();
        until(Duration::from_secs(10), || (!pids.iter().any(|pid| is_alive(*pid))).then_some(())).unwrap();
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        owner.wait().unwrap();
        isolate::sweep().unwrap();
    });
}

#[test]
fn a_detached_container_outlives_its_owner_and_is_swept_when_it_has_ended() {
    if let Ok(what) = std::env::var(OWNER) {
        return owner(&what);
    }
    kernel_test(NEEDS, || {
        let root = OnDisk::root();
        let test = "owner::a_detached_container_outlives_its_owner_and_is_swept_when_it_has_ended";
        let (mut owner, [pid, _]) = run(test, "detach", &root);
        assert!(owner.wait().unwrap().success());
        std::thread::sleep(Duration::from_millis(200));
        assert!(is_alive(pid));
        assert_eq!(isolate::sweep().unwrap(), Vec::<String>::new(), "what lives is not swept");
        assert!(is_alive(pid));
        let own = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
        rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
        until(Duration::from_secs(10), || (!is_alive(pid)).then_some(())).unwrap();
        let swept = until(Duration::from_secs(10), || {
            Some(isolate::sweep().unwrap()).filter(|names| !names.is_empty())
        });
        assert_eq!(swept.unwrap(), ["owned"]);
    });
}

#[test]
fn the_end_of_the_thread_that_started_it_is_not_its_end() {
    kernel_test(NEEDS, || {
        let root = OnDisk::root();
        let started = std::thread::scope(|scope| {
            scope.spawn(|| root.sh("exec sleep 1000").start().unwrap()).join().unwrap()
        });
        std::thread::sleep(Duration::from_millis(300));
        assert!(is_alive(started.pid()));
        assert!(started.exec("true").status().unwrap().success());
        started.remove().unwrap();
    });
}
