//! Where namespaces come from: new, the host's, another container's, by path, by descriptor; and clocks.

use std::fs;

use isolate::{Attach, ErrorKind, Namespace, Origin, UserNamespace};
use testkit::{Need, kernel_test};

use crate::common::{OnDisk, printed};

const NEEDS: &[Need] = &[Need::Root, Need::Overlay, Need::Program("busybox")];

fn of(pid: &str, kind: Namespace) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string()
}

const SHOW: &str = "for n in cgroup ipc net pid time user uts mnt; do readlink /proc/self/ns/$n; done";

#[test]
fn a_hosts_namespace_is_the_callers_and_all_others_are_not() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let kinds = [Namespace::Cgroup, Namespace::Ipc, Namespace::Net, Namespace::Pid, Namespace::Uts];
        for kind in kinds {
            let shown = printed(disk.sh(SHOW).namespace(kind, Origin::host()));
            for other in kinds {
                let is_there = shown.contains(&of("thread-self", other));
                assert_eq!(is_there, other == kind, "{other}, with the host's {kind}: {shown}");
            }
        }
        let shown = printed(disk.sh(SHOW));
        assert!(shown.contains(&of("thread-self", Namespace::Time)), "without clocks of its own");
        assert!(!shown.contains(&of("thread-self", Namespace::User)));
    });
}

#[test]
fn namespaces_of_another_container_come_with_its_user_namespace() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        for users in [UserNamespace::Required, UserNamespace::Host] {
            let first = disk.sh("echo a > /tmp/mine; exec sleep 100").user_namespace(users).start().unwrap();
            let pid = first.pid().to_string();
            let beside = disk
                .sh(&format!(
                    "{SHOW}; cat /proc/[0-9]*/comm | grep -c ^sleep; id -u; echo x > /tmp/own; cat /tmp/mine 2>/dev/null"
                ))
                .namespace(Namespace::Net, Origin::container(&first))
                .namespace(Namespace::Ipc, Origin::container(&first))
                .namespace(Namespace::Pid, Origin::container(&first))
                .user_namespace(UserNamespace::Auto)
                .stderr(isolate::Stdio::null());
            let output = beside.output().unwrap();
            let shown = String::from_utf8(output.stdout).unwrap();
            for kind in [Namespace::Net, Namespace::Ipc, Namespace::Pid, Namespace::User] {
                if kind == Namespace::User && users == UserNamespace::Host {
                    continue;
                }
                assert!(shown.contains(&of(&pid, kind)), "{kind}, {users:?}: {shown}");
            }
            assert!(
                !shown.contains(&of(&pid, Namespace::Mount)) && !shown.contains(&of(&pid, Namespace::Uts))
            );
            assert!(shown.ends_with("1\n0\n"), "its processes are seen, its files are not: {shown}");
            first.remove().unwrap();
        }
    });
}

#[test]
fn a_namespace_is_joined_by_path_and_by_descriptor() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let first = disk.sh("sleep 100").hostname("theirs").start().unwrap();
        let path = format!("/proc/{}/ns/uts", first.pid());
        let by_path = disk.sh("readlink /proc/self/ns/uts").namespace(Namespace::Uts, Origin::path(&path));
        let descriptor = fs::File::open(&path).unwrap();
        let by_descriptor =
            disk.sh("readlink /proc/self/ns/uts").namespace(Namespace::Uts, Origin::descriptor(descriptor));
        let expected = format!("{}\n", fs::read_link(&path).unwrap().display());
        for container in [by_path, by_descriptor] {
            // A name of one's own would be theirs, too.
            assert_eq!(printed(container.user_namespace(UserNamespace::Host)), expected);
        }
        let error = disk.sh("true").namespace(Namespace::Ipc, Origin::path("/no/such")).start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("/no/such"), "{error}");
        let error = disk.sh("true").namespace(Namespace::Mount, Origin::host()).start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        first.remove().unwrap();
    });
}

#[test]
fn clocks_of_its_own_are_ahead_of_the_callers_and_for_exec_too() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let uptime = |text: &str| text.split('.').next().unwrap().trim().parse::<u64>().unwrap();
        let own = uptime(&fs::read_to_string("/proc/uptime").unwrap());
        let mut container = disk
            .sh("cat /proc/uptime; exec sleep 100")
            .boottime_offset(100_000, 0)
            .monotonic_offset(200_000, 0)
            .stdout(isolate::Stdio::piped())
            .start()
            .unwrap();
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(container.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        assert!((own + 100_000..own + 100_100).contains(&uptime(&line)), "{line} at {own}");
        let later = container.exec("cat").arg("/proc/uptime").output().unwrap();
        let later = String::from_utf8(later.stdout).unwrap();
        assert!((own + 100_000..own + 100_100).contains(&uptime(&later)), "{later} at {own}");
        let shown = container.exec("readlink").arg("/proc/self/ns/time").output().unwrap();
        assert_ne!(String::from_utf8(shown.stdout).unwrap().trim(), of("thread-self", Namespace::Time));
        container.remove().unwrap();
    });
}

#[test]
fn the_hosts_network_is_there_with_a_user_namespace_of_its_own() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let shown = printed(disk.sh(&format!("{SHOW}; ls /sys/class/net")).network(Attach::host()));
        assert!(shown.contains(&of("thread-self", Namespace::Net)), "{shown}");
        assert!(!shown.contains(&of("thread-self", Namespace::User)), "{shown}");
        assert!(shown.ends_with("lo\n"), "{shown}");
    });
}
