//! Strings of the caller's, or of who gave them to it: a typed error each, and nothing is made.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use isolate::{Container, ContainerBuilder, ErrorKind, Mount, Rootfs, User};
use testkit::leaks::Snapshot;
use testkit::{Need, kernel_test, scratch};

use crate::common::{NEEDS, OnDisk, sh, slow};

#[test]
fn odd_names_paths_and_numbers_are_typed_errors_and_nothing_is_made() {
    kernel_test(NEEDS, || {
        sh("true").status().unwrap(); // what is made once a process
        let disk = OnDisk::root();
        let before = Snapshot::take();
        let long = "x".repeat(100);
        let refused: Vec<(&str, ContainerBuilder)> = vec![
            ("name with a slash", sh("true").name("a/b")),
            ("name with a NUL", sh("true").name("a\0b")),
            ("name with a colon", sh("true").name("a:b")),
            ("name with a comma", sh("true").name("a,b")),
            ("name with a backslash", sh("true").name("a\\b")),
            ("name that is dots", sh("true").name("..")),
            ("empty name", sh("true").name("")),
            ("long name", sh("true").name(&long)),
            ("long host name", sh("true").hostname(&long)),
            ("host name with a NUL", sh("true").hostname("a\0b")),
            ("argument with a NUL", Container::builder().command(["true", "a\0b"])),
            ("empty command", Container::builder().command(Vec::<String>::new())),
            ("empty program", Container::builder().command([""])),
            ("directory with a NUL", sh("true").workdir("/a\0b")),
            ("variable without a name", sh("true").env("", "x")),
            ("variable with an equals sign", sh("true").env("a=b", "x")),
            ("variable with a NUL", sh("true").env("a", "b\0c")),
            ("user of no number", sh("true").user("4294967295")),
            ("group of no number", sh("true").user("0:4294967295")),
            ("user beyond all", sh("true").user("99999999999")),
            ("user outside of the range", disk.sh("true").user(User::id(70_000))),
            ("empty user", sh("true").user("")),
            ("relative target", sh("true").mount(Mount::tmpfs("tmp"))),
            ("target that leads up", sh("true").mount(Mount::tmpfs("/tmp/../../x"))),
            ("target with a NUL", sh("true").mount(Mount::tmpfs("/a\0b"))),
            ("odd bytes", sh("true").rootfs(Rootfs::layers([OsStr::from_bytes(b"/\xff\xfe")]))),
            ("address family", sh("true").network(isolate::Attach::bridge().address([0u16; 8]))),
            ("device elsewhere", sh("true").device("/etc/passwd")),
            ("device that leads up", sh("true").device("/dev/../etc/passwd")),
            ("no such device", sh("true").device("/dev/nothing-here")),
            ("port of nobody", sh("true").publish((9000, 0))),
            ("nice", sh("true").nice(99)),
            ("oom_score_adj", sh("true").oom_score_adj(5000)),
        ];
        for (what, container) in refused {
            let error = container.start().map(drop).unwrap_err();
            let typed = !matches!(error.kind(), ErrorKind::Kernel | ErrorKind::Lost);
            assert!(typed && !error.to_string().is_empty(), "{what}: {:?} {error}", error.kind());
        }
        // More than the kernel takes in one argument, and in all.
        for arguments in [vec!["x".repeat(200 << 10)], vec!["y".repeat(100 << 10); 40]] {
            let error = Container::builder()
                .command(["true"].map(str::to_owned).into_iter().chain(arguments))
                .start();
            assert_eq!(error.map(drop).unwrap_err().raw_os_error(), Some(libc::E2BIG));
        }
        assert_eq!(before.left(), Vec::<String>::new());
    });
}

#[test]
fn five_hundred_layers_are_a_root_or_a_typed_error() {
    kernel_test(&[Need::Root, Need::Overlay, Need::Program("busybox")], || {
        let disk = OnDisk::root();
        let many = if slow() { 100 } else { 499 };
        let mut layers = vec![disk.0.join("root")];
        for n in 0..many {
            let layer = disk.0.join(format!("l{n}"));
            std::fs::create_dir(&layer).unwrap();
            layers.push(layer);
        }
        match disk.sh("echo here").rootfs(Rootfs::layers(layers)).output() {
            Ok(output) => assert_eq!(output.stdout, b"here\n"),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::InvalidConfig | ErrorKind::Unsupported), "{error}");
            }
        }
        drop(scratch());
    });
}
