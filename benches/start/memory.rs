//! What memory has to do with it: the caller's, and the monitor's.

use std::error::Error;
use std::fs;

use isolate_benches::figure::{self, Times, head};
use isolate_namespaces::Command;

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;

/// A start from a caller with 4 GiB resident against one with 10 MiB, in turns.
pub(crate) fn resident(start: &dyn Fn() -> Result<(), Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    let (mut small, mut large) = (Times::default(), Times::default());
    for _ in 0..3 {
        for (mib, times) in [(10, &mut small), (4096, &mut large)] {
            let held = touched(mib);
            for _ in 0..100 {
                times.take(start)?;
            }
            drop(held);
        }
    }
    head("resident in the caller");
    small.print("10 MiB");
    large.print("4 GiB");
    figure::print("start-4gib/start-10mib", large.ratio(&small), "x");
    Ok(())
}

fn touched(mib: usize) -> Vec<u8> {
    let mut memory = vec![0u8; mib * MIB];
    for byte in memory.iter_mut().step_by(PAGE) {
        *byte = 1;
    }
    std::hint::black_box(memory)
}

/// `Private_Dirty` of a monitor: what each container costs that cannot be shared.
pub(crate) fn monitor(mut command: Command) -> Result<(), Box<dyn Error>> {
    let mut child = command.spawn()?;
    // Once the start is over.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
    let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)).ok_or("no parent")?;
    println!();
    of("monitor", parent)?;
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// The same of an init: process 1, where that is not the program.
pub(crate) fn init(mut command: Command) -> Result<(), Box<dyn Error>> {
    let mut child = command.init(true).spawn()?;
    std::thread::sleep(std::time::Duration::from_millis(50));
    of("init", &child.id().to_string())?;
    child.kill()?;
    child.wait()?;
    Ok(())
}

fn of(name: &str, pid: &str) -> Result<(), Box<dyn Error>> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let field = |name: &str| -> Option<f64> {
        let line = smaps.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    figure::print(
        &format!("{name}-private-dirty"),
        field("Private_Dirty:").ok_or("no Private_Dirty")?,
        "KiB",
    );
    figure::print(&format!("{name}-pss"), field("Pss:").ok_or("no Pss")?, "KiB");
    Ok(())
}
