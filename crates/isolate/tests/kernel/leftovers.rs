//! Whatever happens to an owner, nothing stays; that nothing is left in the end is what each test's world looks after.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use isolate::{Bytes, Limits};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use testkit::kernel_test;

use crate::common::{NEEDS, NET, SERVER, get, printed, sh, slow, until, wait_for};

/// Says to this program that it is the owner that a test kills.
const OWNER: &str = "ISOLATE_TEST_OWNER";

/// No test: the owner, in the world of the test that starts it.
#[test]
#[ignore = "the tests of this file start it as a process of its own"]
fn owner() {
    if std::env::var_os(OWNER).is_none() {
        return;
    }
    let limits = Limits::new().memory(Bytes::mib(64)).pids(50);
    let web = sh(SERVER).name("web").limits(limits).publish((9000, 8080)).start().unwrap();
    let box_ = sh("sleep 1000 & wait").name("box").start().unwrap();
    println!("\nstarted {} {}", web.pid(), box_.pid());
    std::thread::sleep(Duration::from_secs(1000));
}

/// The owner, once its containers run, and the numbers of their first processes.
fn start_owner() -> (Child, Vec<Pid>) {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "leftovers::owner", "--ignored", "--nocapture"])
        .env(OWNER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|line| line.starts_with("started ")).expect("the owner's containers");
    std::thread::spawn(move || lines.for_each(drop));
    let pids = line.split(' ').skip(1).map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap()).collect();
    (owner, pids)
}

#[test]
fn when_its_owner_is_killed_a_container_dies_at_once_and_the_next_start_takes_the_rest_back() {
    kernel_test(NET, || {
        let (mut owner, pids) = start_owner();
        wait_for((Ipv4Addr::LOCALHOST, 9000).into());
        kill_process(Pid::from_child(&owner), Signal::KILL).unwrap();
        owner.wait().unwrap();
        let gone = || pids.iter().all(|pid| test_kill_process(*pid).is_err()).then_some(());
        assert!(until(Duration::from_secs(10), gone).is_some(), "its processes end with the owner");
        assert!(Path::new("/run/isolate/containers/web").exists(), "the rest waits for the next user");

        // The next run of the same program has its names and its port again.
        let web = sh(SERVER).name("web").publish((9000, 8080)).start().unwrap();
        wait_for((Ipv4Addr::LOCALHOST, 9000).into());
        assert!(!Path::new("/run/isolate/containers/box").exists());
        web.remove().unwrap();
        assert_eq!(fs::read_dir("/run/isolate/containers").unwrap().count(), 0);
        assert_eq!(fs::read_dir("/run/isolate/networks").unwrap().count(), 0);
    });
}

#[test]
fn what_is_left_can_be_swept_by_hand_and_what_lives_is_not() {
    kernel_test(NET, || {
        let mine = sh("sleep 100").name("mine").start().unwrap();
        let (mut owner, _) = start_owner();
        assert_eq!(isolate::sweep().unwrap(), Vec::<String>::new());
        kill_process(Pid::from_child(&owner), Signal::KILL).unwrap();
        owner.wait().unwrap();
        let mut swept = Vec::new();
        until(Duration::from_secs(10), || {
            swept.extend(isolate::sweep().unwrap());
            (swept.len() == 2).then_some(())
        });
        swept.sort();
        assert_eq!(swept, ["box", "web"]);
        assert_eq!(get((Ipv4Addr::LOCALHOST, 9000).into()), None);
        assert!(test_kill_process(Pid::from_raw(mine.pid().cast_signed()).unwrap()).is_ok());
        mine.remove().unwrap();
    });
}

#[test]
fn a_dropped_container_takes_all_its_processes_along() {
    kernel_test(NEEDS, || {
        let mut container =
            sh("sleep 1000 & sleep 1000 & echo up; wait").stdout(isolate::Stdio::piped()).start().unwrap();
        let mut line = String::new();
        BufReader::new(container.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        drop(container);
    });
}

#[test]
fn dropping_takes_a_moment_only_whatever_runs_inside() {
    kernel_test(NEEDS, || {
        // Ignored signals are inherited.
        let script = "trap '' HUP INT QUIT TERM USR1; n=0; while [ $n -lt 50 ]; do sleep 1000 & n=$((n+1)); done; \
                      echo up; while :; do sleep 1000; done";
        let mut container = sh(script).stdout(isolate::Stdio::piped()).start().unwrap();
        BufReader::new(container.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        assert!(container.stats().unwrap().pids.current.is_some_and(|tasks| tasks > 50));
        kill_process(Pid::from_raw(container.pid().cast_signed()).unwrap(), Signal::TERM).unwrap();
        assert_eq!(container.wait_timeout(Duration::from_millis(50)).unwrap(), None, "it ignores that");
        let begun = Instant::now();
        drop(container);
        let limit = Duration::from_secs(if slow() { 60 } else { 5 });
        assert!(begun.elapsed() < limit, "{:?}", begun.elapsed());
    });
}

#[test]
fn the_first_process_takes_the_others_along() {
    kernel_test(NEEDS, || {
        let mut container = sh("sleep 1000 & exit 4").start().unwrap();
        assert_eq!(container.wait().unwrap().code(), Some(4));
        container.remove().unwrap();
    });
}

#[test]
fn a_start_that_fails_late_leaves_nothing() {
    kernel_test(NET, || {
        let error = sh("true")
            .command(["/no/such"])
            .publish((9000, 8080))
            .limits(Limits::new().pids(5))
            .start()
            .unwrap_err();
        assert!(error.to_string().contains("/no/such"));
        let error = sh("true")
            .publish((9000, 8080))
            .mount(isolate::Mount::bind("/no/such", "/x"))
            .start()
            .unwrap_err();
        assert!(error.to_string().contains("/no/such"));
    });
}

#[test]
fn stop_asks_first_and_kills_after_the_grace() {
    kernel_test(NEEDS, || {
        let polite = "trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done";
        let mut container = sh(polite).stdout(isolate::Stdio::piped()).start().unwrap();
        BufReader::new(container.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        assert_eq!(container.stop(Duration::from_secs(20)).unwrap().code(), Some(5));
        container.remove().unwrap();

        let deaf = "trap '' TERM; echo up; sleep 1000";
        let mut container = sh(deaf).stdout(isolate::Stdio::piped()).start().unwrap();
        BufReader::new(container.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let status = container.stop(Duration::from_millis(50)).unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        container.remove().unwrap();
        assert_eq!(printed(sh("echo next")), "next\n");
    });
}
