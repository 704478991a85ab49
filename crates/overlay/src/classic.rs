//! Below Linux 6.5: mount(2), whose options are one page of text, in a mount namespace of a thread made for it.

use std::io;
use std::path::Path;

use rustix::mount::{MountPropagationFlags, OpenTreeFlags, mount_change, open_tree};
use rustix::thread::UnshareFlags;
use sys_mount::Mount;

use crate::error::{Error, Result};
use crate::mount::{DetachedMount, options};
use crate::overlay::Overlay;

/// What mount(2) takes of options, its end included.
const PAGE: usize = 4096;

pub(crate) fn detached(overlay: &Overlay) -> Result<DetachedMount> {
    let options = options(overlay);
    if options.len() >= PAGE {
        let what = format!("{} bytes of layers and options: more than the {PAGE} that mount(2) takes", options.len());
        return Err(Error::invalid(what).with_hint("shorter paths, fewer layers, or Linux 6.5"));
    }
    let Some(options) = options.to_str() else {
        return Err(Error::invalid("a layer's path is not UTF-8, which wants Linux 6.5 here"));
    };
    // The bottom layer is a directory that exists; over it, in a namespace that nobody else sees, is a good place.
    let place = overlay.layers.first().map_or(Path::new("/"), |base| base.as_path());
    let made = std::thread::scope(|scope| scope.spawn(|| on_thread(place, options)).join());
    match made {
        Ok(made) => made.map_err(|e| explain(&e)),
        Err(_) => Err(Error::invalid("the thread that mounts the overlay ended early")),
    }
}

fn on_thread(place: &Path, options: &str) -> io::Result<DetachedMount> {
    // SAFETY: the thread was made for this and ends after it: nobody's view of the mounts changes.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    Mount::builder().fstype("overlay").data(options).mount("overlay", place)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(DetachedMount::new(open_tree(rustix::fs::CWD, place, flags)?))
}

fn explain(error: &io::Error) -> Error {
    match error.raw_os_error() {
        Some(19) => crate::support::no_overlay(rustix::io::Errno::NODEV),
        _ => Error::io("cannot mount the overlay", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_page_of_options_is_refused_with_its_size() {
        let many = (0..100).fold(Overlay::on("/"), |overlay, n| overlay.layer(format!("/{n}{}", "x".repeat(60))));
        let error = detached(&many).unwrap_err();
        assert!(error.to_string().contains("more than the 4096"), "{error}");
        assert!(options(&many).len() > PAGE);
    }
}
