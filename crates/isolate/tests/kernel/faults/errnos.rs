//! An error from the kernel at every system call.

use std::time::{Duration, Instant};

use testkit::kernel_test;
use testkit::trace::{Call, Fault, Rules, Who};

use super::world::World;
use super::{LASTING, NEEDS, PHASES, beside, calls, is_wanted, most_were_reached, names, point, run, stride};

const ERRNOS: [i32; 11] = [
    libc::EPERM,
    libc::ENOENT,
    libc::EINTR,
    libc::EIO,
    libc::EAGAIN,
    libc::ENOMEM,
    libc::EACCES,
    libc::EBUSY,
    libc::EINVAL,
    libc::ENOSPC,
    libc::EMFILE,
];
pub(super) const RULES: Rules = Rules { counts: can_fail, can_give };
/// How many points of a phase the ordinary tests take.
const SOME: usize = 20;

#[test]
fn whatever_fails_in_a_start_there_is_an_error_that_names_it_and_nothing_is_left() {
    all_points(&["start"]);
}

#[test]
fn whatever_fails_later_there_is_an_error_that_names_it_and_nothing_is_left() {
    all_points(&PHASES[1..]);
}

#[test]
fn whatever_fails_of_one_that_lasts_there_is_an_error_that_names_it_and_it_is_whole_or_not_there() {
    all_points(&LASTING);
}

#[test]
fn a_mount_that_fails_is_a_start_that_fails() {
    kernel_test(NEEDS, || {
        let world = World::new();
        let is_mount = |call: &&Call| call.who == Who::Child && names::name(call.number) == "mount";
        let mount = *calls(&world, "start", RULES).iter().find(is_mount).unwrap();
        let ran = run(&world, "start", RULES, Some((mount.who, mount.order, Fault::Fail(libc::EIO))));
        let error = ran.said("error", "start").unwrap();
        assert!(error.contains(&format!("container `{}`: cannot ", world.name)), "{error}");
        assert!(error.contains("Input/output error"), "{error}");
        world.is_empty_after("a mount that fails", false).unwrap();
    });
}

/// The caller has heard by then that the program is about to be executed.
#[test]
fn an_init_that_cannot_close_what_it_has_is_a_start_that_fails() {
    kernel_test(NEEDS, || {
        let world = World::new();
        let is_it = |call: &Call| call.who == Who::Child && call.number == libc::SYS_close_range;
        let all: Vec<_> = calls(&world, "launch", RULES).into_iter().filter(is_it).collect();
        let mut told = 0;
        // Init and program are as fast as each other: which call is the n-th differs.
        for call in all.iter().cycle().take(40) {
            let ran = run(&world, "launch", RULES, Some((call.who, call.order, Fault::Fail(libc::EINVAL))));
            let what = ran.point("launch", call);
            if ran.trace.struck.as_ref().is_some_and(is_it) {
                let error = ran.said("error", "launch").unwrap_or_else(|| panic!("{what}: {:?}", ran.lines));
                told += usize::from(error.contains("cannot close what the init of the program's process"));
            }
            world.is_empty_after(&what, true).unwrap();
        }
        assert!(told > 0);
    });
}

/// Those that are tried at the n-th point: all of them in a long run, else another one each time.
pub(super) fn errnos(n: usize) -> Vec<i32> {
    let first = std::env::var("ISOLATE_TESTS_ROTATE").ok().and_then(|text| text.parse::<usize>().ok());
    match first {
        None if testkit::is_long() => ERRNOS.to_vec(),
        first => vec![ERRNOS[(n + first.unwrap_or(0)) % ERRNOS.len()]],
    }
}

/// How a run with a failing call went.
#[derive(Default)]
struct Counts {
    tried: usize,
    missed: usize,
    /// Nobody minded.
    tolerated: usize,
    /// It was told.
    told: usize,
    /// Of all those, where taking back was hit, and a sweep took the rest.
    swept: usize,
    /// Where the kernel said that there was nothing, and was believed.
    believed: usize,
}

fn all_points(phases: &[&str]) {
    kernel_test(NEEDS, || {
        let world = World::new();
        let mut wrong = Vec::new();
        let shape = run(&world, beside(phases[0])[3], RULES, None).shape().map(str::to_owned);
        world.is_empty_after("no fault", true).unwrap();
        for phase in phases {
            let begun = Instant::now();
            let all: Vec<_> = calls(&world, phase, RULES).into_iter().collect();
            let some = if LASTING.contains(phase) { SOME / 2 } else { SOME };
            let step = stride(all.len(), some);
            let mut counts = Counts::default();
            for (n, call) in all.iter().step_by(step).enumerate() {
                for errno in errnos(n) {
                    if let Err(error) = one(&world, phase, call, errno, shape.as_deref(), &mut counts) {
                        println!("WRONG {error}");
                        wrong.push(error);
                        world.tidy_up();
                    }
                }
            }
            let Counts { tried, missed, tolerated, told, swept, believed } = counts;
            println!(
                "{phase}: {} calls, {tried} tried, {missed} not reached, {tolerated} tolerated, {told} told, {swept} swept, {believed} believed, {:?}",
                all.len(),
                begun.elapsed()
            );
            assert!(told > 0 || tried < some, "{phase}: some call matters");
            assert!(most_were_reached(tried, missed), "{phase}: {missed} of {tried} points were not reached");
        }
        assert!(wrong.is_empty(), "{} points:\n{}", wrong.len(), wrong.join("\n"));
    });
}

