//! A fault at each system call of a sweep: the next one takes the rest.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use testkit::kernel_test;
use testkit::trace::{Call, Fault, Rules, Trace, Who};

use super::errnos::{RULES, errnos};
use super::kills::ALL;
use super::world::World;
use super::{NEEDS, SWEEP, is_wanted, most_were_reached, point, run, stride};

/// How many points the ordinary tests take.
const SOME: usize = 16;

#[test]
fn who_sweeps_is_killed_at_any_call_and_the_next_sweep_takes_the_rest() {
    all_points(ALL, |_| vec![Fault::Kill(Who::Owner)]);
}

#[test]
fn whatever_fails_in_a_sweep_the_next_one_takes_the_rest() {
    all_points(RULES, |n| errnos(n).into_iter().map(Fault::Fail).collect());
}

fn all_points(rules: Rules, faults: fn(usize) -> Vec<Fault>) {
    kernel_test(NEEDS, || {
        let world = World::new();
        leave_a_container(&world);
        let swept = run(&world, SWEEP, rules, None);
        assert_eq!(swept.said("ok", SWEEP), Some(""), "{:?} {}", swept.lines, swept.stderr);
        world.is_empty_after("no fault", false).unwrap();
        let points: Vec<Call> = swept.trace.calls;
        let (mut tried, mut missed, mut left) = (0, 0, 0);
        let (begun, mut wrong) = (Instant::now(), Vec::new());
        for (n, call) in points.iter().step_by(stride(points.len(), SOME)).enumerate() {
            for fault in faults(n) {
                let what = format!("{}; {fault:?}", point(SWEEP, call));
                let untrue = matches!(fault, Fault::Fail(errno) if !(rules.can_give)(call, errno));
                if untrue || !is_wanted(&what) {
                    continue;
                }
                leave_a_container(&world);
                let ran = run(&world, SWEEP, rules, Some((call.who, call.order, fault)));
                tried += 1;
                missed += usize::from(ran.trace.struck.is_none());
                left += usize::from(!world.left(Duration::ZERO).is_empty());
                let ended = has_ended(&ran.trace, fault)
                    .then_some(())
                    .ok_or_else(|| format!("{what}: {:?} {:?} {}", ran.trace.status, ran.lines, ran.stderr));
                if let Err(error) = ended.and_then(|()| world.is_empty_after(&what, true)) {
                    // That there is nothing is believed.
                    if fault != Fault::Fail(libc::ENOENT) {
                        println!("WRONG {error}");
                        wrong.push(error);
                    }
                    world.tidy_up();
                }
            }
        }
        println!(
            "sweep: {} calls, {tried} tried, {missed} not reached, {left} with a rest, {:?}",
            points.len(),
            begun.elapsed()
        );
        assert!(left > 0, "there was a rest, at least once");
        assert!(most_were_reached(tried, missed), "{missed} of {tried} points were not reached");
        assert!(wrong.is_empty(), "{} points:\n{}", wrong.len(), wrong.join("\n"));
    });
}

/// Its owner is killed when it runs.
fn leave_a_container(world: &World) {
    let ran = run(world, "exec", ALL, Some((Who::Owner, 0, Fault::Kill(Who::Owner))));
    assert_eq!(ran.trace.status.signal(), Some(9), "{:?} {}", ran.lines, ran.stderr);
    assert!(world.has_ended(), "its monitor ends with the owner");
    assert!(!world.left(Duration::ZERO).is_empty());
}

/// Well, or as it was to.
fn has_ended(trace: &Trace, fault: Fault) -> bool {
    let killed = trace.struck.is_some() && fault == Fault::Kill(Who::Owner);
    let as_meant = if killed { trace.status.signal() == Some(9) } else { trace.status.success() };
    as_meant && !trace.hung
}
