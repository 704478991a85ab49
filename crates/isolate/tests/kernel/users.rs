//! User namespaces of containers that root starts: whose files are whose, on both sides.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use isolate::{ErrorKind, Mount, Namespace, Origin, Rootfs, User, UserNamespace};
use testkit::{Need, kernel_test};

use crate::common::{OnDisk, printed};

const BUSYBOX: &[Need] = &[Need::Root, Need::Overlay, Need::Program("busybox")];

/// First id of a range, and no id of the host's.
fn is_of_a_range(id: u32) -> bool {
    id >= 0x7000_0000 && id.is_multiple_of(65_536)
}

/// The ids of a process, real, effective, saved and of files.
fn ids(pid: u32) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
    line.split_whitespace().skip(1).map(|id| id.parse().unwrap()).collect()
}

#[test]
fn root_inside_is_an_id_of_a_range_outside_that_no_other_container_has() {
    kernel_test(BUSYBOX, || {
        let disk = OnDisk::root();
        let (one, other) = (disk.sh("sleep 100").start().unwrap(), disk.sh("sleep 100").start().unwrap());
        let [one_id, other_id] = [&one, &other].map(|container| ids(container.pid())[0]);
        assert!(is_of_a_range(one_id) && is_of_a_range(other_id), "{one_id} {other_id}");
        assert_ne!(one_id, other_id);
        assert!(ids(one.pid()).iter().all(|id| *id == one_id));
        assert_eq!(one.root_outside(), Some([one_id, one_id]));
        let inside = one.exec("id").arg("-u").output().unwrap();
        assert_eq!(inside.stdout, b"0\n");
        let map = one.exec("cat").arg("/proc/self/uid_map").output().unwrap();
        let map = String::from_utf8(map.stdout).unwrap();
        let map: Vec<_> = map.split_whitespace().map(str::to_owned).collect();
        assert_eq!(map, ["0".to_owned(), one_id.to_string(), "65536".to_owned()]);
        for container in [one, other] {
            container.remove().unwrap();
        }
        assert_eq!(fs::read_dir("/run/isolate/ids").unwrap().count(), 0, "the ranges are free again");

        let host = disk.sh("sleep 100").user_namespace(UserNamespace::Host).start().unwrap();
        assert_eq!(ids(host.pid()), [0; 4], "if the caller says so");
        assert_eq!(host.root_outside(), None);
        host.remove().unwrap();
    });
}

#[test]
fn a_root_of_roots_files_reads_and_writes_as_root_inside() {
    kernel_test(BUSYBOX, || {
        let disk = OnDisk::root();
        fs::write(disk.0.join("root/secret"), "of root").unwrap();
        fs::set_permissions(disk.0.join("root/secret"), fs::Permissions::from_mode(0o600)).unwrap();
        chown(disk.0.join("root/tmp"), Some(1000), Some(1000)).unwrap();
        let script = "stat -c '%u %g' /secret /tmp; cat /secret; echo; echo more >> /secret; echo new > /new; \
                      mkdir /bin/below; chown 33:33 /new; stat -c '%u' /secret /new /bin/below";
        let expected = "0 0\n1000 1000\nof root\n0\n33\n0\n";

        let roots = [
            Rootfs::from(disk.0.join("root")),
            Rootfs::from(disk.0.join("root")).upper(disk.0.join("upper")),
            Rootfs::writable(disk.0.join("root")),
        ];
        for root in roots {
            let container = disk.sh(script).rootfs(root.clone()).user_namespace(UserNamespace::Required);
            assert_eq!(printed(container), expected, "{root:?}");
        }
        // Layers are as they were; a kept upper layer has the range's ids, a writable directory root's own.
        let owner = |path: &str| fs::metadata(disk.0.join(path)).unwrap().uid();
        let base = owner("upper/bin/below");
        assert!(is_of_a_range(base), "{base}");
        assert_eq!((owner("upper/secret"), owner("upper/new")), (base, base + 33));
        assert_eq!((owner("root/secret"), owner("root/new"), owner("root/bin/below")), (0, 33, 0));
    });
}

