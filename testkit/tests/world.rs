//! That a world is one of its own, and that the leak check finds what it is for.

#![expect(clippy::disallowed_methods, reason = "a process to be found")]

use std::os::fd::AsRawFd;
use std::process::Command;

use testkit::leaks::Snapshot;
use testkit::{Need, kernel_test, scratch};

#[test]
fn a_world_has_nothing_but_its_loopback_device_and_an_empty_run() {
    kernel_test(&[Need::Root], || {
        let devices = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        assert_eq!(devices.lines().count(), 3, "{devices}");
        std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(std::fs::read_dir("/run").unwrap().count(), 1);
        assert!(scratch().starts_with("/run/tmp"));
    });
}

#[test]
fn the_leak_check_finds_a_process_a_mount_a_link_a_descriptor_and_a_file() {
    kernel_test(&[Need::Root], || {
        let before = Snapshot::take();
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let file = std::fs::File::open("/etc/passwd").unwrap();
        std::fs::create_dir_all("/run/isolate/containers/left").unwrap();
        let place = scratch();
        rustix::mount::mount_bind("/etc", &place).unwrap();

        let left = before.left().join("\n");
        for what in [
            format!("process {} sleep", child.id()),
            format!("descriptor {} /etc/passwd", file.as_raw_fd()),
            "file /run/isolate/containers/left".to_owned(),
            "mount ".to_owned(),
        ] {
            assert!(left.contains(&what), "{what} is not in:\n{left}");
        }
        rustix::mount::unmount(&place, rustix::mount::UnmountFlags::DETACH).unwrap();
        std::fs::remove_dir_all("/run/isolate").unwrap();
        drop(file);
        child.kill().unwrap();
        child.wait().unwrap();
    });
}
