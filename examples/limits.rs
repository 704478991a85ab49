//! Limits that hold: a command that wants more memory than it may have is killed, and nothing else is.
use isolate::{Bytes, Container, Limits};

fn main() -> isolate::Result<()> {
    let mut greedy = Container::builder()
        .limits(Limits::new().memory(Bytes::mib(32)).cpus(0.5).pids(16))
        .command(["sh", "-c", "tail /dev/zero"]) // keeps all it reads, for the last line's sake
        .start()?;

    let status = greedy.wait()?;
    let stats = greedy.stats()?;
    println!(
        "it ended with {status}: killed for memory {} time(s)",
        stats.memory.oom_kills.unwrap_or_default()
    );
    println!("{:?} of processor time, {:?} of memory at most", stats.cpu.usage, stats.memory.peak);
    greedy.remove()
}
