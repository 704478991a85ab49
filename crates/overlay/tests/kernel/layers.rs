//! Layers are seen as one directory, the topmost first.

use std::fs;

use isolate_overlay::{ErrorKind, Overlay};
use testkit::{Need, kernel_test, scratch};

use crate::tree::{NEEDS, Tree, both_ways, names, put, read, read_in};

both_ways! {
    of_two_files_of_a_name_the_topmost_layers_is_seen => order;
    directories_of_a_name_are_merged_and_a_file_hides_a_directory => merging;
    layers_given_at_once_go_bottom_first => at_once;
    as_many_layers_as_fit_a_page_are_one_directory => a_page_of_layers;
}

fn order() {
    let tree = Tree::new();
    put(tree.base.join("both"), "base");
    put(tree.above.join("both"), "above");
    put(tree.base.join("low"), "base");
    put(tree.above.join("high"), "above");
    let mount = tree.read_only().mount().unwrap();
    assert_eq!(read_in(&mount, "both").unwrap(), "above");
    assert_eq!(read_in(&mount, "low").unwrap(), "base");
    assert_eq!(read_in(&mount, "high").unwrap(), "above");
    let turned = Overlay::on(&tree.above).layer(&tree.base).mount().unwrap();
    assert_eq!(read_in(&turned, "both").unwrap(), "base", "the order is the caller's");
    put(tree.upper.join("both"), "upper");
    let written = tree.writable().mount().unwrap();
    assert_eq!(read_in(&written, "both").unwrap(), "upper", "the upper layer is above them all");
}

fn merging() {
    let tree = Tree::new();
    put(tree.base.join("merged/low"), "");
    put(tree.above.join("merged/high"), "");
    put(tree.base.join("hidden/low"), "");
    put(tree.above.join("hidden"), "a file");
    let mounted = tree.read_only().mount_at(&tree.target).unwrap();
    assert_eq!(names(mounted.path().join("merged")), ["high", "low"]);
    assert_eq!(read(mounted.path().join("hidden")), "a file");
}

fn at_once() {
    let [a, b, c] = [scratch(), scratch(), scratch()];
    for (layer, text) in [(&a, "a"), (&b, "b"), (&c, "c")] {
        put(layer.join("all"), text);
    }
    put(a.join("two"), "a");
    put(b.join("two"), "b");
    let mount = Overlay::on(&a).layers([&b, &c]).mount().unwrap();
    assert_eq!(read_in(&mount, "all").unwrap(), "c");
    assert_eq!(read_in(&mount, "two").unwrap(), "b");
}

/// Each layer has a file of its own and one that all have.
fn many(count: usize) -> Overlay {
    let place = scratch();
    let layer = |n: usize| {
        let layer = place.join(n.to_string());
        put(layer.join(format!("only-{n}")), "");
        put(layer.join("all"), &n.to_string());
        layer
    };
    (1..count).fold(Overlay::on(layer(0)), |overlay, n| overlay.layer(layer(n)))
}

fn a_page_of_layers() {
    // Some 30 bytes each.
    let mount = many(100).mount().unwrap();
    assert_eq!(read_in(&mount, "all").unwrap(), "99");
    assert!((0..100).all(|n| read_in(&mount, &format!("only-{n}")).is_some()));
}

#[test]
fn since_linux_6_7_there_can_be_500_layers() {
    kernel_test(&[Need::Root, Need::Overlay, Need::Kernel(6, 7)], || {
        for count in [200, 500] {
            let mount = many(count).mount().unwrap();
            assert_eq!(read_in(&mount, "all").unwrap(), (count - 1).to_string());
            assert!((0..count).all(|n| read_in(&mount, &format!("only-{n}")).is_some()));
        }
    });
}

#[test]
fn one_layer_more_than_500_is_an_error_that_says_so() {
    kernel_test(NEEDS, || {
        let error = many(501).mount().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "501 layers: the kernel takes 500");
    });
}

#[test]
fn more_layers_than_fit_a_page_are_an_error_of_mount_2_that_says_so() {
    kernel_test(NEEDS, || {
        testkit::without_system_call(libc::SYS_fsopen, libc::ENOSYS);
        let error = many(400).mount().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("more than the 4096 that mount(2) takes"), "{error}");
        assert!(error.hint().unwrap().contains("fewer layers"), "{error:?}");
    });
}

#[test]
fn the_last_byte_of_the_page_counts() {
    kernel_test(NEEDS, || {
        testkit::without_system_call(libc::SYS_fsopen, libc::ENOSYS);
        let base = scratch();
        put(base.join("low"), "base");
        // What mount(2) is given is `lowerdir=TOP:BASE`, and a zero byte ends it; the path is made long by `/.` and `/`.
        let above = scratch();
        put(above.join("high"), "above");
        let room = 4095 - "lowerdir=:".len() - base.as_os_str().len() - above.as_os_str().len();
        let long = |filling: usize| {
            format!("{}{}{}", above.display(), "/.".repeat(filling / 2), "/".repeat(filling % 2))
        };
        let error = Overlay::on(&base).layer(long(room + 1)).mount().unwrap_err();
        assert!(error.to_string().starts_with("4096 bytes of layers and options"), "{error}");
        let mount = Overlay::on(&base).layer(long(room)).mount().unwrap();
        assert_eq!(read_in(&mount, "low").unwrap(), "base", "nothing was cut off");
        assert_eq!(read_in(&mount, "high").unwrap(), "above");
        fs::remove_file(above.join("high")).unwrap();
    });
}
