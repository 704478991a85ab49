//! The owner goes, the program stays.

use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Stdio;
use std::thread;

use isolate_namespaces::{Command, Keeper, Kept, KeptEnd, Signal};
use testkit::{Need, kernel_test};

use super::{PATIENCE, Place, lives, no_children_are_left, open, sh, status_of, until};

/// Where the helper is to put a program, and that this is one.
const HELPER: &str = "ISOLATE_KEEPER_OWNER";

/// Not a test: a process that starts a program, hands it over, says so, and goes on until its input ends.
#[test]
fn helper() {
    let Ok(directory) = std::env::var(HELPER) else { return };
    let child =
        sh("read line; echo got $line; exit 5").stdin(isolate_namespaces::Stdio::piped()).spawn().unwrap();
    let keeper = Keeper::new(open(Path::new(&directory))).log(1 << 20, 1);
    child.hand_over(&keeper).unwrap();
    println!("\nhanded over");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "an owner is a process of its own")]
fn owner(place: &Place) -> std::process::Child {
    let mut owner = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner::helper", "--nocapture"])
        .env(HELPER, &place.0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.as_mut().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    assert!(lines.any(|line| line == "handed over"));
    owner
}

#[test]
fn a_program_goes_on_when_its_owner_has_ended_or_was_killed_and_others_can_wait_for_it() {
    kernel_test(&[Need::Root], || {
        for killed in [false, true] {
            let place = Place::new();
            let mut owner = owner(&place);
            let id = place.kept().state().unwrap().pid.unwrap();
            if killed {
                owner.kill().unwrap();
            }
            drop(owner.stdin.take());
            owner.wait().unwrap();
            thread::sleep(std::time::Duration::from_millis(50));
            assert!(lives(id), "killed: {killed}");
            let waiting: Kept = place.kept();
            let waiting = thread::spawn(move || waiting.wait_timeout(PATIENCE).unwrap());
            let attached = place.kept().attach().unwrap();
            std::io::Write::write_all(&mut &attached, b"word\n").unwrap();
            assert_eq!(waiting.join().unwrap().unwrap().end, Some(KeptEnd::Code(5)));
            assert!(place.text("log").ends_with(" stdout F got word\n"));
        }
    });
}

#[test]
fn the_keeper_is_in_a_session_of_its_own_and_cannot_be_looked_into() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        sh("exec sleep 1000").spawn().unwrap().hand_over(&place.keeper()).unwrap();
        let keeper = place.pid();
        let stat = std::fs::read_to_string(format!("/proc/{keeper}/stat")).unwrap();
        let words: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        assert_eq!([words[2], words[3]], [keeper.to_string(), keeper.to_string()], "group and session");
        assert_eq!(status_of(keeper, "Name:").unwrap(), "isolate-keeper");
        assert_eq!(std::fs::read_link(format!("/proc/{keeper}/cwd")).unwrap(), Path::new("/"));
        for signal in
            [rustix::process::Signal::HUP, rustix::process::Signal::TERM, rustix::process::Signal::PIPE]
        {
            rustix::process::kill_process(
                rustix::process::Pid::from_raw(keeper.cast_signed()).unwrap(),
                signal,
            )
            .unwrap();
        }
        assert!(place.kept().signal(Signal::CONT).unwrap(), "it answers");
        place.end();
        no_children_are_left();
    });
}

#[test]
fn nothing_of_the_keepers_reaches_the_program_or_its_health_check() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        let script = "ls -l /proc/self/fd | grep -v '/proc/\\|total' | sed 's/.* \\([0-9]*\\) -> .*/\\1/' | sort -n | tr '\\n' ' '; echo";
        let seen = place.0.join("check");
        // It waits for its first check: between two runs there are none.
        let command = sh(&format!("{script}; while [ ! -s {} ]; do sleep 0.02; done", seen.display()));
        let plan = command.plan().unwrap();
        let check = sh(&format!("({script}) > {}", seen.display())).plan().unwrap();
        let health =
            isolate_namespaces::HealthCheck::new(&check).interval(std::time::Duration::from_millis(20));
        let keeper = place.keeper().log(1 << 20, 1).replay(&plan).health(health);
        let keeper = keeper.restart(isolate_namespaces::Restart::Always);
        plan.spawn().unwrap().hand_over(&keeper).unwrap();
        until("it was started again, and checked", || {
            place.kept().state().unwrap().restarts >= 2 && !place.text("check").is_empty()
        });
        place.end();
        let (log, check) = (place.text("log"), place.text("check"));
        // What the last run was killed in the middle of is no line.
        for line in log.lines().filter(|line| !line.contains(" stdout P ")).chain(check.lines()) {
            let numbers = line.rsplit_once(" F ").map_or(line, |(_, numbers)| numbers);
            assert_eq!(numbers.trim(), "0 1 2", "{line}");
        }
        no_children_are_left();
    });
}

#[test]
fn who_holds_a_pidfd_from_the_keeper_sees_the_end() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        sh("exec sleep 1000").spawn().unwrap().hand_over(&place.keeper()).unwrap();
        let (program, monitor) = place.kept().pidfds().unwrap().unwrap();
        place.end();
        for pidfd in [&program, &monitor] {
            let mut poll =
                [rustix::event::PollFd::from_borrowed_fd(pidfd.as_fd(), rustix::event::PollFlags::IN)];
            let limit = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
            assert_eq!(rustix::event::poll(&mut poll, Some(&limit)).unwrap(), 1);
        }
        assert!(place.kept().pidfds().unwrap().is_none());
        Command::new("/bin/true").status().unwrap();
        no_children_are_left();
    });
}
