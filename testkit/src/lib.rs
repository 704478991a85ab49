//! Worlds for kernel tests: each test runs alone in namespaces of its own, and leaves nothing behind.
//!
//! ```no_run
//! use testkit::{Need, kernel_test};
//!
//! #[test]
//! fn a_tmpfs_is_gone_after_unmount() {
//!     kernel_test(&[Need::Root], || { /* mount, look, unmount */ });
//! }
//! ```
//!
//! [`kernel_test`] executes the test binary once more for just this test, in new mount and network namespaces, with private
//! tmpfs on `/run` and `/var/lib/isolate` and the loopback up; a tiny reaper stands above it, as init does on a machine. After
//! the body the world must look as before: see [`leaks`].
//!
//! What the machine lacks is printed and counted, never silently skipped. Environment:
//!
//! - `ISOLATE_TESTS_REPORT=FILE`: one line is appended for each test: `RAN: TEST`, `FAILED: TEST: WHY` or `MISSING NEED: TEST`.
//! - `ISOLATE_TESTS_REQUIRE=root,overlay`: a test that lacks one of these fails (names: [`Need`]'s `Display`).
//! - `ISOLATE_TESTS_TIMEOUT=SECONDS`: for one test (300).
//! - `ISOLATE_TESTS_LONG=1`: tests of many points try them all, and say how many there were; for one test two hours.
//! - `ISOLATE_VM=1`: this is an emulated machine; [`Need::Native`] is missing.
//! - `ISOLATE_CACHE=DIR`: where `cargo xtask rootfs` and `image` keep what they make ([`rootfs`], [`image`]).

mod busybox;
mod cgroup;
mod lack;
pub mod leaks;
mod need;
mod netlink;
#[cfg(target_arch = "x86_64")]
mod ptrace;
mod report;
mod sys;
#[cfg(target_arch = "x86_64")]
pub mod trace;
mod world;

pub use busybox::busybox_root;
pub use lack::{HiddenMounts, without_system_call, without_writes_of};
pub use need::{Need, image, rootfs};
pub use world::{is_long, kernel_test, scratch};
