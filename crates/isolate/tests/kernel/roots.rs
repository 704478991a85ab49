//! The root: the host's programs over nothing of the host's data, layers that stay as they are.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use isolate::{Bytes, ContainerBuilder, ErrorKind, Mount, Rootfs, UserNamespace};
use testkit::{Need, busybox_root, kernel_test, scratch};

use crate::common::{NEEDS, printed, sh};

const BUSYBOX: &[Need] = &[Need::Root, Need::Overlay, Need::Program("busybox")];

#[test]
fn of_the_host_there_are_its_programs_and_nothing_of_its_data() {
    kernel_test(NEEDS, || {
        for place in ["/home", "/root", "/srv", "/var", "/run", "/mnt", "/media", "/boot"] {
            let shown = printed(sh(&format!("ls -A {place} 2>/dev/null; true")));
            let expected =
                if place == "/var" { shown.replace("lib\n", "").replace("tmp\n", "") } else { shown.clone() };
            assert!(
                expected.lines().all(|name| ["cache", "log", "lock", "run", "spool"].contains(&name)),
                "{place}: {shown}"
            );
        }
        assert_eq!(printed(sh("ls /tmp; echo ok")), "ok\n");
        assert_eq!(
            printed(sh("test -e /etc/passwd && test ! -e /etc/shadow && test -x /usr/bin/env && echo so")),
            "so\n"
        );
        let secret = scratch().join("secret");
        fs::write(&secret, "x").unwrap();
        let look = |root: Rootfs| {
            sh(&format!("test -e {}", secret.display())).rootfs(root).status().unwrap().success()
        };
        assert!(!look(Rootfs::host()));
        assert!(look(Rootfs::host().with(secret.parent().unwrap())), "unless it is named");
    });
}

#[test]
fn what_is_written_below_usr_is_not_the_hosts() {
    kernel_test(NEEDS, || {
        let script =
            "echo mine > /usr/bin/isolate-test-file && rm /usr/bin/env && cat /usr/bin/isolate-test-file";
        assert_eq!(printed(sh(script)), "mine\n");
        assert!(fs::metadata("/usr/bin/env").is_ok() && fs::metadata("/usr/bin/isolate-test-file").is_err());
        assert_eq!(printed(sh("ls /usr/bin/env")), "/usr/bin/env\n", "nor the next container's");
    });
}

#[test]
fn a_directory_of_the_host_that_the_writable_layer_lies_in_is_refused() {
    kernel_test(NEEDS, || {
        let place = "/var/lib/isolate";
        let error = sh("true").rootfs(Rootfs::host().with(place)).start().unwrap_err();
        let (text, hint) = (error.to_string(), error.hint().unwrap());
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(
            text.contains("with(\"/var/lib/isolate\"): what the container writes would lie in it"),
            "{text}"
        );
        assert!(hint.contains("in_memory"), "{hint}");
        let memory = Rootfs::host().with(place).in_memory(Bytes::mib(1));
        assert!(sh("test -d /var/lib/isolate").rootfs(memory).status().unwrap().success());
        // It lies on a file system of its own here.
        assert!(
            sh("test -d /var/lib/dpkg").rootfs(Rootfs::host().with("/var/lib")).status().unwrap().success()
        );
    });
}

#[test]
fn a_root_that_is_read_only_is_so_whatever_it_is_of_and_what_is_mounted_on_it_is_not() {
    kernel_test(BUSYBOX, || {
        let base = scratch();
        busybox_root(&base);
        let script = "for d in / /usr /etc /opt /var /data /tmp /dev/shm /made; do touch $d/x 2>/dev/null && echo $d; done; \
                      mount -o remount,rw / 2>/dev/null && echo remounted; true";
        let [writable, read_only] = [false, true].map(|read_only| {
            [Rootfs::host(), Rootfs::from(base.as_path()), Rootfs::writable(&base)].map(|root| {
                let mounts = [Mount::tmpfs("/tmp"), Mount::tmpfs("/made/below")];
                let builder = mounts.into_iter().fold(sh(script).rootfs(root), ContainerBuilder::mount);
                printed(builder.mount(Mount::anonymous_volume("/data")).read_only_root(read_only))
            })
        });
        for (writable, read_only) in writable.iter().zip(&read_only) {
            assert!(
                writable.starts_with("/\n") && writable.contains("/etc\n") && writable.contains("/made\n"),
                "{writable}"
            );
            assert_eq!(read_only, "/data\n/tmp\n/dev/shm\n");
        }
        // One's own over a part of it.
        let own =
            sh("touch /opt/x && ! touch /usr/x 2>/dev/null").mount(Mount::tmpfs("/opt")).read_only_root(true);
        assert!(own.status().unwrap().success());
    });
}

