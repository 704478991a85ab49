//! Overlays whose upper layer is thrown away.

use std::fs;

use isolate_overlay::ErrorKind;

use crate::tree::{Tree, both_ways, mounts_at, names, put, read};

both_ways! {
    the_kernel_is_told_and_leaves_a_mark => told;
    an_upper_layer_that_was_volatile_is_refused_with_what_to_do => refused;
    without_an_upper_layer_it_means_nothing => without_upper;
}

fn told() {
    for volatile in [true, false] {
        let tree = Tree::new();
        let mounted = tree.writable().volatile(volatile).mount_at(&tree.target).unwrap();
        let line = mounts_at(&tree.target).concat();
        assert_eq!(line.contains("volatile"), volatile, "{line}");
        put(tree.target.join("new"), "mine");
        fs::File::open(tree.target.join("new")).unwrap().sync_all().unwrap();
        assert_eq!(read(tree.upper.join("new")), "mine");
        drop(mounted);
        assert_eq!(tree.work.join("work/incompat/volatile").exists(), volatile);
    }
}

fn refused() {
    let tree = Tree::new();
    let mounted = tree.writable().volatile(true).mount_at(&tree.target).unwrap();
    put(tree.target.join("new"), "mine");
    mounted.unmount().unwrap();
    for volatile in [true, false] {
        let error = tree.writable().volatile(volatile).mount().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(
            error.to_string().starts_with(&format!("work directory {}: ", tree.work.display())),
            "{error}"
        );
        assert!(error.hint().is_some_and(|hint| hint.contains("work/incompat")), "{error:?}");
    }
    fs::remove_dir_all(tree.work.join("work/incompat")).unwrap();
    let mounted = tree.writable().mount_at(&tree.target).unwrap();
    assert_eq!(read(tree.target.join("new")), "mine", "as the hint says");
    mounted.unmount().unwrap();
    drop(tree.writable().mount_at(&tree.target).unwrap());
}

fn without_upper() {
    let tree = Tree::new();
    put(tree.base.join("low"), "");
    let mounted = tree.read_only().volatile(true).mount_at(&tree.target).unwrap();
    assert_eq!(names(mounted.path()), ["low"]);
}
