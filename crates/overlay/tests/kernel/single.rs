//! One layer without an upper one: no overlay, and yet a read-only view.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use isolate_overlay::Overlay;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use testkit::{kernel_test, scratch};

use crate::tree::{NEEDS, is_overlay, mounts_at, put, read, read_in, write_in};

#[test]
fn one_layer_is_seen_as_it_is_and_cannot_be_written() {
    kernel_test(NEEDS, || {
        let (layer, target) = (scratch(), scratch());
        put(layer.join("file"), "text");
        let view = Overlay::on(&layer).mount().unwrap();
        assert!(!is_overlay(&view));
        assert_eq!(read_in(&view, "file").unwrap(), "text");
        assert_eq!(write_in(&view, "new", ""), Err(rustix::io::Errno::ROFS));
        let mounted = view.attach(&target).unwrap();
        for written in [
            fs::write(target.join("file"), "x"),
            fs::remove_file(target.join("file")),
            fs::create_dir(target.join("d")),
        ] {
            assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::EROFS));
        }
        assert!(fs::set_permissions(target.join("file"), fs::Permissions::from_mode(0o600)).is_err());
        fs::write(layer.join("file"), "changed").unwrap();
        assert_eq!(read(target.join("file")), "changed", "the layer itself is as writable as it was");
        mounted.unmount().unwrap();
        assert!(mounts_at(&target).is_empty());
    });
}

#[test]
fn of_one_layer_the_mounts_below_are_not_seen() {
    kernel_test(NEEDS, || {
        let layer = scratch();
        put(layer.join("place/of the layer"), "");
        mount("tmpfs", layer.join("place"), "tmpfs", MountFlags::empty(), None).unwrap();
        put(layer.join("place/of the mount"), "");
        let view = Overlay::on(&layer).mount().unwrap();
        assert!(read_in(&view, "place/of the layer").is_some());
        assert!(read_in(&view, "place/of the mount").is_none());
        // As in an overlay of more.
        let above = scratch();
        let overlay = Overlay::on(&layer).layer(&above).mount().unwrap();
        assert!(read_in(&overlay, "place/of the layer").is_some());
        assert!(read_in(&overlay, "place/of the mount").is_none());
        unmount(layer.join("place"), UnmountFlags::empty()).unwrap();
    });
}
