//! Small files of a root that is not mounted yet, read from its layers as an overlay would show them.
//!
//! The layers' content is an image's author's: a link leads to a place of the root and never out of it, and what is neither a
//! small regular file nor a link to one is an error before it is opened.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fgetxattr, fstat, openat, openat2, readlinkat,
};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};

/// A file that lists users is smaller.
pub(crate) const BIGGEST: u64 = 1 << 20;
/// How many symbolic links are followed (path_resolution(7)).
const LINKS: usize = 40;
/// Marks a directory that hides those of lower layers (Documentation/filesystems/overlayfs.rst in the kernel's source); the
/// second one is of mounts with `userxattr`.
const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// The contents of `path` in a root of these layers, the topmost first. Empty where the root has no such file.
///
/// What hides something of lower layers (whiteouts, opaque directories, files over directories) hides it here, too; redirected
/// directories and files with metadata only are as they lie in their layer. Every name is opened below its layer by openat2(2)
/// (since Linux 5.6), links are read and not followed by the kernel: none leads to a file of the host or into `/proc`.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] for what is no regular file, is bigger than 1 MiB, or is behind more than 40 links; a layer
/// that cannot be opened, and what the kernel says.
pub(crate) fn read(layers: &[PathBuf], path: &str) -> Result<Vec<u8>> {
    match find(layers, Path::new(path)) {
        Ok(Some(file)) => read_bounded(file, BIGGEST),
        Ok(None) => Ok(Vec::new()),
        Err(e) => Err(e),
    }
    .map_err(|e| e.of(format!("/{path} of the root")))
}

/// What a file holds that is open already: a regular one, and at most `most` bytes of it.
///
/// Who opens a file of an unknown kind gives `O_NONBLOCK`, so that a pipe without a writer does not wait (open(2)), and
/// `O_NOFOLLOW` where its last name may be a link of somebody else's.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] for any other kind of file, and for a bigger one, sparse or growing; what read(2) says.
pub(crate) fn read_bounded(file: File, most: u64) -> Result<Vec<u8>> {
    let metadata = file.metadata().map_err(|e| Error::io("fstat", &e))?;
    if !metadata.is_file() {
        return Err(irregular());
    }
    let mut content = Vec::new();
    if metadata.len() <= most {
        // One more than it may have: it can grow while it is read.
        file.take(most + 1).read_to_end(&mut content).map_err(|e| Error::io("read", &e))?;
        if content.len() as u64 <= most {
            return Ok(content);
        }
    }
    Err(Error::new(ErrorKind::InvalidConfig, format!("bigger than {most} bytes")))
}

/// Opens what the root has at a path, links followed from layer to layer.
fn find(layers: &[PathBuf], path: &Path) -> Result<Option<File>> {
    let mut names = normal(Path::new("/"), path);
    for _ in 0..=LINKS {
        match look(layers, &names)? {
            Found::Nothing => return Ok(None),
            Found::File(file) => return Ok(Some(file)),
            Found::Link { at, to } => {
                let (parent, rest): (PathBuf, PathBuf) =
                    (names.iter().take(at).collect(), names.iter().skip(at + 1).collect());
                names = normal(&parent, &to.join(rest));
            }
        }
    }
    Err(Error::new(ErrorKind::InvalidConfig, format!("behind more than {LINKS} symbolic links")))
}

enum Found {
    Nothing,
    File(File),
    /// In the place of the name with this number.
    Link {
        at: usize,
        to: PathBuf,
    },
}

/// One pass from the topmost layer down, up to the first link.
fn look(layers: &[PathBuf], names: &VecDeque<OsString>) -> Result<Found> {
    // So many names from the first on are directories of the layers above: they hide what is something else below.
    let mut above = 0;
    for layer in layers {
        let failed = |e: Errno| Error::io(layer.display(), &e.into());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut directory = openat(CWD, layer, flags, Mode::empty()).map_err(failed)?;
        let mut opaque = false;
        for (at, name) in names.iter().enumerate() {
            let (fd, stat) = match below(&directory, name).map_err(failed)? {
                Some(found) => found,
                None if opaque => return Ok(Found::Nothing),
                None => break,
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory if at + 1 < names.len() => {
                    opaque |= is_opaque(&fd);
                    above = above.max(at + 1);
                    directory = fd;
                }
                // Hidden by a directory above, and hides what is further below.
                _ if at < above => return Ok(Found::Nothing),
                FileType::Symlink => {
                    let to = readlinkat(&fd, "", Vec::new()).map_err(failed)?;
                    return Ok(Found::Link { at, to: OsStr::from_bytes(to.as_bytes()).into() });
                }
                // A whiteout: removed in this layer.
                FileType::CharacterDevice if stat.st_rdev == 0 => return Ok(Found::Nothing),
                _ if at + 1 < names.len() => return Ok(Found::Nothing),
                FileType::RegularFile => return open(&directory, name).map(Found::File).map_err(failed),
                _ => return Err(irregular()),
            }
        }
    }
    Ok(Found::Nothing)
}

