//! A fault at each system call of a start, an exec, a stop and a removal: somebody is killed there, or the call fails.
//!
//! The owner is a process of its own, followed by ptrace(2) with its monitors and their children. A run without a fault tells which
//! calls there are; then there is a run for each, in the same world and by the same names. The ordinary tests take a part of them, in
//! strides; with `ISOLATE_TESTS_LONG` set they take all, and say how many there were.

mod descriptors;
mod errnos;
mod kills;
mod lasting;
mod names;
mod owner;
mod sweeps;
mod world;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use testkit::Need;
use testkit::trace::{Call, Fault, Rules, Trace, Who, follow};

use world::World;

const NEEDS: &[Need] = &[
    Need::Root,
    Need::Overlay,
    Need::Veth,
    Need::NfTables,
    Need::Program("busybox"),
    // Two stops for each call take too long elsewhere.
    Need::Native,
];

/// The name of the container's volume. Its own is the world's: control groups are not.
const VOLUME: &str = "luggage";

/// Longer than that nothing may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What the owner does, one after the other.
const PHASES: [&str; 4] = ["start", "exec", "stop", "remove"];
/// Or this, with one that nobody owns.
const LASTING: [&str; 5] = ["create", "launch", "inside", "halt", "discard"];
/// Or that, alone.
const SWEEP: &str = "sweep";
const FEW: &str = "few";

/// A run of the owner.
struct Ran {
    trace: Trace,
    /// What it has printed: `ok PHASE`, `error PHASE TEXT`, `shape TEXT`.
    lines: Vec<String>,
    stderr: String,
}

/// The owner, in a world.
fn owner_in(world: &World, phase: &str) -> Command {
    let mut owner = Command::new(std::env::current_exe().unwrap());
    owner
        .args(["--exact", "faults::owner::owner", "--ignored", "--nocapture", "--test-threads=1"])
        .env(owner::ROOT, world.root())
        .env(owner::NAME, &world.name)
        .env(owner::PHASE, phase);
    owner
}

/// Runs the owner, with a fault at one of the calls of a phase.
#[expect(clippy::zombie_processes, reason = "`follow` waits for it")]
fn run(world: &World, phase: &str, rules: Rules, fault: Option<(Who, usize, Fault)>) -> Ran {
    let stderr = testkit::scratch().join("stderr");
    let mut owner = owner_in(world, phase)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::create(&stderr).unwrap())
        .spawn()
        .unwrap();
    let mut stdin = owner.stdin.take().unwrap();
    let mut printed = BufReader::new(owner.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut lines = Vec::new();
    let first = format!("at {phase}");
    // It waits before each phase. Up to the one that counts nobody follows it.
    for line in printed.by_ref() {
        if line == first {
            break;
        }
        if line.starts_with("at ") {
            stdin.write_all(b"\n").unwrap();
        }
        lines.push(line);
    }
    let (rest, all) = channel();
    let reader = std::thread::spawn(move || printed.for_each(|line| rest.send(line).unwrap_or(())));
    // No longer than the other phases need it to be.
    let begin = || drop(stdin.write_all(&[b'\n'; LASTING.len()]));
    let trace = follow(owner.id(), rules, fault, LIMIT, begin).unwrap();
    reader.join().unwrap();
    lines.extend(all.iter());
    let text = fs::read_to_string(&stderr).unwrap();
    fs::remove_dir_all(stderr.parent().unwrap()).unwrap();
    Ran { trace, lines, stderr: text }
}

impl Ran {
    /// What it says of a phase, after this word.
    fn said(&self, word: &str, phase: &str) -> Option<&str> {
        let start = format!("{word} {phase}");
        self.lines.iter().find_map(|line| line.strip_prefix(&start)).map(str::trim)
    }

    fn errors(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|line| line.strip_prefix("error "))
    }

    /// The way the container is, as its program and the host see it.
    fn shape(&self) -> Option<&str> {
        self.lines.iter().find_map(|line| line.strip_prefix("shape "))
    }
}

/// All phases of the owner's that has this one.
fn beside(phase: &str) -> &'static [&'static str] {
    if LASTING.contains(&phase) { &LASTING } else { &PHASES }
}

/// The calls of a phase without a fault.
fn calls(world: &World, phase: &str, rules: Rules) -> Vec<Call> {
    let ran = run(world, phase, rules, None);
    assert!(ran.trace.status.success() && !ran.trace.hung, "{:?} {}", ran.lines, ran.stderr);
    for phase in beside(phase) {
        assert!(ran.said("ok", phase).is_some(), "{phase}: {:?} {}", ran.lines, ran.stderr);
    }
    world.is_empty_after("no fault at all", false).unwrap();
    if testkit::is_long() {
        for call in &ran.trace.calls {
            println!("{}", point(phase, call));
        }
    }
    ran.trace.calls
}

/// Every how manieth point is taken, for so many of them in all.
fn stride(points: usize, wanted: usize) -> usize {
    if testkit::is_long() || wish().is_some() { 1 } else { (points / wanted).max(1) }
}

/// For who looks for a fault: the words of the points that are to be tried, or a part of them.
fn wish() -> Option<String> {
    std::env::var("ISOLATE_TESTS_POINT").ok()
}

fn is_wanted(point: &str) -> bool {
    wish().is_none_or(|wish| point.contains(&wish))
}

/// Whether nearly all points were reached: calls that wait and look again differ from run to run.
fn most_were_reached(tried: usize, missed: usize) -> bool {
    missed <= 3 + tried / 20
}

/// A point in words.
fn point(phase: &str, call: &Call) -> String {
    format!("{phase}, {:?} {}: {}", call.who, call.order, names::name(call.number))
}

impl Ran {
    /// Calls differ a little from run to run: the one that was struck, if it was not the one that was meant.
    fn point(&self, phase: &str, meant: &Call) -> String {
        let struck = self.trace.struck.as_ref();
        let other = struck.filter(|struck| struck.number != meant.number);
        let other = other.map(|struck| format!(" (here {})", names::name(struck.number)));
        point(phase, meant) + &other.unwrap_or_default()
    }
}
