//! Runs jobs in containers with limits and a timeout, at most two at a time.
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use isolate::{Bytes, Container, Limits, Outcome, Rootfs, Run, Stdio};

const JOBS: [(&str, &str); 7] = [
    ("greet", "echo hello from $HOSTNAME; echo and an error >&2"),
    ("code", "echo going to fail; exit 7"),
    ("hungry", "x=1234567890; while :; do x=$x$x; done"),
    ("hungry-child", "tail /dev/zero; echo tail gave $?"),
    ("slow", "echo begun; sleep 60"),
    ("signal", "kill -SEGV $$"),
    ("missing", "no-such-program"),
];

fn run(command: &str) -> isolate::Result<Run> {
    Container::builder()
        .rootfs(Rootfs::host())
        .limits(Limits::new().memory(Bytes::mib(64)).cpus(0.5).pids(32))
        .timeout(Duration::from_secs(3))
        .stdin(Stdio::null())
        .command(["sh", "-c", command])
        .run()
}

fn tell(name: &str, run: &Run) -> std::io::Result<()> {
    let what = match run.outcome {
        Outcome::Exited(code) => format!("exit code {code}"),
        Outcome::OutOfMemory => "killed for memory".into(),
        Outcome::TimedOut => "timed out".into(),
        other => other.to_string(),
    };
    let mut out = stdout().lock();
    writeln!(out, "{name}: {what}, {:.2?}, peak {:?}", run.usage.wall, run.usage.peak_memory)?;
    out.write_all(&[&*run.stdout, &*run.stderr].concat())
}

fn main() -> ExitCode {
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some((name, command)) = JOBS.get(next.fetch_add(1, Ordering::Relaxed)) {
            let success = match run(command) {
                Ok(run) => tell(name, &run).is_ok() && run.outcome.success(),
                Err(error) => {
                    println!("{name}: not run: {error:?}");
                    false
                }
            };
            failed.fetch_add(usize::from(!success), Ordering::Relaxed);
        }
    };
    thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
    ExitCode::from(u8::from(failed.into_inner() > 0))
}
