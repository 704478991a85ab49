//! What a group may use.

use crate::{Bytes, Error, Result};

/// What a group may use. What is not said is not limited.
///
/// The setters only store; [`Cgroup::apply`](crate::Cgroup::apply) checks every value before it writes the first.
///
/// ```
/// use isolate_cgroups::{Bytes, Limits};
///
/// let limits = Limits::new().memory(Bytes::mib(256)).cpus(0.5).pids(64);
/// assert_eq!(limits.get_memory(), Some(Bytes::mib(256)));
/// assert!(Limits::new().is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "limits bind nobody until a group applies them"]
pub struct Limits {
    memory: Option<Bytes>,
    swap: Option<Bytes>,
    cpus: Option<f64>,
    cpu_weight: Option<u32>,
    pids: Option<u32>,
    oom_group: Option<bool>,
}

/// The least that can be enforced: one page on most machines. The kernel rounds down to whole pages.
const MEMORY_MIN: Bytes = Bytes::kib(4);
/// The kernel's counters are signed on cgroup v1.
const BYTES_MAX: Bytes = Bytes::new(i64::MAX as u64);
/// Below, the kernel refuses the quota: at least one millisecond a period (`kernel/sched/core.c`,
/// `min_cfs_quota_period`).
const CPUS_MIN: f64 = 0.01;
/// Far above any machine; the quota still fits the kernel's `max_cfs_runtime`.
const CPUS_MAX: f64 = 100_000.0;
/// `cpu.weight`, Documentation/admin-guide/cgroup-v2.rst.
const WEIGHT: std::ops::RangeInclusive<u32> = 1..=10_000;
/// `PID_MAX_LIMIT` of a 64-bit kernel; `pids.max` refuses more.
const PIDS: std::ops::RangeInclusive<u32> = 1..=4_194_304;

impl Limits {
    /// No limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// The most memory: anonymous, page cache and kernel memory together. Above it the kernel reclaims, then kills.
    ///
    /// At least 4 KiB; rounded down to whole pages. `memory.max`, or `memory.limit_in_bytes` on cgroup v1.
    ///
    /// **Swap is 0 unless [`swap`](Self::swap) says otherwise**, wherever the kernel accounts for swap: a memory
    /// limit beyond which a program goes on in swap is no limit.
    pub fn memory(mut self, max: impl Into<Bytes>) -> Self {
        self.memory = Some(max.into());
        self
    }

    /// The most swap, *beyond* the memory limit. 0 forbids swapping.
    ///
    /// `memory.swap.max`; on cgroup v1 `memory.memsw.limit_in_bytes` is memory plus this, so there it needs a memory
    /// limit. Where the kernel does not account for swap (no `CONFIG_SWAP`, or `swapaccount=0`) and the machine swaps,
    /// this is an error, whatever the value.
    pub fn swap(mut self, beyond_memory: impl Into<Bytes>) -> Self {
        self.swap = Some(beyond_memory.into());
        self
    }

    /// The most processor time, in cores: 0.5 is half a core, 2.0 is two. At least 0.01.
    ///
    /// `cpu.max`, or `cpu.cfs_quota_us` on cgroup v1, with a period of 100 ms: a group that used up its share waits
    /// for the next period.
    pub fn cpus(mut self, cores: f64) -> Self {
        self.cpus = Some(cores);
        self
    }

    /// The share of the processor when it is scarce, 1 to 10,000; a group without has 100.
    ///
    /// `cpu.weight`; on cgroup v1 `cpu.shares`, which is weight × 10.24, the ratio by which the kernel itself turns
    /// one into the other (`sched_weight_from_cgroup` in kernel/sched/core.c), so that two groups share alike on both.
    pub fn cpu_weight(mut self, weight: u32) -> Self {
        self.cpu_weight = Some(weight);
        self
    }

    /// The most tasks (processes and threads), 1 to 4,194,304. At the limit fork fails with `EAGAIN`. `pids.max`.
    pub fn pids(mut self, max: u32) -> Self {
        self.pids = Some(max);
        self
    }

    /// Whether running out of memory kills the whole group rather than one process of it.
    ///
    /// `memory.oom.group`, Linux 4.19; cgroup v2 only: `true` is an error where memory is on cgroup v1.
    pub fn oom_group(mut self, whole: bool) -> Self {
        self.oom_group = Some(whole);
        self
    }

    /// The memory limit.
    #[must_use]
    pub fn get_memory(&self) -> Option<Bytes> {
        self.memory
    }

