//! On tokio: a hundred at once on one thread, and nothing lost.

use std::time::Duration;

use isolate::asynchronous::AsyncTerminal;
use testkit::{Need, kernel_test};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use crate::common::{OnDisk, slow};

const NEEDS: &[Need] = &[Need::Root, Need::Overlay, Need::Program("busybox")];

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn a_hundred_at_once_on_one_thread_and_on_several() {
    kernel_test(NEEDS, || {
        let many = if slow() { 10 } else { 100 };
        for workers in [0, 2] {
            let mut builder =
                if workers == 0 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
            let runtime = builder.worker_threads(workers.max(1)).enable_all().build().unwrap();
            let disk = OnDisk::root();
            runtime.block_on(async {
                let before = threads();
                let mut tasks = JoinSet::new();
                for n in 0..many {
                    let container = disk.sh(&format!("echo out {n}; echo err >&2; sleep 0.2; exit {n}"));
                    tasks.spawn(async move { (n, container.output_async().await.unwrap()) });
                }
                while let Some(done) = tasks.join_next().await {
                    let (n, output) = done.unwrap();
                    assert_eq!(output.status.code(), Some(n));
                    assert_eq!(output.stdout, format!("out {n}\n").as_bytes());
                    assert_eq!(output.stderr, b"err\n");
                    assert!(threads() <= before + 1, "waiting takes no thread");
                }
            });
        }
    });
}

#[test]
fn a_wait_that_is_given_up_loses_nothing_and_a_run_that_is_dropped_ends_its_container() {
    kernel_test(NEEDS, || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let disk = OnDisk::root();
        runtime.block_on(async {
            let mut container = disk.sh("sleep 0.5; exit 4").start().unwrap();
            let soon = Duration::from_millis(20);
            tokio::time::timeout(soon, container.wait_async()).await.unwrap_err();
            assert_eq!(container.wait_async().await.unwrap().code(), Some(4));
            assert_eq!(container.wait().unwrap().code(), Some(4));
            container.remove().unwrap();
            tokio::time::timeout(soon, disk.sh("sleep 1000").status_async()).await.unwrap_err();
            assert_eq!(std::fs::read_dir("/run/isolate/containers").unwrap().count(), 0, "it is gone");
            let run = disk.sh("sleep 1000").timeout(Duration::from_secs(2)).run_async().await.unwrap();
            assert_eq!(run.outcome, isolate::Outcome::TimedOut);
        });
    });
}

#[test]
fn a_terminal_is_read_and_written_and_so_are_pipes() {
    kernel_test(NEEDS, || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let disk = OnDisk::root();
        runtime.block_on(async {
            let mut container =
                disk.sh("read x; echo got $x").terminal(isolate::WindowSize::default()).start().unwrap();
            let mut terminal = AsyncTerminal::new(container.terminal.take().unwrap()).unwrap();
            terminal.write_all(b"this\n").await.unwrap();
            let mut shown = String::new();
            terminal.read_to_string(&mut shown).await.unwrap();
            assert!(shown.ends_with("got this\r\n"), "{shown:?}");
            container.wait_async().await.unwrap();
            let mut other = disk.sh("exec sleep 100").start().unwrap();
            let mut cat = other
                .exec("cat")
                .stdin(isolate::Stdio::piped())
                .stdout(isolate::Stdio::piped())
                .spawn()
                .unwrap();
            let mut input = isolate::asynchronous::writer(cat.stdin.take().unwrap()).unwrap();
            input.write_all(b"through").await.unwrap();
            drop(input);
            let output = cat.wait_with_output_async().await.unwrap();
            assert_eq!(output.stdout, b"through");
            other.kill().unwrap();
        });
    });
}
