//! What a start that cannot be says, word for word, and that it leaves nothing (the world looks after that).

use std::net::TcpListener;
use std::os::fd::AsFd;

use isolate::{Bytes, Container, ErrorKind, Limits, Mount, Rootfs};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use testkit::{Need, kernel_test};

use crate::common::{NEEDS, NET, sh};

#[test]
fn a_user_who_may_not_is_told_what_to_be() {
    kernel_test(NEEDS, || {
        let start = || sh("true").name("x").start().unwrap_err();
        // Of this thread alone.
        let refused = std::thread::spawn(move || {
            let mut sets = capabilities(None).unwrap();
            sets.effective = CapabilitySet::empty();
            set_capabilities(None, sets).unwrap();
            start()
        });
        let error = refused.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        let expected = "container `x`: this user may not make namespaces, mounts and control groups\n  \
                        hint: run as root with CAP_SYS_ADMIN and CAP_NET_ADMIN, or as an ordinary user";
        assert_eq!(format!("{error:?}"), expected);
        assert!(sh("true").status().unwrap().success(), "with them it starts");
    });
}

#[test]
fn a_root_that_is_missing_is_named() {
    kernel_test(NEEDS, || {
        let error =
            |root: Rootfs| Container::builder().name("x").rootfs(root).command(["true"]).start().unwrap_err();
        for root in [
            Rootfs::writable("/no/such"),
            Rootfs::read_only("/no/such"),
            Rootfs::layers(["/usr", "/no/such"]),
        ] {
            let error = error(root);
            assert_eq!(error.kind(), ErrorKind::NotFound);
            let text = error.to_string();
            assert!(
                text.starts_with("container `x`: ") && text.contains("/no/such: No such file or directory"),
                "{text}"
            );
        }
        let error = error(Rootfs::layers(["/etc/passwd"]));
        assert!(error.to_string().contains("/etc/passwd: not a directory"), "{error}");
    });
}

#[test]
fn a_program_that_is_missing_is_named() {
    kernel_test(NEEDS, || {
        let error = Container::builder().name("x").command(["/bin/no-such-program"]).start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ProgramNotFound);
        assert_eq!(
            error.to_string(),
            "container `x`: cannot execute /bin/no-such-program: No such file or directory (os error 2)"
        );
        assert!(error.hint().is_some());
        let error = Container::builder().name("x").command(["no-such-program"]).start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ProgramNotFound);
        let error = sh("true").name("x").workdir("/no/such").start().unwrap_err();
        assert_eq!(
            error.to_string(),
            "container `x`: cannot enter the working directory /no/such: No such file or directory (os error 2)"
        );
        let error = sh("true").name("x").mount(Mount::bind("/no/such", "/mnt")).start().unwrap_err();
        assert!(error.to_string().contains("/no/such"), "{error}");
    });
}

#[test]
fn a_port_that_is_taken_is_named_with_who_has_it() {
    kernel_test(NET, || {
        let listener = TcpListener::bind("0.0.0.0:9000").unwrap();
        let error = sh("true").name("x").publish((9000, 8080)).start().unwrap_err();
        let me = format!("container `x`: host port 9000/tcp is taken: pid {} (kernel-", std::process::id());
        assert_eq!(error.kind(), ErrorKind::InUse);
        assert!(
            error.to_string().starts_with(&me) && error.to_string().ends_with(") listens there"),
            "{error}"
        );
        drop(listener);

        let first = sh("sleep 100").name("first").publish((9000, 8080)).start().unwrap();
        let error = sh("true").name("x").publish((9000, 8080)).start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        let who = "container `x`: host port 9000/tcp is taken: container `first` has published it";
        assert_eq!(error.to_string(), who);
        first.remove().unwrap();
        sh("true").name("x").publish((9000, 8080)).status().unwrap();
    });
}

