//! What the kernel would refuse with an error that says little, or would only warn of.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatVfsMountFlags, StatxFlags, statvfs, statx};

use crate::error::{Error, ErrorKind, Result};
use crate::overlay::{Overlay, Upper};
use crate::support;

/// OVL_MAX_STACK of Linux.
const LAYERS: usize = 500;

/// What the kernel would take, or refuse at length: without a look at each layer, of which there may be hundreds.
pub(crate) fn what_is_taken(overlay: &Overlay) -> Result<()> {
    if overlay.layers.len() > LAYERS {
        return Err(Error::invalid(format!("{} layers: the kernel takes {LAYERS}", overlay.layers.len())));
    }
    switches(overlay)?;
    match (&overlay.upper, overlay.layers.as_slice()) {
        (None, [only]) => directory("lower layer", only).map(drop),
        (Some(upper), layers) if !upper.relative && upper.directory.is_dir() => {
            can_hold(upper)?;
            above(layers, upper)
        }
        _ => Ok(()),
    }
}

/// Everything.
pub(crate) fn overlay(overlay: &Overlay) -> Result<()> {
    what_is_taken(overlay)?;
    let layers: Vec<Seen> =
        overlay.layers.iter().map(|layer| Seen::of("lower layer", layer)).collect::<Result<_>>()?;
    match &overlay.upper {
        Some(upper) if !upper.relative => writable(&layers, upper),
        _ => Ok(()),
    }
}

/// A layer that the upper one lies in, which the kernel takes: what is written then changes below. By name; a last part that is a link
/// is not followed here.
fn above(layers: &[PathBuf], upper: &Upper) -> Result<()> {
    let real = |path: &Path| fs::canonicalize(path).map_err(|e| Error::io(path.display(), &e));
    let whole = real(&upper.directory)?;
    // Layers lie beside one another, as a rule: what of their directory leads on to the upper one is found once.
    let mut next: HashMap<&Path, Option<OsString>> = HashMap::new();
    for layer in layers {
        let (Some(parent), Some(name)) =
            (layer.parent().filter(|parent| parent.is_absolute()), layer.file_name())
        else {
            if fs::canonicalize(layer).is_ok_and(|layer| whole.starts_with(layer))
                && one_device(layer, &whole)
            {
                return Err(overlapping(("upper layer", &upper.directory), ("lower layer", layer)));
            }
            continue;
        };
        let next = next.entry(parent).or_insert_with(|| {
            let rest = whole.strip_prefix(fs::canonicalize(parent).ok()?).ok()?;
            rest.components().next().map(|next| next.as_os_str().to_owned())
        });
        if next.as_deref() == Some(name) && one_device(layer, &whole) {
            return Err(overlapping(("upper layer", &upper.directory), ("lower layer", layer)));
        }
    }
    Ok(())
}

/// What lies on another file system is not in the layer.
fn one_device(one: &Path, other: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.dev());
    device(one) == device(other)
}

/// What the kernel refuses together: ovl_fs_params_verify in fs/overlayfs/params.c.
fn switches(overlay: &Overlay) -> Result<()> {
    let switches = overlay.switches;
    let excluded = [
        (switches.metacopy, switches.redirect_dir.map(|on| !on), "metacopy wants redirect_dir"),
        (switches.metacopy, Some(overlay.userxattr), "metacopy and userxattr exclude each other"),
        (switches.redirect_dir, Some(overlay.userxattr), "redirect_dir and userxattr exclude each other"),
    ];
    match excluded.into_iter().find(|(one, other, _)| *one == Some(true) && *other == Some(true)) {
        Some((.., why)) => Err(Error::invalid(why)),
        None => Ok(()),
    }
}

/// A directory, and whether its name is a link to it.
struct Seen<'a> {
    what: &'static str,
    path: &'a Path,
    device: u64,
    link: bool,
}

impl<'a> Seen<'a> {
    fn of(what: &'static str, path: &'a Path) -> Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(seen) if seen.is_dir() => Ok(Self { what, path, device: seen.dev(), link: false }),
            _ => directory(what, path).map(|seen| Self { what, path, device: seen.dev(), link: true }),
        }
    }
}

fn writable(layers: &[Seen<'_>], upper: &Upper) -> Result<()> {
    let own = Seen::of("upper layer", &upper.directory)?;
    let work = Seen::of("work directory", &upper.work)?;
    if own.device != work.device {
        let (upper, work) = (upper.directory.display(), upper.work.display());
        return Err(Error::invalid(format!(
            "upper layer {upper} and work directory {work} are on different file systems"
        )));
    }
    if let (Some(one), Some(other)) = (mount_of(&upper.directory), mount_of(&upper.work))
        && one != other
    {
        let (upper, work) = (upper.directory.display(), upper.work.display());
        let what = format!("upper layer {upper} and work directory {work} are on different mounts");
        return Err(Error::invalid(what).with_hint("of the same file system, but the kernel wants one mount"));
    }
    if statvfs(&upper.directory).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY)) {
        return Err(Error::invalid(format!(
            "upper layer {}: it is mounted read-only",
            upper.directory.display()
        )));
    }
    if upper.work.join("work/incompat/volatile").exists() {
        let what =
            format!("work directory {}: the overlay that it was used for was volatile", upper.work.display());
        return Err(Error::invalid(what).with_hint(
            "remove upper layer and work directory; or only work/incompat in the latter, if the machine has not crashed since",
        ));
    }
    let mut real = Real::default();
    let its = real.path(&own)?;
    for other in layers.iter().filter(|layer| layer.device == own.device).chain([&work]) {
        let theirs = real.path(other)?;
        if its.starts_with(&theirs) || theirs.starts_with(&its) {
            return Err(overlapping((own.what, own.path), (other.what, other.path)));
        }
    }
    Ok(())
}

