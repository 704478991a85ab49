//! `isolate-cgroups` alone: cap an ordinary child process.
#![expect(clippy::disallowed_methods, reason = "an ordinary child process is what is capped here")]

use isolate_cgroups::{Bytes, Cgroup, Limits};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = format!("isolate-build-{}", std::process::id());
    let group = Cgroup::create(&name)?; // killed and removed when dropped
    group.apply(&Limits::new().memory(Bytes::gib(1)).cpus(2.0).pids(256))?;

    let mut build = std::process::Command::new("sh");
    build.args(["-c", "read go; seq 200000 | sort -R | wc -l"]);
    let mut build = build.stdin(std::process::Stdio::piped()).spawn()?;
    group.add(build.id())?;
    drop(build.stdin.take()); // go
    build.wait()?;

    let stats = group.stats()?;
    println!("{:?} of processor time, {:?} of memory at most", stats.cpu.usage, stats.memory.peak);
    group.remove()?;
    Ok(())
}
