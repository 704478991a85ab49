//! What is copied into a container and out of it, also while somebody in it swaps links.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use isolate::{ErrorKind, Mount, Rootfs, UserNamespace, Volume};
use testkit::{Need, kernel_test, scratch};

use crate::common::{OnDisk, printed, sh};

const NEEDS: &[Need] = &[Need::Root, Need::Overlay, Need::Program("busybox")];
const BOTH: [UserNamespace; 2] = [UserNamespace::Auto, UserNamespace::Host];

fn odd() -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(b"odd\n\xff name"))
}

/// Files, modes, links, a hole, an odd name.
fn fixture() -> PathBuf {
    let place = scratch().join("fixture");
    fs::create_dir_all(place.join("sub")).unwrap();
    fs::write(place.join("tool"), "#!/bin/sh\necho ran\n").unwrap();
    fs::set_permissions(place.join("tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::write(place.join("sub").join(odd()), "odd").unwrap();
    symlink("/etc/passwd", place.join("link")).unwrap();
    let hole = fs::File::create(place.join("hole")).unwrap();
    hole.set_len(50 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&hole, b"end", (50 << 20) - 3).unwrap();
    place
}

#[test]
fn a_tree_goes_in_and_comes_out_as_it_was() {
    kernel_test(NEEDS, || {
        let root = OnDisk::root();
        for user_namespace in BOTH {
            let (from, back) = (fixture(), scratch());
            let container = root.sh("sleep 1000").user_namespace(user_namespace).start().unwrap();
            container.copy_in(&from, "/etc").unwrap();
            container.copy_in(from.join("."), "/root").unwrap();
            container.copy_in(from.join("tool"), "/bin/renamed").unwrap();
            let script = "renamed; stat -c '%u:%g %a' /etc/fixture/tool /root/tool; readlink /root/link; cat /root/sub/odd*; tail -c 3 /root/hole";
            let seen = container.exec("sh").args(["-c", script]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&seen.stdout), "ran\n0:0 4755\n0:0 4755\n/etc/passwd\noddend");
            container.copy_out("/etc/fixture", &back).unwrap();
            container.copy_out("/root/tool", back.join("one")).unwrap();
            let out = back.join("fixture");
            assert_eq!(fs::read(out.join("sub").join(odd())).unwrap(), b"odd");
            assert_eq!(
                fs::read_link(out.join("link")).unwrap(),
                Path::new("/etc/passwd"),
                "a link is a link"
            );
            let hole = out.join("hole").metadata().unwrap();
            assert_eq!(hole.len(), 50 << 20);
            assert!(hole.blocks() < 1000, "its hole is one");
            for tool in [out.join("tool"), back.join("one")] {
                let tool = tool.metadata().unwrap();
                assert_eq!((tool.mode() & 0o7777, tool.uid()), (0o755, 0), "it gives nobody rights");
                assert_eq!(tool.mtime(), from.join("tool").metadata().unwrap().mtime());
            }
            container.write_file("/etc/app.conf", &b"debug"[..], 0o640).unwrap();
            container.write_file("/etc/app.conf", &b"again"[..], 0o640).unwrap();
            let seen = container
                .exec("sh")
                .args(["-c", "cat /etc/app.conf; stat -c %u:%a /etc/app.conf"])
                .output()
                .unwrap();
            assert_eq!(seen.stdout, b"again0:640\n");
            let mut text = String::new();
            std::io::Read::read_to_string(&mut container.open_file("/etc/app.conf").unwrap(), &mut text)
                .unwrap();
            assert_eq!(text, "again");
            container.remove().unwrap();
        }
    });
}

#[test]
fn what_cannot_be_copied_is_an_error_that_names_it() {
    // A volume in memory, id-mapped.
    kernel_test(&[&[Need::Kernel(6, 3)], NEEDS].concat(), || {
        let (root, place) = (OnDisk::root(), scratch());
        let script = "mkfifo /pipe; touch /made; sleep 1000";
        let mut container = root
            .sh(script)
            .name("source")
            .user_namespace(UserNamespace::Required)
            .mount(Mount::tmpfs("/t"))
            .mount(Mount::volume("v", "/v"))
            .start()
            .unwrap();
        crate::common::until(std::time::Duration::from_secs(5), || container.open_file("/made").ok())
            .unwrap();
        fs::write(place.join("f"), "x").unwrap();
        let kinds = [
            (container.copy_in(place.join("none"), "/"), ErrorKind::NotFound),
            (container.copy_in(place.join("f"), "/none/f"), ErrorKind::NotFound),
            (container.copy_in(place.join("f"), "/none/"), ErrorKind::NotFound),
            (container.copy_out("/none", &place), ErrorKind::NotFound),
            (container.copy_out("/proc/1/environ", &place), ErrorKind::Unsupported),
            (container.copy_out("/dev/null", &place), ErrorKind::Unsupported),
            (container.copy_in(place.join("f"), "/t"), ErrorKind::Unsupported),
            (container.open_file("/pipe").map(drop), ErrorKind::Unsupported),
            (container.open_file("/proc/1/environ").map(drop), ErrorKind::Unsupported),
        ];
        for (n, (done, kind)) in kinds.into_iter().enumerate() {
            let error = done.unwrap_err();
            assert_eq!(error.kind(), kind, "{n}: {error}");
            assert!(error.to_string().contains("container `source`"), "{error}");
        }
        let hint = container.copy_in(place.join("f"), "/t").unwrap_err().hint().map(str::to_owned);
        assert!(hint.unwrap().contains("exec"));
        container.copy_out("/proc", place.join("proc")).unwrap();
        assert_eq!(fs::read_dir(place.join("proc")).unwrap().count(), 0, "the kernel's files are not data");
        container.kill().unwrap();
        container.wait().unwrap();
        assert_eq!(container.copy_in(place.join("f"), "/f").unwrap_err().kind(), ErrorKind::Lost);
        container.copy_out("/made", &place).unwrap();
        container.remove().unwrap();
        Volume::open("v").unwrap().remove().unwrap();
        fs::remove_dir("/var/lib/isolate/volumes").unwrap();
    });
}

#[test]
fn a_directory_that_is_swapped_for_a_link_leads_nowhere() {
    kernel_test(NEEDS, || {
        let (root, outside, place) = (OnDisk::root(), scratch(), scratch());
        fs::write(outside.join("secret"), "of the host").unwrap();
        let (dir, target) = (root.0.join("root"), outside.display());
        fs::create_dir(dir.join("real")).unwrap();
        fs::write(dir.join("real/secret"), "of the container").unwrap();
        symlink("real", dir.join("d")).unwrap();
        symlink(&outside, dir.join("evil")).unwrap();
        // Renaming is one step: it is always there, as the one or the other. Else a copy would make it.
        let script = format!("while :; do ln -s {target} /x; mv -T /x /d; ln -s real /x; mv -T /x /d; done");
        let container = root.sh(&script).start().unwrap();
        fs::write(place.join("f"), "x").unwrap();
        let (mut own, naive) = (0, format!("/proc/{}/root/evil/secret", container.pid()));
        for _ in 0..500 {
            container.copy_in(place.join("f"), "/d/f").ok();
            container.write_file("/d/g", &b"x"[..], 0o644).ok();
            if container.copy_out("/d/secret", place.join("secret")).is_ok() {
                assert_eq!(fs::read_to_string(place.join("secret")).unwrap(), "of the container");
                own += 1;
            }
            if container.copy_out("/d/.", place.join("all")).is_ok() {
                panic!("/d/. has no such destination");
            }
        }
        assert!(own > 0);
        let left: Vec<_> = fs::read_dir(&outside).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing came there");
        assert_eq!(fs::read_to_string(naive).unwrap(), "of the host", "who joins names is led outside");
        container.remove().unwrap();
    });
}

#[test]
fn an_export_is_what_the_container_sees_without_its_mounts() {
    kernel_test(NEEDS, || {
        let root = OnDisk::root();
        for user_namespace in BOTH {
            let mut container = root
                .sh("rm /etc/group; mkdir -p /srv/deep; echo x > /srv/deep/f; chown 7:8 /srv/deep/f; echo no > /t/mounted")
                .user_namespace(user_namespace)
                .mount(Mount::tmpfs("/t"))
                .start()
                .unwrap();
            assert!(container.wait().unwrap().success());
            let (mut archive, place) = (Vec::new(), scratch());
            container.export(&mut archive).unwrap();
            container.remove().unwrap();
            let mut archive = tar::Archive::new(&archive[..]);
            archive.set_preserve_ownerships(true);
            archive.set_preserve_permissions(true);
            archive.unpack(&place).unwrap();
            assert!(!place.join("etc/group").exists() && !place.join("t/mounted").exists());
            let deep = place.join("srv/deep/f").metadata().unwrap();
            assert_eq!((deep.uid(), deep.gid()), (7, 8));
            assert_eq!(place.join("etc/passwd").metadata().unwrap().uid(), 0);
            // It is a root.
            assert_eq!(printed(sh("cat /srv/deep/f").rootfs(Rootfs::from(place.as_path()))), "x\n");
        }
    });
}
