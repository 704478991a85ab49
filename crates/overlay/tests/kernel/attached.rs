//! An overlay at a path, and how it ends.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use isolate_overlay::ErrorKind;
use rustix::mount::{UnmountFlags, unmount};
use testkit::scratch;

use crate::tree::{Tree, both_ways, mounts_at, put, read};

both_ways! {
    dropping_unmounts => dropping;
    dropping_unmounts_also_while_a_file_is_open => dropping_in_use;
    unmounting_what_is_in_use_is_an_error_and_it_goes_all_the_same => unmounting_in_use;
    a_kept_one_stays => keeping;
    one_over_another_is_unmounted_first => stacked;
    a_place_that_is_none_is_named => no_place;
}

fn dropping() {
    let tree = Tree::new();
    put(tree.base.join("low"), "base");
    put(tree.target.join("beneath"), "");
    let mounted = tree.writable().mount_at(&tree.target).unwrap();
    assert_eq!(mounted.path(), tree.target);
    assert!(tree.target.join("low").exists() && !tree.target.join("beneath").exists());
    let [line] = &mounts_at(&tree.target)[..] else { panic!("one mount at {}", tree.target.display()) };
    assert!(line.contains(" - overlay "), "{line}");
    drop(mounted);
    assert!(mounts_at(&tree.target).is_empty());
    assert!(!tree.target.join("low").exists() && tree.target.join("beneath").exists());
    // The directories are free: an overlay of them can be made again.
    drop(tree.writable().mount_at(&tree.target).unwrap());
}

fn dropping_in_use() {
    let tree = Tree::new();
    put(tree.base.join("low"), "base");
    let mounted = tree.writable().mount_at(&tree.target).unwrap();
    let file = File::open(tree.target.join("low")).unwrap();
    drop(mounted);
    assert!(mounts_at(&tree.target).is_empty());
    assert_eq!(std::io::read_to_string(file).unwrap(), "base", "who has it open reads on");
}

fn unmounting_in_use() {
    let tree = Tree::new();
    put(tree.base.join("low"), "base");
    let mounted = tree.writable().mount_at(&tree.target).unwrap();
    let file = File::open(tree.target.join("low")).unwrap();
    let error = mounted.unmount().unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Kernel, Some(libc::EBUSY)));
    let expected = format!("cannot unmount {}: Device or resource busy (os error 16)", tree.target.display());
    assert_eq!(error.to_string(), expected);
    assert!(error.hint().is_some_and(|hint| hint.contains("a file open")), "{error:?}");
    assert!(mounts_at(&tree.target).is_empty());
    drop(file);
}

fn keeping() {
    let tree = Tree::new();
    put(tree.base.join("low"), "base");
    tree.read_only().mount_at(&tree.target).unwrap().keep();
    assert_eq!(mounts_at(&tree.target).len(), 1);
    assert_eq!(read(tree.target.join("low")), "base");
    unmount(&tree.target, UnmountFlags::empty()).unwrap();
}

fn stacked() {
    let (below, over) = (Tree::new(), Tree::new());
    put(below.base.join("name"), "below");
    put(over.base.join("name"), "over");
    let first = below.read_only().mount_at(&below.target).unwrap();
    let second = over.read_only().mount_at(&below.target).unwrap();
    assert_eq!((read(below.target.join("name")), mounts_at(&below.target).len()), ("over".into(), 2));
    second.unmount().unwrap();
    assert_eq!((read(below.target.join("name")), mounts_at(&below.target).len()), ("below".into(), 1));
    drop(first);
    assert!(mounts_at(&below.target).is_empty());
}

fn no_place() {
    let tree = Tree::new();
    let missing = tree.target.join("missing");
    let error = tree.read_only().mount_at(&missing).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let expected =
        format!("cannot mount the overlay at {}: No such file or directory (os error 2)", missing.display());
    assert_eq!(error.to_string(), expected);
    put(tree.target.join("file"), "");
    let error = tree.read_only().mount_at(tree.target.join("file")).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot mount the overlay at {}/file: ", tree.target.display())),
        "{error}"
    );
    assert_eq!(tree.read_only().mount_at("").unwrap_err().kind(), ErrorKind::InvalidInput);

    // Through a symbolic link it is unmounted where it was mounted.
    let (link, place) = (scratch().join("link"), scratch());
    fs::create_dir(place.join("inside")).unwrap();
    symlink(&place, &link).unwrap();
    let mounted = tree.read_only().mount_at(link.join("inside")).unwrap();
    assert_eq!(mounts_at(&place.join("inside")).len(), 1);
    mounted.unmount().unwrap();
    assert!(mounts_at(&place.join("inside")).is_empty());
    let error = tree.read_only().mount_at(&link).unwrap_err();
    assert!(error.to_string().contains(&link.display().to_string()), "{error}");
    assert!(mounts_at(&place).is_empty() && mounts_at(&link).is_empty());
}
