//! A mount that no path leads to.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, move_mount,
};

use crate::error::{Error, Result};
use crate::mounted::Mounted;
use crate::overlay::{Overlay, Upper};
use crate::parameter::{self, LONGEST};
use crate::{classic, single, support};

/// A mount that no path leads to: nothing to clean up, it goes with its last descriptor. Whoever takes the descriptor can make it
/// the root of a process or attach it.
#[derive(Debug)]
#[must_use = "a detached mount goes when it is dropped"]
pub struct DetachedMount(OwnedFd);

impl DetachedMount {
    /// Attaches it to a directory of the caller's mount namespace (move_mount(2)).
    pub fn attach(self, target: impl AsRef<Path>) -> Result<Mounted> {
        let target = target.as_ref();
        let named = |e: io::Error| Error::io(format!("cannot mount the overlay at {}", target.display()), &e);
        let path = std::path::absolute(target).map_err(named)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&self.0, "", rustix::fs::CWD, &path, flags).map_err(|e| named(e.into()))?;
        Ok(Mounted::new(path))
    }

    pub(crate) fn new(mount: OwnedFd) -> Self {
        Self(mount)
    }
}

impl AsFd for DetachedMount {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<DetachedMount> for OwnedFd {
    fn from(mount: DetachedMount) -> Self {
        mount.0
    }
}

pub(crate) fn detached(overlay: &Overlay) -> Result<DetachedMount> {
    if let ([only], None) = (overlay.layers.as_slice(), &overlay.upper) {
        return single::read_only(only);
    }
    if !support::appends() {
        return classic::detached(overlay);
    }
    let mut open = Vec::new();
    let overlay = shortened(overlay, &mut open)?;
    let context = support::context().map_err(support::no_overlay)?;
    for parameter in parameter::appended(&overlay)? {
        let set = match &parameter.value {
            Some(value) => fsconfig_set_string(context.as_fd(), parameter.key, value),
            None => fsconfig_set_flag(context.as_fd(), parameter.key),
        };
        set.map_err(|e| {
            let value =
                parameter.value.as_ref().map_or(String::new(), |value| format!("={}", value.display()));
            refused(&context, format!("overlay parameter {}{value}", parameter.key), e)
        })?;
    }
    fsconfig_create(context.as_fd()).map_err(|e| refused(&context, "cannot mount the overlay".into(), e))?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .map(DetachedMount::new)
        .map_err(|e| refused(&context, "cannot mount the overlay".into(), e))
}

/// Paths that are too long for fsconfig(2) by way of a descriptor, which must stay open until the overlay is made.
fn shortened(overlay: &Overlay, open: &mut Vec<OwnedFd>) -> Result<Overlay> {
    let mut shorten = |path: &Path| {
        if parameter::escape(path.as_os_str(), b"\\").len() <= LONGEST {
            return Ok(path.to_owned());
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|e| Error::io(format!("layer {}", path.display()), &e.into()))?;
        let short = format!("/proc/thread-self/fd/{}", directory.as_raw_fd());
        open.push(directory);
        Ok(short.into())
    };
    let mut shortened = overlay.clone();
    for layer in &mut shortened.layers {
        *layer = shorten(layer)?;
    }
    if let Some(Upper { directory, work, .. }) = &mut shortened.upper {
        (*directory, *work) = (shorten(directory)?, shorten(work)?);
    }
    Ok(shortened)
}

/// An error with what the kernel wrote to the context's log.
fn refused(context: &OwnedFd, what: String, errno: rustix::io::Errno) -> Error {
    let mut log = Vec::new();
    if let Ok(clone) = context.try_clone() {
        let mut line = [0; 1024];
        let mut file = File::from(clone);
        while let Ok(length @ 1..) = file.read(&mut line) {
            log.push(String::from_utf8_lossy(&line[..length]).trim().trim_start_matches("e ").to_owned());
        }
    }
    Error::io(what, &errno.into()).with_log(&log.join("; "))
}

/// The options of mount(2), as one text.
pub(crate) fn options(overlay: &Overlay) -> OsString {
    use std::os::unix::ffi::OsStringExt;
    // A comma ends an option there unless it is escaped.
    let mut text = b"lowerdir=".to_vec();
    text.extend(escape_commas(parameter::lowerdir(overlay)));
    if let Some(upper) = &overlay.upper {
        for (key, path) in [("upperdir", &upper.directory), ("workdir", &upper.work)] {
            text.extend(format!(",{key}=").into_bytes());
            text.extend(parameter::escape(path.as_os_str(), b"\\,"));
        }
        if overlay.volatile {
            text.extend(b",volatile");
        }
    }
    if overlay.userxattr {
        text.extend(b",userxattr");
    }
    for (key, value) in parameter::switches(overlay) {
        text.extend(format!(",{key}={value}").into_bytes());
    }
    OsString::from_vec(text)
}

fn escape_commas(text: OsString) -> Vec<u8> {
    parameter::escape(&text, b",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_escape_what_would_end_a_path_or_an_option() {
        let overlay = Overlay::on("/b").layer("/a:b,c\\d").writable("/u,p", "/w\\k");
        assert_eq!(options(&overlay), "lowerdir=/a\\:b\\,c\\\\d:/b,upperdir=/u\\,p,workdir=/w\\\\k");
    }
}
