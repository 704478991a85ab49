//! Directories of an overlay, and the two ways to mount it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use isolate_overlay::{DetachedMount, Overlay};
use rustix::fs::{Mode, OFlags, fstatfs, openat};
use testkit::{Need, scratch};

/// What an overlay needs.
pub(crate) const NEEDS: &[Need] = &[Need::Root, Need::Overlay];
/// OVERLAYFS_SUPER_MAGIC.
pub(crate) const OVERLAY: u64 = 0x794c_7630;

/// The same body by the way that the crate chooses, and on a machine that has no fsopen(2), which leaves mount(2).
macro_rules! both_ways {
    ($($name:ident => $body:expr;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn by_the_way_that_is_chosen() {
                testkit::kernel_test($crate::tree::NEEDS, $body);
            }

            #[test]
            fn by_mount_2() {
                testkit::kernel_test($crate::tree::NEEDS, || {
                    testkit::without_system_call(libc::SYS_fsopen, libc::ENOSYS);
                    $body();
                });
            }
        }
    )*};
}
pub(crate) use both_ways;

/// Empty directories, siblings on one tmpfs.
pub(crate) struct Tree {
    pub base: PathBuf,
    pub above: PathBuf,
    pub upper: PathBuf,
    pub work: PathBuf,
    pub target: PathBuf,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self { base: scratch(), above: scratch(), upper: scratch(), work: scratch(), target: scratch() }
    }

    /// Two layers that nobody can write to.
    pub(crate) fn read_only(&self) -> Overlay {
        Overlay::on(&self.base).layer(&self.above)
    }

    /// The same with an upper layer.
    pub(crate) fn writable(&self) -> Overlay {
        self.read_only().writable(&self.upper, &self.work)
    }
}

/// A file and the directories that it lies in.
pub(crate) fn put(path: impl AsRef<Path>, text: &str) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()))
}

/// What is in a directory, in order.
pub(crate) fn names(directory: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The lines of the list of mounts that are about a path.
pub(crate) fn mounts_at(path: &Path) -> Vec<String> {
    let all = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let of_path = |line: &&str| line.split(' ').nth(4) == path.to_str();
    all.lines().filter(of_path).map(str::to_owned).collect()
}

/// A file of a mount that no path leads to.
pub(crate) fn read_in(mount: &DetachedMount, name: &str) -> Option<String> {
    let file = openat(mount, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = String::new();
    File::from(file).read_to_string(&mut text).unwrap();
    Some(text)
}

pub(crate) fn write_in(mount: &DetachedMount, name: &str, text: &str) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = openat(mount, name, flags, Mode::RUSR | Mode::WUSR)?;
    File::from(file).write_all(text.as_bytes()).unwrap();
    Ok(())
}

/// f_type is signed on some architectures.
pub(crate) fn is_overlay(file: impl AsFd) -> bool {
    fstatfs(file).unwrap().f_type as u64 & 0xffff_ffff == OVERLAY
}
