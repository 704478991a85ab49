//! `ps`, `inspect`, `port`, `sweep`, `check`: what is told of what there is.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testkit::kernel_test;

use crate::common::{NEEDS, NET, end, isolate, spawn, until, until_running};

fn send(child: &std::process::Child, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), signal).unwrap();
}

#[test]
fn a_container_is_listed_inspected_and_gone() {
    kernel_test(NET, || {
        let words = "run --rm --name web -l tier=front -m 64m -p 127.0.0.1:9000-9001:8080-8081 --rootfs host sleep 100";
        let child = spawn(&words.split(' ').collect::<Vec<_>>());
        until_running("web");
        let table = isolate(&["ps"]).well();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with("CONTAINER ID   IMAGE"), "{table}");
        for title in ["COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"] {
            // Each column begins where its title does.
            let at = lines[0].find(title).unwrap();
            assert!(
                lines[1].as_bytes()[at - 1] == b' ' && lines[1].as_bytes()[at] != b' ',
                "{title}\n{table}"
            );
        }
        for part in ["\"sleep 100\"", "Up ", "127.0.0.1:9000-9001->8080-8081/tcp", "web"] {
            assert!(lines[1].contains(part), "{part}\n{table}");
        }
        let listed = isolate(&["ps", "--format", "json"]).objects();
        let [one] = &listed[..] else { panic!("{listed:?}") };
        for (key, value) in
            [("Names", "web"), ("State", "running"), ("Labels", "tier=front"), ("Networks", "isolate0")]
        {
            assert_eq!(one[key], value, "{one}");
        }
        let count = |filter: &str| isolate(&["ps", "-aq", "--filter", filter]).well().lines().count();
        assert_eq!(count("label=tier=front"), 1);
        assert_eq!(count("label=tier=back") + count("status=paused") + count("name=db"), 0);
        let known: Value = serde_json::from_str(&isolate(&["inspect", "web"]).well()).unwrap();
        assert_eq!(known[0]["limits"]["memory"], 64 << 20);
        assert_eq!(known[0]["id"], one["ID"]);
        assert_eq!(
            isolate(&["port", "web"]).well(),
            "8080/tcp -> 127.0.0.1:9000\n8081/tcp -> 127.0.0.1:9001\n"
        );
        assert_eq!(isolate(&["port", "web", "8081"]).well(), "127.0.0.1:9001\n");
        assert!(isolate(&["port", "web", "80/udp"]).failed(125).contains("80/udp"));
        let taken = isolate(&["run", "--rm", "--name", "web", "--rootfs", "host", "true"]).failed(125);
        assert!(taken.contains("`web`") && taken.contains("in use"), "{taken}");
        let missing = isolate(&["inspect", "web", "none"]);
        assert_eq!((missing.code, missing.err.lines().count()), (125, 1), "{missing:?}");
        assert_eq!(serde_json::from_str::<Value>(&missing.out).unwrap().as_array().unwrap().len(), 1);
        send(&child, Signal::TERM);
        assert_eq!(end(child).code, 143);
        assert_eq!(isolate(&["ps", "-aq"]).well(), "");
    });
}

#[test]
fn what_a_killed_command_leaves_is_listed_and_swept() {
    kernel_test(NEEDS, || {
        let words = "run --rm --name left --network none --rootfs host sleep 100";
        let child = spawn(&words.split(' ').collect::<Vec<_>>());
        until_running("left");
        send(&child, Signal::KILL);
        assert_eq!(end(child).code, -9);
        // Its monitor lets go a moment after its last process.
        until(|| isolate(&["ps", "-a"]).well().contains("Dead").then_some(()));
        assert_eq!(isolate(&["ps", "-q"]).well(), "", "it does not run");
        assert_eq!(isolate(&["sweep"]).well(), "left\n");
        assert_eq!(isolate(&["sweep"]).well(), "");
    });
}

#[test]
fn what_the_machine_can_do_is_told_to_people_and_programs() {
    kernel_test(NEEDS, || {
        let told = isolate(&["check"]);
        assert!(told.code <= 1, "{told:?}");
        assert!(told.out.contains("user namespaces") && !told.out.contains('\x1b'), "{told:?}");
        let findings = isolate(&["check", "--format", "json"]);
        assert_eq!(findings.code, told.code);
        let found = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        assert!(findings.out.lines().map(found).any(|finding| finding["Found"] == "true"), "{findings:?}");
    });
}
