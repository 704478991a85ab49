//! From the start to the exit of a tiny static program, against the limit: the bare system calls, made by this bench.
//!
//! `cargo bench --bench start`, as root. Everything happens in mount and network namespaces of the bench's own.

mod contained;
#[expect(clippy::disallowed_methods, reason = "its child alone is moved")]
mod limit;
mod memory;
mod peers;

use std::error::Error;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use isolate::{Container, Rootfs};
use isolate_benches::figure::{self, Times, head};
use isolate_benches::tiny;
use isolate_cgroups::Cgroup;
use isolate_namespaces::{Command, Mount, Namespace, Plan, Stdio};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

/// Between two starts, so that what the kernel does in the background is not hidden.
const SPACE: Duration = Duration::from_millis(15);
const SHM: u64 = 64 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    // SAFETY: this process has one thread, and nothing was opened by path before.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWNET) }
        .map_err(|e| format!("this bench wants root: {e}"))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let root = tiny::root("isolate-bench")?;
    let group = Cgroup::create(format!("isolate-bench-{}", std::process::id()))?;
    let result = measure(&root, &group);
    group.remove()?;
    std::fs::remove_dir_all(&root)?;
    result
}

fn measure(root: &Path, group: &Cgroup) -> Result<(), Box<dyn Error>> {
    let limit = limit::Limit::new(root, group.as_fd())?;
    let plan = command(root, group, "/true")?.plan()?;
    let start = || -> Result<(), Box<dyn Error>> {
        assert!(plan.status()?.success());
        Ok(())
    };
    let pause = command(root, group, "/pause")?.plan()?;
    running(&pause, &limit)?;
    for (title, pause, rounds) in [("spaced", SPACE, 200), ("looped", Duration::ZERO, 500)] {
        let (mut starts, mut limits) = (Times::default(), Times::default());
        for _ in 0..rounds {
            starts.take(start)?;
            std::thread::sleep(pause);
            limits.take(|| limit.run())?;
            std::thread::sleep(pause);
        }
        head(title);
        limits.print("limit: one clone, no monitor");
        starts.print("start");
        let name = if title == "spaced" { "start/limit".to_owned() } else { format!("start/limit-{title}") };
        figure::print(&name, starts.ratio(&limits), "x");
        figure::print(
            &format!("{name}-median"),
            starts.percentile(0.5).as_secs_f64() / limits.percentile(0.5).as_secs_f64(),
            "x",
        );
    }
    contained::measure(root, group)?;
    containers(root, &limit)?;
    memory::resident(&start)?;
    memory::monitor(command(root, group, "/pause")?)?;
    memory::init(command(root, group, "/pause")?)?;
    peers::measure(root, &limit)
}

/// How long it takes until the program runs, of one that goes on running.
fn running(plan: &Plan, limit: &limit::Limit<'_>) -> Result<(), Box<dyn Error>> {
    let (mut running, mut limits) = (Times::default(), Times::default());
    for _ in 0..100 {
        let child = running.take(|| plan.spawn())?;
        drop(child); // kills it
        std::thread::sleep(SPACE);
        limits.take(|| limit.run())?;
        std::thread::sleep(SPACE);
    }
    head("until the program runs");
    running.print("spawn");
    figure::print("spawn/limit", running.ratio(&limits), "x");
    Ok(())
}

/// The mounts that a container has.
fn command(root: &Path, group: &Cgroup, program: &str) -> Result<Command, Box<dyn Error>> {
    let mut command = Command::new(program);
    command
        .env_clear()
        .unshare(Namespace::CONTAINER)
        .root(root)
        .hostname("bench")
        .new_session()
        .cgroup(group.try_clone_fd()?);
    for mount in
        [Mount::proc(), Mount::dev(), Mount::devpts(), Mount::shm(SHM), Mount::mqueue(), Mount::sysfs()]
    {
        command.mount(mount);
    }
    Ok(command)
}

/// The whole of it: a control group of its own, an overlay, state that outlives a crash.
fn containers(root: &Path, limit: &limit::Limit<'_>) -> Result<(), Box<dyn Error>> {
    let (mut whole, mut limits) = (Times::default(), Times::default());
    for _ in 0..100 {
        let status = whole.take(|| {
            Container::builder().rootfs(Rootfs::from(root)).command(["/true"]).stdin(Stdio::null()).status()
        })?;
        assert!(status.success());
        std::thread::sleep(SPACE);
        limits.take(|| limit.run())?;
        std::thread::sleep(SPACE);
    }
    head("a whole container: overlay, control group, state; made and removed");
    limits.print("limit");
    whole.print("container");
    figure::print("container/limit", whole.ratio(&limits), "x");
    Ok(())
}
