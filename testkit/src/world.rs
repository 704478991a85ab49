//! One test alone in a world of its own.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use crate::leaks::Snapshot;
use crate::{Need, report, sys};

/// Says to the second run which test it is for.
const WORLD: &str = "ISOLATE_WORLD";

/// Runs `body` in a world of its own if the machine has what it needs; fails if the body does, or if it leaves something.
///
/// # Panics
/// With what the test printed.
pub fn kernel_test(needs: &[Need], body: impl FnOnce()) {
    let test = std::thread::current().name().unwrap_or("main").to_owned();
    if std::env::var(WORLD).is_ok_and(|name| name == test) {
        return inside(body);
    }
    if report::lacks(needs, &test) {
        return;
    }
    let (status, printed) = outside(&test);
    report::ended(&test, status.success(), &printed);
    assert!(status.success(), "{test} in its world: {status}\n{printed}");
    if is_long() {
        print!("{printed}");
    }
}

/// Whether tests that try many points try them all.
pub fn is_long() -> bool {
    std::env::var_os("ISOLATE_TESTS_LONG").is_some()
}

/// A new empty directory. It goes with the world.
///
/// # Panics
/// If there is no room for one.
pub fn scratch() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("scratch-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    path
}

#[expect(clippy::disallowed_methods, reason = "a world is a process of its own")]
fn outside(test: &str) -> (ExitStatus, String) {
    let mut printed = tempfile();
    let program = std::env::current_exe().expect("the test binary");
    let mut command = Command::new(program);
    command.args(["--exact", test, "--nocapture", "--include-ignored", "--test-threads=2"]);
    command.env(WORLD, test).env("TMPDIR", "/run/tmp").stdin(Stdio::null());
    command
        .stdout(printed.try_clone().expect("a descriptor"))
        .stderr(printed.try_clone().expect("a descriptor"));
    sys::enter_world(&mut command);
    let mut child = command.spawn().expect("a world");
    let usual = if is_long() { 7200 } else { 300 };
    let limit =
        std::env::var("ISOLATE_TESTS_TIMEOUT").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let end = Instant::now() + Duration::from_secs(limit);
    let status = loop {
        match child.try_wait().expect("the reaper's status") {
            Some(status) => break status,
            None if Instant::now() > end => {
                child.kill().ok();
                child.wait().ok();
                panic!("{test}: no end within {limit} s\n{}", text(&mut printed));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    (status, text(&mut printed))
}

fn inside(body: impl FnOnce()) {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).expect("private mounts");
    fs::create_dir_all("/var/lib/isolate").expect("/var/lib/isolate");
    for place in ["/run", "/var/lib/isolate"] {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("tmpfs", place, "tmpfs", flags, c"mode=755")
            .unwrap_or_else(|e| panic!("tmpfs on {place}: {e}"));
    }
    fs::create_dir("/run/tmp").expect("/run/tmp");
    sys::loopback_up().expect("the loopback device");
    let before = Snapshot::take();
    body();
    let left = before.left();
    assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
}

/// A file without a name: both ends of the world print to it.
fn tempfile() -> fs::File {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    rustix::fs::memfd_create("printed", flags).expect("a memory file").into()
}

fn text(file: &mut fs::File) -> String {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes)).ok();
    String::from_utf8_lossy(&bytes).into_owned()
}
