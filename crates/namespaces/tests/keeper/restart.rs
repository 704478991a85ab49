//! When a program is started again, and when not.

use std::time::{Duration, SystemTime};

use isolate_namespaces::{Command, ErrorKind, KeptEnd, KeptState, KeptStatus, Restart, Signal};
use testkit::{Need, kernel_test};

use super::{Place, no_children_are_left, sh, until};

fn keep(place: &Place, command: &mut Command, restart: Restart) {
    let plan = command.plan().unwrap();
    let keeper = place.keeper().log(1 << 20, 2).restart(restart).replay(&plan);
    plan.spawn().unwrap().hand_over(&keeper).unwrap();
}

#[test]
fn on_failure_it_is_started_again_so_many_times_and_each_pause_is_longer() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        keep(&place, &mut sh("echo run $(umask); exit 9"), Restart::OnFailure { most: Some(3) });
        let told = place.wait();
        assert_eq!((told.end, told.restarts), (Some(KeptEnd::Code(9)), 3));
        let log = place.text("log");
        let runs: Vec<_> = log.lines().filter_map(|line| line.split_once(" stdout F run ")).collect();
        assert_eq!(runs.len(), 4, "the same pipe each time");
        assert!(runs.iter().all(|(_, mask)| *mask == runs[0].1), "and the same umask: {runs:?}");
        let pauses: Vec<String> = place
            .text("events")
            .lines()
            .filter_map(|line| Some(line.split_once(" restarting ")?.1.to_owned()))
            .collect();
        assert_eq!(pauses, ["in 100 ms", "in 200 ms", "in 400 ms"]);
        let since = SystemTime::now().duration_since(told.started).unwrap();
        assert!(since < Duration::from_secs(100), "started the last time");
        no_children_are_left();
    });
}

#[test]
fn a_success_is_no_failure_and_a_signal_is_one() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        let script = format!(
            "f={}/runs; echo x >> $f; case $(wc -l < $f) in 1) kill -9 $$;; 2) exit 3;; *) exit 0;; esac",
            place.0.display()
        );
        keep(&place, &mut sh(&script), Restart::OnFailure { most: None });
        let told = place.wait();
        assert_eq!((told.end, told.restarts), (Some(KeptEnd::Code(0)), 2));
        let kinds =
            ["kept", "died", "restarting", "started", "died", "restarting", "started", "died", "exited"];
        assert_eq!(place.events(), kinds);
        no_children_are_left();
    });
}

#[test]
fn whatever_its_end_it_is_started_again_until_a_stop_is_meant() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        keep(&place, sh("exec sleep 1000").init(true), Restart::UnlessStopped);
        let first = place.kept().state().unwrap().pid.unwrap();
        assert!(place.kept().signal(Signal::KILL).unwrap());
        let running = |state: &KeptState| state.status == KeptStatus::Running && state.restarts == 1;
        until("it runs again", || running(&place.kept().state().unwrap()));
        assert_ne!(place.kept().state().unwrap().pid, Some(first));
        let told = place.end();
        assert_eq!(
            (told.status, told.end, told.stopped),
            (KeptStatus::Exited, Some(KeptEnd::Signal(9)), true)
        );
        assert_eq!(told.restarts, 1);
        no_children_are_left();
    });
}

#[test]
fn a_stop_between_two_runs_ends_it_there() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        keep(&place, &mut sh("exit 1"), Restart::Always);
        until("a long pause", || place.text("events").contains("in 800 ms"));
        place.kept().stop_intended().unwrap();
        let told = place.wait();
        assert_eq!((told.status, told.end), (KeptStatus::Exited, Some(KeptEnd::Code(1))));
        no_children_are_left();
    });
}

#[test]
fn a_restart_that_is_meant_follows_at_once_whatever_was_said() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        keep(&place, &mut sh("exec sleep 1000"), Restart::Never);
        place.kept().restart_intended().unwrap();
        place.kept().signal(Signal::KILL).unwrap();
        until("it runs again", || {
            let state = place.kept().state().unwrap();
            state.restarts == 1 && state.status == KeptStatus::Running
        });
        assert!(place.text("events").contains(" restarting in 0 ms\n"));
        place.kept().signal(Signal::KILL).unwrap();
        assert_eq!(place.wait().restarts, 1, "and once");
        assert_eq!(place.kept().restart_intended().unwrap_err().kind(), ErrorKind::InvalidInput);

        let place = Place::new();
        sh("exec sleep 1000").spawn().unwrap().hand_over(&place.keeper()).unwrap();
        let error = place.kept().restart_intended().unwrap_err();
        assert_eq!(error.to_string(), "the keeper has no plan for a restart");
        place.end();
        no_children_are_left();
    });
}

#[test]
fn a_start_that_fails_is_told_by_its_step_and_tried_again() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        let program = place.0.join("program");
        std::fs::copy("/bin/true", &program).unwrap();
        keep(&place, &mut Command::new(&program), Restart::Always);
        std::fs::remove_file(&program).unwrap();
        until("failures", || place.kept().state().unwrap().restarts > 2);
        let end = place.kept().state().unwrap().end;
        assert!(matches!(end, Some(KeptEnd::Failed { errno: libc::ENOENT, .. })), "{end:?}");
        std::fs::copy("/bin/true", &program).unwrap();
        until("a success", || place.kept().state().unwrap().success());
        place.end();
        no_children_are_left();
    });
}

#[test]
fn restarts_without_a_plan_are_refused() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        let child = sh("exec sleep 1000").spawn().unwrap();
        let error = child.hand_over(&place.keeper().restart(Restart::Always)).unwrap_err();
        assert_eq!(error.to_string(), "restarts, and no plan for them");
        no_children_are_left();
    });
}
