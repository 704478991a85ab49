//! A group from its making to its removal, and a reading of it, against the bare system calls.
//!
//! `cargo bench --bench limits`, as root. Where memory, cpu and pids are on cgroup v1 the figures are of that: `v1-group/limit`.

mod limit;

use std::error::Error;
use std::time::Duration;

use isolate_benches::figure::{self, Times, head};
use isolate_cgroups::{Availability, Bytes, Cgroup, Controller, Controllers, Limits};

use limit::{Limit, child_in};

/// Between two, so that what the kernel does in the background is not hidden.
const SPACE: Duration = Duration::from_millis(15);
const MEMORY: u64 = 64 << 20;
const TASKS: u32 = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let limit = Limit::new().map_err(|e| format!("this bench wants root: {e}"))?;
    let on_v2 = Controllers::detect()?.get(Controller::Memory) == Availability::V2;
    let name = if on_v2 { "group" } else { "v1-group" };
    for (title, pause, rounds) in [("spaced", SPACE, 400), ("looped", Duration::ZERO, 300)] {
        let (groups, limits) = in_turns(&limit, pause, rounds)?;
        head(&format!("{title}: made, limited, one process, removed"));
        limits.print("limit: the bare calls");
        groups.print("group");
        let end = if title == "spaced" { "" } else { "-looped" };
        figure::print(&format!("{name}/limit{end}"), groups.ratio(&limits), "x");
        let median = groups.percentile(0.5).as_secs_f64() / limits.percentile(0.5).as_secs_f64();
        figure::print(&format!("{name}/limit{end}-median"), median, "x");
    }
    readings(&limit)?;
    many(&limit, name)
}

fn in_turns(limit: &Limit, pause: Duration, rounds: usize) -> Result<(Times, Times), Box<dyn Error>> {
    let name = limit::name();
    let (mut groups, mut limits) = (Times::default(), Times::default());
    for _ in 0..rounds {
        groups.take(|| whole(&name))?;
        std::thread::sleep(pause);
        limits.take(|| limit.run())?;
        std::thread::sleep(pause);
    }
    Ok((groups, limits))
}

fn limits() -> Limits {
    Limits::new().memory(Bytes::new(MEMORY)).cpus(1.0).pids(TASKS)
}

/// As a user would.
fn whole(name: &str) -> Result<(), Box<dyn Error>> {
    let group = Cgroup::create(name)?;
    group.apply(&limits())?;
    child_in(&group, &group.join_files()?)?;
    Ok(group.remove()?)
}

fn readings(limit: &Limit) -> Result<(), Box<dyn Error>> {
    const TOGETHER: u32 = 20;
    let group = Cgroup::create(limit::name())?;
    group.apply(&limits())?;
    let mut reader = group.reader()?;
    let mut bare = limit.readings(&group)?;
    let (mut stats, mut limits) = (Times::default(), Times::default());
    for _ in 0..200 {
        stats.take(|| (0..TOGETHER).try_for_each(|_| reader.read().map(drop)))?;
        limits.take(|| (0..TOGETHER).try_for_each(|_| bare.read()))?;
    }
    head("twenty readings");
    limits.print("limit: the bare reads");
    stats.print("reader");
    figure::print("stats/limit", stats.ratio(&limits), "x");
    Ok(group.remove()?)
}

/// Whether what the library adds stays the same beside a thousand others. The kernel's own part grows: it is in both.
fn many(limit: &Limit, name: &str) -> Result<(), Box<dyn Error>> {
    let others = (0..1_000)
        .map(|n| Cgroup::create(format!("{}-{n}", limit::name())))
        .collect::<Result<Vec<_>, _>>()?;
    let (groups, limits) = in_turns(limit, SPACE, 100)?;
    others.into_iter().try_for_each(Cgroup::remove)?;
    head("beside a thousand others");
    limits.print("limit: the bare calls");
    groups.print("group");
    figure::print(&format!("{name}/limit-1000"), groups.ratio(&limits), "x");
    Ok(())
}
