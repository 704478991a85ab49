//! A shell that waits at its first line until it is told to go on, and names that no other test has.

use std::io::Write;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use isolate_cgroups::Cgroup;

/// The same body on either kind of machine; each has its line in the report of what ran.
macro_rules! on_either_host {
    ($($name:ident => $body:expr;)*) => {$(
        mod $name {
            use super::*;

            #[cfg(feature = "cgroup-v1")]
            #[test]
            fn on_a_hybrid_host() {
                testkit::kernel_test(&[testkit::Need::Root, testkit::Need::CgroupV1], $body);
            }

            #[test]
            fn on_a_unified_host() {
                testkit::kernel_test(&[testkit::Need::Root, testkit::Need::Cgroup2], $body);
            }
        }
    )*};
}
pub(crate) use on_either_host;

/// A name that the leak check knows as one of ours.
pub(crate) fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("isolate-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A shell in `group` that has not begun its script.
pub(crate) struct Waiting(Child);

impl Waiting {
    #[expect(clippy::disallowed_methods, reason = "a test's child")]
    pub(crate) fn in_group(group: &Cgroup, script: &str) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", &format!("read go || exit 99\n{script}")])
            .stdin(Stdio::piped())
            .stderr(Stdio::null());
        let child = shell.spawn().unwrap();
        group.add(child.id()).unwrap();
        Self(child)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Begins.
    pub(crate) fn go(&mut self) {
        if let Some(mut stdin) = self.0.stdin.take() {
            stdin.write_all(b"\n").unwrap();
        }
    }

    /// Begins, if it has not yet, and waits for the end.
    pub(crate) fn run(mut self) -> ExitStatus {
        self.go();
        self.0.wait().unwrap()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Looks again and again, for up to 20 seconds.
pub(crate) fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}
