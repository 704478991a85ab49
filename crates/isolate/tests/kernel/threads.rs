//! A large threaded program that starts containers.

use std::hint::black_box;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use isolate::{Container, Mount, Rootfs};
use testkit::{Need, busybox_root, kernel_test, scratch};

/// As many threads at once allocate, read the environment and print.
const BUSY: usize = 64;
/// What one round of theirs counts for, at least.
const SHORTEST: Duration = Duration::from_micros(5);
/// As many start containers.
const STARTERS: u32 = 4;

#[test]
fn a_thousand_start_while_64_threads_allocate_read_the_environment_and_print() {
    kernel_test(&[Need::Root, Need::Overlay, Need::Program("busybox")], || {
        many(if crate::common::slow() { 300 } else { 1_000 })
    });
}

fn many(containers: u32) {
    let (stop, started) = (AtomicBool::new(false), AtomicU32::new(0));
    let (programs, root) = (scratch(), scratch());
    busybox_root(&root);
    thread::scope(|scope| {
        for _ in 0..BUSY {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    black_box(vec![1u8; 100_000]);
                    black_box(std::env::vars_os().count());
                    eprint!("");
                    print!("");
                    // All of them together take a fourth of one processor, however slow it is.
                    thread::sleep(began.elapsed().max(SHORTEST) * 4 * (BUSY as u32));
                }
            });
        }
        let starters: Vec<_> = (0..STARTERS)
            .map(|starter| {
                let (started, programs, root) = (&started, &programs, &root);
                scope.spawn(move || {
                    loop {
                        let n = started.fetch_add(1, Ordering::Relaxed);
                        if n >= containers {
                            return;
                        }
                        // A program that was written a moment ago: another thread's start may have its descriptor.
                        let program = programs.join(format!("program-{starter}"));
                        std::fs::write(&program, "#!/bin/sh\nexit 7\n").unwrap();
                        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
                        let mount = Mount::bind(&program, "/program").read_only();
                        let status = Container::builder()
                            .rootfs(Rootfs::layers([root]))
                            .command(["/program"])
                            .mount(mount)
                            .status();
                        assert_eq!(status.unwrap().code(), Some(7), "container {n}");
                    }
                })
            })
            .collect();
        let ends: Vec<_> = starters.into_iter().map(thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(ends.iter().all(Result::is_ok), "a start failed");
    });
}
