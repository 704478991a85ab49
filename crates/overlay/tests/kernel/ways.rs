//! Which system calls mount, and that those of mount(2) happen where nobody sees them.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;

use isolate_overlay::{ErrorKind, Overlay};
use rustix::mount::{MountPropagationFlags, mount_change};
use testkit::{Need, kernel_test, scratch, without_system_call};

use crate::tree::{NEEDS, Tree, both_ways, is_overlay, put, read, read_in, write_in};

both_ways! {
    mounting_changes_nobodys_view_even_where_mounts_are_shared => private;
    the_whole_root_is_a_layer => on_root;
    names_are_seen_from_the_callers_directory => relative;
    many_threads_mount_at_once => threads;
}

#[test]
fn since_linux_6_7_mount_2_is_not_needed() {
    kernel_test(&[Need::Root, Need::Overlay, Need::Kernel(6, 7)], || {
        without_system_call(libc::SYS_mount, libc::EPERM);
        let tree = Tree::new();
        drop(tree.writable().mount_at(&tree.target).unwrap());
    });
}

#[test]
fn without_fsopen_it_is_mount_2_that_mounts() {
    kernel_test(NEEDS, || {
        without_system_call(libc::SYS_fsopen, libc::ENOSYS);
        let tree = Tree::new();
        drop(tree.writable().mount_at(&tree.target).unwrap());
        without_system_call(libc::SYS_mount, libc::EPERM);
        let error = tree.writable().mount_at(&tree.target).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.hint().is_some_and(|hint| hint.contains("CAP_SYS_ADMIN")), "{error:?}");
    });
}

fn private() {
    let list = || fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let namespace = || fs::read_link("/proc/thread-self/ns/mnt").unwrap();
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC).unwrap();
    let (before, own) = (list(), namespace());
    assert!(before.contains(" shared:"));
    let tree = Tree::new();
    put(tree.base.join("low"), "base");
    let mount = tree.read_only().mount().unwrap();
    assert_eq!(read_in(&mount, "low").unwrap(), "base");
    assert_eq!((list(), namespace()), (before, own));
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
}

fn on_root() {
    let tree = Tree::new();
    put(tree.above.join("only-above"), "above");
    let root = Overlay::on("/").layer(&tree.above);
    let mount = root.clone().writable(&tree.upper, &tree.work).mount().unwrap();
    // Before anything is written: it would be the machine's root.
    assert!(is_overlay(&mount));
    assert_eq!(read_in(&mount, "only-above").unwrap(), "above");
    assert!(read_in(&mount, "etc/passwd").is_some());
    write_in(&mount, "isolate-overlay-test", "mine").unwrap();
    assert_eq!(read(tree.upper.join("isolate-overlay-test")), "mine");
    assert!(!Path::new("/isolate-overlay-test").exists() && !Path::new("/only-above").exists());
    drop(mount);
    let mount = root.mount().unwrap();
    assert_eq!(read_in(&mount, "only-above").unwrap(), "above");
    assert!(write_in(&mount, "isolate-overlay-test", "mine").is_err());
}

#[expect(clippy::disallowed_methods, reason = "the process is the test's own")]
fn relative() {
    let place = scratch();
    for name in ["base", "above", "upper", "work", "target"] {
        fs::create_dir(place.join(name)).unwrap();
    }
    put(place.join("base/low"), "base");
    put(place.join("above/high"), "above");
    std::env::set_current_dir(&place).unwrap();
    let mounted = Overlay::on("base").layer("./above").writable("upper", "work").mount_at("target").unwrap();
    assert_eq!(mounted.path(), place.join("target"));
    std::env::set_current_dir(place.join("base")).unwrap();
    put(mounted.path().join("new"), "mine");
    assert_eq!(read("../upper/new"), "mine");
    mounted.unmount().unwrap();

    let mount = Overlay::on(".").layer("../above").mount().unwrap();
    assert!(is_overlay(&mount), "not the directory itself");
    assert_eq!(read_in(&mount, "low").unwrap(), "base");
    assert_eq!(read_in(&mount, "high").unwrap(), "above");
    std::env::set_current_dir("/").unwrap();
}

#[test]
fn since_linux_6_7_a_layer_may_be_a_descriptors_name() {
    kernel_test(&[Need::Root, Need::Overlay, Need::Kernel(6, 7)], || {
        let tree = Tree::new();
        put(tree.base.join("low"), "base");
        put(tree.above.join("high"), "above");
        let base = fs::File::open(&tree.base).unwrap();
        let overlay = Overlay::on(format!("/proc/self/fd/{}", base.as_raw_fd())).layer(&tree.above);
        let mount = overlay.mount().unwrap();
        assert!(is_overlay(&mount));
        assert_eq!(read_in(&mount, "low").unwrap(), "base");
        assert_eq!(read_in(&mount, "high").unwrap(), "above");
    });
}

fn threads() {
    let tree = Tree::new();
    put(tree.base.join("low"), "base");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(read_in(&tree.read_only().mount().unwrap(), "low").unwrap(), "base");
                }
            });
        }
    });
}

#[test]
fn mount_2_takes_no_descriptors_name_and_what_it_refuses_is_not_mounted_otherwise() {
    kernel_test(NEEDS, || {
        without_system_call(libc::SYS_fsopen, libc::ENOSYS);
        let tree = Tree::new();
        let base = fs::File::open(&tree.base).unwrap();
        // It leads to a mount of the caller's namespace, and mount(2) happens in another one.
        let error = Overlay::on(format!("/proc/self/fd/{}", base.as_raw_fd()))
            .layer(&tree.above)
            .mount()
            .unwrap_err();
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Kernel, Some(libc::EINVAL)), "{error}");
        drop(tree.read_only().mount().unwrap());
    });
}
