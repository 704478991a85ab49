//! A container that runs out of memory: the caller lives, and is told.

use std::os::unix::process::ExitStatusExt;

use isolate::{Bytes, Limits};
use testkit::{Need, kernel_test};

use crate::common::{NEEDS, printed, sh};

/// Takes more memory than there is.
const EATER: &str = "dd if=/dev/zero of=/dev/null bs=400M count=1";
const SIGKILL: i32 = 9;

fn limits() -> Limits {
    Limits::new().memory(Bytes::mib(32)).swap(Bytes::mib(0))
}

/// No swap limit: on a machine without swap accounting, memory alone.
fn memory() -> Limits {
    Limits::new().memory(Bytes::mib(32))
}

#[test]
fn the_first_process_out_of_memory_is_killed_and_the_caller_is_told() {
    kernel_test(NEEDS, || {
        let mut container = sh(&format!("exec {EATER}")).limits(memory()).start().unwrap();
        let status = container.wait().unwrap();
        assert_eq!(status.signal(), Some(SIGKILL), "{status}");
        let stats = container.stats().unwrap();
        assert!(stats.memory.oom_kills.is_some_and(|kills| kills >= 1), "{stats:?}");
        container.remove().unwrap();
        assert_eq!(printed(sh("echo alive")), "alive\n", "the next one starts");
    });
}

#[test]
fn without_oom_group_the_others_live_on() {
    kernel_test(NEEDS, || {
        let output = sh(&format!("{EATER}; echo the shell saw $?")).limits(memory()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "the shell saw 137\n");
        assert!(output.status.success());
    });
}

#[test]
fn with_oom_group_all_of_it_is_killed_and_the_caller_is_alive_and_told() {
    kernel_test(&[Need::Root, Need::Overlay, Need::Cgroup2], || {
        let mut container = sh(&format!("{EATER}; sleep 1; echo the shell lives; sleep 100"))
            .limits(limits().oom_group(true))
            .start()
            .unwrap();
        let status = container.wait().unwrap();
        assert_eq!(status.signal(), Some(SIGKILL), "{status}");
        let stats = container.stats().unwrap();
        assert!(stats.memory.oom_kills.is_some_and(|kills| kills >= 1), "{stats:?}");
        container.remove().unwrap();
        assert_eq!(printed(sh("echo alive")), "alive\n");
    });
}

#[test]
fn running_out_while_it_starts_is_an_error_or_an_end_and_leaves_nothing() {
    kernel_test(NEEDS, || {
        // Less than any program needs: the launch itself is in the group from its first page on.
        for mib in [1, 2] {
            match sh("exec sleep 0").name("x").limits(Limits::new().memory(Bytes::mib(mib))).start() {
                Ok(mut container) => {
                    container.wait().unwrap();
                    container.remove().unwrap();
                }
                Err(error) => assert!(error.to_string().starts_with("container `x`: "), "{error}"),
            }
        }
        assert_eq!(printed(sh("echo alive")), "alive\n");
    });
}
