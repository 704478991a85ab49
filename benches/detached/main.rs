//! A thousand containers that nobody owns: starts, what each keeps in memory, how long it takes to list and to remove them.
//!
//! `cargo bench --bench detached`, as root; `-- 100` takes a hundred. All of it five times, and the starts of all five count together: ten of
//! a thousand decide, and a machine that stands still for 20 ms once a second, as virtual ones do, hits as many of one thousand.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use isolate::{Container, Rootfs, State};
use isolate_benches::figure::{self, Times, head};
use isolate_benches::tiny;

const MANY: usize = 1000;
/// The first ones, that the others are compared with.
const FIRST: usize = 50;
const ROUNDS: usize = 5;
const SETTLE: Duration = Duration::from_secs(3);

/// Of all rounds.
#[derive(Default)]
struct All {
    created: Times,
    first: Times,
    started: Times,
    listed: Times,
    removed: Times,
}

fn main() -> Result<(), Box<dyn Error>> {
    let many = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(MANY);
    let root = tiny::root("isolate-bench")?;
    let measured = measure(many, &root);
    if measured.is_err() {
        tidy_up()?;
    }
    fs::remove_dir_all(&root)?;
    measured
}

fn tidy_up() -> Result<(), Box<dyn Error>> {
    for info in Container::list()? {
        if info.labels.contains_key("bench") {
            Container::open(info.name)?.remove_by_force()?;
        }
    }
    Ok(())
}

fn measure(many: usize, root: &Path) -> Result<(), Box<dyn Error>> {
    let mut all = All::default();
    for n in 1..=ROUNDS {
        // What the round before has removed the kernel takes apart.
        std::thread::sleep(SETTLE);
        round(n, many, root, &mut all)?;
    }
    head(&format!("{many} detached containers, {ROUNDS} times"));
    all.created.print("create");
    all.first.print("start, the first");
    all.started.print("start, all");
    all.listed.print("list, all");
    all.removed.print("remove all");
    figure::print("start-p99-of-all/start-p50-of-first", tail(&all.started, &all.first), "x");
    figure::print("list", all.listed.percentile(0.5).as_secs_f64() * 1e3, "ms");
    figure::print("removed-in", all.removed.percentile(1.0).as_secs_f64(), "s");
    Ok(())
}

fn tail(all: &Times, first: &Times) -> f64 {
    all.percentile(0.99).as_secs_f64() / first.percentile(0.5).as_secs_f64()
}

fn round(number: usize, many: usize, root: &Path, all: &mut All) -> Result<(), Box<dyn Error>> {
    let (mut first, mut started) = (Times::default(), Times::default());
    let mut containers = Vec::new();
    for n in 0..many {
        let described = Container::builder()
            .name(format!("bench-{n}"))
            .label("bench", "")
            .rootfs(Rootfs::from(root))
            .command(["/pause"]);
        let container = all.created.take(|| described.create())?;
        let begun = Instant::now();
        container.start()?;
        let took = begun.elapsed();
        for times in [&mut started, &mut all.started] {
            times.push(took);
        }
        if n < FIRST {
            first.push(took);
            all.first.push(took);
        }
        containers.push(container);
    }
    println!("round {number}: start, p99 of all to p50 of the first: {:.2}", tail(&started, &first));
    for _ in 0..20 {
        let there = all.listed.take(Container::list)?;
        assert_eq!(there.iter().filter(|info| info.state == State::Running).count(), many);
    }
    if number == 1 {
        memory()?;
    }
    all.removed.take(|| containers.into_iter().try_for_each(isolate::Detached::remove_by_force))?;
    isolate::sweep()?;
    Ok(())
}

/// `Private_Dirty` of keepers and of monitors, which have the launcher's name: what each container costs that cannot be shared.
fn memory() -> Result<(), Box<dyn Error>> {
    let (mut keepers, mut monitors) = (Vec::new(), Vec::new());
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(line) = fs::read_to_string(entry.path().join("cmdline")) else { continue };
        let of = match &line {
            line if line.starts_with("isolate-keeper bench-") => &mut keepers,
            line if line.starts_with("isolate-launcher") => &mut monitors,
            _ => continue,
        };
        let text = fs::read_to_string(entry.path().join("smaps_rollup"))?;
        let field = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:"));
        of.extend(field.and_then(|field| field.split_whitespace().next()?.parse::<f64>().ok()));
    }
    for (name, all) in [("keeper", keepers), ("monitor", monitors)] {
        if all.is_empty() {
            return Err(format!("no {name} was found").into());
        }
        let most = all.iter().copied().fold(0.0, f64::max);
        figure::print(&format!("{name}-private-dirty"), all.iter().sum::<f64>() / all.len() as f64, "KiB");
        figure::print(&format!("{name}-private-dirty-most"), most, "KiB");
    }
    Ok(())
}
