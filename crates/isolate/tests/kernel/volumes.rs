//! Volumes and binds: what they hold, who sees it, and what is left.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use isolate::{ErrorKind, Mount, Propagation, Rootfs, UserNamespace, Volume};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use testkit::{Need, busybox_root, kernel_test, scratch};

use crate::common::{OnDisk, printed, sh, until};

const NEEDS: &[Need] = &[Need::Root, Need::Overlay, Need::Program("busybox")];
const BOTH: [UserNamespace; 2] = [UserNamespace::Auto, UserNamespace::Host];
/// Says to this program that it is to be killed.
const VICTIM: &str = "ISOLATE_TEST_VOLUME_VICTIM";

/// Two layers: what the upper one hides is not in a volume either.
fn layers() -> [PathBuf; 2] {
    let (base, above) = (scratch(), scratch());
    busybox_root(&base);
    let data = base.join("data");
    fs::create_dir_all(data.join("sub")).unwrap();
    fs::write(data.join("file"), "below").unwrap();
    fs::write(data.join("deleted"), "below").unwrap();
    fs::hard_link(data.join("file"), data.join("sub/same")).unwrap();
    symlink("/etc/passwd", data.join("link")).unwrap();
    std::os::unix::fs::chown(data.join("file"), Some(7), Some(8)).unwrap();
    std::os::unix::fs::chown(&data, Some(9), Some(10)).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o2751)).unwrap();
    fs::create_dir_all(above.join("data")).unwrap();
    std::os::unix::fs::chown(above.join("data"), Some(9), Some(10)).unwrap();
    fs::set_permissions(above.join("data"), fs::Permissions::from_mode(0o2751)).unwrap();
    fs::write(above.join("data/added"), "above").unwrap();
    let whiteout = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, above.join("data/deleted"), whiteout, 0.into(), 0).unwrap();
    [base, above]
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_first_use_fills_a_volume_with_what_the_root_has_there_and_no_other_does() {
    kernel_test(NEEDS, || {
        for (n, user_namespace) in BOTH.into_iter().enumerate() {
            let layers = layers();
            let name = format!("data{n}");
            let run = |script: &str| {
                let container = sh(script).rootfs(Rootfs::layers(&layers)).user_namespace(user_namespace);
                container.mount(Mount::volume(&name, "/data"))
            };
            let shown =
                printed(run("cat /data/file; stat -c %u:%g:%a /data /data/file; echo new > /data/new"));
            assert_eq!(shown, "below9:10:2751\n7:8:644\n");
            let volume = Volume::open(&name).unwrap();
            let data = volume.path();
            assert_eq!(names(&data), ["added", "file", "link", "new", "sub"]);
            let (file, same) =
                (data.join("file").metadata().unwrap(), data.join("sub/same").metadata().unwrap());
            assert_eq!((file.uid(), file.gid(), file.ino()), (7, 8, same.ino()));
            assert_eq!(fs::read_link(data.join("link")).unwrap(), Path::new("/etc/passwd"));
            assert_eq!(data.join("new").metadata().unwrap().uid(), 0, "root inside owns it on both sides");
            // What is deleted stays deleted.
            printed(run("rm /data/file"));
            assert_eq!(printed(run("ls /data")), "added\nlink\nnew\nsub\n");
            printed(run("rm -rf /data/*"));
            let empty = run("ls /data").mount(Mount::volume("other", "/other").no_copy());
            assert_eq!(
                printed(empty),
                "added\nfile\nlink\nsub\n",
                "one that is empty is filled, as Docker does"
            );
            let plain = sh("ls /data").rootfs(Rootfs::layers(&layers)).user_namespace(user_namespace);
            assert_eq!(printed(plain.mount(Mount::volume("plain", "/data").no_copy())), "");
            for name in [name.as_str(), "other", "plain"] {
                Volume::open(name).unwrap().remove().unwrap();
            }
        }
        assert!(Volume::list().unwrap().is_empty());
        assert_eq!(Volume::open("data0").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(Volume::create("../x").unwrap_err().kind(), ErrorKind::InvalidConfig);
        fs::remove_dir("/var/lib/isolate/volumes").unwrap();
    });
}

#[test]
fn a_link_at_its_place_leads_nowhere_outside() {
    kernel_test(NEEDS, || {
        let (root, secret) = (scratch(), scratch());
        busybox_root(&root);
        fs::write(secret.join("secret"), "of the host").unwrap();
        symlink(&secret, root.join("data")).unwrap();
        fs::create_dir_all(root.join("inner")).unwrap();
        fs::write(root.join("inner/own"), "").unwrap();
        symlink("/inner", root.join("good")).unwrap();
        let run = |name: &str| {
            let container = sh(&format!("ls /{name}/")).rootfs(Rootfs::from(root.as_path()));
            container.mount(Mount::volume(name, format!("/{name}"))).output()
        };
        assert_eq!(run("data").unwrap_err().kind(), ErrorKind::NotFound, "in the root it leads to nothing");
        assert_eq!(run("good").unwrap().stdout, b"own\n");
        for (name, expected) in [("data", &[][..]), ("good", &["own".to_owned()])] {
            let volume = Volume::open(name).unwrap();
            assert_eq!(names(&volume.path()), expected);
            volume.remove().unwrap();
        }
        assert_eq!(names(&secret), ["secret"]);
        fs::remove_dir("/var/lib/isolate/volumes").unwrap();
    });
}

#[test]
fn what_is_changed_on_one_side_is_seen_on_the_other_at_once() {
    kernel_test(NEEDS, || {
        let root = OnDisk::root();
        for user_namespace in BOTH {
            let (volume, bound) = (Volume::create("live").unwrap(), root.0.join("bound"));
            fs::create_dir_all(&bound).unwrap();
            let container = root
                .sh("sleep 1000")
                .user_namespace(user_namespace)
                .mount(Mount::volume("live", "/v"))
                .mount(Mount::bind(&bound, "/b"))
                .start()
                .unwrap();
            for (host, inside) in [(volume.path(), "/v"), (bound.clone(), "/b")] {
                fs::write(host.join("page"), "from outside").unwrap();
                let read = container.exec("cat").arg(format!("{inside}/page")).output().unwrap();
                assert_eq!(read.stdout, b"from outside");
                let script = format!("echo -n back > {inside}/page; echo -n more > {inside}/made");
                assert!(container.exec("sh").args(["-c", &script]).output().unwrap().status.success());
                assert_eq!(fs::read_to_string(host.join("page")).unwrap(), "back");
                assert_eq!(host.join("made").metadata().unwrap().uid(), 0);
            }
            let error = Volume::open("live").unwrap().remove().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InUse);
            assert!(error.to_string().contains(container.name()), "{error}");
            container.remove().unwrap();
            volume.remove().unwrap();
        }
        fs::remove_dir("/var/lib/isolate/volumes").unwrap();
    });
}

