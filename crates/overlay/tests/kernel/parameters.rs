//! What a process that mounts by itself is to tell fsconfig(2).

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use isolate_overlay::{ErrorKind, Overlay, Parameter};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};
use testkit::{Need, kernel_test, scratch};

use crate::tree::{NEEDS, Tree, is_overlay, put, read};

/// As another process does it.
fn mount(parameters: &[Parameter]) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for parameter in parameters {
        match &parameter.value {
            Some(value) => fsconfig_set_string(context.as_fd(), parameter.key, value)?,
            None => fsconfig_set_flag(context.as_fd(), parameter.key)?,
        }
    }
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

#[test]
fn the_kernel_takes_them_as_they_are() {
    kernel_test(NEEDS, || {
        let tree = Tree::new();
        put(tree.base.join("both"), "base");
        put(tree.above.join("both"), "above");
        for overlay in [tree.read_only(), tree.writable().volatile(true)] {
            let mount = mount(&overlay.parameters().unwrap()).unwrap();
            assert!(is_overlay(&mount));
            let file =
                rustix::fs::openat(&mount, "both", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())
                    .unwrap();
            assert_eq!(std::io::read_to_string(fs::File::from(file)).unwrap(), "above");
        }
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the process is the test's own")]
fn scratch_names_are_those_of_who_mounts() {
    kernel_test(NEEDS, || {
        let (base, place) = (scratch(), scratch());
        put(base.join("low"), "base");
        let parameters = Overlay::on(&base).scratch("upper", "work").parameters().unwrap();
        std::env::set_current_dir(&place).unwrap();
        assert!(mount(&parameters).is_err(), "not there yet");
        fs::create_dir("upper").unwrap();
        fs::create_dir("work").unwrap();
        let mount = mount(&parameters).unwrap();
        std::env::set_current_dir("/").unwrap();
        let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
        drop(rustix::fs::openat(&mount, "low", flags, rustix::fs::Mode::empty()).unwrap());
        assert_eq!(read(place.join("upper/low")), "base", "copied up");
    });
}

#[test]
fn odd_names_are_taken_or_refused_by_name() {
    kernel_test(NEEDS, || {
        for name in ["colon:name", "back\\slash", "\\:", "a space", "new\nline", "comma,name"] {
            let place = || {
                let path = scratch().join(name);
                fs::create_dir(&path).unwrap();
                path
            };
            let (base, above, upper, work) = (place(), place(), place(), place());
            let plain = (scratch(), scratch());
            put(base.join("low"), "base");
            let overlays = [
                Overlay::on(&base).writable(&plain.0, &plain.1),
                Overlay::on(&base).layer(&above),
                Overlay::on(scratch()).writable(&upper, &work),
            ];
            for overlay in overlays {
                match overlay.parameters() {
                    Ok(parameters) => assert!(is_overlay(mount(&parameters).unwrap()), "{name:?}"),
                    Err(error) => {
                        assert!(name.contains(',') && !Need::Kernel(6, 7).is_met(), "{error}");
                        assert_eq!(error.kind(), ErrorKind::InvalidInput);
                        assert!(error.to_string().contains(name), "{error}");
                    }
                }
            }
        }
    });
}

#[test]
fn what_fsconfig_does_not_take_is_refused() {
    kernel_test(NEEDS, || {
        let tree = Tree::new();
        let long = format!("{}{}", tree.above.display(), "/.".repeat(150));
        for overlay in [tree.writable().layer(&long), tree.read_only().writable(&long, &tree.work)] {
            let error = overlay.parameters().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("255"), "{error}");
        }
        let error = Overlay::on(&tree.base).parameters().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(
            error.to_string().starts_with(&format!("layer {}: one alone", tree.base.display())),
            "{error}"
        );
        tree.writable().parameters().unwrap();
    });
}
