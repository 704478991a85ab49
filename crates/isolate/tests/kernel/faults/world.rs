//! What is left of a container, after a run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use isolate::{Container, ErrorKind};
use testkit::leaks::Snapshot;

use super::VOLUME;
use crate::common::{OnDisk, groups_of, slow, until};

const STATE: &str = "/run/isolate";
const VOLUMES: &str = "/var/lib/isolate/volumes";

/// The world of a test, as it was.
pub(super) struct World {
    /// Of the container in it.
    pub(super) name: String,
    disk: OnDisk,
    before: Snapshot,
}

/// How long a sweep may take.
fn limit() -> Duration {
    Duration::from_secs(if slow() { 30 } else { 1 })
}

impl World {
    pub(super) fn new() -> Self {
        let disk = OnDisk::root();
        fs::create_dir(disk.0.join("root/data")).unwrap();
        fs::write(disk.0.join("root/data/first"), "x").unwrap();
        isolate::sweep().unwrap();
        fs::create_dir_all(VOLUMES).unwrap();
        let before = Snapshot::take();
        Self { name: format!("unlucky{}", std::process::id()), disk, before }
    }

    pub(super) fn root(&self) -> PathBuf {
        self.disk.0.join("root")
    }

    /// Whether no process of the run is left, in a moment.
    pub(super) fn has_ended(&self) -> bool {
        let ended = || {
            let left = self.before.left_here(Duration::ZERO);
            (!left.iter().any(|thing| thing.starts_with("process "))).then_some(())
        };
        until(Duration::from_secs(10), ended).is_some()
    }

    /// What is there and should not be: of the state, of the kernel's, and on the disk. The volume stays, by its name.
    pub(super) fn left(&self, patience: Duration) -> Vec<String> {
        let end = Instant::now() + patience;
        loop {
            let mut left = self.state();
            left.extend(groups_of(&self.name).iter().map(|group| format!("group {}", group.display())));
            left.extend(self.before.left_here(Duration::ZERO).into_iter().filter(|thing| {
                !thing.strip_prefix("file ").is_some_and(|path| {
                    Path::new(path).starts_with(Path::new(VOLUMES).join(VOLUME)) || path.starts_with(STATE)
                })
            }));
            if left.is_empty() || Instant::now() > end {
                return left;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn state(&self) -> Vec<String> {
        let own = ["lock", "containers", "networks", "ids", "pools"].map(|name| Path::new(STATE).join(name));
        let mut left: Vec<_> =
            below(Path::new(STATE)).into_iter().filter(|path| !own.contains(path)).collect();
        left.sort();
        let mut left: Vec<_> = left.iter().map(|path| format!("state {}", path.display())).collect();
        let forwards = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
        left.extend((forwards.trim() != "0").then(|| "forwarding".to_owned()));
        left
    }

    /// Sweeps, twice: the first finds all in less than a second, the second nothing. Then nothing may be left.
    pub(super) fn is_empty_after(&self, what: &str, swept: bool) -> Result<(), String> {
        if swept {
            let begun = Instant::now();
            isolate::sweep().map_err(|e| format!("{what}: the sweep: {e}"))?;
            let took = begun.elapsed();
            if took > limit() {
                return Err(format!("{what}: the sweep took {took:?}"));
            }
            self.remove_what_lasts().map_err(|e| format!("{what}: {e}"))?;
        }
        // The kernel ends namespaces and their links some time after the last process.
        let left = self.left(Duration::from_secs(5));
        if !left.is_empty() {
            return Err(format!("{what}: left: {}", left.join(", ")));
        }
        if swept {
            let before = below(Path::new(STATE));
            let again = isolate::sweep().map_err(|e| format!("{what}: the second sweep: {e}"))?;
            if !again.is_empty() || below(Path::new(STATE)) != before {
                return Err(format!("{what}: the second sweep found {again:?}"));
            }
        }
        fs::remove_dir_all(Path::new(VOLUMES).join(VOLUME)).ok();
        Ok(())
    }
}

impl World {
    /// One that lasts is whole if it is there at all.
    fn remove_what_lasts(&self) -> isolate::Result<()> {
        match Container::open(&self.name) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
            Ok(container) => container.inspect().and_then(|_| container.remove_by_force()),
        }
    }

    /// After a fault that was found, so that the next run has nothing of it.
    pub(super) fn tidy_up(&self) {
        isolate::sweep().ok();
        self.remove_what_lasts().ok();
        for line in [["nft", "flush", "ruleset", "", ""], ["ip", "link", "delete", "dev", "isolate0"]] {
            let arguments = line[1..].iter().filter(|word| !word.is_empty());
            std::process::Command::new(line[0]).args(arguments).output().ok();
        }
        fs::remove_dir_all(Path::new(VOLUMES).join(VOLUME)).ok();
        for group in groups_of(&self.name) {
            fs::remove_dir(group).ok();
        }
        let scratch = fs::read_dir("/var/lib/isolate").into_iter().flatten().flatten();
        for scratch in scratch.filter(|entry| entry.file_name() != "volumes") {
            fs::remove_dir_all(scratch.path()).ok();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        fs::remove_dir_all(VOLUMES).ok();
    }
}

/// Everything in a directory.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&entry.path()));
        }
        found.push(entry.path());
    }
    found.sort();
    found
}
