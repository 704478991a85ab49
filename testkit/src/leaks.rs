//! What a test has left: processes, mounts, links, nf_tables tables, control groups, descriptors, files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{cgroup, netlink, sys};

/// How long what is on its way out may take: the kernel ends namespaces and their links some time after the last process.
const PATIENCE: Duration = Duration::from_secs(5);
/// Other tests run at the same time, and a group does not say whose it is: only one that nobody is in for longer than a test takes is a
/// leak.
const OF_OTHERS: Duration = Duration::from_secs(90);

/// What can be left, as it is now.
#[derive(Debug, Default)]
pub struct Snapshot {
    things: BTreeSet<String>,
    groups: BTreeSet<PathBuf>,
}

/// They stay, once something was in them.
const HOMES: [&str; 2] = ["/var/lib/isolate/detached", "/var/lib/isolate/volumes"];

impl Snapshot {
    /// Looks.
    #[must_use]
    pub fn take() -> Self {
        let mut things = BTreeSet::new();
        things.extend(processes());
        things.extend(lines("/proc/thread-self/mountinfo").map(|line| format!("mount {line}")));
        let links = lines("/proc/thread-self/net/dev")
            .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
        things.extend(links.map(|link| format!("link {link}")));
        things
            .extend(netlink::tables().unwrap_or_default().into_iter().map(|table| format!("table {table}")));
        things.extend(descriptors());
        for place in ["/run/isolate/containers", "/run/isolate/networks", "/var/lib/isolate"] {
            let own = files(Path::new(place)).filter(|path| HOMES.iter().all(|home| path != Path::new(home)));
            things.extend(own.map(|path| format!("file {}", path.display())));
        }
        Self { things, groups: cgroup::groups() }
    }

    /// What is there now and was not then, but for control groups, which are the whole machine's. Waits so long for it to go.
    #[must_use]
    pub fn left_here(&self, patience: Duration) -> Vec<String> {
        let start = Instant::now();
        loop {
            let left: Vec<String> = Self::take().things.difference(&self.things).cloned().collect();
            if left.is_empty() || start.elapsed() >= patience {
                return left;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What is there now and was not then. Waits a while for it to go.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        let start = Instant::now();
        loop {
            let now = Self::take();
            let mut left: Vec<String> = now.things.difference(&self.things).cloned().collect();
            let mut patience = PATIENCE;
            if left.is_empty() {
                let groups = now.groups.difference(&self.groups).filter(|group| cgroup::is_empty(group));
                left.extend(groups.map(|group| format!("group {}", group.display())));
                patience = OF_OTHERS;
            }
            if left.is_empty() || start.elapsed() > patience {
                return left;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn lines(path: &str) -> impl Iterator<Item = String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// Descendants of the reaper above this process, but this one.
fn processes() -> Vec<String> {
    let own = std::process::id();
    let reaper = std::os::unix::process::parent_id();
    let all: Vec<(u32, u32, String)> =
        fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(process).collect();
    let parent = |pid: u32| all.iter().find(|(p, ..)| *p == pid).map(|(_, parent, _)| *parent);
    let descends = |mut pid: u32| loop {
        match parent(pid) {
            Some(p) if p == reaper => return true,
            Some(p) if p > 1 => pid = p,
            _ => return false,
        }
    };
    let left = all.iter().filter(|(pid, ..)| *pid != own && descends(*pid));
    left.map(|(pid, _, name)| format!("process {pid} {name}")).collect()
}

/// Number, parent and name, from /proc/PID/stat (proc_pid_stat(5)).
fn process(entry: fs::DirEntry) -> Option<(u32, u32, String)> {
    let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
    let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
    Some((pid, rest.split(' ').nth(1)?.parse().ok()?, name.to_owned()))
}

/// But what a process keeps by design: the launcher's file and the keeper's, and netlink sockets.
fn descriptors() -> BTreeSet<String> {
    let all = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    all.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let to = fs::read_link(entry.path()).ok()?.display().to_string();
        let program = to.contains("isolate-launcher") || to.contains("memfd:isolate-keeper");
        let kept = program || sys::is_netlink(number) || to.ends_with("/fd");
        (!kept).then(|| format!("descriptor {number} {to}"))
    })
    .collect()
}

fn files(directory: &Path) -> Box<dyn Iterator<Item = PathBuf>> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    Box::new(entries.flat_map(|entry| {
        let below = entry.file_type().is_ok_and(|kind| kind.is_dir()).then(|| files(&entry.path()));
        std::iter::once(entry.path()).chain(below.into_iter().flatten())
    }))
}
