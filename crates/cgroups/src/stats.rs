//! What a group has used, as the kernel's files tell it.

use std::time::Duration;

use crate::Bytes;

/// What a group and all below it have used so far.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Tasks.
    pub pids: PidsStats,
    /// Block devices, in the kernel's order. Empty without the io controller of cgroup v2, and before the first operation.
    pub io: Vec<IoStats>,
    /// How much its tasks were held up.
    pub pressure: PressureStats,
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
    /// In how many periods saved time was spent. Linux 5.14; 0 on cgroup v1.
    pub bursts: u64,
    /// How much saved time was spent.
    pub burst: Duration,
}

/// Memory. `None`: this machine or kernel does not count it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// In use now: anonymous memory, page cache, and the kernel's for the group. It is what the limit counts.
    /// `memory.current`, or `memory.usage_in_bytes` on cgroup v1.
    pub current: Option<Bytes>,
    /// `current` less the page cache that was not used lately (`inactive_file`): what the group would not do without. It is what
    /// Kubernetes and cAdvisor call the working set.
    pub working_set: Option<Bytes>,
    /// What programs have allocated: heaps, stacks, anonymous maps. `anon` of `memory.stat`, or `total_rss` on cgroup v1.
    pub anonymous: Option<Bytes>,
    /// The most of `current` at once. On cgroup v2 since Linux 5.19.
    pub peak: Option<Bytes>,
    /// The limit; `None` also where there is none.
    pub limit: Option<Bytes>,
    /// In swap now.
    pub swap: Option<Bytes>,
    /// How many processes were killed because the limit was reached.
    pub oom_kills: Option<u64>,
    /// How often the group was slowed down at `memory.high`. `None` on cgroup v1.
    pub high_events: Option<u64>,
    /// How often it was about to go over its limit, and memory was reclaimed. On cgroup v1 `memory.failcnt`.
    pub max_events: Option<u64>,
    /// The whole of `memory.stat`, by the kernel's names: bytes, pages' events, counts.
    pub details: Details,
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

/// One block device: a line of `io.stat`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IoStats {
    /// Major and minor number.
    pub device: (u32, u32),
    /// Read so far.
    pub read: Bytes,
    /// Written so far.
    pub written: Bytes,
    /// Discarded so far.
    pub discarded: Bytes,
    /// Read operations.
    pub reads: u64,
    /// Write operations.
    pub writes: u64,
    /// Discard operations.
    pub discards: u64,
}

/// How much tasks were held up for want of a resource: Documentation/accounting/psi.rst. `None` where the kernel does not
/// count it (`CONFIG_PSI`, or booted without `psi=1`).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PressureStats {
    /// For want of a processor.
    pub cpu: Option<Pressure>,
    /// For want of memory.
    pub memory: Option<Pressure>,
    /// For want of a block device.
    pub io: Option<Pressure>,
}

/// A file of pressure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Pressure {
    /// While at least one task waited.
    pub some: Stall,
    /// While all that were not idle did. For the processor since Linux 5.13.
    pub full: Option<Stall>,
}

/// A line of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stall {
    /// The share of the last 10 s, in percent.
    pub avg10: f64,
    /// The share of the last minute, in percent.
    pub avg60: f64,
    /// The share of the last five minutes, in percent.
    pub avg300: f64,
    /// In all.
    pub total: Duration,
}

impl CpuStats {
    /// `cpu.stat` of cgroup v2, whoever has the cpu controller.
    pub(crate) fn parse(text: &str) -> Self {
        let mut stats = Self::default();
        for (name, value) in pairs(text) {
            match name {
                "usage_usec" => stats.usage = Duration::from_micros(value),
                "user_usec" => stats.user = Duration::from_micros(value),
                "system_usec" => stats.system = Duration::from_micros(value),
                "throttled_usec" => stats.throttled = Duration::from_micros(value),
                "nr_throttled" => stats.throttled_periods = value,
                "nr_periods" => stats.periods = value,
                "nr_bursts" => stats.bursts = value,
                "burst_usec" => stats.burst = Duration::from_micros(value),
                _ => {}
            }
        }
        stats
    }
}

