//! How much a container may write, and where.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use isolate::overlay::Project;
use isolate::{Bytes, ErrorKind, Mount, Rootfs, UserNamespace};
use testkit::{Need, kernel_test};

use crate::common::{NEEDS, OnDisk, printed, sh, until};

const LOOP: &[Need] = &[Need::Root, Need::Overlay, Need::Loop, Need::Program("busybox")];
/// Says to this program that it is an owner to be killed, and on which root.
const OWNER: &str = "ISOLATE_TEST_DISK_OWNER";

/// Loop devices with a file that has lost its name: of a place of a size.
fn devices() -> usize {
    let all = fs::read_dir("/sys/block").unwrap().flatten();
    all.filter(|device| {
        let file = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        file.contains("/isolate-") && file.trim_end().ends_with("/disk (deleted)")
    })
    .count()
}

#[test]
fn a_place_on_the_disk_is_no_larger_than_was_said_and_nothing_of_it_is_left() {
    kernel_test(LOOP, || {
        let disk = OnDisk::root();
        for namespace in [UserNamespace::Auto, UserNamespace::Host] {
            let written = |root: Rootfs, mebibytes: u32| {
                let script = format!(
                    "rm /bin/ls && mv /root /toor && echo moved; dd if=/dev/zero of=/file bs=1M count={mebibytes} 2>&1 | grep -o 'No space left'; stat -c '%s %u' /file"
                );
                printed(sh(&script).rootfs(root).user_namespace(namespace))
            };
            let root = |most| Rootfs::from(disk.0.join("root")).on_disk(Bytes::mib(most));
            assert_eq!(written(root(16), 8), "moved\n8388608 0\n");
            let full = written(root(16), 20);
            let size: u64 = full.split_whitespace().nth(4).and_then(|word| word.parse().ok()).unwrap();
            assert!(
                full.starts_with("moved\nNo space left\n") && (14 << 20..16 << 20).contains(&size),
                "{full}"
            );
            assert_eq!(written(root(64), 20), "moved\n20971520 0\n", "the control");
            assert!(disk.0.join("root/etc/passwd").exists() && !disk.0.join("root/file").exists());
        }
        let host = sh("dd if=/dev/zero of=/usr/file bs=1M count=20 2>&1 | grep -o 'No space left'")
            .rootfs(Rootfs::host().on_disk(Bytes::mib(16)));
        assert_eq!(printed(host), "No space left\n");
        assert!(until(Duration::from_secs(10), || (devices() == 0).then_some(())).is_some());
        assert_eq!(fs::read_dir("/var/lib/isolate").unwrap().count(), 0);
    });
}

#[test]
fn where_the_disk_bounds_projects_a_place_is_bounded_by_one() {
    kernel_test(&[&[Need::ProjectQuota], LOOP].concat(), || {
        let run = |program: &str, args: &[&str]| {
            assert!(Command::new(program).args(args).status().unwrap().success(), "{program} {args:?}");
        };
        let (disk, image) = (OnDisk::root(), OnDisk::new());
        let file = image.0.join("image");
        fs::File::create(&file).unwrap().set_len(256 << 20).unwrap();
        let (file, own) = (file.to_str().unwrap(), "/var/lib/isolate");
        run("mke2fs", &["-q", "-t", "ext4", "-O", "quota,project", "-E", "quotatype=prjquota", file]);
        run("mount", &["-o", "loop,prjquota", file, own]);
        assert!(Project::is_supported(own) && !Project::is_supported(&disk.0));
        for namespace in [UserNamespace::Auto, UserNamespace::Host] {
            let start = |most, mebibytes: u32| {
                let script = format!(
                    "dd if=/dev/zero of=/file bs=1M count={mebibytes} 2>/dev/null; rm /bin/ls; mv /root /toor; touch /done; sleep 1000"
                );
                let root = Rootfs::from(disk.0.join("root")).on_disk(Bytes::mib(most));
                let container =
                    sh(&script).name("bounded").rootfs(root).user_namespace(namespace).start().unwrap();
                let told = || container.open_file("/done").ok();
                until(Duration::from_secs(60), told);
                container
            };
            for (most, mebibytes, expected) in [(16, 8, 8 << 20), (16, 40, 0), (64, 40, 40 << 20)] {
                let container = start(most, mebibytes);
                let record = fs::read_to_string("/run/isolate/containers/bounded/record").unwrap();
                let record: serde_json::Value = serde_json::from_str(&record).unwrap();
                let project = Project::on(own, u32::try_from(record["project"].as_u64().unwrap()).unwrap());
                let size = container.open_file("/file").unwrap().metadata().unwrap().len();
                if expected > 0 {
                    assert_eq!(size, expected, "{most} {namespace:?}");
                    assert!(
                        container.changes().unwrap().iter().any(|change| change.path() == Path::new("file"))
                    );
                } else {
                    assert!((14 << 20..=16 << 20).contains(&size), "{size} {namespace:?}");
                }
                let used = project.used().unwrap();
                assert!((size..=most << 20).contains(&used), "{used}");
                container.remove().unwrap();
                assert!(project.is_free().unwrap(), "neither files nor a bound");
            }
        }
        let left: Vec<_> = fs::read_dir(own).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["lost+found"]);
        rustix::mount::unmount(own, rustix::mount::UnmountFlags::empty()).unwrap();
    });
}

