//! Layers over one another, mounted.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use isolate_images::{ErrorKind, Unpack};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use testkit::{Need, kernel_test, scratch};

use crate::archive::Tar;

/// Unpacks them one over the other; bottom first.
pub(crate) fn unpack(layers: &[Vec<u8>]) -> Vec<PathBuf> {
    let mut below: Vec<PathBuf> = Vec::new();
    for layer in layers {
        let directory = scratch();
        Unpack::into(&directory).over(&below).read(&layer[..]).unwrap();
        below.push(directory);
    }
    below
}

fn mounted(layers: &[PathBuf], look: impl FnOnce(&Path)) {
    let point = scratch();
    let lower: Vec<_> = layers.iter().rev().map(|layer| layer.to_str().unwrap()).collect();
    // One directory alone is no overlay.
    let lower = format!("lowerdir={}:{}", lower.join(":"), scratch().display());
    let options = std::ffi::CString::new(lower).unwrap();
    mount("overlay", &point, "overlay", MountFlags::empty(), &*options).unwrap();
    look(&point);
    unmount(&point, UnmountFlags::empty()).unwrap();
}

#[test]
fn what_a_layer_deletes_is_not_seen_and_what_it_has_itself_is() {
    kernel_test(&[Need::Root, Need::Overlay], || {
        let base = Tar::new()
            .file("gone", b"1")
            .file("kept", b"1")
            .directory("tree/", 0o755)
            .file("tree/in", b"1")
            .directory("opaque/", 0o755)
            .file("opaque/in", b"1")
            .directory("again/", 0o755)
            .file("again/old", b"1")
            .directory("later/", 0o755)
            .file("later/old", b"1");
        let top = Tar::new()
            .file(".wh.gone", b"")
            .file(".wh.tree", b"")
            .file("opaque/.wh..wh..opq", b"")
            .file("opaque/new", b"2")
            // Deleted and made again, in either order.
            .file(".wh.again", b"")
            .directory("again/", 0o755)
            .file("again/new", b"2")
            .directory("later/", 0o755)
            .file("later/new", b"2")
            .file(".wh.later", b"")
            .file(".wh.never", b"")
            .file(".wh..wh.plnk", b"");
        let layers = unpack(&[base.end(), top.end()]);
        mounted(&layers, |root| {
            let names = |path: &str| {
                let mut names: Vec<_> = fs::read_dir(root.join(path))
                    .unwrap()
                    .map(|e| e.unwrap().file_name().into_string().unwrap())
                    .collect();
                names.sort();
                names
            };
            assert_eq!(names(""), ["again", "kept", "later", "opaque"]);
            assert_eq!(names("opaque"), ["new"]);
            assert_eq!(names("again"), ["new"]);
            assert_eq!(names("later"), ["new"]);
        });
        let whiteout = fs::symlink_metadata(layers[1].join("gone")).unwrap();
        assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
        assert!(!layers[1].join("never").exists(), "nothing below to delete");
    });
}

#[test]
fn a_directory_that_a_layer_leaves_out_is_as_it_is_below_and_a_link_there_leads_where_it_leads() {
    kernel_test(&[Need::Root, Need::Overlay], || {
        let base = Tar::new()
            .directory("usr/", 0o755)
            .directory("usr/lib/", 0o751)
            .symlink("lib", "usr/lib")
            .symlink("abs", "/usr/../usr/lib")
            .directory("tmp/", 0o1777);
        let middle = Tar::new().file("other", b"");
        // Of the root it is the topmost that is seen.
        let base = base.directory("./", 0o711);
        let top = Tar::new().file("lib/a", b"a").file("abs/b", b"b").file("tmp/c", b"c").file("new/d", b"d");
        let layers = unpack(&[base.end(), middle.end(), top.end()]);
        mounted(&layers, |root| {
            assert!(fs::symlink_metadata(root.join("lib")).unwrap().is_symlink(), "the link is seen");
            assert_eq!(fs::read(root.join("usr/lib/a")).unwrap(), b"a");
            assert_eq!(fs::read(root.join("usr/lib/b")).unwrap(), b"b");
            let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o7777;
            assert_eq!([mode("usr/lib"), mode("tmp"), mode("new"), mode("")], [0o751, 0o1777, 0o755, 0o711]);
            assert_eq!(fs::metadata(root.join("tmp")).unwrap().mtime(), 1_000_000_000);
        });
    });
}

#[test]
fn a_file_below_is_no_directory_and_one_that_was_deleted_hides_what_was_in_it() {
    kernel_test(&[Need::Root, Need::Overlay], || {
        let base = Tar::new().directory("d/", 0o755).file("d/old", b"").file("f", b"").end();
        let top = Tar::new().file(".wh.d", b"").file("d/new", b"").file("f/x", b"").end();
        let layers = unpack(&[base, top]);
        mounted(&layers, |root| {
            assert!(root.join("d/new").exists() && !root.join("d/old").exists());
            assert!(root.join("f/x").exists());
        });
        let error = Unpack::into(scratch())
            .read(&Tar::new().file("f", b"").file("f/x", b"").end()[..])
            .expect_err("a file is no directory");
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    });
}

#[test]
fn a_hard_link_that_has_the_size_of_its_file_has_no_content() {
    kernel_test(&[Need::Root], || {
        let archive = Tar::new().file("a", b"content");
        let archive = archive
            .entry(tar::EntryType::Link, "b", "a", b"", |header| header.set_size(7))
            .file("c", b"c")
            .end();
        let layer = unpack(&[archive]).remove(0);
        let inode = |name: &str| fs::metadata(layer.join(name)).unwrap().ino();
        assert_eq!(inode("a"), inode("b"));
        assert_eq!(fs::read(layer.join("c")).unwrap(), b"c");
    });
}

#[test]
fn an_archive_may_end_with_the_last_byte_of_its_last_file() {
    kernel_test(&[Need::Root], || {
        let archive = Tar::new().file("a", b"content").unended();
        let layer = unpack(&[archive[..512 + 7].to_vec()]).remove(0);
        assert_eq!(fs::read(layer.join("a")).unwrap(), b"content");
        assert!(Unpack::into(scratch()).read(&archive[..512 + 6]).is_err(), "one byte less is cut off");
    });
}
