//! Pods that nobody owns.

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::Duration;

use isolate::{Bytes, Container, Detached, DetachedPod, ErrorKind, Limits, Outcome, Pod, Restart, State};
use testkit::kernel_test;

use super::{ASK, LOCAL, NEEDS, PATIENCE, idle_in};
use crate::common::{NET, OnDisk, SERVER, get, groups_of, idle, until, wait_for};

const GRACE: Duration = Duration::from_secs(20);

fn asked(container: &Detached, script: &str) -> Option<String> {
    let output = container.exec("/bin/sh").unwrap().args(["-c", script]).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

fn states(pod: &DetachedPod) -> Vec<(String, State)> {
    pod.inspect().unwrap().containers.into_iter().collect()
}

fn both(state: State) -> Vec<(String, State)> {
    ["beside", "web"].map(|name| (name.to_owned(), state)).into()
}

fn is_empty(directory: &str) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

#[test]
fn it_and_its_containers_are_stopped_and_started_again() {
    kernel_test(NET, || {
        let disk = OnDisk::root();
        let limits = Limits::new().memory(Bytes::mib(128));
        let pod = Pod::builder().name("again").publish((9000, 8080)).limits(limits).create().unwrap();
        assert_eq!(pod.inspect().unwrap().state, State::Created);
        assert_eq!(pod.stats().unwrap_err().to_string(), "pod `again`: it does not run");
        let web =
            disk.sh(&format!("echo run >> /var/runs; {SERVER}")).pod(&pod).name("web").create().unwrap();
        let beside = idle_in(&disk, "again", "beside").create().unwrap();
        assert_eq!(states(&pod), both(State::Created));
        let mut address = None;
        for run in 1..3 {
            pod.start().unwrap();
            assert_eq!(states(&pod), both(State::Running));
            wait_for((Ipv4Addr::LOCALHOST, 9000).into());
            assert!(until(PATIENCE, || asked(&beside, ASK)).is_some(), "its loopback");
            assert_eq!(asked(&web, "hostname; wc -l < /var/runs").unwrap(), format!("again\n{run}\n"));
            assert_eq!(pod.stats().unwrap().memory.limit, Some(Bytes::mib(128)));
            let now = pod.inspect().unwrap().networks["isolate0"].addresses.clone();
            assert_eq!(address.get_or_insert(now.clone()), &now);
            pod.pause().unwrap();
            assert_eq!(states(&pod), both(State::Paused));
            pod.resume().unwrap();
            pod.stop(GRACE).unwrap();
            assert_eq!(states(&pod), both(State::Exited));
            assert_eq!(pod.inspect().unwrap().state, State::Exited);
            assert!(groups_of("again").is_empty() && is_empty("/run/isolate/containers"));
            assert_eq!(get((Ipv4Addr::LOCALHOST, 9000).into()), None);
        }
        // A container starts its pod, and leaves the others alone.
        web.start().unwrap();
        assert_eq!(states(&pod), [("beside".to_owned(), State::Exited), ("web".to_owned(), State::Running)]);
        wait_for((Ipv4Addr::LOCALHOST, 9000).into());
        pod.update(&Limits::new().memory(Bytes::mib(96))).unwrap();
        assert_eq!(pod.stats().unwrap().memory.limit, Some(Bytes::mib(96)));
        web.kill().unwrap();
        assert_eq!(pod.inspect().unwrap().state, State::Running);
        pod.kill().unwrap();
        assert_eq!(pod.inspect().unwrap().limits.get_memory(), Some(Bytes::mib(96)));
        pod.remove_by_force().unwrap();
        assert!(is_empty("/var/lib/isolate/detached") && is_empty("/run/isolate/ids"));
    });
}

#[test]
fn it_is_not_removed_while_it_has_containers_which_are_named() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let pod = Pod::builder().name("shop").create().unwrap();
        let web = idle_in(&disk, &pod, "web").create().unwrap();
        let owned = idle_in(&disk, &pod, "owned").start().unwrap();
        let error = pod.remove().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        assert_eq!(error.to_string(), "pod `shop`: it has containers: `owned`, `web`");
        owned.remove().unwrap();
        let error = Pod::open("shop").unwrap().remove().unwrap_err();
        assert_eq!(error.to_string(), "pod `shop`: it has containers: `web`");
        web.remove().unwrap();
        let pod = Pod::open("shop").unwrap();
        assert_eq!(pod.inspect().unwrap().state, State::Running);
        let error = Pod::open("shop").unwrap().remove().unwrap_err();
        assert_eq!(error.to_string(), "pod `shop`: it runs");
        assert_eq!(Container::open("shop").unwrap_err().to_string(), "container `shop`: it is a pod");
        pod.stop(GRACE).unwrap();
        pod.remove().unwrap();

        let pod = Pod::builder().name("shop").create().unwrap();
        idle_in(&disk, &pod, "web").restart(Restart::Always).create().unwrap();
        pod.start().unwrap();
        let owned = idle_in(&disk, &pod, "owned").start().unwrap();
        pod.remove_by_force().unwrap();
        assert!(is_empty("/run/isolate/containers") && is_empty("/var/lib/isolate/detached"));
        drop(owned);
        assert_eq!(Pod::open("shop").unwrap_err().to_string(), "pod `shop`: there is none of that name");
    });
}

