//! `network`.

use serde_json::Value;
use testkit::{Need, kernel_test};

use crate::common::{NET, end, isolate, spawn, until_running};

#[test]
fn a_network_is_made_used_told_of_and_removed() {
    kernel_test(&[NET, &[Need::Program("getent")]].concat(), || {
        let create = "network create -d bridge --subnet 172.30.7.0/24 --ip-range 172.30.7.128/25 --gateway 172.30.7.1 bridge2";
        assert_eq!(isolate(&create.split(' ').collect::<Vec<_>>()).well(), "bridge2\n");
        let words = "run --rm --name sn1 --network name=bridge2,alias=first --rootfs host sleep 100";
        let child = spawn(&words.split(' ').collect::<Vec<_>>());
        until_running("sn1");
        let ask = "run --rm --network bridge2 --ip 172.30.7.200 --rootfs host sh -c";
        let script = "busybox ip -4 -o addr show eth0; for name in sn1 first; do getent ahostsv4 $name; done";
        let asked = isolate(&[&ask.split(' ').collect::<Vec<_>>()[..], &[script]].concat()).well();
        assert!(asked.contains("172.30.7.200/24"), "{asked}");
        let answers: Vec<&str> = asked
            .lines()
            .filter_map(|line| line.split_once(" STREAM").map(|(address, _)| address.trim()))
            .collect();
        let [by_name, by_alias] = answers[..] else { panic!("{asked}") };
        assert_eq!(by_name, by_alias, "{asked}");
        assert!(by_name.starts_with("172.30.7."), "{asked}");
        let table = isolate(&["network", "ls"]).well();
        assert!(table.starts_with("NAME") && table.contains("bridge2   bridge"), "{table}");
        assert!(table.contains("\nhost ") && table.contains("\nnone "), "{table}");
        let known: Value = serde_json::from_str(&isolate(&["network", "inspect", "bridge2"]).well()).unwrap();
        assert_eq!(known[0]["containers"]["sn1"][0], by_name);
        assert!(isolate(&["network", "rm", "bridge2"]).failed(125).contains("`sn1`"));
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(end(child).code, 143);
        assert_eq!(isolate(&["network", "create", "other"]).well(), "other\n");
        assert_eq!(isolate(&["network", "rm", "bridge2"]).well(), "bridge2\n");
        assert_eq!(isolate(&["network", "prune", "--force"]).well(), "other\n");
        assert_eq!(isolate(&["network", "ls", "-q"]).well(), "host\nnone\n");
        let missing =
            isolate(&["run", "--rm", "--network", "bridge2", "--rootfs", "host", "true"]).failed(125);
        assert!(missing.contains("network `bridge2`"), "{missing}");
    });
}

#[test]
fn a_running_container_is_connected_and_disconnected() {
    kernel_test(NET, || {
        isolate(&["network", "create", "--subnet", "172.30.8.0/24", "late"]).well();
        isolate(&["run", "-d", "--name", "app", "--rootfs", "host", "sleep", "100"]).well();
        assert_eq!(
            isolate(&["network", "connect", "--ip", "172.30.8.9", "--alias", "x", "late", "app"]).well(),
            ""
        );
        let addresses = ["exec", "app", "busybox", "ip", "-4", "-o", "addr"];
        let seen = isolate(&addresses).well();
        assert!(seen.contains("172.30.8.9/24") && seen.contains("eth0"), "{seen}");
        let shared = "run --rm --network container:app --rootfs host busybox ip -4 -o addr";
        let shared = isolate(&shared.split(' ').collect::<Vec<_>>()).well();
        assert!(shared.contains("172.30.8.9/24"), "{shared}");
        let beside = "run -d --name beside --network container:app --rootfs host sleep 100";
        isolate(&beside.split(' ').collect::<Vec<_>>()).well();
        let seen = isolate(&["exec", "beside", "busybox", "ip", "-4", "-o", "addr"]).well();
        assert!(seen.contains("172.30.8.9/24"), "{seen}");
        assert_eq!(isolate(&["rm", "-f", "beside"]).well(), "beside\n");
        let own =
            spawn(&["run", "--rm", "--name", "own", "--network=none", "--rootfs", "host", "sleep", "3"]);
        until_running("own");
        let lasting = isolate(&["run", "-d", "--network", "container:own", "--rootfs", "host", "true"]);
        assert!(lasting.failed(125).contains("run --rm"));
        assert_eq!(end(own).code, 0);
        let twice = isolate(&["network", "connect", "late", "app"]).failed(125);
        assert!(twice.contains("on network `late` already"), "{twice}");
        assert_eq!(isolate(&["network", "disconnect", "late", "app"]).well(), "");
        assert!(!isolate(&addresses).well().contains("172.30.8.9"));
        assert_eq!(isolate(&["network", "disconnect", "bridge", "app"]).well(), "");
        assert!(!isolate(&addresses).well().contains("eth0"));
        assert_eq!(isolate(&["rm", "-f", "app"]).well(), "app\n");
        assert_eq!(isolate(&["network", "rm", "late"]).well(), "late\n");
    });
}
