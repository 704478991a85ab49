//! SIGKILL of the owner, and of the monitor, at every system call of theirs and of the container's first process.

use testkit::kernel_test;
use testkit::trace::{Call, Fault, Rules, Who};

use super::world::World;
use super::{LASTING, NEEDS, PHASES, Ran, calls, is_wanted, most_were_reached, names, point, run, stride};

pub(super) const ALL: Rules = Rules { counts: |_| true, can_give: |_, _| true };
/// How many points of a phase the ordinary tests take.
const SOME: usize = 16;

#[test]
fn whoever_is_killed_at_any_call_of_a_start_nothing_is_left() {
    all_points(&["start"]);
}

#[test]
fn whoever_is_killed_at_any_call_of_an_exec_a_stop_or_a_removal_nothing_is_left() {
    all_points(&PHASES[1..]);
}

#[test]
fn whoever_is_killed_a_container_that_lasts_is_there_as_a_whole_or_not_at_all() {
    all_points(&LASTING);
}

/// Points at which something was left once.
#[test]
fn what_was_half_made_goes_with_the_first_sweep_and_a_keeper_that_comes_up_late_is_no_stranger() {
    kernel_test(NEEDS, || {
        let world = World::new();
        // Of the record that is whole; of the keeper's process, before it is executed.
        for (phase, who, name) in [("create", Who::Owner, "rename"), ("launch", Who::Monitor, "close_range")]
        {
            let all = calls(&world, phase, ALL);
            let is_it = |call: &&Call| call.who == who && names::name(call.number) == name;
            let call = *all.iter().rev().find(is_it).unwrap();
            let ran = run(&world, phase, ALL, Some((call.who, call.order, Fault::Kill(Who::Owner))));
            let what = ran.point(phase, &call);
            ended(&world, &ran, Who::Owner, &what).and_then(|()| world.is_empty_after(&what, true)).unwrap();
        }
    });
}

fn all_points(phases: &[&str]) {
    kernel_test(NEEDS, || {
        let world = World::new();
        let mut wrong = Vec::new();
        for phase in phases {
            let all = calls(&world, phase, ALL);
            if *phase == "start" {
                is_a_start(&all);
            }
            let points: Vec<_> = all.iter().flat_map(victims).collect();
            let some = if LASTING.contains(phase) { SOME / 2 } else { SOME };
            let step = stride(points.len(), some);
            let (mut tried, mut missed, mut kept) = (0, 0, 0);
            let begun = std::time::Instant::now();
            for (call, victim) in points.iter().step_by(step) {
                let what = format!("{}; {victim:?} killed", point(phase, call));
                if !is_wanted(&what) {
                    continue;
                }
                let fault = (call.who, call.order, Fault::Kill(*victim));
                let ran = run(&world, phase, ALL, Some(fault));
                let what = format!("{}; {victim:?} killed", ran.point(phase, call));
                tried += 1;
                missed += usize::from(ran.trace.struck.is_none());
                kept += usize::from(!world.left(std::time::Duration::ZERO).is_empty());
                let checked = ended(&world, &ran, *victim, &what)
                    .and_then(|()| {
                        if LASTING.contains(phase) || world.has_ended() {
                            Ok(())
                        } else {
                            Err(format!("{what}: somebody lives on"))
                        }
                    })
                    .and_then(|()| world.is_empty_after(&what, true));
                if let Err(error) = checked {
                    println!("WRONG {error}");
                    wrong.push(error);
                    world.tidy_up();
                }
            }
            println!(
                "{phase}: {} calls, {} points, {tried} tried, {missed} not reached, {kept} with something to sweep, {:?}",
                all.len(),
                points.len(),
                begun.elapsed()
            );
            assert!(kept > 0 || tried < some, "{phase}: there was something to sweep, at least once");
            assert!(most_were_reached(tried, missed), "{phase}: {missed} of {tried} points were not reached");
        }
        assert!(wrong.is_empty(), "{} points:\n{}", wrong.len(), wrong.join("\n"));
    });
}

/// Who is there to be killed.
fn victims(call: &Call) -> Vec<(Call, Who)> {
    let monitor = call.monitored.then_some((*call, Who::Monitor));
    [(*call, Who::Owner)].into_iter().chain(monitor).collect()
}

/// That what is followed is a start: the calls that make a container are among those that count.
fn is_a_start(calls: &[Call]) {
    for (who, name) in [
        (Who::Owner, "clone"),
        (Who::Owner, "sendto"),
        (Who::Owner, "bind"),
        (Who::Monitor, "execveat"),
        (Who::Monitor, "clone3"),
        (Who::Child, "mount"),
        (Who::Child, "pivot_root"),
        (Who::Child, "execve"),
    ] {
        let found = calls.iter().any(|call| call.who == who && names::name(call.number) == name);
        assert!(found, "no {name} of {who:?}");
    }
}

/// Who was to be killed was, and an owner that was not has seen it through.
fn ended(world: &World, ran: &Ran, victim: Who, what: &str) -> Result<(), String> {
    let killed = std::os::unix::process::ExitStatusExt::signal(&ran.trace.status) == Some(9);
    let owner_killed = victim == Who::Owner && ran.trace.struck.is_some();
    if ran.trace.hung {
        return Err(format!("{what}: hung: {:?}", ran.lines));
    }
    if killed != owner_killed || !killed && !ran.trace.status.success() {
        return Err(format!("{what}: {}: {:?} {}", ran.trace.status, ran.lines, ran.stderr));
    }
    match ran.errors().find(|error| !error.contains(&format!("`{}`", world.name))) {
        Some(error) => Err(format!("{what}: an error that does not name the container: {error}")),
        None => Ok(()),
    }
}
