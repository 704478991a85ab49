//! `isolate-cgroups` alone: half a processor for an ordinary child process, and what it uses as a bar, ten times a second.
#![expect(clippy::disallowed_methods, reason = "an ordinary child process is what is capped here")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use isolate_cgroups::{Bytes, Cgroup, Limits};

const LIMIT: Bytes = Bytes::mib(64);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let group = Cgroup::create(format!("isolate-bar-{}", std::process::id()))?; // killed and removed when dropped
    group.apply(&Limits::new().memory(LIMIT).cpus(0.5))?;

    let mut child = Command::new("sh");
    child.args(["-c", "read go; x=x; while :; do x=$x$x; [ ${#x} -gt 9999999 ] && x=x; done"]);
    let mut child = child.stdin(Stdio::piped()).spawn()?;
    group.add(child.id())?;
    drop(child.stdin.take()); // go

    let mut reader = group.reader()?;
    let (start, mut before) = (Instant::now(), (Instant::now(), Duration::ZERO));
    while start.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(100));
        let (now, stats) = (Instant::now(), reader.read()?);
        let cores = (stats.cpu.usage - before.1).as_secs_f64() / (now - before.0).as_secs_f64();
        before = (now, stats.cpu.usage);
        let memory = stats.memory.current.unwrap_or_default();
        let part = memory.get() as f64 / LIMIT.get() as f64;
        print!("\r cpu {} {cores:4.2}   memory {} {memory:<10}", bar(cores), bar(part));
        std::io::Write::flush(&mut std::io::stdout())?;
    }
    println!();
    group.remove()?;
    child.wait()?; // killed with its group
    Ok(())
}

fn bar(part: f64) -> String {
    const WIDTH: usize = 24;
    let full = ((part * WIDTH as f64).round() as usize).min(WIDTH);
    format!("[{}{}]", "#".repeat(full), ".".repeat(WIDTH - full))
}
