//! A mount that no path leads to, and goes with its descriptor.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use isolate_overlay::Overlay;
use rustix::io::{Errno, FdFlags, fcntl_getfd};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use testkit::scratch;

use crate::tree::{Tree, both_ways, is_overlay, mounts_at, put, read, read_in, write_in};

both_ways! {
    it_is_in_nobodys_list_and_is_read_and_written_by_its_descriptor => unseen;
    dropped_without_being_attached_it_lets_go_of_its_directories => dropped;
    attached_it_is_at_that_path_alone_until_it_is_unmounted => attached;
    its_descriptor_is_its_owners_and_closed_on_exec => owned;
    two_of_the_same_layers_know_nothing_of_each_other => two;
}

fn unseen() {
    let list = || fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let before = list();
    let tree = Tree::new();
    put(tree.base.join("low"), "base");
    let mount = tree.writable().mount().unwrap();
    assert!(is_overlay(&mount));
    assert_eq!(list(), before);
    write_in(&mount, "new", "mine").unwrap();
    assert_eq!(read(tree.upper.join("new")), "mine");
    assert_eq!(read_in(&mount, "low").unwrap(), "base");
    assert!(!tree.base.join("new").exists(), "nor does it lie over a layer");
}

/// Whether an overlay has this upper layer: with an index, the kernel refuses another one.
fn in_use(tree: &Tree) -> bool {
    let [base, upper, work] = [&tree.base, &tree.upper, &tree.work].map(|path| path.display());
    let options = format!("index=on,lowerdir={base},upperdir={upper},workdir={work}");
    let options = std::ffi::CString::new(options).unwrap();
    match mount("overlay", &tree.target, "overlay", MountFlags::empty(), options.as_c_str()) {
        Ok(()) => {
            unmount(&tree.target, UnmountFlags::empty()).unwrap();
            false
        }
        Err(Errno::BUSY) => true,
        Err(e) => panic!("a probe of the upper layer: {e}"),
    }
}

fn dropped() {
    let tree = Tree::new();
    let mount = Overlay::on(&tree.base).writable(&tree.upper, &tree.work).mount().unwrap();
    assert!(in_use(&tree));
    let file =
        rustix::fs::openat(&mount, ".", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    drop(mount);
    assert!(in_use(&tree), "while a file on it is open");
    drop(file);
    assert!(!in_use(&tree));
}

fn attached() {
    let tree = Tree::new();
    put(tree.base.join("low"), "base");
    let mount = tree.read_only().mount().unwrap();
    assert!(mounts_at(&tree.target).is_empty());
    let mounted = mount.attach(&tree.target).unwrap();
    assert_eq!(mounts_at(&tree.target).len(), 1);
    assert_eq!(read(tree.target.join("low")), "base");
    mounted.unmount().unwrap();
    assert!(mounts_at(&tree.target).is_empty());
}

fn owned() {
    let tree = Tree::new();
    put(tree.base.join("low"), "base");
    let mount = tree.read_only().mount().unwrap();
    assert!(fcntl_getfd(mount.as_fd()).unwrap().contains(FdFlags::CLOEXEC));
    let descriptor = OwnedFd::from(mount);
    assert!(fcntl_getfd(&descriptor).unwrap().contains(FdFlags::CLOEXEC));
    assert!(is_overlay(&descriptor));
}

fn two() {
    let tree = Tree::new();
    put(tree.base.join("low"), "base");
    let (upper, work) = (scratch(), scratch());
    let one = tree.writable().mount().unwrap();
    let other = tree.read_only().writable(&upper, &work).mount().unwrap();
    write_in(&one, "low", "mine").unwrap();
    write_in(&other, "new", "").unwrap();
    assert_eq!(read_in(&other, "low").unwrap(), "base");
    assert!(read_in(&one, "new").is_none());
    assert_eq!((read(tree.upper.join("low")), read(tree.base.join("low"))), ("mine".into(), "base".into()));
    assert!(upper.join("new").exists());
}
