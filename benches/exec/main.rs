//! One more program in a running container, to its exit, against the limit: the bare system calls, made by this bench.
//!
//! `cargo bench --bench exec`, as root. The container is one with everything that contains it by default.

mod limit;
mod many;
mod root;

use std::error::Error;
use std::ffi::CStr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use isolate::{Container, Rootfs, Stdio, UserNamespace};
use isolate_benches::figure::{self, Times, head};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

use limit::Limit;

/// Between two, so that what the kernel does in the background is not hidden.
const SPACE: Duration = Duration::from_millis(15);
const DYNAMIC: &str = "/usr/bin/true";
const DYNAMIC_C: &CStr = c"/usr/bin/true";

fn main() -> Result<(), Box<dyn Error>> {
    // SAFETY: this process has one thread, and nothing was opened by path before.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWNET) }
        .map_err(|e| format!("this bench wants root: {e}"))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let root = root::make()?;
    let result = measure(&root);
    std::fs::remove_dir_all(&root)?;
    result
}

fn measure(root: &Path) -> Result<(), Box<dyn Error>> {
    let container = Container::builder()
        .rootfs(Rootfs::from(root))
        .command(["/pause"])
        .user_namespace(UserNamespace::Required)
        .stdin(Stdio::null())
        .start()?;
    one(&container, "exec/limit", DYNAMIC, DYNAMIC_C)?;
    one(&container, "exec-tiny/limit", "/true", c"/true")?;
    many::measure(&container)?;
    nsenter(&container)?;
    Ok(container.remove()?)
}

/// One at a time, in turns with the limit.
fn one(
    container: &Container,
    figure: &str,
    program: &str,
    of_limit: &'static CStr,
) -> Result<(), Box<dyn Error>> {
    let limit = Limit::new(container, of_limit)?;
    for (title, pause, rounds) in [("spaced", SPACE, 200), ("looped", Duration::ZERO, 500)] {
        let (mut execs, mut limits) = (Times::default(), Times::default());
        for _ in 0..rounds {
            assert!(execs.take(|| container.exec(program).stdin(Stdio::null()).status())?.success());
            std::thread::sleep(pause);
            limits.take(|| limit.run())?;
            std::thread::sleep(pause);
        }
        head(&format!("{title}: {program}"));
        limits.print("limit: one clone, the same calls");
        execs.print("exec");
        let end = if title == "spaced" { "" } else { "-looped" };
        let median = execs.percentile(0.5).as_secs_f64() / limits.percentile(0.5).as_secs_f64();
        figure::print(&format!("{figure}{end}"), execs.ratio(&limits), "x");
        figure::print(&format!("{figure}{end}-median"), median, "x");
    }
    Ok(())
}

/// A whole process that enters the same namespaces, where it is installed; it neither joins the control group nor gives up rights.
fn nsenter(container: &Container) -> Result<(), Box<dyn Error>> {
    let limit = Limit::new(container, DYNAMIC_C)?;
    let (mut peers, mut limits) = (Times::default(), Times::default());
    let pid = container.pid().to_string();
    for _ in 0..100 {
        #[expect(clippy::disallowed_methods, reason = "the peer is a program")]
        let mut command = Command::new("nsenter");
        command.args(["--all", "--target", &pid, "--setuid", "0", "--setgid", "0", DYNAMIC]);
        if !peers.take(|| command.status()).is_ok_and(|status| status.success()) {
            println!("{:<34} not installed, or refused here", "nsenter");
            return Ok(());
        }
        std::thread::sleep(SPACE);
        limits.take(|| limit.run())?;
        std::thread::sleep(SPACE);
    }
    head("a peer, spaced");
    limits.print("limit");
    peers.print("nsenter");
    figure::print("nsenter/limit", peers.ratio(&limits), "x");
    Ok(())
}
