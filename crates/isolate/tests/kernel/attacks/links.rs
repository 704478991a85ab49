//! Images and volumes whose names lead elsewhere.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use isolate::{ErrorKind, Mount, Rootfs};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use testkit::{Need, kernel_test, scratch};

use crate::common::{OnDisk, slow};

const NEEDS: &[Need] = &[Need::Root, Need::Overlay, Need::Program("busybox")];

fn mounts() -> String {
    fs::read_to_string("/proc/thread-self/mountinfo").unwrap()
}

#[test]
fn links_at_the_places_of_mounts_lead_nowhere_outside() {
    kernel_test(NEEDS, || {
        let canary = scratch();
        fs::write(canary.join("file"), "untouched").unwrap();
        let before = mounts();
        for place in ["proc", "dev", "sys", "etc", "tmp", "root", "var"] {
            let disk = OnDisk::root();
            let path = disk.0.join("root").join(place);
            fs::remove_dir_all(&path).unwrap();
            symlink(&canary, &path).unwrap();
            let volume = Mount::tmpfs(Path::new("/").join(place).join("volume"));
            let started =
                disk.sh("echo x > /tmp/file; echo x > /etc/hosts; echo x > /root/file; true").mount(volume);
            let built_in = ["proc", "dev", "sys"].contains(&place);
            match started.stderr(isolate::Stdio::null()).status() {
                Ok(_) => assert!(!built_in, "{place}: a link is no place for one of the container's own"),
                Err(error) => {
                    let typed = matches!(
                        error.kind(),
                        ErrorKind::Kernel | ErrorKind::NotFound | ErrorKind::InvalidConfig
                    );
                    assert!(typed && error.to_string().contains('/'), "{place}: {error}");
                }
            }
            assert_eq!(fs::read_to_string(canary.join("file")).unwrap(), "untouched", "{place}");
            assert_eq!(fs::read_dir(&canary).unwrap().count(), 1, "{place}: nothing was made there");
        }
        assert_eq!(mounts(), before);
        a_mount_by_path_follows(&canary);
    });
}

/// The control: whoever mounts at a path of the image's mounts where its link leads.
fn a_mount_by_path_follows(canary: &Path) {
    let disk = OnDisk::root();
    let place = disk.0.join("root/place");
    symlink(canary, &place).unwrap();
    mount("tmpfs", &place, "tmpfs", MountFlags::empty(), None).unwrap();
    assert!(!canary.join("file").exists());
    unmount(canary, UnmountFlags::empty()).unwrap();
    assert!(canary.join("file").exists());
}

/// Below the root they are as hostile as above it: the files that a container is given, its terminals, its devices.
#[test]
fn links_in_the_place_of_a_containers_own_files_lead_nowhere_outside() {
    kernel_test(NEEDS, || {
        let canary = scratch();
        fs::write(canary.join("file"), "untouched").unwrap();
        let before = mounts();
        let places = [
            "etc/hosts",
            "etc/hostname",
            "etc/resolv.conf",
            "dev/pts",
            "dev/shm",
            "dev/console",
            "proc/self",
            "sys/fs",
        ];
        for place in places {
            for target in [canary.join("file"), canary.clone(), "/proc/self/root/etc".into()] {
                let disk = OnDisk::root();
                let path = disk.0.join("root").join(place);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::remove_file(&path).ok();
                fs::remove_dir_all(&path).ok();
                symlink(&target, &path).unwrap();
                let started = disk.sh("echo x > /etc/hosts; echo x > /etc/hostname; ls /dev/pts; true");
                if let Err(error) = started.name("x").stderr(isolate::Stdio::null()).status() {
                    let named = [Path::new(place), &target]
                        .map(|path| error.to_string().contains(path.to_str().unwrap()));
                    assert_ne!(named, [false; 2], "{place}: {error}");
                    assert!(
                        place.starts_with("etc"),
                        "{place} is below a file system of the container's own: {error}"
                    );
                }
                assert_eq!(fs::read_to_string(canary.join("file")).unwrap(), "untouched", "{place}");
                assert_eq!(fs::read_dir(&canary).unwrap().count(), 1, "{place}: nothing was made there");
            }
        }
        assert_eq!(mounts(), before);
        // The control: a write by path does follow.
        let disk = OnDisk::root();
        fs::remove_file(disk.0.join("root/etc/hosts")).ok();
        symlink(canary.join("file"), disk.0.join("root/etc/hosts")).unwrap();
        fs::write(disk.0.join("root/etc/hosts"), "written").unwrap();
        assert_eq!(fs::read_to_string(canary.join("file")).unwrap(), "written");
    });
}

