//! What cannot be, said with the directory that is to blame.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use isolate_overlay::{Error, ErrorKind, Overlay};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};
use testkit::scratch;

use crate::tree::{Tree, both_ways, put};

both_ways! {
    a_layer_that_is_not_there_is_named => missing;
    a_layer_that_is_a_file_is_named => file;
    an_upper_layer_and_its_work_directory_are_on_one_file_system => two_file_systems;
    an_upper_layer_and_its_work_directory_are_on_one_mount => two_mounts;
    neither_of_an_upper_layer_and_its_work_directory_lies_in_the_other => work_inside_upper;
    an_upper_layer_is_none_of_those_below => upper_is_lower;
    an_upper_layer_lies_in_none_of_those_below => upper_in_lower;
    a_layer_that_is_there_twice_is_named => twice;
    an_upper_layer_that_is_a_layer_by_another_path_is_named => by_bind_mount;
    a_read_only_upper_layer_is_named => read_only_upper;
    an_overlay_holds_no_upper_layer => upper_on_overlay;
    too_many_overlays_on_each_other_are_refused => too_deep;
    a_name_with_a_zero_byte_is_refused => zero_byte;
}

fn fails(overlay: &Overlay, kind: ErrorKind, about: &[&Path]) -> Error {
    let error = overlay.mount().unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    for path in about {
        assert!(error.to_string().contains(path.to_str().unwrap()), "{} is not in: {error}", path.display());
    }
    error
}

/// Everything in place, the tree of each test is good.
fn works(overlay: &Overlay) {
    drop(overlay.mount().unwrap());
}

fn missing() {
    let tree = Tree::new();
    works(&tree.writable());
    let gone = scratch().join("gone");
    for (overlay, what) in [
        (tree.writable().layer(&gone), "lower layer"),
        (Overlay::on(&gone).layer(&tree.base), "lower layer"),
        (Overlay::on(&gone), "lower layer"),
        (tree.read_only().writable(&gone, &tree.work), "upper layer"),
        (tree.read_only().writable(&tree.upper, &gone), "work directory"),
    ] {
        let error = fails(&overlay, ErrorKind::NotFound, &[]);
        assert_eq!(
            error.to_string(),
            format!("{what} {}: No such file or directory (os error 2)", gone.display())
        );
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }
    assert!(!gone.exists());
}

/// Of one file system, but the kernel looks at the mount.
fn two_mounts() {
    let (tree, again) = (Tree::new(), scratch());
    let place = tree.work.parent().unwrap();
    mount_bind(place, &again).unwrap();
    let work = again.join(tree.work.file_name().unwrap());
    works(&tree.writable());
    let error =
        fails(&tree.read_only().writable(&tree.upper, &work), ErrorKind::InvalidInput, &[&tree.upper, &work]);
    assert!(error.hint().unwrap().contains("one mount"), "{error:?}");
    unmount(&again, UnmountFlags::empty()).unwrap();
}

fn file() {
    let tree = Tree::new();
    works(&tree.writable());
    let file = scratch().join("file");
    put(&file, "");
    for (overlay, what) in [
        (tree.writable().layer(&file), "lower layer"),
        (Overlay::on(&file), "lower layer"),
        (tree.read_only().writable(&file, &tree.work), "upper layer"),
        (tree.read_only().writable(&tree.upper, &file), "work directory"),
    ] {
        let error = fails(&overlay, ErrorKind::NotFound, &[]);
        assert_eq!(error.to_string(), format!("{what} {}: Not a directory (os error 20)", file.display()));
    }
}

