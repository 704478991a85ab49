//! Health checks.

use std::fs;
use std::os::fd::AsFd;
use std::time::Duration;

use isolate_namespaces::{Command, Health, HealthCheck, Namespace, Restart, Signal};
use testkit::{Need, kernel_test};

use super::{Place, no_children_are_left, sh, until};

const SOON: Duration = Duration::from_millis(20);

fn health(place: &Place) -> Option<Health> {
    place.kept().state().unwrap().health
}

fn becomes(place: &Place, wanted: Health) {
    until(&format!("{wanted:?}"), || health(place) == Some(wanted));
}

#[test]
fn it_is_healthy_while_the_check_succeeds_and_not_when_it_fails_so_often_in_a_row() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        let file = place.0.join("well");
        let plan = sh(&format!("test -e {}", file.display())).plan().unwrap();
        let check = HealthCheck::new(&plan).interval(SOON).retries(3);
        sh("exec sleep 1000").spawn().unwrap().hand_over(&place.keeper().health(check)).unwrap();
        becomes(&place, Health::Unhealthy);
        assert!(place.kept().state().unwrap().failing >= 3);
        fs::write(&file, "").unwrap();
        becomes(&place, Health::Healthy);
        assert_eq!(place.kept().state().unwrap().failing, 0);
        fs::remove_file(&file).unwrap();
        becomes(&place, Health::Unhealthy);
        let words: Vec<String> = place
            .text("events")
            .lines()
            .filter_map(|line| Some(line.split_once(" health ")?.1.to_owned()))
            .collect();
        assert_eq!(words, ["unhealthy", "healthy", "unhealthy"]);
        place.end();
        no_children_are_left();
    });
}

#[test]
fn in_the_start_period_a_failure_does_not_count() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        let tries = place.0.join("tries");
        let plan = sh(&format!("echo x >> {}; exit 1", tries.display())).plan().unwrap();
        let check = HealthCheck::new(&plan).interval(Duration::from_secs(1000)).retries(1);
        let check = check.start_period(Duration::from_secs(1000)).start_interval(SOON);
        sh("exec sleep 1000").spawn().unwrap().hand_over(&place.keeper().health(check)).unwrap();
        until("some tries", || fs::read(&tries).is_ok_and(|tries| tries.len() >= 10));
        let state = place.kept().state().unwrap();
        assert_eq!((state.health, state.failing), (Some(Health::Starting), 0));
        place.end();
        no_children_are_left();
    });
}

#[test]
fn a_check_over_its_time_is_killed_and_has_failed() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        let plan = sh("sleep 4711 & wait").unshare([Namespace::Pid]).plan().unwrap();
        let check = HealthCheck::new(&plan).interval(SOON).timeout(Duration::from_millis(100)).retries(2);
        sh("exec sleep 1000").spawn().unwrap().hand_over(&place.keeper().health(check)).unwrap();
        becomes(&place, Health::Unhealthy);
        place.end();
        no_children_are_left();
    });
}

#[test]
fn a_check_enters_the_program_that_runs_also_after_a_restart() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        let mut command = sh("exec sleep 1000");
        command.unshare([Namespace::Uts]).hostname("inside").init(true);
        let plan = command.plan().unwrap();
        let child = plan.spawn().unwrap();
        let pidfd = child.as_fd().try_clone_to_owned().unwrap();
        let seen = place.0.join("seen");
        let mut check = Command::new("/bin/sh");
        check.args([
            "-c",
            &format!("[ $(hostname) = inside ] && readlink /proc/self/ns/uts > {}", seen.display()),
        ]);
        let check = check.join_process(pidfd, [Namespace::Uts]).plan().unwrap();
        let check = HealthCheck::new(&check).interval(SOON);
        let keeper = place.keeper().health(check).restart(Restart::Always).replay(&plan);
        child.hand_over(&keeper).unwrap();
        let is_seen = || {
            let Some(id) = place.kept().state().unwrap().pid else { return false };
            let link = fs::read_link(format!("/proc/{id}/ns/uts"));
            link.is_ok_and(|link| {
                fs::read_to_string(&seen).is_ok_and(|seen| seen.trim() == link.to_string_lossy())
            })
        };
        until("the first is seen", is_seen);
        becomes(&place, Health::Healthy);
        place.kept().signal(Signal::KILL).unwrap();
        until("the second is there", || place.kept().state().unwrap().restarts == 1);
        until("the second is seen", is_seen);
        becomes(&place, Health::Healthy);
        place.end();
        no_children_are_left();
    });
}

#[test]
fn a_check_of_nothing_is_refused() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        let plan = sh("exit 0").plan().unwrap();
        for check in [
            HealthCheck::new(&plan).interval(Duration::ZERO),
            HealthCheck::new(&plan).timeout(Duration::ZERO),
            HealthCheck::new(&plan).retries(0),
        ] {
            let child = sh("exec sleep 1000").spawn().unwrap();
            assert!(child.hand_over(&place.keeper().health(check)).is_err());
        }
        no_children_are_left();
    });
}

#[test]
fn of_a_program_that_ends_before_it_is_handed_over_the_next_run_is_checked() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        let file = place.0.join("second");
        let script = format!("[ -e {0} ] || {{ touch {0}; exit 1; }}; exec sleep 1000", file.display());
        let plan = sh(&script).plan().unwrap();
        let child = plan.spawn().unwrap();
        let pidfd = child.as_fd().try_clone_to_owned().unwrap();
        let check = sh("true").join_process(pidfd, [Namespace::Net]).plan().unwrap();
        until("its end", || fs::metadata(format!("/proc/{}", child.id())).is_err());
        let keeper = place.keeper().restart(Restart::Always).replay(&plan);
        child.hand_over(&keeper.health(HealthCheck::new(&check).interval(SOON).retries(1))).unwrap();
        becomes(&place, Health::Healthy);
        assert_eq!(place.kept().state().unwrap().restarts, 1);
        place.end();
        no_children_are_left();
    });
}
