//! What a container sees: its own namespaces, processes, names, files and devices.

use std::fs;

use isolate::{Bytes, Capabilities, Mount, Rootfs, UserNamespace};
use rustix::fs::Mode;
use testkit::{Need, busybox_root, kernel_test, scratch};

use crate::common::{NEEDS, OnDisk, printed, sh};

#[test]
fn all_its_namespaces_are_others_than_the_callers() {
    kernel_test(NEEDS, || {
        let container = sh("sleep 100").start().unwrap();
        for kind in ["pid", "mnt", "net", "ipc", "uts", "cgroup"] {
            let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
            assert_ne!(of(&container.pid().to_string()), of("self"), "{kind}");
        }
        let here = fs::read_link("/proc/thread-self/ns/mnt").unwrap();
        container.remove().unwrap();
        assert_eq!(fs::read_link("/proc/thread-self/ns/mnt").unwrap(), here, "the caller stays where it was");
    });
}

#[test]
fn it_is_process_one_or_its_init_is_and_sees_no_others() {
    kernel_test(NEEDS, || {
        let pids = "echo $$; cd /proc; for p in [0-9]*; do echo $p; done";
        assert_eq!(printed(sh(pids).init(false)), "1\n1\n");
        assert_eq!(printed(sh(pids)), "2\n1\n2\n", "below its init");
    });
}

#[test]
fn its_name_environment_directory_and_umask_are_its_own() {
    kernel_test(NEEDS, || {
        assert_eq!(printed(sh("hostname; cat /etc/hostname").name("box")), "box\nbox\n");
        assert_eq!(printed(sh("hostname").name("box").hostname("other")), "other\n");
        let all = printed(
            sh("env | sort | cut -d= -f1 | grep -v '^_$' | tr '\\n' ' '; echo; echo $A; pwd; umask")
                .env("A", "b c")
                .workdir("/usr"),
        );
        assert_eq!(all, "A HOME HOSTNAME PATH PWD \nb c\n/usr\n0022\n");
        assert_eq!(printed(sh("cat /etc/hosts | grep -c box").name("box")), "1\n");
    });
}

#[test]
fn its_devices_are_six_and_its_own() {
    kernel_test(NEEDS, || {
        let nodes = printed(sh("cd /dev; for f in *; do [ -c $f ] && [ ! -L $f ] && echo $f; done"));
        let mut nodes: Vec<_> = nodes.lines().filter(|name| *name != "console").collect();
        nodes.sort_unstable();
        assert_eq!(nodes, ["full", "null", "random", "tty", "urandom", "zero"]);
        let disk = "mknod /tmp/disk b 8 0; cat /tmp/disk 2>&1 >/dev/null | grep -c denied; echo x >/dev/null; ls /dev/pts";
        let made = |container: isolate::ContainerBuilder| {
            printed(container.capabilities(Capabilities::DOCKER).stderr(isolate::Stdio::null()))
        };
        let root = OnDisk::root();
        assert_eq!(made(root.sh(disk)), "0\nptmx\n", "in a user namespace it cannot even be made");
        assert_eq!(made(sh(disk).user_namespace(UserNamespace::Host)), "0\nptmx\n", "nor without one");
        assert!(
            !sh("echo 1 > /sys/kernel/profiling || mkdir /sys/x")
                .stderr(isolate::Stdio::null())
                .status()
                .unwrap()
                .success()
        );
    });
}

#[test]
fn a_bind_mount_shows_the_hosts_files_and_read_only_is_read_only() {
    kernel_test(NEEDS, || {
        let host = scratch();
        fs::write(host.join("file"), "from the host").unwrap();
        let at = |mount: Mount| {
            sh("cat /data/file; echo written > /data/new").mount(mount).stderr(isolate::Stdio::null())
        };
        let refused = at(Mount::bind(&host, "/data").read_only()).output().unwrap();
        assert_eq!((refused.stdout.as_slice(), refused.status.success()), (&b"from the host"[..], false));
        assert!(!host.join("new").exists());
        assert!(at(Mount::bind(&host, "/data")).output().unwrap().status.success());
        assert_eq!(fs::read(host.join("new")).unwrap(), b"written\n");
        let size = printed(
            sh("df -k /big | tail -1 | awk '{print $2}'").mount(Mount::tmpfs("/big").size(Bytes::mib(4))),
        );
        assert_eq!(size, "4096\n");
    });
}

#[test]
fn what_it_mounts_is_not_seen_outside() {
    kernel_test(NEEDS, || {
        let before = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let container = sh("mount -t tmpfs x /mnt; exec sleep 100").start().unwrap();
        assert_eq!(fs::read_to_string("/proc/thread-self/mountinfo").unwrap(), before);
        container.remove().unwrap();
    });
}

/// Runs an applet of busybox as a user who is not root.
const AS_NOBODY: &str = "busybox start-stop-daemon -S -n none -c nobody -x /bin/busybox --";

#[test]
fn the_callers_umask_hides_nothing_from_other_users_inside() {
    kernel_test(&[Need::Root, Need::Overlay, Need::Program("busybox")], || {
        let (root, bare, secret) = (scratch(), scratch(), scratch());
        busybox_root(&root);
        busybox_root(&bare);
        fs::remove_dir_all(bare.join("etc")).unwrap();
        let users = secret.join("passwd");
        fs::write(&users, "nobody:x:65534:65534:::\n").unwrap();
        // Of the world's own process.
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
        fs::write(secret.join("file"), "secret").unwrap();
        let as_nobody = |root: &Rootfs, command: &str| {
            let mounts = [
                Mount::bind(&users, "/etc/passwd").read_only(),
                Mount::bind(&secret, "/secret"),
                Mount::tmpfs("/a/b"),
            ];
            let container = sh(&format!("{AS_NOBODY} {command}")).name("box").rootfs(root.clone());
            mounts.into_iter().fold(container, isolate::ContainerBuilder::mount)
        };
        let layers =
            [Rootfs::layers([&root]), Rootfs::layers([&bare]), Rootfs::host(), Rootfs::writable(&bare)];
        for root in layers {
            assert_eq!(printed(as_nobody(&root, "id -u")), "65534\n", "{root:?}");
            let shown = printed(as_nobody(&root, "cat /etc/hosts /etc/hostname /etc/resolv.conf"));
            assert!(shown.ends_with(" box\nbox\n# no network\n"), "{root:?}: {shown}");
            assert_eq!(printed(as_nobody(&root, "touch /a/b/file")), "", "{root:?}");
            let refused = as_nobody(&root, "cat /secret/file").stderr(isolate::Stdio::null());
            assert!(!refused.status().unwrap().success(), "but what is root's own: {root:?}");
        }
    });
}
