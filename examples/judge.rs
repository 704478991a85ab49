//! An online judge: run what is not trusted, and say how it ended and what it took.
use std::time::Duration;

use isolate::{Bytes, Container, Limits, Outcome};

fn main() -> isolate::Result<()> {
    let solutions = [
        ("right", "echo 42"),
        ("wrong", "exit 3"),
        ("slow", "sleep 100"),
        ("greedy", "x=0123456789abcdef; while :; do x=$x$x; done"),
    ];
    for (name, program) in solutions {
        let run = Container::builder()
            .limits(Limits::new().memory(Bytes::mib(32)).pids(16))
            .timeout(Duration::from_secs(1))
            .command(["/bin/sh", "-c", program])
            .run()?;
        let verdict = match run.outcome {
            Outcome::Exited(0) => "accepted".into(),
            other => other.to_string(),
        };
        let peak = run.usage.peak_memory.unwrap_or(run.usage.max_rss);
        println!("{name:>6}: {verdict}; {:?} user, {:?} wall, {peak}", run.usage.user, run.usage.wall);
    }
    Ok(())
}
