//! A pod's end, whatever that is.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use isolate::{Container, Pod};
use testkit::kernel_test;
use testkit::leaks::Snapshot;

use super::{NEEDS, PATIENCE, idle_in};
use crate::common::{NET, OnDisk, groups_of, idle, link_is_there, slow, until};

/// Says to this program that it is the owner that a test kills.
const OWNER: &str = "ISOLATE_TEST_POD_OWNER";

fn in_use(directory: &str) -> Vec<String> {
    let names =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn a_drop_removes_its_containers_and_their_names_are_free_whoever_has_them_still() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let pod = Pod::builder().name("dropped").start().unwrap();
        let (mut a, b) =
            (idle_in(&disk, &pod, "a").start().unwrap(), idle_in(&disk, &pod, "b").start().unwrap());
        assert!(!groups_of("dropped").is_empty());
        drop(pod);
        assert!(groups_of("dropped").is_empty());
        assert_eq!(in_use("/run/isolate/containers"), Vec::<String>::new());
        assert_eq!(in_use("/run/isolate/ids"), Vec::<String>::new());
        assert!(a.wait_timeout(Duration::from_secs(10)).unwrap().is_some(), "it was killed");
        let again = disk.sh("exec sleep 1000").name("a").start().unwrap();
        a.remove().unwrap();
        drop(b);
        assert!(Path::new("/run/isolate/containers/a/record").exists(), "that of the other one stays");
        assert!(again.exec("true").status().unwrap().success());
        again.remove().unwrap();
    });
}

#[test]
fn a_container_that_ends_before_its_pod_leaves_it_as_it_is() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let pod = Pod::builder().name("kept").start().unwrap();
        for name in ["a", "b", "a"] {
            idle_in(&disk, &pod, name).start().unwrap().remove().unwrap();
        }
        assert_eq!(in_use("/run/isolate/containers"), ["kept"]);
        // Of each hierarchy the pod's group, with one below it.
        for group in groups_of("kept") {
            let below = fs::read_dir(&group).unwrap().flatten().filter(|entry| entry.path().is_dir());
            assert_eq!(below.count(), 1, "{}", group.display());
        }
        pod.remove().unwrap();
    });
}

/// No test: an owner that makes a pod again and again, in the world of the test that starts it.
#[test]
#[ignore = "the tests of this file start it as a process of its own"]
fn busy_owner() {
    if std::env::var_os(OWNER).is_none() {
        return;
    }
    println!("\nstarted");
    loop {
        let pod = Pod::builder().name("busy").start().unwrap();
        let members = ["busy-a", "busy-b"].map(|name| idle(name).pod(&pod).start().unwrap());
        drop(pod);
        drop(members);
    }
}

#[test]
fn at_whatever_moment_the_owner_is_killed_all_of_it_is_swept() {
    kernel_test(NEEDS, || {
        let (rounds, longest) = if slow() { (8, 1500) } else { (30, 40) };
        isolate::sweep().unwrap();
        let before = Snapshot::take();
        let mut found = 0;
        for round in 0..rounds {
            let mut owner = started("busy_owner", "");
            // Each another moment, in no order.
            std::thread::sleep(Duration::from_micros(round * 617 % 1000 * longest));
            owner.kill().unwrap();
            assert_eq!(owner.wait().unwrap().signal(), Some(9), "all had gone well until then");
            found += usize::from(in_use("/run/isolate/containers").len() > 1);
            let swept = until(PATIENCE, || {
                isolate::sweep().unwrap();
                in_use("/run/isolate/containers").is_empty().then_some(())
            });
            assert!(swept.is_some(), "round {round}: {:?}", in_use("/run/isolate/containers"));
            assert_eq!(groups_of("busy"), Vec::<std::path::PathBuf>::new(), "round {round}");
            assert_eq!(in_use("/run/isolate/ids"), Vec::<String>::new(), "round {round}");
            // Groups are the whole machine's, where others are at work.
            let left: Vec<_> = before.left().into_iter().filter(|left| !left.starts_with("group ")).collect();
            assert_eq!(left, Vec::<String>::new(), "round {round}");
        }
        assert!(found > 0, "there was a pod with a container to sweep, at least once");
    });
}

/// The program that a test kills, once it has begun.
fn started(test: &str, mode: &str) -> std::process::Child {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("pods::owner::{test}"), "--ignored", "--nocapture"])
        .env(OWNER, mode)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "started"));
    // What it says of an error is for the person who looks.
    std::thread::spawn(move || lines.for_each(|line| eprintln!("{line}")));
    owner
}

/// No test: the owner, in the world of the test that starts it.
#[test]
#[ignore = "the tests of this file start it as a process of its own"]
fn owner() {
    let Some(mode) = std::env::var_os(OWNER) else { return };
    let pod = Pod::builder().name("orphaned").publish((9000, 8080)).start().unwrap();
    let started: Vec<Container> =
        ["a", "b"].map(|name| idle(name).pod(&pod).start().unwrap()).into_iter().collect();
    if mode == "leave" {
        // Its containers go on for themselves; the pod goes with this process.
        started.into_iter().for_each(|container| drop(container.detach().unwrap()));
    }
    println!("\nstarted");
    std::thread::sleep(Duration::from_secs(1000));
}

#[test]
fn what_an_owner_leaves_that_was_killed_is_swept_with_all_its_containers() {
    kernel_test(NET, || {
        for mode in ["stay", "leave"] {
            let mut owner = started("owner", mode);
            assert_eq!(isolate::sweep().unwrap(), Vec::<String>::new(), "what lives is not swept");
            assert_eq!(Pod::find("orphaned").unwrap().containers.len(), 2);
            owner.kill().unwrap();
            owner.wait().unwrap();
            let mut swept = Vec::new();
            until(PATIENCE, || {
                swept.extend(isolate::sweep().unwrap());
                (swept.len() == 3).then_some(())
            });
            swept.sort();
            assert_eq!(swept, ["a", "b", "orphaned"], "{mode}");
            for directory in ["containers", "networks", "ids"] {
                assert_eq!(in_use(&format!("/run/isolate/{directory}")), Vec::<String>::new());
            }
            assert!(groups_of("orphaned").is_empty() && !link_is_there("isolate0"));
            let again = Pod::builder().name("orphaned").publish((9000, 8080)).start().unwrap();
            again.remove().unwrap();
        }
    });
}
