//! What is known of a running container by who executes something in it.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Mutex;

use isolate_namespaces::{Command, Namespace, Signal};
use isolate_overlay::Overlay;

use crate::attach::Mode;
use crate::confinement::Confinement;

/// As the container was started.
#[derive(Debug)]
pub(crate) struct Inside {
    pub confinement: Confinement,
    pub environment: Vec<(OsString, OsString)>,
    pub workdir: Option<PathBuf>,
    /// Where its network comes from.
    pub mode: Mode,
    /// Those namespaces that are not the caller's.
    pub kinds: Vec<Namespace>,
    /// What root inside is outside: user and group, in a user namespace of a range of ids.
    pub root: Option<[u32; 2]>,
    /// What asks its command to end.
    pub stop_signal: Signal,
    /// Its namespaces in the order in which they are entered, for a caller without privileges.
    pub entrances: Vec<OwnedFd>,
    pub may_set_groups: bool,
    /// Its root, where that is one overlay.
    pub overlay: Option<Overlay>,
    /// What it is the root of, where that is an image.
    #[cfg(feature = "images")]
    pub image: Option<crate::image::Kept>,
    /// What is mounted on it, seen from it.
    pub mount_points: Vec<PathBuf>,
    /// What enters it, once something did: made for the first, and the same for all, as long as its group is in as many hierarchies.
    pub entering: Mutex<Option<(usize, Command)>>,
}