#[test]
fn a_name_in_use_is_refused_until_it_is_free() {
    kernel_test(NEEDS, || {
        let first = sh("sleep 100").name("x").start().unwrap();
        let error = sh("true").name("x").start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(error.to_string(), "container `x`: the name is in use");
        assert_eq!(
            error.hint(),
            Some("another container has it; choose another name or remove that container")
        );
        drop(first);
        assert!(sh("true").name("x").status().unwrap().success());
        assert!(sh("true").name("../x").start().unwrap_err().to_string().contains("name \"../x\""));
    });
}

#[test]
fn a_controller_that_is_missing_is_named_with_its_remedy() {
    kernel_test(&[Need::Root, Need::Overlay, Need::CgroupV1], || {
        // A machine that has not mounted the hierarchy of each: the list of mounts is without it.
        for (name, limits) in [
            ("memory", Limits::new().memory(Bytes::mib(64))),
            ("cpu", Limits::new().cpus(0.5)),
            ("pids", Limits::new().pids(10)),
        ] {
            let start = move || {
                let _hidden = testkit::HiddenMounts::new(|line| {
                    line.contains(" - cgroup ") && line.split([' ', ',']).any(|word| word == name)
                });
                sh("true").name("x").limits(limits).start().unwrap_err()
            };
            let error = std::thread::spawn(start).join().unwrap();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            let text = error.to_string();
            assert!(text.starts_with("container `x`: cgroup isolate-x-"), "{text}");
            assert!(text.ends_with(&format!(": the {name} controller is missing")), "{text}");
            assert!(error.hint().is_some_and(|hint| hint.contains(name)), "{error:?}");
        }
        assert!(sh("true").limits(Limits::new().pids(10)).status().unwrap().success(), "with it, it starts");
    });
}

#[test]
fn a_limit_that_cgroup_v1_has_not_is_an_error_with_its_remedy() {
    kernel_test(&[Need::Root, Need::Overlay, Need::CgroupV1], || {
        let error = sh("true")
            .name("x")
            .limits(Limits::new().memory(Bytes::mib(64)).oom_group(true))
            .start()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(
            error.hint().is_some_and(|hint| hint.contains("systemd.unified_cgroup_hierarchy=1")),
            "{error:?}"
        );
    });
}

#[test]
fn a_kernel_without_overlay_is_named_with_its_remedy() {
    kernel_test(&[Need::Root, Need::Overlay, Need::Program("busybox")], || {
        let start = || sh("true").name("x").start().unwrap_err();
        let error = std::thread::spawn(move || {
            testkit::without_system_call(libc::SYS_fsopen, libc::ENODEV);
            start()
        });
        let error = error.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(error.to_string(), "container `x`: overlay: No such device (os error 19)");
        assert_eq!(
            error.hint(),
            Some("this kernel has no overlayfs: `modprobe overlay`, or CONFIG_OVERLAY_FS=y")
        );
    });
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_made() {
    kernel_test(NEEDS, || {
        let error = Container::builder().name("x").start().unwrap_err();
        assert_eq!(
            format!("{error:?}"),
            "container `x`: no command\n  hint: say what to run by `.command([…])`"
        );
        let error = sh("true").network(isolate::Attach::none()).publish((9000, 80)).start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains("the container is not on a bridge"));
    });
}

#[test]
fn a_container_is_pollable_and_its_errors_after_the_end_are_none() {
    kernel_test(NEEDS, || {
        let mut container = sh("exit 3").start().unwrap();
        let mut ready =
            [rustix::event::PollFd::from_borrowed_fd(container.as_fd(), rustix::event::PollFlags::IN)];
        assert_eq!(rustix::event::poll(&mut ready, None).unwrap(), 1);
        assert_eq!(container.try_wait().unwrap().unwrap().code(), Some(3));
        container.kill().unwrap();
        assert_eq!(container.wait().unwrap().code(), Some(3));
        container.remove().unwrap();
    });
}