/// What it sees now it goes on seeing: its mount namespace is a copy.
fn stranger() -> std::process::Child {
    Command::new("unshare")
        .args(["-m", "--propagation", "private", "sleep", "1000"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_container_whose_mounts_a_stranger_has_a_copy_of_is_removed() {
    kernel_test(NEEDS, || {
        let root = OnDisk::root();
        let container = root.sh("sleep 1000").mount(Mount::volume("kept", "/v")).start().unwrap();
        // One on the host, and one that copies the container's own mounts.
        let mut strangers = vec![stranger()];
        let pid = container.pid().to_string();
        let mut inside = Command::new("nsenter");
        inside.args([
            "-t",
            &pid,
            "-m",
            "-r",
            "/bin/busybox",
            "unshare",
            "-m",
            "/bin/busybox",
            "sleep",
            "1000",
        ]);
        strangers.push(inside.stdout(Stdio::null()).spawn().unwrap());
        let holds = |pid: u32| {
            let own = fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()?;
            let others = [std::process::id(), container.pid()]
                .map(|pid| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok());
            (!others.contains(&Some(own))).then_some(())
        };
        let last = strangers.last().unwrap().id();
        assert!(until(Duration::from_secs(5), || holds(last)).is_some(), "it has a copy");
        let mounts = fs::read_to_string(format!("/proc/{last}/mountinfo")).unwrap();
        assert!(mounts.contains(" /v ") && mounts.contains("overlay"), "{mounts}");
        container.remove().unwrap();
        assert_eq!(names(Path::new("/var/lib/isolate")), ["volumes"], "no upper layer is left");
        Volume::open("kept").unwrap().remove().unwrap();
        for mut stranger in strangers {
            stranger.kill().unwrap();
            stranger.wait().unwrap();
        }
        fs::remove_dir("/var/lib/isolate/volumes").unwrap();
    });
}

#[test]
fn a_volume_without_a_name_goes_with_its_container() {
    kernel_test(NEEDS, || {
        let layers = layers();
        let builder = sh("cat /data/file; sleep 1000").rootfs(Rootfs::layers(&layers));
        let builder = builder.mount(Mount::anonymous_volume("/data"));
        let two = [builder.clone().start().unwrap(), builder.start().unwrap()];
        let all = Volume::list().unwrap();
        assert_eq!(all.len(), 2, "each has its own");
        assert!(all.iter().all(|volume| volume.path().join("file").exists()));
        two.into_iter().for_each(|container| container.remove().unwrap());
        assert!(Volume::list().unwrap().is_empty());
        fs::remove_dir("/var/lib/isolate/volumes").unwrap();
    });
}

#[test]
fn threads_that_use_a_volume_first_at_once_find_it_whole() {
    kernel_test(NEEDS, || {
        let layers = layers();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let container = sh("cat /data/added /data/sub/same").rootfs(Rootfs::layers(&layers));
                    assert_eq!(printed(container.mount(Mount::volume("shared", "/data"))), "abovebelow");
                });
            }
        });
        Volume::open("shared").unwrap().remove().unwrap();
        fs::remove_dir("/var/lib/isolate/volumes").unwrap();
    });
}