impl MemoryStats {
    /// From `details` and `current`, by the kernel's names for what is anonymous and what is idle.
    pub(crate) fn derive(&mut self, anonymous: &str, idle: &str) {
        let mut found = [None; 2];
        for line in lines(&self.details.0) {
            for (name, found) in [anonymous, idle].into_iter().zip(&mut found) {
                if let Some(value) = value(line, name) {
                    *found = Some(value);
                }
            }
            if let [Some(_), Some(_)] = found {
                break;
            }
        }
        let [anonymous, idle] = found;
        self.anonymous = anonymous.map(Bytes::new);
        self.working_set = match (self.current, idle) {
            (Some(current), Some(idle)) => Some(Bytes::new(current.get().saturating_sub(idle))),
            _ => None,
        };
    }
}

/// A file of names and numbers, whole: which names there are depends on the kernel.
///
/// ```no_run
/// let memory = isolate_cgroups::Cgroup::open("build-42")?.stats()?.memory;
/// println!("{:?} of dirty pages", memory.details.get("file_dirty"));
/// for (name, value) in memory.details.iter() {
///     println!("{name}: {value}");
/// }
/// # Ok::<(), isolate_cgroups::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details(String);

impl Details {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The number of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        key(&self.0, name)
    }

    /// All, in the kernel's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        pairs(&self.0)
    }
}

/// `io.stat`: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`. Whatever else the kernel adds is passed over.
pub(crate) fn io(text: &str) -> Vec<IoStats> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let mut stats = IoStats { device: (major.parse().ok()?, minor.parse().ok()?), ..IoStats::default() };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            match name {
                "rbytes" => stats.read = Bytes::new(value),
                "wbytes" => stats.written = Bytes::new(value),
                "dbytes" => stats.discarded = Bytes::new(value),
                "rios" => stats.reads = value,
                "wios" => stats.writes = value,
                "dios" => stats.discards = value,
                _ => {}
            }
        }
        Some(stats)
    };
    text.lines().filter_map(line).collect()
}

/// `8:0 Read 4096` and its like, of cgroup v1.
pub(crate) fn io_v1(text: &str, bytes: bool, all: &mut Vec<IoStats>) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let device = words.next().and_then(|word| {
            let (major, minor) = word.split_once(':')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
        let (Some(device), Some(kind), Some(Ok(value))) =
            (device, words.next(), words.next().map(str::parse::<u64>))
        else {
            continue;
        };
        let place = all.iter().position(|stats| stats.device == device).unwrap_or_else(|| {
            all.push(IoStats { device, ..IoStats::default() });
            all.len() - 1
        });
        let Some(stats) = all.get_mut(place) else { continue };
        match (kind, bytes) {
            ("Read", true) => stats.read = Bytes::new(value),
            ("Write", true) => stats.written = Bytes::new(value),
            ("Discard", true) => stats.discarded = Bytes::new(value),
            ("Read", false) => stats.reads = value,
            ("Write", false) => stats.writes = value,
            ("Discard", false) => stats.discards = value,
            _ => {}
        }
    }
}

impl Pressure {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let line = |kind| lines(text).find_map(|line| Stall::parse(line.strip_prefix(kind)?));
        Some(Self { some: line("some ")?, full: line("full ") })
    }
}

impl Stall {
    fn parse(text: &str) -> Option<Self> {
        let mut stall = Self::default();
        for (name, value) in text.split(' ').filter_map(|word| word.split_once('=')) {
            match name {
                "avg10" => stall.avg10 = value.parse().ok()?,
                "avg60" => stall.avg60 = value.parse().ok()?,
                "avg300" => stall.avg300 = value.parse().ok()?,
                "total" => stall.total = Duration::from_micros(value.parse().ok()?),
                _ => {}
            }
        }
        Some(stall)
    }
}

