//! A start to the exit of a tiny program on a network, with a place that was ready and without; and what a place takes.

use std::fs;
use std::thread;
use std::time::Duration;

use isolate::{Attach, Container, Network, Rootfs, Stdio, UserNamespace};
use isolate_benches::figure::{self, Times, head};
use isolate_benches::tiny;

use crate::Result;

const ROUNDS: usize = 200;
/// The place that was taken is made anew meanwhile, and what ended is tidied up.
const SPACE: Duration = Duration::from_millis(30);
const MANY: usize = 64;

pub(crate) fn measure() -> Result<()> {
    let root = tiny::root("isolate-bench")?;
    let networks = [Network::create("bench-cold")?, Network::create("bench-warm")?];
    networks[1].warm(2)?;
    let attaches = [Attach::to(&networks[0]), Attach::to(&networks[1]), Attach::none()];
    let mut times: [Times; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (attach, times) in attaches.iter().zip(&mut times) {
            let container = Container::builder()
                .rootfs(Rootfs::from(&*root))
                .user_namespace(UserNamespace::Required)
                .network(attach.clone())
                .command(["/true"])
                .stdin(Stdio::null());
            assert!(times.take(|| container.status())?.success());
            thread::sleep(SPACE);
        }
    }
    head("A container on a network, from its start to its exit");
    for (name, times) in ["a place made for it", "a place that was ready", "no network"].iter().zip(&times) {
        times.print(name);
    }
    let [cold, warm, _] = &times;
    let median = warm.percentile(0.5).as_secs_f64() / cold.percentile(0.5).as_secs_f64();
    figure::print("warm/cold", warm.ratio(cold), "x");
    figure::print("warm/cold-median", median, "x");

    networks[1].warm(0)?;
    thread::sleep(Duration::from_secs(2));
    let before = kernel_memory()?;
    networks[1].warm(MANY)?;
    let taken = kernel_memory()?.saturating_sub(before);
    figure::print("warm-place-memory", taken as f64 / MANY as f64, "KiB");
    drop(networks);
    fs::remove_dir_all(&root)?;
    Ok(())
}

/// What the kernel has for itself, in KiB (proc_meminfo(5)).
fn kernel_memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let counted = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        let counts = ["Slab", "Percpu", "KernelStack", "PageTables", "VmallocUsed"].contains(&name);
        counts.then(|| value.trim().trim_end_matches(" kB").parse::<u64>().ok())?
    });
    Ok(counted.sum())
}