#[test]
fn layers_are_seen_as_one_and_never_written() {
    kernel_test(BUSYBOX, || {
        let (base, above) = (scratch(), scratch());
        busybox_root(&base);
        fs::write(base.join("etc/both"), "base").unwrap();
        fs::create_dir_all(above.join("etc")).unwrap();
        fs::write(above.join("etc/both"), "above").unwrap();
        let root = || Rootfs::layers([&base, &above]);
        assert_eq!(printed(sh("cat /etc/both; echo; rm /etc/both; echo new > /etc/new; ls /etc/both 2>&1 | grep -c 'No such'").rootfs(root())), "above\n1\n");
        assert_eq!(fs::read(above.join("etc/both")).unwrap(), b"above");
        assert!(!base.join("etc/new").exists() && !above.join("etc/new").exists());
    });
}

#[test]
fn an_upper_layer_that_is_given_keeps_what_is_written() {
    kernel_test(BUSYBOX, || {
        let (base, upper) = (scratch(), scratch());
        busybox_root(&base);
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)).unwrap();
        let root = || Rootfs::layers([&base]).upper(&upper);
        assert!(sh("echo kept > /kept").rootfs(root()).status().unwrap().success());
        assert_eq!(fs::read(upper.join("kept")).unwrap(), b"kept\n");
        assert_eq!(printed(sh("cat /kept").rootfs(root())), "kept\n");
        assert!(!base.join("kept").exists());
    });
}

#[test]
fn a_directory_is_the_root_itself_writable_or_not() {
    kernel_test(BUSYBOX, || {
        let root = scratch();
        busybox_root(&root);
        let write = |root: Rootfs| {
            sh("echo x > /file").rootfs(root).stderr(isolate::Stdio::null()).status().unwrap().success()
        };
        assert!(!write(Rootfs::read_only(&root)) && !root.join("file").exists());
        assert!(write(Rootfs::writable(&root)) && root.join("file").exists());
    });
}

#[test]
fn thirty_layers_of_long_names_are_one_root_on_every_kernel() {
    kernel_test(BUSYBOX, || {
        let place = scratch();
        let layers: Vec<_> = (0..30)
            .map(|n| {
                let layer = place.join(format!("{n}{}", "x".repeat(70)));
                fs::create_dir_all(layer.join("n")).unwrap();
                fs::write(layer.join(format!("n/{n}")), "").unwrap();
                layer
            })
            .collect();
        busybox_root(&layers[0]);
        for namespace in [UserNamespace::Auto, UserNamespace::Host] {
            let root = || Rootfs::layers(&layers);
            let run = |root: Rootfs| {
                printed(sh("ls /n | wc -l; echo x > /f").rootfs(root).user_namespace(namespace))
            };
            assert_eq!(run(root()), "30\n");
            let upper = place.join("upper");
            assert_eq!(run(root().upper(&upper)), "30\n");
            assert!(upper.join("f").exists());
            fs::remove_dir_all(&upper).unwrap();
        }
    });
}

#[test]
fn hundreds_of_layers_are_one_root_whatever_their_names_are() {
    use std::os::unix::ffi::OsStrExt;
    kernel_test(&[&[Need::Kernel(6, 7)], BUSYBOX].concat(), || {
        let place = scratch();
        let odd: [&[u8]; 5] = [b"a:b", b"a,b", b"a\\b", b"a\nb", b"a\xffb"];
        let layers: Vec<_> = (0..500)
            .map(|n| {
                let name = [odd[n % 5], n.to_string().as_bytes()].concat();
                let layer = place.join(std::ffi::OsStr::from_bytes(&name));
                fs::create_dir_all(layer.join("n")).unwrap();
                fs::write(layer.join(format!("n/{n}")), "").unwrap();
                fs::write(layer.join("top"), n.to_string()).unwrap();
                layer
            })
            .collect();
        busybox_root(&layers[0]);
        for (count, namespace) in [
            (80, UserNamespace::Required),
            (200, UserNamespace::Auto),
            (200, UserNamespace::Host),
            (499, UserNamespace::Auto),
        ] {
            let upper = place.join(std::ffi::OsStr::from_bytes(b"up:per,\\\n\xff"));
            let root = || Rootfs::layers(&layers[..count]);
            let run =
                |root: Rootfs| printed(sh("ls /n | wc -l; cat /top").rootfs(root).user_namespace(namespace));
            assert_eq!(run(root()), format!("{count}\n{}", count - 1), "{namespace:?}");
            assert_eq!(run(root().upper(&upper)), format!("{count}\n{}", count - 1), "{namespace:?}, kept");
            fs::remove_dir_all(&upper).unwrap();
        }
        let plan = sh("true").rootfs(Rootfs::layers(&layers[..499])).plan().unwrap().to_string();
        assert!(plan.contains("499 layers, of which"), "{plan}");
    });
}
