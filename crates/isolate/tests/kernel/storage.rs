//! How much a container may write, and where.

use isolate::{Bytes, ErrorKind, Mount, Rootfs, UserNamespace};
use testkit::kernel_test;

use crate::common::{NEEDS, OnDisk, printed, sh};

#[test]
fn a_root_in_memory_is_no_larger_than_was_said() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let root = |most| Rootfs::from(disk.0.join("root")).in_memory(Bytes::mib(most));
        for namespace in [UserNamespace::Auto, UserNamespace::Host] {
            let written = |root, mebibytes: u32| {
                let script = format!(
                    "dd if=/dev/zero of=/file bs=1M count={mebibytes} 2>&1 | grep -o 'No space left'; stat -c %s /file"
                );
                printed(sh(&script).rootfs(root).user_namespace(namespace))
            };
            assert_eq!(written(root(16), 8), "8388608\n");
            let full = written(root(16), 20);
            let size: u64 = full.lines().nth(1).and_then(|line| line.parse().ok()).unwrap();
            assert!(full.starts_with("No space left\n") && size <= 16 << 20 && size > 15 << 20, "{full}");
            assert_eq!(written(root(64), 20), "20971520\n", "the control");
        }
        assert!(!disk.0.join("root/file").exists());
        let host = sh("dd if=/dev/zero of=/usr/file bs=1M count=20 2>&1 | grep -o 'No space left'")
            .rootfs(Rootfs::host().in_memory(Bytes::mib(16)));
        assert_eq!(printed(host), "No space left\n");
    });
}

#[test]
fn what_cannot_be_in_memory_is_an_error_and_nothing_is_made() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let path = disk.0.join("root");
        for root in [
            Rootfs::from(&*path).upper(disk.0.join("upper")).in_memory(Bytes::mib(16)),
            Rootfs::writable(&path).in_memory(Bytes::mib(16)),
            Rootfs::read_only(&path).in_memory(Bytes::mib(16)),
            Rootfs::from(&*path).in_memory(0),
        ] {
            let error = sh("true").rootfs(root).start().map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
            assert!(error.to_string().contains("memory"), "{error}");
        }
        for mount in [
            Mount::tmpfs("/t").size(0),
            Mount::tmpfs("/t").inodes(1),
            Mount::tmpfs("/t").mode(0o10000),
            Mount::bind(&path, "/t").mode(0o755),
            Mount::bind(&path, "/t").inodes(10),
        ] {
            let error = disk.sh("true").mount(mount).start().map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
            assert!(error.to_string().contains("mount at /t: "), "{error}");
        }
        assert!(!disk.0.join("upper").exists());
    });
}

#[test]
fn a_tmpfs_has_the_mode_and_as_many_files_as_was_said_and_nothing_on_it_is_executed() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let script = "stat -c %a /t; for n in 1 2 3 4 5 6; do touch /t/$n 2>/dev/null || echo full; done; \
                      rm -f /t/*; cp /bin/busybox /t/true && /t/true 2>/dev/null && echo executed; true";
        let tmpfs = || Mount::tmpfs("/t").mode(0o750).inodes(5);
        assert_eq!(printed(disk.sh(script).mount(tmpfs().noexec())), "750\nfull\nfull\n");
        assert_eq!(printed(disk.sh(script).mount(tmpfs().inodes(50))), "750\nexecuted\n", "the control");

        let source = disk.0.join("programs");
        std::fs::create_dir(&source).unwrap();
        std::fs::copy("/bin/busybox", source.join("true")).unwrap();
        let bind = || Mount::bind(&source, "/t");
        let script = "/t/true 2>/dev/null && echo executed; true";
        assert_eq!(printed(disk.sh(script).mount(bind().noexec())), "");
        assert_eq!(printed(disk.sh(script).mount(bind())), "executed\n");
    });
}