/// One name of a directory, unopened: nothing waits, and no device notices.
fn below(directory: &OwnedFd, name: &OsStr) -> rustix::io::Result<Option<(OwnedFd, Stat)>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat2(directory, name, flags, Mode::empty(), BELOW) {
        // Longer than a name can be: it is a link's, and nothing has it.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => Ok(None),
        Err(e) => Err(e),
        Ok(fd) => fstat(&fd).map(|stat| Some((fd, stat))),
    }
}

/// For one name each: with O_PATH and O_NOFOLLOW a link is still opened itself.
const BELOW: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_SYMLINKS);

/// What was a regular file a moment ago. If it is something else by now, opening does not wait and [`read_bounded`] refuses it.
fn open(directory: &OwnedFd, name: &OsStr) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat2(directory, name, flags, Mode::empty(), BELOW).map(File::from)
}

/// Whether lower layers' directories of this name are hidden. A directory that cannot be read hides nothing.
fn is_opaque(directory: &impl AsFd) -> bool {
    // An O_PATH descriptor has no attributes to be asked for.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(directory) = openat(directory, ".", flags, Mode::empty()) else { return false };
    let mut value = [0; 2];
    OPAQUE.iter().any(|name| fgetxattr(&directory, *name, &mut value) == Ok(1) && value[0] == b'y')
}

/// The names of a path of the root, without `.` and `..`, which are taken by name; the root's parent is the root.
fn normal(from: &Path, path: &Path) -> VecDeque<OsString> {
    let mut names = VecDeque::new();
    for component in from.join(path).components() {
        match component {
            Component::Normal(name) => names.push_back(name.to_owned()),
            Component::ParentDir => drop(names.pop_back()),
            _ => {}
        }
    }
    names
}