#[test]
fn a_kept_upper_layer_has_its_range_again_and_one_of_roots_files_has_none() {
    kernel_test(BUSYBOX, || {
        let disk = OnDisk::root();
        let kept = || Rootfs::from(disk.0.join("root")).upper(disk.0.join("upper"));
        assert_eq!(printed(disk.sh("echo one > /file; stat -c %u /file").rootfs(kept())), "0\n");
        assert_eq!(
            printed(disk.sh("cat /file; stat -c %u /file").rootfs(kept())),
            "one\n0\n",
            "the same range"
        );

        // As of a container without a user namespace.
        fs::create_dir(disk.0.join("roots")).unwrap();
        fs::write(disk.0.join("roots/file"), "x").unwrap();
        let roots = || Rootfs::from(disk.0.join("root")).upper(disk.0.join("roots"));
        let error =
            disk.sh("true").rootfs(roots()).user_namespace(UserNamespace::Required).start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("roots belongs to ids of the caller's"), "{error}");
        let plan = disk.sh("true").rootfs(roots()).plan().unwrap();
        assert!(plan.steps().any(|step| step.starts_with("no user namespace: upper layer ")), "{plan}");
        assert_eq!(printed(disk.sh("stat -c %u /file").rootfs(roots())), "0\n");
    });
}

#[test]
fn a_volumes_files_keep_their_owners_on_both_sides() {
    kernel_test(BUSYBOX, || {
        let disk = OnDisk::root();
        let data = disk.0.join("data");
        fs::create_dir(&data).unwrap();
        for (name, owner) in [("root", 0), ("user", 1000)] {
            fs::write(data.join(name), name).unwrap();
            chown(data.join(name), Some(owner), Some(owner)).unwrap();
        }
        let script =
            "stat -c %u /data/root /data/user; echo x > /data/made; chown 1000 /data/made; touch /data/mine";
        let volume = Mount::bind(&data, "/data");
        assert_eq!(
            printed(disk.sh(script).mount(volume.clone()).user_namespace(UserNamespace::Required)),
            "0\n1000\n"
        );
        let owner = |name: &str| fs::metadata(data.join(name)).unwrap().uid();
        assert_eq!((owner("made"), owner("mine")), (1000, 0));

        let as_user = disk
            .sh("id -u; touch /data/user; touch /data/root 2>/dev/null || echo refused")
            .mount(volume)
            .user(User::id_and_group(1000, 1000));
        assert_eq!(printed(as_user), "1000\nrefused\n");
    });
}

#[test]
fn what_cannot_be_id_mapped_is_named_in_the_plan_and_an_error_if_it_must_be() {
    kernel_test(BUSYBOX, || {
        // The kernel's own file systems cannot.
        let disk = OnDisk::root();
        let odd = || {
            disk.sh("cat /data/uptime > /dev/null; cat /proc/self/uid_map")
                .mount(Mount::bind("/proc", "/data"))
        };
        let plan = odd().plan().unwrap();
        let named = plan.steps().find(|step| step.starts_with("no user namespace: "));
        assert!(named.is_some_and(|step| step.contains("cannot id-map /proc")), "{plan}");
        let error = odd().user_namespace(UserNamespace::Required).start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("cannot id-map /proc"), "{error}");
        assert!(printed(odd()).contains("4294967295"), "without one it starts");
        let shared = disk.sh("true").namespace(Namespace::Pid, Origin::host());
        let plan = shared.plan().unwrap();
        assert!(
            plan.steps().any(|step| step == "no user namespace: it shares the host's pid namespace"),
            "{plan}"
        );
        let error = shared.user_namespace(UserNamespace::Required).start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    });
}

#[test]
fn a_range_that_its_owner_left_is_swept() {
    kernel_test(BUSYBOX, || {
        let disk = OnDisk::root();
        let container = disk.sh("sleep 100").start().unwrap();
        std::os::unix::fs::symlink("gone", "/run/isolate/ids/2013265920").unwrap();
        isolate::sweep().unwrap();
        let left: Vec<_> =
            fs::read_dir("/run/isolate/ids").unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, [container.root_outside().unwrap()[0].to_string().as_str()]);
        container.remove().unwrap();
    });
}
