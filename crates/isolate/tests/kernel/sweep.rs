//! What is left at any moment at which an owner can be killed, is taken back.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use isolate::netns::Bridge;
use isolate::{Attach, Bytes, Limits};
use testkit::leaks::Snapshot;
use testkit::{Need, kernel_test};

use crate::common::{NEEDS, NET, groups_of, link_is_there, sh, slow, until};

/// Says to this program that it is the owner that a test kills.
const OWNER: &str = "ISOLATE_TEST_VICTIM";
const CONTAINERS: &str = "/run/isolate/containers";
const NETWORKS: &str = "/run/isolate/networks";

/// No test: the owner, in the world of the test that starts it.
#[test]
#[ignore = "the tests of this file start it as a process of its own"]
fn owner() {
    if std::env::var_os(OWNER).is_none() {
        return;
    }
    println!("\nready");
    loop {
        let limits = Limits::new().memory(Bytes::mib(64)).pids(50);
        let container =
            sh("sleep 1000 & exec sleep 1000").name("victim").limits(limits).publish((9000, 8080));
        drop(container.start().unwrap());
    }
}

/// Starts an owner and kills it so much later.
fn killed_after(delay: Duration) {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sweep::owner", "--ignored", "--nocapture"])
        .env(OWNER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut lines = lines.skip_while(|line| line != "ready");
    assert!(lines.next().is_some());
    thread::sleep(delay);
    owner.kill().unwrap();
    let status = owner.wait().unwrap();
    assert_eq!(
        status.signal(),
        Some(9),
        "all its starts had gone well until then: {:?}",
        lines.collect::<Vec<_>>()
    );
}

fn is_empty(directory: &str) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

#[test]
fn what_an_owner_leaves_that_is_killed_at_any_moment_of_a_start_or_a_removal_is_swept() {
    kernel_test(NET, || {
        let (rounds, longest) = if slow() { (12, 1500) } else { (30, 30) };
        isolate::sweep().unwrap();
        let before = Snapshot::take();
        let mut found = 0;
        for round in 0..rounds {
            // Each another moment, in no order.
            let delay = Duration::from_micros(round * 617 % 1000 * longest);
            killed_after(delay);
            found += u32::from(!is_empty(CONTAINERS));
            let swept = until(Duration::from_secs(20), || {
                isolate::sweep().unwrap();
                is_empty(CONTAINERS).then_some(())
            });
            let at = format!("round {round}, after {delay:?}");
            assert!(swept.is_some(), "{at}: its lock is held by nobody any more");
            assert!(is_empty(NETWORKS) && is_empty("/var/lib/isolate"), "{at}");
            assert_eq!(groups_of("victim"), Vec::<std::path::PathBuf>::new(), "{at}");
            assert!(!link_is_there("isolate0"), "{at}");
            // The veth pair, published ports with their table, processes, mounts.
            assert_eq!(before.left(), Vec::<String>::new(), "{at}");
            drop(TcpListener::bind("0.0.0.0:9000").unwrap());
        }
        assert!(found > 0, "there was something to sweep, at least once");
        let again = sh("true").name("victim").publish((9000, 8080)).status().unwrap();
        assert!(again.success());
    });
}

#[test]
fn a_lease_without_a_container_and_a_bridge_without_a_lease_are_swept() {
    kernel_test(NET, || {
        let leases = Path::new(NETWORKS).join("isolate0/leases");
        let ghost = leases.join(Ipv4Addr::new(10, 213, 9, 9).to_string());
        let alive = sh("sleep 100").name("alive").network(Attach::bridge()).start().unwrap();
        symlink("ghost", &ghost).unwrap();
        assert_eq!(isolate::sweep().unwrap(), Vec::<String>::new());
        assert!(fs::symlink_metadata(&ghost).is_err());
        assert_eq!(fs::read_dir(&leases).unwrap().count(), 1, "that of the living one stays");
        assert!(link_is_there("isolate0"));
        alive.remove().unwrap();
        assert!(!link_is_there("isolate0"), "and the bridge goes with it");

        for lease in [Some("ghost"), None] {
            fs::create_dir_all(&leases).unwrap();
            lease.into_iter().for_each(|name| symlink(name, &ghost).unwrap());
            drop(Bridge::create("isolate0", "10.213.0.1/16".parse().unwrap()).unwrap().keep());
            assert!(link_is_there("isolate0"));
            isolate::sweep().unwrap();
            assert!(is_empty(NETWORKS) && !link_is_there("isolate0"), "{lease:?}");
        }
    });
}

#[test]
fn a_bridge_that_could_not_be_removed_is_removed_by_the_next_sweep() {
    kernel_test(NET, || {
        isolate::sweep().unwrap();
        fs::create_dir(Path::new(NETWORKS).join("isolate0")).unwrap();
        drop(Bridge::create("isolate0", "10.213.0.1/16".parse().unwrap()).unwrap().keep());
        // Of this thread alone: it cannot ask the kernel for anything about links.
        let without_netlink = || {
            testkit::without_system_call(libc::SYS_sendto, libc::ENOBUFS);
            isolate::sweep().unwrap_err()
        };
        let error = thread::spawn(without_netlink).join().unwrap();
        assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS), "{error}");
        assert!(link_is_there("isolate0"));
        isolate::sweep().unwrap();
        assert!(is_empty(NETWORKS) && !link_is_there("isolate0"));
    });
}

/// The bridge as it is when whoever makes it is killed on the way.
#[test]
fn a_bridge_that_was_never_finished_is_swept_and_is_in_nobodys_way() {
    kernel_test(&[NET, &[Need::Program("ip"), Need::Program("nft")]].concat(), || {
        let run = |line: &str| {
            let output = Command::new("sh").args(["-c", line]).output().unwrap();
            assert!(output.status.success(), "{line}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let without_address = || drop(run("ip link add isolate0 type bridge"));
        let without_nat =
            || drop(Bridge::create("isolate0", "10.213.0.1/16".parse().unwrap()).unwrap().keep());
        isolate::sweep().unwrap();
        for unfinished in [&without_address as &dyn Fn(), &without_nat] {
            fs::create_dir(Path::new(NETWORKS).join("isolate0")).unwrap();
            unfinished();
            isolate::sweep().unwrap();
            assert!(is_empty(NETWORKS) && !link_is_there("isolate0"));

            // This process has swept before: its starts do not sweep any more.
            sh("true").status().unwrap();
            fs::create_dir(Path::new(NETWORKS).join("isolate0")).unwrap();
            unfinished();
            let container = sh("sleep 100").network(Attach::bridge()).start().unwrap();
            assert!(run("ip -4 -o address show dev isolate0").contains("10.213.0.1/16"));
            let outgoing = run("nft list set inet isolate outgoing");
            assert!(outgoing.contains("elements"), "its name is in {outgoing}");
            container.remove().unwrap();
            assert!(!link_is_there("isolate0"));
        }
    });
}

#[test]
fn who_sweeps_all_the_time_is_in_nobodys_way() {
    kernel_test(NEEDS, || {
        let each = if slow() { 5 } else { 40 };
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        assert_eq!(isolate::sweep().unwrap(), Vec::<String>::new(), "they live");
                    }
                });
            }
            let start = |name: String| {
                for _ in 0..each {
                    let status = sh("exit 3").name(&name).status();
                    assert_eq!(status.unwrap().code(), Some(3));
                }
            };
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || start(format!("box{n}")))).collect();
            let ends: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
            done.store(true, Ordering::Relaxed);
            assert!(ends.iter().all(Result::is_ok), "a start or a removal failed");
        });
    });
}