#[test]
fn proc_that_is_a_file_or_a_volume_is_an_error_or_hidden_below_the_containers_own() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        fs::remove_dir_all(disk.0.join("root/proc")).unwrap();
        fs::write(disk.0.join("root/proc"), "no directory").unwrap();
        let error = disk.sh("true").start().map(drop).unwrap_err();
        assert!(error.to_string().contains("/proc"), "{error}");

        let disk = OnDisk::root();
        let fake = scratch();
        fs::create_dir(fake.join("self")).unwrap();
        fs::write(fake.join("self/status"), "forged").unwrap();
        for target in ["/proc", "/proc/", "/./proc", "/proc/sys", "/sys", "/dev"] {
            let error = disk.sh("true").mount(Mount::bind(&fake, target)).start().map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{target}: {error}");
        }
        let root = disk.0.join("root");
        fs::create_dir_all(root.join("proc/self")).unwrap();
        fs::write(root.join("proc/self/status"), "forged").unwrap();
        let shown = disk.sh("head -c 5 /proc/self/status; stat -f -c %T /proc").output().unwrap();
        assert_eq!(shown.stdout, b"Name:proc\n", "the image's is not seen");
    });
}

#[test]
fn the_images_null_device_is_nobodys_mask() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        fs::remove_file(disk.0.join("root/dev/null")).ok();
        symlink("/proc/sys/kernel/core_pattern", disk.0.join("root/dev/null")).unwrap();
        let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
        let script = "stat -c '%F %t:%T' /dev/null /proc/kallsyms; echo attack > /proc/kallsyms; echo attack > /dev/null";
        let shown = disk.sh(script).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert_eq!(shown, "character special file 1:3\ncharacter special file 1:3\n");
        assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);

        // The control: a mask that is taken from the image by path is what its link leads to.
        let masked = scratch().join("masked");
        fs::write(&masked, "").unwrap();
        mount_bind(disk.0.join("root/dev/null"), &masked).unwrap();
        assert_eq!(fs::read_to_string(&masked).unwrap(), before);
        unmount(&masked, UnmountFlags::empty()).unwrap();
    });
}

#[test]
fn a_link_that_is_swapped_in_while_volumes_are_mounted_leads_nowhere_outside() {
    kernel_test(NEEDS, || {
        let (shared, canary) = (scratch(), scratch());
        fs::write(canary.join("file"), "untouched").unwrap();
        fs::create_dir(shared.join("place")).unwrap();
        symlink(&canary, shared.join("link")).unwrap();
        let disk = OnDisk::root();
        let before = mounts();
        let stop = AtomicBool::new(false);
        let (mut started, mut failed) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let (a, b) = (shared.join("place"), shared.join("link"));
                    renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).unwrap();
                }
            });
            for _ in 0..if slow() { 20 } else { 1_000 } {
                let container = disk
                    .sh("echo attack > /shared/place/file; echo attack > /shared/place/below/file")
                    .stderr(isolate::Stdio::null())
                    .mount(Mount::bind(&shared, "/shared"))
                    .mount(Mount::tmpfs("/shared/place/below"));
                match container.status() {
                    Ok(_) => started += 1,
                    Err(_) => failed += 1,
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(started > 0, "{failed} failed");
        assert_eq!(mounts(), before);
        assert_eq!(fs::read_to_string(canary.join("file")).unwrap(), "untouched");
        assert_eq!(fs::read_dir(&canary).unwrap().count(), 1);
        a_mount_by_path_follows(&canary);
    });
}

#[test]
fn a_working_directory_and_a_program_that_are_links_stay_inside() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let canary = scratch();
        symlink(&canary, disk.0.join("root/work")).unwrap();
        fs::create_dir(disk.0.join("root/links")).unwrap();
        symlink("/../../../../bin/busybox", disk.0.join("root/links/true")).unwrap();
        let error = disk.sh("pwd").workdir("/work").start().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "inside there is no such place: {error}");
        let container = disk.sh("").command(["/links/true"]).rootfs(Rootfs::from(disk.0.join("root")));
        // Above the root is the root: its own busybox, under another name.
        assert!(container.status().unwrap().success());
    });
}
