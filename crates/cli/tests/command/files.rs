//! `cp`, `diff`, `export`.

use std::fs;

use testkit::{busybox_root, kernel_test, scratch};

use crate::common::{NEEDS, isolate};

#[test]
fn files_go_in_and_out_and_what_changed_is_told() {
    kernel_test(NEEDS, || {
        let place = scratch();
        busybox_root(place.join("root"));
        let root = place.join("root");
        let run = [
            "run",
            "-d",
            "--name",
            "box",
            "--network=none",
            "--rootfs",
            root.to_str().unwrap(),
            "sleep",
            "100",
        ];
        isolate(&run).well();
        fs::write(place.join("in"), "carried\n").unwrap();
        let (from, to) = (place.join("in"), place.join("out"));
        assert_eq!(isolate(&["cp", from.to_str().unwrap(), "box:/root/in"]).well(), "");
        assert_eq!(isolate(&["exec", "box", "cat", "/root/in"]).well(), "carried\n");
        isolate(&["exec", "box", "rm", "/etc/group"]).well();
        assert_eq!(isolate(&["cp", "box:/root/in", to.to_str().unwrap()]).well(), "");
        assert_eq!(fs::read_to_string(&to).unwrap(), "carried\n");
        assert!(isolate(&["cp", "a", "b"]).failed(125).contains("CONTAINER:PATH"));
        assert!(isolate(&["cp", "box:/no/such", "b"]).failed(125).contains("/no/such"));
        let changed = isolate(&["diff", "box"]).well();
        assert!(changed.contains("A /root/in\n") && changed.contains("D /etc/group\n"), "{changed}");
        let archive = place.join("all.tar");
        assert_eq!(isolate(&["export", "-o", archive.to_str().unwrap(), "box"]).well(), "");
        let mut names = Vec::new();
        for entry in tar::Archive::new(fs::File::open(&archive).unwrap()).entries().unwrap() {
            names.push(entry.unwrap().path().unwrap().display().to_string());
        }
        let has = |name: &str| names.iter().any(|other| other.trim_start_matches("./") == name);
        assert!(has("root/in") && has("etc/passwd") && !has("etc/group"), "{names:?}");
        assert_eq!(isolate(&["rm", "-f", "box"]).well(), "box\n");
    });
}