/// Set for the process that adds a container and goes.
const MAKER: &str = "ISOLATE_TEST_POD_MAKER";

#[test]
fn another_process_adds_a_container_to_it() {
    if let Some(part) = std::env::var_os(MAKER) {
        match part == "pod" {
            true => drop(Pod::builder().name("shop").create().unwrap()),
            false => idle("added").pod(Pod::open("shop").unwrap()).create().unwrap().start().unwrap(),
        }
        std::process::exit(0);
    }
    kernel_test(NEEDS, || {
        for part in ["pod", "container"] {
            let test = "pods::lasting::another_process_adds_a_container_to_it";
            let mut maker = Command::new(std::env::current_exe().unwrap());
            maker.args(["--exact", test]).env(MAKER, part).stdin(Stdio::null()).stdout(Stdio::null());
            assert!(maker.status().unwrap().success());
        }
        let pod = Pod::open("shop").unwrap();
        assert_eq!(isolate::sweep().unwrap(), Vec::<String>::new(), "their keepers have them");
        let [added] = &pod.containers().unwrap()[..] else { panic!("{:?}", pod.containers()) };
        assert_eq!((added.name.as_str(), added.state), ("added", State::Running));
        assert_eq!(asked(&Container::open("added").unwrap(), "hostname").unwrap(), "shop\n");
        pod.remove_by_force().unwrap();
    });
}

#[test]
fn a_keeper_starts_its_container_again_in_the_same_pod() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let pod = Pod::builder().name("shop").create().unwrap();
        let web = disk.sh(LOCAL).pod(&pod).name("web").restart(Restart::Always).create().unwrap();
        let beside = idle_in(&disk, &pod, "beside").create().unwrap();
        pod.start().unwrap();
        assert!(until(PATIENCE, || asked(&beside, ASK)).is_some());
        asked(&beside, "echo kept > /dev/shm/x").unwrap();
        web.signal(isolate::Signal::KILL).unwrap();
        let again = || {
            let info = web.inspect().unwrap();
            (info.state == State::Running && info.detached?.restarts == 1).then_some(())
        };
        assert!(until(PATIENCE, again).is_some());
        assert!(until(PATIENCE, || asked(&beside, ASK)).is_some());
        assert_eq!(asked(&web, "cat /dev/shm/x").unwrap(), "kept\n");
        pod.remove_by_force().unwrap();
    });
}

#[test]
fn when_what_holds_it_together_is_killed_its_containers_are_swept_and_not_started_again() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let pod = Pod::builder().name("unheld").create().unwrap();
        let web = idle_in(&disk, &pod, "webbed").restart(Restart::Always).create().unwrap();
        pod.start().unwrap();
        let procs = groups_of("unheld").into_iter().map(|group| group.join("holder/cgroup.procs"));
        let holder =
            procs.filter_map(|file| fs::read_to_string(file).ok()).find_map(|text| text.trim().parse().ok());
        let holder = rustix::process::Pid::from_raw(holder.unwrap()).unwrap();
        rustix::process::kill_process(holder, rustix::process::Signal::KILL).unwrap();
        let gone = || {
            isolate::sweep().unwrap();
            is_empty("/run/isolate/containers").then_some(())
        };
        assert!(until(PATIENCE, gone).is_some());
        assert!(groups_of("unheld").is_empty() && groups_of("webbed").is_empty());
        assert_eq!(
            (pod.inspect().unwrap().state, web.inspect().unwrap().state),
            (State::Exited, State::Exited)
        );
        assert_eq!(web.outcome().unwrap().unwrap().0, Outcome::Signaled(isolate::Signal::KILL));
        web.start().unwrap();
        assert_eq!(asked(&web, "hostname").unwrap(), "unheld\n");
        pod.remove_by_force().unwrap();
    });
}
