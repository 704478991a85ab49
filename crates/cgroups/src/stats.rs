//! What a group has used.

use std::time::Duration;

use crate::directory::Directory;
use crate::{Bytes, Error, ErrorKind, Result};

/// What a group and all below it have used so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Tasks.
    pub pids: PidsStats,
}

/// Processor time: `cpu.stat`. The first three are kept for every group of cgroup v2, limited or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuStats {
    /// In all.
    pub usage: Duration,
    /// In programs.
    pub user: Duration,
    /// In the kernel for them.
    pub system: Duration,
    /// How long the group's tasks waited, all added up, because its share of a period was used up.
    pub throttled: Duration,
    /// In how many periods that was so.
    pub throttled_periods: u64,
    /// How many periods with something to run there were, under a limit.
    pub periods: u64,
}

/// Memory. `None`: this machine or kernel does not count it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// In use now, page cache included.
    pub current: Option<Bytes>,
    /// The most that was in use at once. On cgroup v2 since Linux 5.19.
    pub peak: Option<Bytes>,
    /// The limit; `None` also where there is none.
    pub limit: Option<Bytes>,
    /// In swap now.
    pub swap: Option<Bytes>,
    /// How many processes were killed because the limit was reached.
    pub oom_kills: Option<u64>,
}

/// Tasks: processes and threads. `None`: this machine or kernel does not count it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PidsStats {
    /// Now.
    pub current: Option<u64>,
    /// The most at once. Since Linux 6.11.
    pub peak: Option<u64>,
    /// The limit; `None` also where there is none.
    pub limit: Option<u64>,
}

impl CpuStats {
    /// From a group of cgroup v2, whoever has the cpu controller.
    pub(crate) fn read(group: &Directory) -> Result<Self> {
        let text = group.read("cpu.stat")?;
        let micros = |name| Duration::from_micros(key(&text, name).unwrap_or(0));
        Ok(Self {
            usage: micros("usage_usec"),
            user: micros("user_usec"),
            system: micros("system_usec"),
            throttled: micros("throttled_usec"),
            throttled_periods: key(&text, "nr_throttled").unwrap_or(0),
            periods: key(&text, "nr_periods").unwrap_or(0),
        })
    }
}

impl MemoryStats {
    /// From a group of cgroup v2; all `None` without the memory controller.
    pub(crate) fn read(group: &Directory) -> Result<Self> {
        let events = group.read_optional("memory.events")?;
        Ok(Self {
            current: number(group, "memory.current")?.map(Bytes::new),
            peak: number(group, "memory.peak")?.map(Bytes::new),
            limit: number(group, "memory.max")?.map(Bytes::new),
            swap: number(group, "memory.swap.current")?.map(Bytes::new),
            oom_kills: events.and_then(|text| key(&text, "oom_kill")),
        })
    }
}

impl PidsStats {
    /// From a group with the pids controller, whose files are the same on cgroup v1; else all `None`.
    pub(crate) fn read(group: &Directory) -> Result<Self> {
        Ok(Self {
            current: number(group, "pids.current")?,
            peak: number(group, "pids.peak")?,
            limit: number(group, "pids.max")?,
        })
    }
}

/// A file that holds one number. `None` where it is not there, or says `max`.
pub(crate) fn number(group: &Directory, file: &str) -> Result<Option<u64>> {
    let Some(text) = group.read_optional(file)? else { return Ok(None) };
    match text.trim() {
        "max" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            Error::new(
                ErrorKind::Kernel,
                format!("{}: `{text}` is no number", group.path().join(file).display()),
            )
        }),
    }
}

/// A line `name value` of a flat-keyed file.
pub(crate) fn key(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_their_whole_name() {
        let text = "low 0\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(key(text, "oom_kill"), Some(2));
        assert_eq!(key(text, "oom"), Some(3));
        assert_eq!(key(text, "oom_"), None);
        assert_eq!(key("", "oom"), None);
        assert_eq!(key("oom x", "oom"), None);
    }
}
