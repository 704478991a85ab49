//! A group's readings, by files that stay open: a reading is as many reads as there are files.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::io::{Errno, pread, retry_on_intr, write};

use crate::directory::{Directory, is_all};
use crate::stats::{Details, io, io_v1, key};
use crate::{Bytes, CpuStats, Error, ErrorKind, Pressure, Result, Stats};

/// Reads [`Stats`] of one group again and again: made by [`Cgroup::reader`](crate::Cgroup::reader).
///
/// It holds a descriptor for each file that the kernel has. A group that was removed is [`NotFound`](ErrorKind::NotFound).
///
/// ```no_run
/// use isolate_cgroups::Cgroup;
///
/// let mut reader = Cgroup::open("build-42")?.reader()?;
/// for _ in 0..60 {
///     let stats = reader.read()?;
///     println!("{:?} {:?}", stats.cpu.usage, stats.memory.working_set);
///     std::thread::sleep(std::time::Duration::from_secs(1));
/// }
/// # Ok::<(), isolate_cgroups::Error>(())
/// ```
#[derive(Debug)]
pub struct StatsReader {
    files: Vec<(What, File)>,
    buffer: Vec<u8>,
    subject: String,
}

/// What a file tells.
#[cfg_attr(not(feature = "cgroup-v1"), expect(dead_code, reason = "some are of cgroup v1 only"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Cpu,
    Memory(Memory),
    PidsCurrent,
    PidsPeak,
    PidsLimit,
    Io,
    /// Of cgroup v1: one file for bytes, one for operations.
    IoBytes,
    IoOperations,
    CpuPressure,
    MemoryPressure,
    IoPressure,
    /// `cpu.stat` of cgroup v1: the throttling alone.
    Throttling,
}

#[cfg_attr(not(feature = "cgroup-v1"), expect(dead_code, reason = "some are of cgroup v1 only"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    Current,
    Peak,
    Limit,
    Swap,
    Events,
    Details,
    /// Of cgroup v1: memory and swap together, `memory.oom_control`, `memory.failcnt`, and details of another shape.
    Both,
    OomControl,
    Failures,
    DetailsV1,
}

/// Of cgroup v2; a file that is not there is passed over.
const FILES: [(What, &str); 14] = [
    (What::Cpu, "cpu.stat"),
    (What::Memory(Memory::Current), "memory.current"),
    (What::Memory(Memory::Peak), PEAK),
    (What::Memory(Memory::Limit), "memory.max"),
    (What::Memory(Memory::Swap), "memory.swap.current"),
    (What::Memory(Memory::Events), "memory.events"),
    (What::Memory(Memory::Details), "memory.stat"),
    (What::PidsCurrent, "pids.current"),
    (What::PidsPeak, "pids.peak"),
    (What::PidsLimit, "pids.max"),
    (What::Io, "io.stat"),
    (What::CpuPressure, "cpu.pressure"),
    (What::MemoryPressure, "memory.pressure"),
    (What::IoPressure, "io.pressure"),
];
const PEAK: &str = "memory.peak";
/// Written to, it begins anew.
pub(crate) const PEAK_V1: &str = "memory.max_usage_in_bytes";
/// No limit on cgroup v1 is the most that the counter holds: `PAGE_COUNTER_MAX` pages.
pub(crate) const UNLIMITED: u64 = i64::MAX as u64 - (1 << 20);

#[derive(Debug)]
struct File {
    fd: OwnedFd,
    path: PathBuf,
}

impl StatsReader {
    /// The files of a group that are wanted, and those of its namesakes on cgroup v1, which come after and count instead.
    pub(crate) fn open<'g>(
        group: &'g Directory,
        old: impl Iterator<Item = (What, &'g Directory, &'static str)>,
        subject: String,
        wanted: impl Fn(What) -> bool,
    ) -> Result<Self> {
        let new = FILES.into_iter().map(|(what, name)| (what, group, name));
        let mut files = Vec::new();
        for (what, group, name) in new.chain(old).filter(|(what, ..)| wanted(*what)) {
            // A descriptor of one's own that may be written to has a peak of its own (Linux 6.12).
            let opened = match name {
                PEAK | PEAK_V1 => group.open_both(name).or_else(|_| group.open_read(name)),
                _ => group.open_read(name),
            };
            match opened {
                Ok(fd) => files.push((what, File { fd, path: group.path().join(name) })),
                Err(Errno::NOENT | Errno::OPNOTSUPP) => {}
                Err(errno) => {
                    let path = group.path().join(name);
                    return Err(Error::os(format!("cannot read {}", path.display()), errno).about(subject));
                }
            }
        }
        if files.is_empty() && group.is_gone() {
            return Err(
                Error::os(format!("cannot read {}", group.path().display()), Errno::NODEV).about(subject)
            );
        }
        Ok(Self { files, buffer: vec![0; 8192], subject })
    }

    /// The file that counts, of one kind of files.
    pub(crate) fn into_last(mut self) -> Option<OwnedFd> {
        self.files.pop().map(|(_, file)| file.fd)
    }

    /// What the group and all below it have used so far.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a file that was there; [`NotFound`](ErrorKind::NotFound) once the group is gone.
    pub fn read(&mut self) -> Result<Stats> {
        let mut stats = Stats::default();
        for (what, file) in &self.files {
            let n = file.read(&mut self.buffer).map_err(|errno| {
                Error::os(format!("{}: cannot read {}", self.subject, file.path.display()), errno)
            })?;
            // A file of pressure cannot be read where the kernel counts none.
            let Some(n) = n else { continue };
            let text = &self.buffer[..n];
            match std::str::from_utf8(text) {
                Ok(text) => fill(&mut stats, *what, text),
                Err(_) => fill(&mut stats, *what, &String::from_utf8_lossy(text)),
            }
        }
        let memory = &mut stats.memory;
        match self.files.iter().any(|(what, _)| *what == What::Memory(Memory::DetailsV1)) {
            true => memory.derive("total_rss", "total_inactive_file"),
            false => memory.derive("anon", "inactive_file"),
        }
        Ok(stats)
    }

    /// From here on this reader's peak of memory is counted anew. On cgroup v1 for every reader.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) below Linux 6.12 on cgroup v2.
    pub fn reset_peak(&mut self) -> Result<()> {
        let peak = self.files.iter().rfind(|(what, _)| *what == What::Memory(Memory::Peak));
        let unsupported = || {
            let what = format!("{}: the peak of its memory cannot be reset", self.subject);
            Error::new(ErrorKind::Unsupported, what)
                .with_hint("memory.peak can be written to since Linux 6.12")
        };
        let (_, file) = peak.ok_or_else(unsupported)?;
        // On cgroup v1 only 0 is taken, on cgroup v2 anything.
        match retry_on_intr(|| write(&file.fd, b"0")) {
            Ok(_) => Ok(()),
            Err(Errno::BADF | Errno::INVAL | Errno::OPNOTSUPP) => Err(unsupported()),
            Err(errno) => {
                Err(Error::os(format!("{}: cannot write 0 to {}", self.subject, file.path.display()), errno))
            }
        }
    }
}

