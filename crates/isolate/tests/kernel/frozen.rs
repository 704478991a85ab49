//! Frozen containers.

use std::time::Duration;

use testkit::kernel_test;

use crate::common::{NEEDS, printed, sh, until};

#[test]
fn one_that_is_frozen_is_killed_and_removed_like_any_other() {
    kernel_test(NEEDS, || {
        let mut container = sh("while :; do :; done").start().unwrap();
        container.cgroup().unwrap().freeze().unwrap();
        assert_eq!(container.wait_timeout(Duration::from_millis(100)).unwrap(), None);
        container.kill().unwrap();
        assert!(container.wait_timeout(Duration::from_secs(20)).unwrap().is_some());
        container.remove().unwrap();
        assert_eq!(printed(sh("echo alive")), "alive\n");
    });
}

#[test]
fn one_that_is_frozen_goes_on_when_it_is_thawed_and_goes_by_drop() {
    kernel_test(NEEDS, || {
        let mut container = sh("sleep 0.2").start().unwrap();
        container.cgroup().unwrap().freeze().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(container.try_wait().unwrap(), None, "it does not run");
        container.cgroup().unwrap().thaw().unwrap();
        assert!(until(Duration::from_secs(20), || container.try_wait().unwrap()).is_some());

        let container = sh("sleep 100").start().unwrap();
        container.cgroup().unwrap().freeze().unwrap();
        drop(container);
    });
}
