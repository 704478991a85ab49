//! The process that is followed: it starts a container, executes in it, stops it and removes it.

use std::fmt::Display;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use isolate::{Bytes, Container, ContainerBuilder, Exec, Limits, Mount, Rootfs, Stdio};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testkit::trace::mark;

use super::{FEW, LASTING, SWEEP, VOLUME, lasting};
use crate::common::{groups_of, sh};

/// The root of its container. Says to this program that it is the owner, too.
pub(super) const ROOT: &str = "ISOLATE_TEST_FAULTS_ROOT";
/// The name of it.
pub(super) const NAME: &str = "ISOLATE_TEST_FAULTS_NAME";

/// The phase that it is followed in.
pub(super) const PHASE: &str = "ISOLATE_TEST_FAULTS_PHASE";

/// What is so of its program, however it was started: its rights, what it has open, its mounts, its links, its ids.
const LOOK: &str = "grep -E '^(Cap|Seccomp:|NoNewPrivs|Groups|Uid)' /proc/2/status; echo open $(ls /proc/2/fd); cat /proc/2/limits; \
                    cut -d' ' -f2-4 /proc/2/mounts | sed 's/[a-z]*dir=[^,]*//g; s/id=[0-9]*/id=/g'; echo links $(ls /sys/class/net); \
                    hostname; echo volume $(ls -a /data); echo ids $(wc -l < /proc/2/uid_map) $(cut -c22- /proc/2/uid_map); echo routes $(ip route | wc -l); \
                    echo oom $(cat /proc/2/oom_score_adj)";

/// What that says of the ids in the user namespace of the machine.
const HOSTS_OWN: &str = "4294967295";

/// No test: the owner, in the world of the test that starts it.
#[test]
#[ignore = "the tests of this directory start it as a process of its own"]
fn owner() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let name = std::env::var(NAME).unwrap();
    if std::env::var(PHASE).unwrap() == SWEEP {
        phase(SWEEP, isolate::sweep);
        std::process::exit(0);
    }
    let described = sh("exec sleep 1000")
        .name(&name)
        .rootfs(Rootfs::from(std::path::PathBuf::from(root)))
        .limits(Limits::new().memory(Bytes::mib(64)).pids(50))
        .mount(Mount::volume(VOLUME, "/data"))
        .publish((9000, 8080));
    let container = described.clone().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if std::env::var(PHASE).unwrap() == FEW {
        with_few_descriptors(&container);
        std::process::exit(0);
    }
    if LASTING.contains(&&*std::env::var(PHASE).unwrap()) {
        lasting::live(&described, &name);
        println!("done");
        std::process::exit(0);
    }
    let started = phase("start", || container.start());
    if let Some(mut container) = started {
        println!("shape {}", shape(container.name(), &mut container.exec("/bin/sh")));
        phase("exec", || execute(&container));
        phase("stop", || stop(&mut container));
        phase("remove", || container.remove());
    }
    println!("done");
    // What the harness would still do is nobody's concern.
    std::process::exit(0);
}

/// Starts it with each number of descriptors that does not do, and with some that do.
fn with_few_descriptors(container: &ContainerBuilder) {
    let usual = getrlimit(Resource::Nofile);
    let mut enough = 0;
    for most in 4..256 {
        if enough == 3 {
            break;
        }
        setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: usual.maximum }).unwrap();
        let started = container.clone().start();
        setrlimit(Resource::Nofile, usual).unwrap();
        match started.and_then(Container::remove) {
            Ok(()) => {
                println!("ok {most}");
                enough += 1;
            }
            Err(e) => println!("error {most} {e}"),
        }
    }
}

/// Waits for a word, does that between two marks, and says how it went.
pub(super) fn phase<T, E: Display>(name: &str, what: impl FnOnce() -> Result<T, E>) -> Option<T> {
    println!("\nat {name}");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    mark(true);
    let done = what();
    mark(false);
    match done {
        Ok(done) => {
            println!("ok {name}");
            Some(done)
        }
        Err(e) => {
            println!("error {name} {e}");
            None
        }
    }
}

/// Each way to execute something. A wrong answer is as bad as a panic.
fn execute(container: &Container) -> isolate::Result<()> {
    let status = container.exec("sh").args(["-c", "exit 7"]).stdin(Stdio::null()).status()?;
    assert_eq!(status.code(), Some(7));
    let output = container.exec("sh").args(["-c", "echo out; echo err >&2; exit 3"]).output()?;
    assert_eq!(
        (output.status.code(), &*output.stdout, &*output.stderr),
        (Some(3), &b"out\n"[..], &b"err\n"[..])
    );
    let mut child = container.exec("sh").args(["-c", "exit 5"]).stdin(Stdio::null()).spawn()?;
    assert_eq!(child.wait()?.code(), Some(5));
    Ok(())
}

/// By SIGTERM, or in the end by SIGKILL.
fn stop(container: &mut Container) -> isolate::Result<ExitStatus> {
    let status = container.stop(Duration::from_millis(500))?;
    assert!([Some(9), Some(15)].contains(&status.signal()), "{status}");
    Ok(status)
}

/// Its look; that it has no user namespace is said on a line of its own.
pub(super) fn shape(name: &str, shell: &mut Exec<'_>) -> String {
    let looked = shell.args(["-c", LOOK]).output();
    let mut shape = match looked {
        Ok(output) => String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        Err(e) => return format!("cannot look: {e}"),
    };
    println!("{}", if shape.contains(HOSTS_OWN) { "no user namespace" } else { "user namespace" });
    for group in groups_of(name) {
        for limit in ["memory.limit_in_bytes", "memory.max", "pids.max"] {
            let value = std::fs::read_to_string(group.join(limit)).unwrap_or_default();
            let hierarchy = group.parent().unwrap_or(&group).display().to_string();
            shape.push_str(&format!("{hierarchy} {limit} {value}\n"));
        }
    }
    let rules = std::process::Command::new("nft").args(["list", "ruleset"]).output();
    let lines = rules.map_or(0, |output| output.stdout.split(|byte| *byte == b'\n').count());
    shape.push_str(&format!("{lines} lines of rules\n"));
    // Directories are read in any order.
    let mut lines: Vec<_> = shape.lines().collect();
    lines.sort_unstable();
    lines.join("|")
}