impl File {
    /// The whole text, from the beginning, in a buffer that grows. `None`: the kernel has nothing to say.
    fn read(&self, buffer: &mut Vec<u8>) -> Result<Option<usize>, Errno> {
        let mut length = 0;
        loop {
            if length == buffer.len() {
                buffer.resize(2 * length, 0);
            }
            match retry_on_intr(|| pread(&self.fd, &mut buffer[length..], length as u64)) {
                Ok(n) if is_all(n, buffer.len() - length) => return Ok(Some(length + n)),
                Ok(n) => length += n,
                Err(Errno::OPNOTSUPP) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
    }
}

fn fill(stats: &mut Stats, what: What, text: &str) {
    let number = || text.trim().parse::<u64>().ok();
    let bytes = || number().map(Bytes::new);
    let (memory, pids, pressure) = (&mut stats.memory, &mut stats.pids, &mut stats.pressure);
    match what {
        What::Cpu => stats.cpu = CpuStats::parse(text),
        What::Throttling => {
            stats.cpu.periods = key(text, "nr_periods").unwrap_or(0);
            stats.cpu.throttled_periods = key(text, "nr_throttled").unwrap_or(0);
            stats.cpu.throttled = std::time::Duration::from_nanos(key(text, "throttled_time").unwrap_or(0));
        }
        What::Memory(Memory::Current) => memory.current = bytes(),
        What::Memory(Memory::Peak) => memory.peak = bytes(),
        What::Memory(Memory::Limit) => {
            memory.limit = number().filter(|limit| *limit < UNLIMITED).map(Bytes::new)
        }
        What::Memory(Memory::Swap) => memory.swap = bytes(),
        What::Memory(Memory::Both) => {
            let beyond = |both: u64| Some(Bytes::new(both.saturating_sub(memory.current?.get())));
            memory.swap = number().and_then(beyond);
        }
        What::Memory(Memory::Events) => {
            memory.oom_kills = key(text, "oom_kill");
            memory.high_events = key(text, "high");
            memory.max_events = key(text, "max");
        }
        What::Memory(Memory::OomControl) => memory.oom_kills = key(text, "oom_kill"),
        What::Memory(Memory::Failures) => memory.max_events = number(),
        What::Memory(Memory::Details | Memory::DetailsV1) => memory.details = Details::new(text),
        What::PidsCurrent => pids.current = number(),
        What::PidsPeak => pids.peak = number(),
        What::PidsLimit => pids.limit = number(),
        What::Io => stats.io = io(text),
        What::IoBytes | What::IoOperations => io_v1(text, what == What::IoBytes, &mut stats.io),
        What::CpuPressure => pressure.cpu = Pressure::parse(text),
        What::MemoryPressure => pressure.memory = Pressure::parse(text),
        What::IoPressure => pressure.io = Pressure::parse(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unlimited_has_no_limit() {
        let limit = |text| {
            let mut stats = Stats::default();
            fill(&mut stats, What::Memory(Memory::Limit), text);
            stats.memory.limit
        };
        assert_eq!(limit("max\n"), None);
        assert_eq!(limit("9223372036854771712\n"), None, "cgroup v1");
        assert_eq!(limit("4096\n"), Some(Bytes::new(4096)));
    }

    #[test]
    fn memory_and_swap_together_are_told_apart() {
        let mut stats = Stats::default();
        fill(&mut stats, What::Memory(Memory::Current), "100\n");
        fill(&mut stats, What::Memory(Memory::Both), "130\n");
        assert_eq!(stats.memory.swap, Some(Bytes::new(30)));
    }
}
