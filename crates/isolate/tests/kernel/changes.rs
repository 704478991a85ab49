//! What a container has written, told and given away as a layer.

use std::fs;
use std::io::Read;

use isolate::{Container, ErrorKind, Rootfs, UserNamespace};
use testkit::{Need, kernel_test};

use crate::common::{NEEDS, OnDisk, sh};

fn told(container: &Container) -> Vec<String> {
    container.changes().unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn what_it_writes_is_told_and_a_layer_of_it_is_as_the_container_sees_it() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let script = "echo one >/srv/new; chown 7:8 /srv/new; rm -r /etc/old; exec sleep 1000";
        fs::create_dir_all(disk.0.join("root/etc/old")).unwrap();
        fs::create_dir_all(disk.0.join("root/srv")).unwrap();
        for namespace in [UserNamespace::Auto, UserNamespace::Host] {
            let idle = disk.sh("exec sleep 1000").user_namespace(namespace).start().unwrap();
            // Something was made in it; what, is not the container's doing.
            assert_eq!(told(&idle), ["C /etc"]);
            let container = disk.sh(script).user_namespace(namespace).start().unwrap();
            container.exec("true").status().unwrap();
            let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
            let new = loop {
                let new = told(&container);
                if new.len() == 4 || std::time::Instant::now() > end {
                    break new;
                }
            };
            assert_eq!(new, ["C /etc", "D /etc/old", "C /srv", "A /srv/new"]);
            let mut layer = Vec::new();
            container.diff(&mut layer).unwrap();
            let mut found = 0;
            for entry in tar::Archive::new(&*layer).entries().unwrap() {
                let mut entry = entry.unwrap();
                let owner = (entry.header().uid().unwrap(), entry.header().gid().unwrap());
                match entry.path().unwrap().to_str().unwrap() {
                    "srv/new" => {
                        let mut text = String::new();
                        entry.read_to_string(&mut text).unwrap();
                        assert_eq!((&*text, owner), ("one\n", (7, 8)));
                        found += 1;
                    }
                    "etc/.wh.old" => found += 1,
                    "etc/" | "srv/" | "etc" | "srv" => {}
                    other => panic!("{other}"),
                }
            }
            assert_eq!(found, 2);
            container.remove().unwrap();
            idle.remove().unwrap();
        }
    });
}

#[test]
fn a_root_that_is_no_overlay_on_a_disk_has_no_changes_to_tell() {
    kernel_test(&[Need::Root, Need::Overlay], || {
        let disk = OnDisk::root();
        for root in [Rootfs::writable(disk.0.join("root")), Rootfs::host()] {
            let container = sh("exec sleep 1000").rootfs(root).start().unwrap();
            let error = container.changes().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.hint().is_some_and(|hint| hint.contains("upper")), "{error:?}");
            container.remove().unwrap();
        }
    });
}