fn one(
    world: &World,
    phase: &str,
    call: &Call,
    errno: i32,
    shape: Option<&str>,
    counts: &mut Counts,
) -> Result<(), String> {
    let error = std::io::Error::from_raw_os_error(errno);
    let what = format!("{}: {error}", point(phase, call));
    if !is_wanted(&what) || !can_give(call, errno) {
        return Ok(());
    }
    let ran = run(world, phase, RULES, Some((call.who, call.order, Fault::Fail(errno))));
    let what = format!("{}: {error}", ran.point(phase, call));
    counts.tried += 1;
    counts.missed += usize::from(ran.trace.struck.is_none());
    if ran.trace.hung {
        return Err(format!("{what}: hung: {:?}", ran.lines));
    }
    if !ran.trace.status.success() || ran.stderr.contains("panicked") {
        return Err(format!("{what}: {}: {:?} {}", ran.trace.status, ran.lines, ran.stderr));
    }
    if let Some(error) = ran.errors().find(|error| !error.contains(&format!("`{}`", world.name))) {
        return Err(format!("{what}: an error that does not name the container: {error}"));
    }
    // Without id-mapped mounts it has no user namespace, as the plan says; these errors say that there are none.
    let no_answer = ![libc::EPERM, libc::EACCES, libc::EINVAL, libc::ENOSPC].contains(&errno);
    let as_described = no_answer || ran.said("no user", "namespace").is_none();
    // What is said not to be there is neither copied nor hidden.
    let as_described = as_described && errno != libc::ENOENT;
    let started = if LASTING.contains(&phase) { "launch" } else { "start" };
    if ran.said("ok", started).is_some() && as_described && ran.shape() != shape {
        let (as_it_is, as_it_should_be) = differences(ran.shape(), shape);
        return Err(format!("{what}: it started otherwise: {as_it_is:?} in place of {as_it_should_be:?}"));
    }
    let told = ran.errors().next();
    counts.told += usize::from(told.is_some());
    counts.tolerated += usize::from(told.is_none());
    // Namespaces take a moment to go. What the kernel has not got done by then is no concern of a sweep's.
    let mut left = world.left(Duration::from_millis(500));
    if left.iter().all(|thing| thing.starts_with("link ")) {
        left = world.left(Duration::from_secs(5));
    }
    if !left.is_empty() && errno == libc::ENOENT {
        counts.believed += 1;
        world.tidy_up();
    } else if !left.is_empty() {
        counts.swept += 1;
        if told.is_none() {
            return Err(format!("{what}: nothing was said, and there is left: {}", left.join(", ")));
        }
    }
    world.is_empty_after(&what, true)
}

fn differences<'a>(a: Option<&'a str>, b: Option<&'a str>) -> (Vec<&'a str>, Vec<&'a str>) {
    let lines = |text: Option<&'a str>| text.unwrap_or_default().split('|').collect::<Vec<_>>();
    let (a, b) = (lines(a), lines(b));
    let only = |these: &[&'a str], those: &[&'a str]| {
        these.iter().filter(|line| !those.contains(line)).copied().collect()
    };
    (only(&a, &b), only(&b, &a))
}

/// A thread's stack is not smaller than that; the one for its signals is.
const STACK: u64 = 1 << 17;

/// Whether the kernel says that there, also where it is not true.
fn can_give(call: &Call, errno: i32) -> bool {
    let without_waiting = libc::MSG_DONTWAIT as u64;
    match (call.number, errno) {
        // The others are of network file systems, and std panics for one at the end of a directory.
        (libc::SYS_close, errno) => call.who != Who::Owner || errno == libc::EINTR,
        // std panics where there is nothing random.
        (libc::SYS_getrandom, errno) => call.who != Who::Owner || [libc::EPERM, libc::EINTR].contains(&errno),
        // Of a time that is one there is no other, and std panics for them.
        (libc::SYS_clock_nanosleep, errno) => call.who != Who::Owner || errno == libc::EINTR,
        // Such a capability there is not.
        (libc::SYS_prctl, libc::EINVAL) => call.args[0] != libc::PR_CAPBSET_DROP as u64,
        // That something is not there, or not known, is said in what comes back by netlink.
        (libc::SYS_sendto | libc::SYS_recvfrom, libc::ENOENT | libc::EINVAL) => false,
        // There is no message.
        (libc::SYS_recvmsg, libc::EAGAIN) => call.args[2] & without_waiting == 0,
        _ => true,
    }
}

/// What the kernel can fail. Left out is what it never does, and what ends a program by its language's design:
///
/// - what has no error: an exit, the return from a signal, a process's own numbers;
/// - memory of the owner's allocator, which aborts where there is none, and what libc and std do in a new thread, for the same reason;
///   a thread's stack and its clone are not left out;
/// - waiting in futex(2) with errors that it does not have, for which libc aborts.
fn can_fail(call: &Call) -> bool {
    let without_error = [
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_rt_sigreturn,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_getuid,
        libc::SYS_geteuid,
        libc::SYS_getgid,
        libc::SYS_getegid,
        libc::SYS_uname,
        libc::SYS_futex,
    ];
    // Of the 64 signals one is as good as the other.
    let repeated = call.number == libc::SYS_rt_sigaction && call.args[0] != 1;
    let allocator = [libc::SYS_brk, libc::SYS_mprotect, libc::SYS_mremap, libc::SYS_munmap, libc::SYS_rseq];
    let of_allocator = call.who == Who::Owner
        && (allocator.contains(&call.number)
            || call.number == libc::SYS_mmap
                && (call.args[3] & libc::MAP_STACK as u64 == 0 || call.args[1] < STACK));
    !without_error.contains(&call.number) && !of_allocator && !repeated
}
