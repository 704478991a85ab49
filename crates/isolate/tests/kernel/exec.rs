//! One more program in a running container.

use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};

use isolate::{
    Capabilities, Container, ErrorKind, Namespace, Outcome, Resource, Signal, Stdio, User, UserNamespace,
};
use testkit::{Need, kernel_test};

use crate::common::{OnDisk, sh, slow, until};

const NEEDS: &[Need] = &[Need::Root, Need::Overlay, Need::Program("busybox")];

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn printed(container: &Container, script: &str) -> String {
    let output = container.exec("sh").args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{}", text(output.stderr));
    text(output.stdout)
}

const RIGHTS: &str =
    "grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Gid|Groups)' /proc/self/status; ulimit -c; ulimit -l";

#[test]
fn it_is_where_the_containers_command_is_with_the_same_rights() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        for users in [UserNamespace::Required, UserNamespace::Host] {
            let mut container = disk
                .sh(&format!("{RIGHTS}; pwd; exec sleep 1000"))
                .env("OWN", "yes")
                .workdir("/tmp")
                .ulimit(Resource::Nofile, 100)
                .add_capabilities(Capabilities::NET_ADMIN)
                .user_namespace(users)
                .stdout(Stdio::piped())
                .start()
                .unwrap();
            let mut own = String::new();
            let mut pipe = container.stdout.take().unwrap();
            while !own.ends_with("/tmp\n") {
                let mut byte = [0];
                pipe.read_exact(&mut byte).unwrap();
                own.push(char::from(byte[0]));
            }
            assert_eq!(printed(&container, &format!("{RIGHTS}; pwd")), own, "{users:?}");
            assert_eq!(printed(&container, "ulimit -n; echo $OWN; echo $CARGO_MANIFEST_DIR"), "100\nyes\n\n");
            for kind in [
                Namespace::Cgroup,
                Namespace::Ipc,
                Namespace::Mount,
                Namespace::Net,
                Namespace::Pid,
                Namespace::Uts,
                Namespace::User,
            ] {
                let there = fs::read_link(format!("/proc/{}/ns/{kind}", container.pid())).unwrap();
                let here = printed(&container, &format!("readlink /proc/self/ns/{kind}"));
                assert_eq!(here.trim(), there.to_str().unwrap(), "{kind}");
            }
            let child = container.exec("sleep").arg("1000").spawn().unwrap();
            let groups = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
            assert_eq!(groups(child.pid()), groups(container.pid()), "in every hierarchy");
            assert!(container.cgroup().unwrap().pids().unwrap().contains(&child.pid()));
            drop(child);
            container.remove().unwrap();
        }
    });
}

#[test]
fn its_status_user_directory_and_environment_are_as_asked() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        fs::write(disk.0.join("root/etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/var:/bin/sh\n")
            .unwrap();
        fs::write(disk.0.join("root/etc/group"), "adm:x:4:web\n").unwrap();
        let container = disk.sh("sleep 1000").start().unwrap();
        let code = |script: &str| container.exec("sh").args(["-c", script]).status().unwrap();
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(code("exit 7").code(), Some(7));
        assert_eq!(code("kill -9 $$").signal(), Some(9));
        assert_eq!(code("kill -40 $$").signal(), Some(40));
        let output = container
            .exec("sh")
            .args(["-c", "id -u; id -g; id -G; echo $HOME; pwd; echo $A; cat; grep CapEff /proc/self/status"])
            .user(User::named("web"))
            .current_dir("/var")
            .env("A", "b")
            .output()
            .unwrap();
        assert_eq!(text(output.stdout), "33\n34\n34 4\n/var\n/var\nb\nCapEff:\t0000000000000000\n");
        let error = container.exec("true").user(User::named("nobody-here")).status().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let error = container.exec("/no/such").status().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ProgramNotFound);
        let mut slow = container.exec("sleep").arg("100").timeout(Duration::from_secs(2)).spawn().unwrap();
        assert_eq!(slow.outcome().unwrap(), Outcome::TimedOut);
        let mut gone = container.exec("sleep").arg("100").spawn().unwrap();
        gone.signal(Signal::TERM).unwrap();
        assert_eq!(gone.outcome().unwrap(), Outcome::Signaled(Signal::TERM));
        container.remove().unwrap();
    });
}

#[test]
fn its_orphans_are_reaped_and_dropping_it_kills_it() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let container = disk.sh("sleep 1000").start().unwrap();
        printed(&container, "for i in 1 2 3 4 5; do sh -c 'sleep 0.1 & sleep 0.05 & true'; done");
        let zombies = || printed(&container, "cat /proc/[0-9]*/stat | grep -c ' Z '; true");
        until(Duration::from_secs(10), || (zombies() == "0\n").then_some(())).expect("no zombie stays");
        let sleeps = || printed(&container, "cat /proc/[0-9]*/comm | grep -c ^sleep; true");
        until(Duration::from_secs(10), || (sleeps() == "1\n").then_some(())).unwrap();
        let child = container.exec("sleep").arg("77").spawn().unwrap();
        assert_eq!(sleeps(), "2\n");
        drop(child);
        assert_eq!(sleeps(), "1\n");
        container.remove().unwrap();
    });
}

#[test]
fn into_a_paused_container_it_is_an_error_and_into_one_that_has_ended() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let mut container = disk.sh("sleep 1000").start().unwrap();
        container.pause().unwrap();
        let start = Instant::now();
        let error = container.exec("true").status().unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(5));
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains("frozen") && error.hint().is_some(), "{error:?}");
        container.resume().unwrap();
        assert!(container.exec("true").status().unwrap().success());
        let waits = container.exec("sleep").arg("1000").spawn().unwrap();
        container.kill().unwrap();
        container.wait().unwrap();
        let mut waits = waits;
        assert!(waits.wait_timeout(Duration::from_secs(5)).unwrap().is_some(), "they end with it");
        container.exec("true").status().unwrap_err();
        container.remove().unwrap();
    });
}

#[test]
fn many_at_once_from_many_threads() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let container = disk.sh("sleep 1000").start().unwrap();
        let each = if slow() { 2 } else { 20 };
        std::thread::scope(|scope| {
            for thread in 0..10 {
                let container = &container;
                scope.spawn(move || {
                    for n in 0..each {
                        let code = (thread * 20 + n) % 250;
                        let status =
                            container.exec("sh").args(["-c", &format!("exit {code}")]).status().unwrap();
                        assert_eq!(status.code(), Some(code));
                    }
                });
            }
        });
        container.remove().unwrap();
    });
}

#[test]
fn the_hosts_root_takes_it_too() {
    kernel_test(&[Need::Root, Need::Overlay], || {
        let container = sh("exec sleep 1000").start().unwrap();
        assert_eq!(printed(&container, "echo here"), "here\n");
        container.remove().unwrap();
    });
}