fn irregular() -> Error {
    Error::new(ErrorKind::InvalidConfig, "not a regular file")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{FileTypeExt, symlink};

    use testkit::{Need, kernel_test, scratch};

    use super::*;

    /// Layers in a directory of their own: `files` are `LAYER/PATH`, with their content.
    struct Layers(PathBuf);

    impl Layers {
        fn new(test: &str, files: &[(&str, &str)]) -> Self {
            let base = std::env::temp_dir().join(format!("layers-{test}-{}", std::process::id()));
            for (path, content) in files {
                fs::create_dir_all(base.join(path).parent().unwrap()).unwrap();
                fs::write(base.join(path), content).unwrap();
            }
            Self(base)
        }

        fn link(self, to: &str, at: &str) -> Self {
            let at = self.0.join(at);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            symlink(to, at).unwrap();
            self
        }

        fn read(&self, layers: &[&str]) -> Result<String> {
            let layers: Vec<_> = layers.iter().map(|layer| self.0.join(layer)).collect();
            read(&layers, "etc/passwd").map(|content| String::from_utf8(content).unwrap())
        }
    }

    impl Drop for Layers {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn the_topmost_layer_that_has_it_counts() {
        let layers = Layers::new("top", &[("a/usr/x", ""), ("b/etc/passwd", "b"), ("c/etc/passwd", "c")]);
        assert_eq!(layers.read(&["a", "b", "c"]).unwrap(), "b");
        assert_eq!(layers.read(&["a"]).unwrap(), "");
        let error = layers.read(&["a", "missing"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("missing"), "{error}");
    }

    #[test]
    fn a_file_over_a_directory_hides_it_and_a_directory_over_a_link_does() {
        let layers = Layers::new("hide", &[("file/etc", ""), ("b/etc/passwd", "b"), ("dir/etc/hosts", "")])
            .link("/other", "link/etc");
        assert_eq!(layers.read(&["file", "b"]).unwrap(), "");
        assert_eq!(layers.read(&["dir", "link", "b"]).unwrap(), "", "the link hides what is below it");
        assert_eq!(layers.read(&["dir", "b"]).unwrap(), "b");
    }

    #[test]
    fn a_link_leads_to_a_place_of_the_root_in_whichever_layer_that_is() {
        let layers = Layers::new("link", &[("b/usr/etc/passwd", "b"), ("c/real", "c")])
            .link("usr/etc", "a/etc")
            .link("../../../../real", "d/etc/passwd")
            .link("/real", "e/usr/etc/passwd");
        assert_eq!(layers.read(&["a", "b"]).unwrap(), "b", "a directory's link, into another layer");
        assert_eq!(layers.read(&["d", "c"]).unwrap(), "c", "the root's parent is the root");
        assert_eq!(layers.read(&["e", "a", "b", "c"]).unwrap(), "c", "a link behind a link");
        assert_eq!(layers.read(&["a"]).unwrap(), "", "nowhere");
    }

    #[test]
    fn no_link_leads_out_of_the_root() {
        let canary = Layers::new("canary", &[("host/secret", "secret")]);
        let secret = canary.0.join("host/secret");
        // The positive control: followed by the kernel, it is read.
        let layers = Layers::new("out", &[]).link(secret.to_str().unwrap(), "a/etc/passwd");
        assert_eq!(fs::read_to_string(layers.0.join("a/etc/passwd")).unwrap(), "secret");
        assert_eq!(layers.read(&["a"]).unwrap(), "");
        for to in ["/proc/self/environ", "/proc/self/root/etc/passwd", "/proc/self/fd/0", "/dev/zero"] {
            let layers = Layers::new("magic", &[]).link(to, "a/etc/passwd").link("/proc/self/cwd", "b/etc");
            assert_eq!(layers.read(&["a"]).unwrap(), "", "{to}");
            assert_eq!(layers.read(&["b"]).unwrap(), "");
        }
    }

    #[test]
    fn what_is_no_small_regular_file_is_refused_without_a_wait() {
        let layers = Layers::new("kinds", &[("sparse/etc/passwd", ""), ("full/etc/passwd", "x")])
            .link("passwd", "loop/etc/passwd");
        fs::create_dir_all(layers.0.join("dir/etc/passwd")).unwrap();
        fs::create_dir_all(layers.0.join("fifo/etc")).unwrap();
        let fifo = layers.0.join("fifo/etc/passwd");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(layers.0.join("full/etc/socket")).unwrap();
        File::options()
            .write(true)
            .open(layers.0.join("sparse/etc/passwd"))
            .unwrap()
            .set_len(10 << 30)
            .unwrap();
        let exact = File::options().write(true).open(layers.0.join("full/etc/passwd")).unwrap();
        for layer in ["dir", "fifo", "sparse", "loop"] {
            let error = layers.read(&[layer]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{layer}: {error}");
            assert!(error.to_string().starts_with("/etc/passwd of the root: "), "{error}");
        }
        exact.set_len(BIGGEST).unwrap();
        assert_eq!(layers.read(&["full"]).unwrap().len() as u64, BIGGEST);
        exact.set_len(BIGGEST + 1).unwrap();
        layers.read(&["full"]).unwrap_err();
    }

    #[test]
    fn a_file_that_says_nothing_of_its_size_is_read_no_further_than_the_limit() {
        // Of /proc: a regular file of size 0.
        let open = || File::open("/proc/self/maps").unwrap();
        read_bounded(open(), BIGGEST).unwrap();
        assert_eq!(read_bounded(open(), 10).unwrap_err().kind(), ErrorKind::InvalidConfig);
        let device = File::open("/dev/zero").unwrap();
        assert!(device.metadata().unwrap().file_type().is_char_device());
        read_bounded(device, BIGGEST).unwrap_err();
    }

    #[test]
    fn a_whiteout_and_an_opaque_directory_hide_and_a_device_is_refused() {
        kernel_test(&[Need::Root], || {
            let base = scratch();
            for path in ["white/etc", "opaque/etc", "device/etc", "b/etc"] {
                fs::create_dir_all(base.join(path)).unwrap();
            }
            fs::write(base.join("b/etc/passwd"), "b").unwrap();
            let node = |path: &str, major, minor| {
                let device = rustix::fs::makedev(major, minor);
                let kind = FileType::CharacterDevice;
                rustix::fs::mknodat(CWD, base.join(path), kind, Mode::RUSR, device).unwrap();
            };
            let layers = |names: &[&str]| -> Vec<_> { names.iter().map(|name| base.join(name)).collect() };
            assert_eq!(read(&layers(&["white", "opaque", "b"]), "etc/passwd").unwrap(), b"b");
            node("white/etc/passwd", 0, 0);
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(base.join("opaque/etc"), OPAQUE[0], b"y", flags).unwrap();
            node("device/etc/passwd", 1, 5);
            assert_eq!(read(&layers(&["white", "b"]), "etc/passwd").unwrap(), b"");
            assert_eq!(read(&layers(&["opaque", "b"]), "etc/passwd").unwrap(), b"");
            read(&layers(&["device", "b"]), "etc/passwd").unwrap_err();
        });
    }
}