/// No test: an owner that is killed.
#[test]
#[ignore = "the test below starts it as a process of its own"]
fn disk_owner() {
    let Some(root) = std::env::var_os(OWNER) else { return };
    let root = Rootfs::from(PathBuf::from(root)).on_disk(Bytes::mib(64));
    let _container = sh("dd if=/dev/zero of=/file bs=1M count=20; sleep 1000").rootfs(root).start().unwrap();
    println!("\nstarted");
    std::thread::sleep(Duration::from_secs(1000));
}

#[test]
fn the_place_on_the_disk_of_an_owner_that_is_killed_goes() {
    kernel_test(LOOP, || {
        let disk = OnDisk::root();
        let mut owner = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "storage::disk_owner", "--ignored", "--nocapture"])
            .env(OWNER, disk.0.join("root"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(owner.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.into_iter().any(|line| line == "started"));
        assert_eq!(devices(), 1);
        owner.kill().unwrap();
        owner.wait().unwrap();
        assert!(until(Duration::from_secs(10), || (devices() == 0).then_some(())).is_some());
        let swept = || {
            isolate::sweep().unwrap();
            fs::read_dir("/var/lib/isolate").unwrap().next().is_none().then_some(())
        };
        assert!(until(Duration::from_secs(5), swept).is_some());
    });
}

#[test]
fn the_file_system_of_a_place_of_any_size_is_sound() {
    kernel_test(&[&[Need::Program("e2fsck")], LOOP].concat(), || {
        for size in [1 << 20, 5_000_000, 128 << 20, (128 << 20) + 4096, 300_000_000, 16 << 30] {
            let file = Path::new("/var/tmp").join(format!("isolate-test-disk-{}", std::process::id()));
            let mount = isolate::overlay::limited(&file, size).unwrap().attach(testkit::scratch()).unwrap();
            let place = mount.path().to_owned();
            fs::create_dir(place.join("d")).unwrap();
            (0..100).for_each(|n| fs::write(place.join("d").join(format!("{n}")), [n; 5000]).unwrap());
            (0..50).for_each(|n| fs::remove_file(place.join("d").join(format!("{n}"))).unwrap());
            rustix::fs::setxattr(place.join("d"), "user.x", b"y", rustix::fs::XattrFlags::empty()).unwrap();
            mount.unmount().unwrap();
            let check = Command::new("e2fsck").arg("-fn").arg(&file).output().unwrap();
            fs::remove_file(&file).unwrap();
            assert!(check.status.success(), "{size}: {}", String::from_utf8_lossy(&check.stdout));
        }
        let file = testkit::scratch().join("disk");
        let error = isolate::overlay::limited(&file, 1000).unwrap_err();
        assert_eq!(error.kind(), isolate::overlay::ErrorKind::InvalidInput, "{error}");
        assert!(!file.exists());
    });
}

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
        fs::create_dir(&source).unwrap();
        fs::copy("/bin/busybox", source.join("true")).unwrap();
        let bind = || Mount::bind(&source, "/t");
        let script = "/t/true 2>/dev/null && echo executed; true";
        assert_eq!(printed(disk.sh(script).mount(bind().noexec())), "");
        assert_eq!(printed(disk.sh(script).mount(bind())), "executed\n");
    });
}
