//! Below Linux 6.7: mount(2), whose options are one page of text, in a mount namespace of a thread made for it.

use std::io;

use rustix::mount::{MountPropagationFlags, OpenTreeFlags, UnmountFlags, mount_change, open_tree, unmount};
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
        let what = format!(
            "{} bytes of layers and options: more than the {PAGE} that mount(2) takes",
            options.len()
        );
        return Err(Error::invalid(what).with_hint("shorter paths, fewer layers, or Linux 6.7"));
    }
    let Some(options) = options.to_str() else {
        let odd = overlay.directories().find(|(_, path)| path.to_str().is_none());
        let odd = odd.map(|(what, path)| format!("{what} {}", path.display())).unwrap_or_default();
        return Err(Error::invalid(format!("{odd}: a path that is not UTF-8 wants Linux 6.7 here")));
    };
    let made = std::thread::scope(|scope| scope.spawn(|| on_thread(options)).join());
    match made {
        Ok(made) => made.map_err(|e| explain(&e)),
        Err(_) => Err(Error::invalid("the thread that mounts the overlay ended early")),
    }
}

fn on_thread(options: &str) -> io::Result<DetachedMount> {
    // SAFETY: the thread was made for this and ends after it: nobody's view of the mounts changes.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    // Over the root, which is always there. The name `/` leads to what lies below a mount over it, `/..` to the mount. Over a
    // layer it would not do: the names of the root, the current directory and a descriptor all lead below (path_resolution(7)).
    Mount::builder().fstype("overlay").data(options).mount("overlay", "/")?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let detached = open_tree(rustix::fs::CWD, "/..", flags)?;
    // Whoever waits for a thread does not wait for the end of its namespace, which would keep the overlay a little longer.
    unmount("/..", UnmountFlags::DETACH)?;
    Ok(DetachedMount::new(detached))
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
        let many =
            (0..100).fold(Overlay::on("/"), |overlay, n| overlay.layer(format!("/{n}{}", "x".repeat(60))));
        let error = detached(&many).unwrap_err();
        assert!(error.to_string().contains("more than the 4096"), "{error}");
        assert!(options(&many).len() > PAGE);
    }
}