/// No test: it fills volumes until it is killed.
#[test]
#[ignore = "the test below starts it as a process of its own"]
fn victim() {
    let Some(root) = std::env::var_os(VICTIM) else { return };
    loop {
        let container = sh("true").rootfs(PathBuf::from(&root)).mount(Mount::volume("filled", "/data"));
        container.status().unwrap();
        Volume::open("filled").unwrap().remove().unwrap();
    }
}

#[test]
fn who_is_killed_while_a_volume_is_filled_leaves_none_or_a_whole_one() {
    kernel_test(&[&[Need::Native], NEEDS].concat(), || {
        let root = OnDisk::root();
        let data = root.0.join("root/data");
        fs::create_dir(&data).unwrap();
        (0..300).for_each(|n| fs::write(data.join(format!("{n}")), [1; 2000]).unwrap());
        let mut found = [0; 2];
        for round in 0..40_u64 {
            let mut victim = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "volumes::victim", "--ignored", "--nocapture"])
                .env(VICTIM, root.0.join("root"))
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_micros(40_000 + round * 7919 % 60_000));
            victim.kill().unwrap();
            victim.wait().unwrap();
            let volume = Volume::open("filled");
            let count = volume.as_ref().map_or(0, |volume| names(&volume.path()).len());
            assert!([0, 300].contains(&count), "round {round}: {count}");
            found[usize::from(count > 0)] += 1;
            assert_eq!(
                printed(root.sh("ls /data | wc -l").mount(Mount::volume("filled", "/data"))).trim(),
                "300"
            );
            Volume::open("filled").unwrap().remove().unwrap();
        }
        isolate::sweep().unwrap();
        // A removal that was killed leaves what was set aside.
        fs::remove_dir_all("/var/lib/isolate/volumes").unwrap();
        assert!(found[0] > 0, "{found:?}");
    });
}

#[test]
fn what_is_mounted_below_a_bind_later_is_seen_only_by_a_slave() {
    kernel_test(NEEDS, || {
        let source = scratch();
        // A shared mount, as / is on most hosts.
        mount("tmpfs", &source, "tmpfs", MountFlags::empty(), None).unwrap();
        mount_change(&source, MountPropagationFlags::SHARED).unwrap();
        fs::create_dir(source.join("stick")).unwrap();
        let bind = |propagation| Mount::bind(&source, "/media").propagation(propagation);
        for user_namespace in BOTH {
            let look = |propagation| {
                let root = OnDisk::root();
                let builder = root.sh("sleep 1000").user_namespace(user_namespace).mount(bind(propagation));
                let container = builder.start().unwrap();
                mount("tmpfs", source.join("stick"), "tmpfs", MountFlags::empty(), None).unwrap();
                fs::write(source.join("stick/photo"), "").unwrap();
                let seen = container.exec("ls").arg("/media/stick").output().unwrap();
                unmount(source.join("stick"), UnmountFlags::empty()).unwrap();
                container.remove().unwrap();
                String::from_utf8(seen.stdout).unwrap()
            };
            assert_eq!(look(Propagation::Slave), "photo\n");
            assert_eq!(look(Propagation::Private), "");
        }
        let root = OnDisk::root();
        let shared = root
            .sh("mkdir -p /media/m; mount -t tmpfs tmpfs /media/m && echo done")
            .user_namespace(UserNamespace::Host);
        let shared = shared
            .add_capabilities(isolate::Capabilities::SYS_ADMIN)
            .seccomp_unconfined()
            .mount(bind(Propagation::Shared));
        assert_eq!(printed(shared), "done\n");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(mounts.contains(&format!("{}/m ", source.display())), "it was mounted for the host, too");
        unmount(source.join("m"), UnmountFlags::empty()).unwrap();
        let error = root
            .sh("true")
            .user_namespace(UserNamespace::Required)
            .mount(Mount::bind(root.0.join("root"), "/media").propagation(Propagation::Shared))
            .start()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        let error = root
            .sh("true")
            .mount(Mount::tmpfs("/media").propagation(Propagation::Slave))
            .start()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        unmount(&source, UnmountFlags::empty()).unwrap();
    });
}