    /// The swap limit, beyond memory.
    #[must_use]
    pub fn get_swap(&self) -> Option<Bytes> {
        self.swap
    }

    /// The processor limit, in cores.
    #[must_use]
    pub fn get_cpus(&self) -> Option<f64> {
        self.cpus
    }

    /// The processor's weight.
    #[must_use]
    pub fn get_cpu_weight(&self) -> Option<u32> {
        self.cpu_weight
    }

    /// The limit of tasks.
    #[must_use]
    pub fn get_pids(&self) -> Option<u32> {
        self.pids
    }

    /// Whether the group dies as a whole.
    #[must_use]
    pub fn get_oom_group(&self) -> Option<bool> {
        self.oom_group
    }

    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses what no kernel would enforce.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), naming the value and the range. Whether *this* machine can
    /// enforce them only [`Cgroup::apply`](crate::Cgroup::apply) knows.
    pub fn validate(&self) -> Result<()> {
        if let Some(memory) = self.memory
            && !(MEMORY_MIN..=BYTES_MAX).contains(&memory)
        {
            return Err(refused("memory", memory, MEMORY_MIN, "8 EiB"));
        }
        if let Some(swap) = self.swap
            && swap > BYTES_MAX
        {
            return Err(refused("swap", swap, "0 B", "8 EiB"));
        }
        if let Some(cpus) = self.cpus
            // NaN is in no range.
            && !(CPUS_MIN..=CPUS_MAX).contains(&cpus)
        {
            return Err(refused("cpus", cpus, CPUS_MIN, CPUS_MAX));
        }
        if let Some(weight) = self.cpu_weight
            && !WEIGHT.contains(&weight)
        {
            return Err(refused("cpu_weight", weight, WEIGHT.start(), WEIGHT.end()));
        }
        if let Some(pids) = self.pids
            && !PIDS.contains(&pids)
        {
            return Err(refused("pids", pids, PIDS.start(), PIDS.end()));
        }
        Ok(())
    }
}

fn refused<L: std::fmt::Display, H: std::fmt::Display>(
    name: &str,
    value: impl std::fmt::Display,
    low: L,
    high: H,
) -> Error {
    Error::invalid(format!("limit {name}: {value} is not between {low} and {high}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn limits_that_cannot_be_are_refused_with_value_and_range() {
        for (limits, words) in [
            (Limits::new().memory(0), "memory: 0 B is not between 4 KiB"),
            (Limits::new().memory(4095), "memory: 3.9 KiB is not"),
            (Limits::new().memory(u64::MAX), "memory: 16777215.9 TiB is not"),
            (Limits::new().swap(u64::MAX), "swap: "),
            (Limits::new().cpus(0.0), "cpus: 0 is not between 0.01 and 100000"),
            (Limits::new().cpus(-1.0), "cpus: -1 is not"),
            (Limits::new().cpus(f64::NAN), "cpus: NaN is not"),
            (Limits::new().cpus(f64::INFINITY), "cpus: inf is not"),
            (Limits::new().cpu_weight(0), "cpu_weight: 0 is not between 1 and 10000"),
            (Limits::new().cpu_weight(10_001), "cpu_weight: 10001 is not"),
            (Limits::new().pids(0), "pids: 0 is not between 1 and 4194304"),
            (Limits::new().pids(u32::MAX), "pids: 4294967295 is not"),
        ] {
            let error = limits.validate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(words), "{error} / {words}");
        }
    }

    #[test]
    fn the_edges_of_each_range_are_taken() {
        let least = Limits::new().memory(4096).swap(0).cpus(0.01).cpu_weight(1).pids(1);
        let most =
            Limits::new().memory(BYTES_MAX).swap(BYTES_MAX).cpus(CPUS_MAX).cpu_weight(10_000).pids(4_194_304);
        least.validate().unwrap();
        most.validate().unwrap();
        Limits::new().validate().unwrap();
    }

    #[test]
    fn what_was_said_is_what_is_read() {
        let limits =
            Limits::new().memory(Bytes::mib(1)).swap(0).cpus(1.5).cpu_weight(7).pids(9).oom_group(false);
        assert!(!limits.is_empty());
        assert_eq!(limits.get_memory(), Some(Bytes::mib(1)));
        assert_eq!(limits.get_swap(), Some(Bytes::new(0)));
        assert_eq!(limits.get_cpus(), Some(1.5));
        assert_eq!(limits.get_cpu_weight(), Some(7));
        assert_eq!(limits.get_pids(), Some(9));
        assert_eq!(limits.get_oom_group(), Some(false));
    }
}