fn two_file_systems() {
    let tree = Tree::new();
    let other = scratch();
    mount("tmpfs", &other, "tmpfs", MountFlags::empty(), None).unwrap();
    for (upper, work) in [(&tree.upper, &other), (&other, &tree.work)] {
        let error = fails(&tree.read_only().writable(upper, work), ErrorKind::InvalidInput, &[upper, work]);
        assert!(error.to_string().ends_with("are on different file systems"), "{error}");
    }
    let (upper, work) = (other.join("upper"), other.join("work"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    works(&tree.read_only().writable(&upper, &work));
    unmount(&other, UnmountFlags::empty()).unwrap();
}

fn work_inside_upper() {
    let tree = Tree::new();
    let inside = |directory: &Path| {
        let path = directory.join("inside");
        fs::create_dir(&path).unwrap();
        path
    };
    let (in_upper, in_work) = (inside(&tree.upper), inside(&tree.work));
    for (upper, work) in [(&tree.upper, &in_upper), (&in_work, &tree.work), (&tree.upper, &tree.upper)] {
        let error = fails(&tree.read_only().writable(upper, work), ErrorKind::InvalidInput, &[upper, work]);
        assert!(error.to_string().ends_with("overlap"), "{error}");
    }
    works(&tree.writable());
}

fn upper_is_lower() {
    let tree = Tree::new();
    let link = scratch().join("link");
    symlink(&tree.above, &link).unwrap();
    let inside = tree.base.join("inside");
    fs::create_dir(&inside).unwrap();
    for (upper, lower) in
        [(&tree.base, &tree.base), (&tree.above, &tree.above), (&link, &tree.above), (&inside, &tree.base)]
    {
        let error =
            fails(&tree.read_only().writable(upper, &tree.work), ErrorKind::InvalidInput, &[upper, lower]);
        assert!(error.to_string().ends_with("overlap"), "{error}");
    }
    works(&tree.writable());
}

/// A layer whose path has no last name, as `/` has none; and one that leads to the upper layer by name only.
fn upper_in_lower() {
    let tree = Tree::new();
    let parent = tree.upper.join("..");
    let error = fails(
        &Overlay::on(&parent).writable(&tree.upper, &tree.work),
        ErrorKind::InvalidInput,
        &[&tree.upper, &parent],
    );
    assert!(error.to_string().ends_with("overlap"), "{error}");
    works(&tree.writable());

    let inside = tree.base.join("inside");
    fs::create_dir(&inside).unwrap();
    mount("tmpfs", &inside, "tmpfs", MountFlags::empty(), None).unwrap();
    let (upper, work) = (inside.join("upper"), inside.join("work"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    works(&Overlay::on(&tree.base).layer(&tree.above).writable(&upper, &work));
    unmount(&inside, UnmountFlags::empty()).unwrap();
}

fn twice() {
    let tree = Tree::new();
    let inside = tree.base.join("inside");
    fs::create_dir(&inside).unwrap();
    works(&tree.read_only());
    for lower in [&tree.base, &inside] {
        let error = fails(&tree.read_only().layer(lower), ErrorKind::InvalidInput, &[&tree.base, lower]);
        assert!(error.to_string().ends_with("overlap"), "{error}");
    }
}

fn by_bind_mount() {
    let tree = Tree::new();
    let alias = scratch();
    mount_bind(&tree.upper, &alias).unwrap();
    works(&tree.writable());
    let error = fails(&tree.writable().layer(&alias), ErrorKind::InvalidInput, &[&tree.upper, &alias]);
    assert!(error.to_string().ends_with("overlap"), "{error}");
    unmount(&alias, UnmountFlags::empty()).unwrap();
}

fn read_only_upper() {
    let tree = Tree::new();
    for read_only in [false, true] {
        let other = scratch();
        mount("tmpfs", &other, "tmpfs", MountFlags::empty(), None).unwrap();
        let (upper, work) = (other.join("upper"), other.join("work"));
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&work).unwrap();
        let overlay = tree.read_only().writable(&upper, &work);
        if read_only {
            mount_remount(&other, MountFlags::RDONLY, c"").unwrap();
            let error = fails(&overlay, ErrorKind::InvalidInput, &[&upper]);
            assert!(error.to_string().contains("read-only"), "{error}");
        } else {
            works(&overlay);
        }
        unmount(&other, UnmountFlags::empty()).unwrap();
    }
}

fn upper_on_overlay() {
    let (below, tree) = (Tree::new(), Tree::new());
    for name in ["upper", "work"] {
        fs::create_dir(below.base.join(name)).unwrap();
    }
    let mounted = below.writable().mount_at(&below.target).unwrap();
    let (upper, work) = (below.target.join("upper"), below.target.join("work"));
    let error = fails(&tree.read_only().writable(&upper, &work), ErrorKind::InvalidInput, &[&upper]);
    assert!(error.hint().is_some_and(|hint| hint.contains("tmpfs")), "{error:?}");
    assert!(!isolate_overlay::can_hold_upper(&upper) && isolate_overlay::can_hold_upper(&tree.upper));
    works(&Overlay::on(&below.target).writable(&tree.upper, &tree.work));
    drop(mounted);
}

fn too_deep() {
    let trees = [Tree::new(), Tree::new(), Tree::new()];
    let first = trees[0].read_only().mount_at(&trees[0].target).unwrap();
    let second = Overlay::on(first.path()).layer(&trees[1].base).mount_at(&trees[1].target).unwrap();
    let error = fails(&Overlay::on(second.path()).layer(&trees[2].base), ErrorKind::Kernel, &[]);
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    assert!(error.to_string().starts_with("cannot mount the overlay: "), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("dmesg")), "{error:?}");
    drop(second);
    drop(first);
}

fn zero_byte() {
    let tree = Tree::new();
    let odd = Path::new(OsStr::from_bytes(b"/a\0b"));
    fails(&tree.read_only().layer(odd), ErrorKind::InvalidInput, &[]);
}