/// Paths without links. Layers lie beside one another, as a rule: what leads to them is looked at once.
#[derive(Default)]
struct Real<'a>(HashMap<&'a Path, PathBuf>);

impl<'a> Real<'a> {
    fn path(&mut self, seen: &Seen<'a>) -> Result<PathBuf> {
        let path = seen.path;
        let whole = |path: &Path| fs::canonicalize(path).map_err(|e| Error::io(path.display(), &e));
        let (Some(parent), Some(name)) =
            (path.parent().filter(|parent| parent.is_absolute()), path.file_name())
        else {
            return whole(path);
        };
        if seen.link {
            return whole(path);
        }
        match self.0.get(parent) {
            Some(parent) => Ok(parent.join(name)),
            None => {
                let real = whole(parent)?;
                self.0.insert(parent, real.clone());
                Ok(real.join(name))
            }
        }
    }
}

/// The number of the mount that a path is on; since Linux 5.8.
fn mount_of(path: &Path) -> Option<u64> {
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
}

fn can_hold(upper: &Upper) -> Result<()> {
    if support::can_hold_upper(&upper.directory) {
        return Ok(());
    }
    let what = format!("upper layer {}: its file system cannot hold one", upper.directory.display());
    Err(Error::invalid(what).with_hint("use a directory on ext4, xfs, btrfs or tmpfs"))
}

fn directory(what: &str, path: &Path) -> Result<Metadata> {
    let metadata = fs::metadata(path).map_err(|e| Error::io(format!("{what} {}", path.display()), &e))?;
    if metadata.is_dir() {
        return Ok(metadata);
    }
    let error = io::Error::from_raw_os_error(20); // ENOTDIR
    debug_assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    let error = Error::io(format!("{what} {}", path.display()), &error);
    debug_assert_eq!(error.kind(), ErrorKind::NotFound);
    Err(error)
}

fn overlapping((what, path): (&str, &Path), (other_what, other): (&str, &Path)) -> Error {
    Error::invalid(format!("{what} {} and {other_what} {} overlap", path.display(), other.display()))
}

/// What a kernel that refused the overlay may have meant.
pub(crate) fn explain(overlay: &Overlay, error: Error) -> Error {
    match error.raw_os_error() {
        // ELOOP
        Some(40) => overlap(overlay).unwrap_or_else(|| {
            error.with_hint(
                "two of its directories are the same or one lies in the other, perhaps by a bind mount",
            )
        }),
        // EINVAL
        Some(22) => error.with_hint("the kernel's log (dmesg) may say why"),
        _ => error,
    }
}

/// Two directories that are the same, by whatever paths, or of which one lies in the other.
fn overlap(overlay: &Overlay) -> Option<Error> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    let mut known = HashMap::new();
    for directory in overlay.directories() {
        if let Some(same) = known.insert(identity(directory.1)?, directory) {
            return Some(overlapping(same, directory));
        }
    }
    for directory in overlay.directories() {
        let real = fs::canonicalize(directory.1).ok()?;
        let (device, _) = identity(&real)?;
        let above = real.ancestors().skip(1).map_while(identity).take_while(|above| above.0 == device);
        if let Some(outer) = above.filter_map(|above| known.get(&above)).next() {
            return Some(overlapping(*outer, directory));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_directory_is_said_with_its_name() {
        let base = std::env::temp_dir().join(format!("check-{}", std::process::id()));
        for name in ["lower", "upper", "upper/work", "work"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        fs::write(base.join("file"), "").unwrap();
        let path = |name: &str| base.join(name);
        let said =
            |overlay: Overlay| overlay.check().unwrap_err().to_string().replace(base.to_str().unwrap(), "B");
        assert_eq!(
            said(Overlay::on(path("none"))),
            "lower layer B/none: No such file or directory (os error 2)"
        );
        assert_eq!(said(Overlay::on(path("file"))), "lower layer B/file: Not a directory (os error 20)");
        let on = || Overlay::on(path("lower"));
        assert_eq!(
            said(on().writable(path("upper"), path("upper/work"))),
            "upper layer B/upper and work directory B/upper/work overlap"
        );
        assert_eq!(
            said(Overlay::on(&base).writable(path("upper"), path("work"))),
            "upper layer B/upper and lower layer B overlap"
        );
        assert!(said(on().writable(path("upper"), "/proc")).ends_with("are on different file systems"));
        assert!(said(Overlay::on("/").writable("/proc/self", "/proc/tty")).contains("cannot hold one"));
        on().writable(path("upper"), path("work")).check().unwrap();
        on().scratch("not", "there").check().unwrap();
        fs::create_dir_all(path("work/work/incompat/volatile")).unwrap();
        assert!(
            on().writable(path("upper"), path("work"))
                .check()
                .unwrap_err()
                .hint()
                .unwrap()
                .contains("incompat")
        );
        assert_eq!(said(on().metacopy(true).redirect_dir(false)), "metacopy wants redirect_dir");
        assert!(said(on().redirect_dir(true).userxattr(true)).contains("exclude each other"));
        let many = (0..501).fold(on(), |overlay, _| overlay.layer(path("lower")));
        assert_eq!(said(many), "502 layers: the kernel takes 500");
        fs::remove_dir_all(&base).unwrap();
    }
}
