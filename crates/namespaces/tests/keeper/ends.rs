//! How a program ended, and that it is known.

use std::fs;
use std::time::Duration;

use isolate_namespaces::{Command, ErrorKind, KeptEnd, KeptStatus, Namespace, Signal};
use rustix::process::{Pid, kill_process};
use testkit::{Need, kernel_test};

use super::{PATIENCE, Place, lives, no_children_are_left, own_children, parent_of, sh, until};

#[test]
fn code_signal_time_and_processor_time_are_recorded() {
    kernel_test(&[Need::Root], || {
        let end = |command: &mut Command| {
            let place = Place::new();
            command.spawn().unwrap().hand_over(&place.keeper()).unwrap();
            let told = place.wait();
            let file: isolate_namespaces::KeptState = place.text("state").parse().unwrap();
            assert_eq!(told, file, "what is told is in the file");
            assert_eq!(told.status, KeptStatus::Exited);
            assert!(told.ended.unwrap() >= told.started);
            assert_eq!(place.events().last().unwrap(), "exited");
            told
        };
        let told = end(&mut sh("exit 7"));
        assert_eq!((told.end, told.success(), told.pid), (Some(KeptEnd::Code(7)), false, None));
        assert_eq!(end(&mut sh("kill -15 $$")).end, Some(KeptEnd::Signal(15)));
        assert_eq!(end(sh("exit 3").init(true)).end, Some(KeptEnd::Code(3)));
        let told = end(sh("while :; do :; done").timeout(Duration::from_millis(300)));
        assert_eq!((told.end, told.timed_out), (Some(KeptEnd::Signal(9)), true));
        assert!(told.user + told.system > Duration::from_millis(20) && told.max_rss > 100_000, "{told:?}");
        no_children_are_left();
    });
}

#[test]
fn an_end_before_the_keeper_is_there_is_recorded_too() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        let child = sh("echo early; exit 4").spawn().unwrap();
        let id = child.id();
        until("it has ended", || !lives(id));
        child.hand_over(&place.keeper().log(1 << 20, 1)).unwrap();
        assert_eq!(place.wait().end, Some(KeptEnd::Code(4)));
        assert!(place.text("log").ends_with(" stdout F early\n"));

        let mut child = sh("exit 4").spawn().unwrap();
        child.wait().unwrap();
        let error = child.hand_over(&place.keeper()).unwrap_err();
        assert_eq!(error.to_string(), "the program has ended, and the caller was told how");
        no_children_are_left();
    });
}

#[test]
fn who_asks_while_the_keeper_goes_hears_of_the_end_all_the_same() {
    kernel_test(&[Need::Root], || {
        for _ in 0..60 {
            let place = Place::new();
            sh("exit 2").spawn().unwrap().hand_over(&place.keeper()).unwrap();
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| assert_eq!(place.wait().end, Some(KeptEnd::Code(2))));
                    scope.spawn(|| place.kept().state().unwrap());
                    scope.spawn(|| place.kept().attach().map(drop).ok());
                }
            });
        }
        no_children_are_left();
    });
}

#[test]
fn a_keeper_that_is_killed_takes_the_program_along() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        let child = sh("exec sleep 1000").unshare([Namespace::Pid]).spawn().unwrap();
        let id = child.id();
        let monitor = parent_of(id);
        child.hand_over(&place.keeper()).unwrap();
        assert_eq!(place.kept().state().unwrap().pid, Some(id));
        let waiter = place.kept().waiter().unwrap();
        assert!(waiter.try_wait().unwrap().is_none());
        kill_process(Pid::from_raw(place.pid().cast_signed()).unwrap(), Signal_KILL).unwrap();
        assert_eq!(waiter.wait().unwrap_err().kind(), ErrorKind::Lost);
        until("the program is gone", || !lives(id) && !lives(monitor));
        let state = place.kept().state().unwrap();
        assert_eq!((state.status, state.pid), (KeptStatus::Lost, None));
        assert_eq!(place.kept().wait().unwrap_err().kind(), ErrorKind::Lost);
        assert!(!place.kept().signal(Signal::KILL).unwrap());

        // Another one takes its place.
        sh("exit 0").spawn().unwrap().hand_over(&place.keeper()).unwrap();
        assert!(place.wait().success());
        no_children_are_left();
    });
}

#[expect(non_upper_case_globals, reason = "rustix's, beside this crate's of the same name")]
const Signal_KILL: rustix::process::Signal = rustix::process::Signal::KILL;

#[test]
fn a_monitor_that_is_killed_is_recorded_and_nobody_hangs() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        let child = sh("exec sleep 1000").unshare([Namespace::Pid]).spawn().unwrap();
        let id = child.id();
        let monitor = parent_of(id);
        child.hand_over(&place.keeper()).unwrap();
        kill_process(Pid::from_raw(monitor.cast_signed()).unwrap(), Signal_KILL).unwrap();
        let told = place.wait();
        assert_eq!((told.status, told.end), (KeptStatus::Exited, Some(KeptEnd::Lost)));
        assert!(!lives(id));
        no_children_are_left();
    });
}

#[test]
fn kills_for_memory_are_counted_from_the_description_on() {
    kernel_test(&[Need::Root], || {
        for (name, before, after) in [
            (
                "memory.events",
                "low 0\nhigh 1\nmax 9\noom 4\noom_kill 2\noom_group_kill 0\n",
                "oom 9\noom_kill 5\n",
            ),
            (
                "memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
                "under_oom 0\noom_kill 5\n",
            ),
        ] {
            let place = Place::new();
            let file = place.0.join(name);
            fs::write(&file, before).unwrap();
            let keeper = place.keeper().memory_events(fs::File::open(&file).unwrap());
            let child =
                sh("read line; kill -9 $$").stdin(isolate_namespaces::Stdio::piped()).spawn().unwrap();
            child.hand_over(&keeper).unwrap();
            fs::write(&file, after).unwrap();
            place.kept().attach().unwrap().close_stdin().unwrap();
            let told = place.wait();
            assert_eq!((told.end, told.oom_kills), (Some(KeptEnd::Signal(9)), 3));
            assert!(place.text("events").contains(" oom 3\n"), "{}", place.text("events"));
        }
        no_children_are_left();
    });
}

#[test]
fn a_caller_that_lives_on_has_no_zombie() {
    kernel_test(&[Need::Root], || {
        for _ in 0..5 {
            let place = Place::new();
            sh("exit 1").spawn().unwrap().hand_over(&place.keeper()).unwrap();
            place.kept().wait_timeout(PATIENCE).unwrap();
        }
        no_children_are_left();
        assert!(own_children().is_empty());
    });
}
