//! What the program sees otherwise than it was mounted.

use std::path::{Path, PathBuf};

use super::Command;

/// As set by the methods below.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub masked: Vec<PathBuf>,
    pub read_only: Vec<PathBuf>,
    pub read_only_mounts: Vec<PathBuf>,
    pub sysctls: Vec<(String, String)>,
    pub console: bool,
}

impl Command {
    /// Hides a path inside the [`root`](Self::root), after all mounts: a directory by an empty one, anything else by `/dev/null`, which
    /// must be the null device. What is not there is left alone.
    pub fn mask(&mut self, path: impl AsRef<Path>) -> &mut Self {
        self.view.masked.push(path.as_ref().to_owned());
        self
    }

    /// Nothing at or below this path inside the [`root`](Self::root) can be changed, once all mounts are made. What is not there is left
    /// alone.
    pub fn read_only_path(&mut self, path: impl AsRef<Path>) -> &mut Self {
        self.view.read_only.push(path.as_ref().to_owned());
        self
    }

    /// The mount at this path inside the [`root`](Self::root) becomes read-only once all mounts are made; those on it stay as they are.
    pub fn read_only_mount(&mut self, path: impl AsRef<Path>) -> &mut Self {
        self.view.read_only_mounts.push(path.as_ref().to_owned());
        self
    }

    /// Writes a kernel parameter, as `net.ipv4.ip_forward`, through the child's own `/proc`, before its paths become read-only
    /// (sysctl(8)). Most are the whole machine's: those of the child's own namespaces are `net.*`, `kernel.shm*`, `kernel.msg*`,
    /// `kernel.sem` and `fs.mqueue.*`. A `/` in a name stands for itself, as in `net.ipv4.conf.eth0/1.forwarding`.
    pub fn sysctl(&mut self, name: impl Into<String>, value: impl Into<String>) -> &mut Self {
        self.view.sysctls.push((name.into(), value.into()));
        self
    }

    /// The [`terminal`](Self::terminal) is `/dev/console`, too, where that is a file.
    pub fn console(&mut self) -> &mut Self {
        self.view.console = true;
        self
    }
}
