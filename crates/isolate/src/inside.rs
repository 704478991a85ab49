//! What is known of a running container by who executes something in it.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Mutex;

use isolate_namespaces::{Command, Namespace};
use isolate_overlay::Overlay;

use crate::confinement::Confinement;

/// As the container was started.
#[derive(Debug)]
pub(crate) struct Inside {
    pub confinement: Confinement,
    pub environment: Vec<(OsString, OsString)>,
    pub workdir: Option<PathBuf>,
    /// Those namespaces that are not the caller's.
    pub kinds: Vec<Namespace>,
    /// What root inside is outside: user and group, in a user namespace of a range of ids.
    pub root: Option<[u32; 2]>,
    /// Its namespaces in the order in which they are entered, for a caller without privileges.
    pub entrances: Vec<OwnedFd>,
    pub may_set_groups: bool,
    /// Its root, where that is one overlay.
    pub overlay: Option<Overlay>,
    /// What is mounted on it, seen from it.
    pub mount_points: Vec<PathBuf>,
    /// What enters it, once something did: made for the first, and the same for all, as long as its group is in as many hierarchies.
    pub entering: Mutex<Option<(usize, Command)>>,
}
