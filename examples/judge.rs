//! An online judge: verdicts on a shell script, for pairs of input and expected output.
use std::io::Write;
use std::thread;
use std::time::Duration;

use isolate::{Bytes, Container, Limits, Mount, Outcome, Rootfs, Stdio, Usage, User};

const TIME: Duration = Duration::from_secs(1);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn judge(program: &str, input: &str, expected: &str) -> Result<(String, Usage)> {
    let mut container = Container::builder()
        .rootfs(Rootfs::host())
        .read_only_root(true)
        .mount(Mount::tmpfs("/tmp").size(Bytes::mib(16)))
        .limits(Limits::new().memory(Bytes::mib(64)).cpus(1.0).pids(16))
        .timeout(TIME * 3) // of the wall's clock; the processor's is looked at below
        .user(User::named("nobody"))
        .command(["sh", "-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .start()?;
    let mut stdin = container.stdin.take().expect("it is a pipe");
    let output = thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input.as_bytes())); // a program may end before it has read all
        container.wait_with_output()
    })?;
    let (outcome, usage) = (container.outcome()?, container.usage()?);
    let verdict = match outcome {
        Outcome::OutOfMemory => "Memory limit".into(),
        _ if usage.oom_kills > 0 => "Memory limit".into(), // of a child of its shell
        outcome if outcome == Outcome::TimedOut || usage.cpu() > TIME => "Time limit".into(),
        Outcome::Exited(0) if output.stdout == expected.as_bytes() => "Accepted".into(),
        Outcome::Exited(0) => "Wrong answer".into(),
        other => format!("Runtime error ({other})"),
    };
    Ok((verdict, usage))
}

fn main() -> Result<()> {
    let big = "1 2\n".repeat(50_000);
    for (program, input, expected) in [
        ("read a b; echo $((a + b))", "3 4\n", "7\n"),
        ("wc -l", &big, "50000\n"),
        ("echo 8", &big, "7\n"),
        ("while :; do :; done", "", ""),
        ("i=0; while [ $i -lt 900000 ]; do i=$((i+1)); done", "", ""),
        ("sleep 10", "", ""),
        ("x=1234567890; while :; do x=$x$x; done", "", ""),
        ("tail /dev/zero; echo 7", "", "7\n"),
        ("kill -SEGV $$", "", ""),
    ] {
        let (verdict, used) = judge(program, input, expected)?;
        let peak = used.peak_memory.map_or("unknown".into(), |peak| peak.to_string());
        println!("{verdict}: {program}: {:?} cpu, {:?} wall, {peak} peak", used.cpu(), used.wall);
    }
    Ok(())
}