#[test]
fn what_is_hidden_in_a_shared_bind_stays_hidden_whatever_is_mounted_there_and_so_is_all_else() {
    kernel_test(NEEDS, || {
        let source = scratch();
        mount("tmpfs", &source, "tmpfs", MountFlags::empty(), None).unwrap();
        mount_change(&source, MountPropagationFlags::SHARED).unwrap();
        let [secret, open] = ["secret", "open"].map(|name| source.join(name));
        for place in [&secret, &open] {
            fs::create_dir(place).unwrap();
        }
        let root = OnDisk::root();
        fs::create_dir(root.0.join("root/other")).unwrap();
        let container = root
            .sh("sleep 1000")
            .user_namespace(UserNamespace::Host)
            .mount(Mount::bind(&source, "/media").propagation(Propagation::Shared))
            .unmasked()
            .mask("/media/secret")
            .mask("/other")
            .start()
            .unwrap();
        for place in [&secret, &open] {
            mount("tmpfs", place, "tmpfs", MountFlags::empty(), None).unwrap();
            fs::write(place.join("planted"), "").unwrap();
        }
        let seen = |place: &str| {
            String::from_utf8(container.exec("ls").arg(place).output().unwrap().stdout).unwrap()
        };
        assert_eq!(["/media/open", "/media/secret", "/other"].map(seen), ["planted\n", "", ""]);
        container.remove().unwrap();
        // And the one that the container has hidden it with: so it is with what is shared.
        for place in [&open, &secret, &secret] {
            unmount(place, UnmountFlags::empty()).unwrap();
        }
        unmount(&source, UnmountFlags::empty()).unwrap();
    });
}

#[test]
fn read_only_reaches_the_mounts_below_and_without_them_what_they_hide_is_seen() {
    kernel_test(NEEDS, || {
        let source = scratch();
        fs::create_dir(source.join("below")).unwrap();
        fs::write(source.join("below/hidden"), "").unwrap();
        mount("tmpfs", source.join("below"), "tmpfs", MountFlags::empty(), None).unwrap();
        fs::write(source.join("below/top"), "").unwrap();
        let root = OnDisk::root();
        let look = |bind: Mount| {
            printed(
                root.sh("ls /m/below; echo x > /m/below/new 2>/dev/null && echo written; true").mount(bind),
            )
        };
        assert_eq!(look(Mount::bind(&source, "/m")), "top\nwritten\n");
        assert_eq!(look(Mount::bind(&source, "/m").read_only()), "new\ntop\n");
        assert_eq!(look(Mount::bind(&source, "/m").non_recursive()), "hidden\nwritten\n");
        unmount(source.join("below"), UnmountFlags::empty()).unwrap();
    });
}

#[test]
fn mount_points_that_were_made_go_and_those_that_were_there_stay() {
    kernel_test(NEEDS, || {
        let root = OnDisk::root();
        let (kept, upper) = (root.0.join("root"), root.0.join("upper"));
        fs::create_dir_all(kept.join("there/empty")).unwrap();
        let file = root.0.join("file");
        fs::write(&file, "bound").unwrap();
        let before = names(&kept);
        let mounts = || {
            let files = Mount::bind(&file, "/made/also/file");
            [Mount::tmpfs("/there/empty"), Mount::tmpfs("/made/here"), Mount::tmpfs("/used/here"), files]
        };
        for root in [Rootfs::writable(&kept), Rootfs::from(kept.as_path()).upper(&upper)] {
            let place = if format!("{root:?}").contains("Writable") { &kept } else { &upper };
            let container = sh("echo x > /used/file; cat /made/also/file; sleep 1000").rootfs(root);
            let container =
                mounts().into_iter().fold(container, isolate::ContainerBuilder::mount).start().unwrap();
            assert!(
                until(Duration::from_secs(5), || place.join("used/file").exists().then_some(())).is_some()
            );
            container.remove().unwrap();
            assert!(place.join("used/file").exists() && !place.join("used/here").exists());
            assert!(!place.join("made").exists(), "{:?}", names(place));
            fs::remove_dir_all(place.join("used")).unwrap();
        }
        assert_eq!(names(&kept), before);
        assert!(kept.join("there/empty").is_dir());
    });
}