/// The lines `name value` of a flat-keyed file.
fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    lines(text).filter_map(|line| {
        let (name, value) = line.split_at_checked(line.bytes().position(|byte| byte == b' ')?)?;
        Some((name, value.trim().parse().ok()?))
    })
}

/// One of them.
pub(crate) fn key(text: &str, name: &str) -> Option<u64> {
    lines(text).find_map(|line| value(line, name))
}

fn value(line: &str, name: &str) -> Option<u64> {
    line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok()
}

/// As [`str::lines`], for lines of some twenty bytes: looking at each byte is faster than searching by the word.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.bytes().position(|byte| byte == b'\n').unwrap_or(rest.len());
        let (line, after) = rest.split_at_checked(end)?;
        rest = after.strip_prefix('\n').unwrap_or(after);
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_found_by_their_whole_name() {
        let text = "low 0\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(key(text, "oom_kill"), Some(2));
        assert_eq!(key(text, "oom"), Some(3));
        assert_eq!(key(text, "oom_"), None);
        assert_eq!(key("", "oom"), None);
        assert_eq!(key("oom x", "oom"), None);
        assert_eq!(Details::new(text).iter().last(), Some(("oom_group_kill", 1)));
    }

    #[test]
    fn the_three_figures_of_memory_are_what_they_are_said_to_be() {
        let mut memory = MemoryStats { current: Some(Bytes::new(1000)), ..MemoryStats::default() };
        memory.details = Details::new("anon 600\nfile 300\ninactive_file 250\n");
        memory.derive("anon", "inactive_file");
        assert_eq!((memory.anonymous, memory.working_set), (Some(Bytes::new(600)), Some(Bytes::new(750))));
        memory.current = Some(Bytes::new(200));
        memory.derive("anon", "inactive_file");
        assert_eq!(memory.working_set, Some(Bytes::new(0)), "two files are not read at one moment");
    }

    #[test]
    fn devices_are_read_whatever_the_kernel_adds() {
        let text = "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0 cost.usage=5\n\
                    254:0 \n253:0 rbytes=7 new=x\n";
        let stats = io(text);
        assert_eq!(stats.len(), 3);
        assert_eq!(
            (stats[0].device, stats[0].written, stats[0].reads),
            ((8, 16), Bytes::new(314_773_504), 192)
        );
        assert_eq!((stats[2].device, stats[2].read), ((253, 0), Bytes::new(7)));
    }

    #[test]
    fn devices_of_cgroup_v1_are_put_together_from_two_files() {
        let mut all = Vec::new();
        io_v1("8:0 Read 4096\n8:0 Write 1\n8:0 Sync 9\n8:16 Read 5\nTotal 4102\n", true, &mut all);
        io_v1("8:16 Write 7\n8:0 Read 1\nTotal 8\nx\n", false, &mut all);
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].read, all[0].written, all[0].reads), (Bytes::new(4096), Bytes::new(1), 1));
        assert_eq!((all[1].device, all[1].read, all[1].writes), ((8, 16), Bytes::new(5), 7));
    }

    #[test]
    fn pressure_has_one_line_or_two() {
        let some = "some avg10=1.50 avg60=0.00 avg300=100.00 total=12345\n";
        let pressure = Pressure::parse(some).unwrap();
        assert_eq!((pressure.some.avg10, pressure.some.avg300), (1.5, 100.0));
        assert_eq!(pressure.some.total, Duration::from_micros(12_345));
        assert_eq!(pressure.full, None);
        let both = format!("{some}full avg10=0.10 avg60=0.00 avg300=0.00 total=1\n");
        assert_eq!(Pressure::parse(&both).unwrap().full.unwrap().avg10, 0.1);
        assert_eq!(Pressure::parse(""), None);
    }

    proptest! {
        #[test]
        fn what_is_printed_as_the_kernel_does_is_read_as_it_was(
            values in proptest::collection::vec(any::<u64>(), 6), device in any::<(u16, u16)>(), hundredths in 0u32..=10_000,
        ) {
            let [r, w, rios, wios, d, dios] = values[..] else { unreachable!() };
            let line = format!("{}:{} rbytes={r} wbytes={w} rios={rios} wios={wios} dbytes={d} dios={dios}\n", device.0, device.1);
            let expected = IoStats {
                device: (device.0.into(), device.1.into()), read: Bytes::new(r), written: Bytes::new(w),
                discarded: Bytes::new(d), reads: rios, writes: wios, discards: dios,
            };
            prop_assert_eq!(io(&line), vec![expected]);
            let percent = format!("{}.{:02}", hundredths / 100, hundredths % 100);
            let total = r >> 1;
            let text = format!("some avg10={percent} avg60=0.00 avg300=0.00 total={total}\n");
            let pressure = Pressure::parse(&text).unwrap();
            prop_assert!((pressure.some.avg10 - f64::from(hundredths) / 100.0).abs() < 1e-9);
            prop_assert_eq!(pressure.some.total, Duration::from_micros(total));
        }

        #[test]
        fn a_file_of_names_and_numbers_is_read_as_it_was(
            lines in proptest::collection::btree_map("[a-z][a-z_]{0,12}", any::<u64>(), 0..20),
        ) {
            let printed: String = lines.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
            let details = Details::new(&printed);
            let read: std::collections::BTreeMap<String, u64> =
                details.iter().map(|(name, value)| (name.to_owned(), value)).collect();
            prop_assert_eq!(&read, &lines);
            for (name, value) in &lines {
                prop_assert_eq!(details.get(name), Some(*value));
            }
        }

        #[test]
        fn processor_time_is_read_as_it_was(values in proptest::collection::vec(any::<u64>(), 8)) {
            let [usage, user, system, periods, throttled_periods, throttled, bursts, burst] = values[..] else { unreachable!() };
            let printed = format!(
                "usage_usec {usage}\nuser_usec {user}\nsystem_usec {system}\nnr_periods {periods}\n\
                 nr_throttled {throttled_periods}\nthrottled_usec {throttled}\nnr_bursts {bursts}\nburst_usec {burst}\n"
            );
            let micros = Duration::from_micros;
            let expected = CpuStats {
                usage: micros(usage), user: micros(user), system: micros(system), throttled: micros(throttled),
                throttled_periods, periods, bursts, burst: micros(burst),
            };
            prop_assert_eq!(CpuStats::parse(&printed), expected);
        }

        #[test]
        fn devices_of_cgroup_v1_are_read_as_they_were(
            devices in proptest::collection::btree_map(any::<(u16, u16)>(), any::<[u64; 3]>(), 0..5),
        ) {
            let line = |(device, [r, w, d]): (&(u16, u16), &[u64; 3])| {
                let name = format!("{}:{}", device.0, device.1);
                format!("{name} Read {r}\n{name} Write {w}\n{name} Sync 1\n{name} Discard {d}\n{name} Total 9\n")
            };
            let printed = devices.iter().map(line).collect::<String>() + "Total 9\n";
            let mut read = Vec::new();
            io_v1(&printed, true, &mut read);
            io_v1(&printed, false, &mut read);
            let expected: Vec<IoStats> = devices.iter().map(|(device, [r, w, d])| IoStats {
                device: (device.0.into(), device.1.into()), read: Bytes::new(*r), written: Bytes::new(*w),
                discarded: Bytes::new(*d), reads: *r, writes: *w, discards: *d,
            }).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn no_text_is_too_odd(text in "\\PC{0,200}") {
            io_v1(&text, true, &mut Vec::new());
            let _ = (io(&text), Details::new(&text).iter().count(), Pressure::parse(&text), CpuStats::parse(&text), key(&text, "x"));
        }
    }
}
