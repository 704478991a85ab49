//! The upper layer takes what is written; the layers below stay as they are.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::getxattr;
use testkit::{Need, kernel_test};

use crate::tree::{NEEDS, Tree, both_ways, mounts_at, names, put, read};

both_ways! {
    what_is_written_lands_in_the_upper_layer_alone => writing;
    a_deletion_is_a_whiteout_that_hides_the_file_below => deleting;
    a_directory_made_anew_shows_nothing_of_the_one_below => opaque;
    without_an_upper_layer_every_write_is_refused => read_only;
    what_an_upper_layer_holds_is_there_at_the_next_mount => again;
}

fn writing() {
    let tree = Tree::new();
    put(tree.base.join("changed"), "base");
    put(tree.above.join("appended"), "above");
    fs::set_permissions(tree.base.join("changed"), fs::Permissions::from_mode(0o640)).unwrap();
    let mounted = tree.writable().mount_at(&tree.target).unwrap();
    let at = |name: &str| mounted.path().join(name);
    fs::write(at("changed"), "mine").unwrap();
    put(at("directory/new"), "new");
    fs::set_permissions(at("appended"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(read(at("changed")), "mine");
    assert_eq!(read(tree.upper.join("changed")), "mine");
    assert_eq!(
        tree.upper.join("changed").metadata().unwrap().mode() & 0o777,
        0o640,
        "copied up with its mode"
    );
    assert_eq!(read(tree.upper.join("directory/new")), "new");
    assert_eq!(names(&tree.upper), ["appended", "changed", "directory"]);

    assert_eq!(read(tree.base.join("changed")), "base");
    assert_eq!(names(&tree.base), ["changed"]);
    assert_eq!(names(&tree.above), ["appended"]);
    assert_ne!(tree.above.join("appended").metadata().unwrap().mode() & 0o777, 0o600);
}

/// Overlayfs's whiteout: a device that is none.
fn is_whiteout(path: &Path) -> bool {
    let metadata = path.symlink_metadata().unwrap();
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

fn deleting() {
    let tree = Tree::new();
    for name in ["gone", "kept", "directory/inside"] {
        put(tree.base.join(name), "base");
    }
    put(tree.above.join("gone"), "above");
    let mounted = tree.writable().mount_at(&tree.target).unwrap();
    fs::remove_file(mounted.path().join("gone")).unwrap();
    fs::remove_dir_all(mounted.path().join("directory")).unwrap();
    fs::rename(mounted.path().join("kept"), mounted.path().join("moved")).unwrap();
    assert_eq!(names(mounted.path()), ["moved"]);
    for name in ["gone", "directory", "kept"] {
        assert!(!mounted.path().join(name).exists());
        assert!(is_whiteout(&tree.upper.join(name)), "{name}");
    }
    assert_eq!(names(&tree.base), ["directory", "gone", "kept"]);
    assert_eq!(names(tree.base.join("directory")), ["inside"]);
    assert_eq!(read(tree.above.join("gone")), "above");
    mounted.unmount().unwrap();
    let below = tree.read_only().mount_at(&tree.target).unwrap();
    assert_eq!(
        names(below.path()),
        ["directory", "gone", "kept"],
        "without that upper layer nothing is gone"
    );
}

fn opaque() {
    let tree = Tree::new();
    put(tree.base.join("directory/low"), "base");
    put(tree.base.join("other/low"), "base");
    let mounted = tree.writable().mount_at(&tree.target).unwrap();
    let directory = mounted.path().join("directory");
    fs::remove_dir_all(&directory).unwrap();
    put(directory.join("new"), "");
    put(mounted.path().join("other/new"), "");
    assert_eq!(names(&directory), ["new"]);
    assert_eq!(names(mounted.path().join("other")), ["low", "new"], "one that was not removed is merged");
    assert_eq!(names(tree.base.join("directory")), ["low"]);
}

fn read_only() {
    let tree = Tree::new();
    put(tree.base.join("file"), "base");
    let refused = |result: std::io::Result<()>| {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EROFS));
    };
    let mounted = tree.read_only().mount_at(&tree.target).unwrap();
    let at = |name: &str| mounted.path().join(name);
    refused(fs::write(at("file"), "mine"));
    refused(fs::write(at("new"), ""));
    refused(fs::remove_file(at("file")));
    refused(fs::create_dir(at("directory")));
    refused(fs::rename(at("file"), at("moved")));
    refused(fs::set_permissions(at("file"), fs::Permissions::from_mode(0o600)));
    assert_eq!(
        (read(at("file")), names(&tree.base), names(&tree.above)),
        ("base".into(), vec!["file".into()], vec![])
    );
    mounted.unmount().unwrap();
    let mounted = tree.writable().mount_at(&tree.target).unwrap();
    fs::write(mounted.path().join("file"), "mine").unwrap();
}

fn again() {
    let tree = Tree::new();
    put(tree.base.join("gone"), "base");
    for n in 0..3 {
        let mounted = tree.writable().mount_at(&tree.target).unwrap();
        put(mounted.path().join(n.to_string()), "");
        fs::remove_file(mounted.path().join("gone")).ok();
        mounted.unmount().unwrap();
    }
    let mounted = tree.writable().mount_at(&tree.target).unwrap();
    assert_eq!(names(mounted.path()), ["0", "1", "2"]);
}

/// Whether a directory is marked as hiding those below, in the attributes of this namespace.
fn marked_opaque(directory: &Path, namespace: &str) -> bool {
    let mut value = [0; 8];
    getxattr(directory, format!("{namespace}.overlay.opaque"), &mut value)
        .is_ok_and(|length| &value[..length] == b"y")
}

#[test]
fn notes_are_in_user_attributes_where_that_is_asked_for() {
    // tmpfs has user attributes since Linux 6.6.
    kernel_test(&[Need::Root, Need::Overlay, Need::Kernel(6, 6)], || {
        for (userxattr, namespace, other) in [(false, "trusted", "user"), (true, "user", "trusted")] {
            let tree = Tree::new();
            put(tree.base.join("directory/low"), "");
            let mounted = tree.writable().userxattr(userxattr).mount_at(&tree.target).unwrap();
            fs::remove_dir_all(mounted.path().join("directory")).unwrap();
            fs::create_dir(mounted.path().join("directory")).unwrap();
            assert!(names(mounted.path().join("directory")).is_empty());
            assert!(marked_opaque(&tree.upper.join("directory"), namespace));
            assert!(!marked_opaque(&tree.upper.join("directory"), other));
        }
    });
}

#[test]
fn user_attributes_are_an_option_of_mount_2_too() {
    kernel_test(NEEDS, || {
        testkit::without_system_call(libc::SYS_fsopen, libc::ENOSYS);
        let tree = Tree::new();
        for userxattr in [true, false] {
            let mounted = tree.read_only().userxattr(userxattr).mount_at(&tree.target).unwrap();
            let line = mounts_at(mounted.path()).concat();
            assert_eq!(line.contains("userxattr"), userxattr, "{line}");
        }
    });
}
