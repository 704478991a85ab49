//! What this kernel can do and this process may.

use isolate_overlay::{ErrorKind, can_hold_upper, supported};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use testkit::{kernel_test, scratch, without_system_call};

use crate::tree::{NEEDS, Tree, both_ways, put, read_in};

both_ways! {
    this_kernel_has_overlays => has_overlays;
    who_may_not_mount_is_told_so => may_not;
}

fn has_overlays() {
    supported().unwrap();
    drop(Tree::new().writable().mount().unwrap());
}

/// On a thread that has no capability.
fn unprivileged<T: Send>(look: impl FnOnce() -> T + Send) -> T {
    let nothing = CapabilitySet::empty();
    let sets = CapabilitySets { effective: nothing, permitted: nothing, inheritable: nothing };
    std::thread::scope(|scope| {
        let look = || {
            set_capabilities(None, sets).unwrap();
            look()
        };
        scope.spawn(look).join().unwrap()
    })
}

fn may_not() {
    let tree = Tree::new();
    put(tree.base.join("low"), "base");
    unprivileged(|| {
        supported().expect("that it is not allowed says nothing of the kernel");
        tree.writable().check().expect("to look needs no privilege");
        for overlay in [tree.writable(), tree.read_only(), isolate_overlay::Overlay::on(&tree.base)] {
            let error = overlay.mount().unwrap_err();
            assert_eq!(
                (error.kind(), error.raw_os_error()),
                (ErrorKind::PermissionDenied, Some(libc::EPERM)),
                "{error}"
            );
            assert!(error.hint().is_some_and(|hint| hint.contains("CAP_SYS_ADMIN")), "{error:?}");
        }
    });
    // The same with privilege.
    assert_eq!(read_in(&tree.writable().mount().unwrap(), "low").unwrap(), "base");
    let mount = tree.read_only().mount().unwrap();
    let error = unprivileged(|| mount.attach(&tree.target).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains(tree.target.to_str().unwrap()), "{error}");
}

#[test]
fn a_kernel_without_overlays_is_told_with_the_remedy() {
    kernel_test(NEEDS, || {
        without_system_call(libc::SYS_fsopen, libc::ENODEV);
        without_system_call(libc::SYS_mount, libc::ENODEV);
        let tree = Tree::new();
        for error in [supported().unwrap_err(), tree.writable().mount().unwrap_err()] {
            assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Unsupported, Some(libc::ENODEV)));
            assert!(error.hint().is_some_and(|hint| hint.contains("modprobe overlay")), "{error:?}");
        }
    });
}

#[test]
fn which_file_systems_hold_an_upper_layer() {
    kernel_test(NEEDS, || {
        assert!(can_hold_upper(scratch()), "tmpfs");
        for place in ["/proc", "/sys", "/no/such/directory"] {
            assert!(!can_hold_upper(place), "{place}");
        }
    });
}
