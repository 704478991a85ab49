//! A job runner: each job in a container of its own, two at a time, with limits and a timeout; their output is collected.
use std::sync::Mutex;
use std::time::Duration;

use isolate::{Bytes, Container, Limits, Outcome};

struct Job {
    name: &'static str,
    script: &'static str,
}

const JOBS: [Job; 4] = [
    Job {
        name: "build",
        script: "echo compiling; mkdir /tmp/out; echo binary > /tmp/out/app; cat /tmp/out/app",
    },
    Job { name: "test", script: "echo 'one test failed' >&2; exit 1" },
    Job { name: "hang", script: "echo waiting; sleep 1000" },
    Job { name: "leak", script: "x=0123456789abcdef; while :; do x=$x$x; done" },
];

fn main() -> isolate::Result<()> {
    let waiting = Mutex::new(JOBS.iter());
    std::thread::scope(|scope| {
        let work = || -> isolate::Result<()> {
            loop {
                // Not in the loop's condition: the lock would be held while the job runs.
                let next = waiting.lock().map(|mut jobs| jobs.next()).unwrap_or(None);
                let Some(job) = next else { return Ok(()) };
                run(job)?;
            }
        };
        let workers = [scope.spawn(work), scope.spawn(work)];
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or(Ok(())))
    })
}

fn run(job: &Job) -> isolate::Result<()> {
    let run = Container::builder()
        .limits(Limits::new().memory(Bytes::mib(64)).cpus(1.0).pids(64))
        .timeout(Duration::from_secs(2))
        .command(["/bin/sh", "-c", job.script])
        .run()?;
    let verdict = match run.outcome {
        Outcome::Exited(0) => "succeeded".to_owned(),
        other => format!("failed: {other}"),
    };
    let text = [run.stdout, run.stderr].concat();
    println!(
        "{}: {verdict}, after {:?}\n{}",
        job.name,
        run.usage.wall,
        String::from_utf8_lossy(&text).trim_end()
    );
    Ok(())
}
