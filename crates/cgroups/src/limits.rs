//! What a group may use.

pub(crate) mod cpuset;
mod io;
mod merge;
pub(crate) mod others;
mod validate;
mod words;

use std::time::Duration;

pub use cpuset::Partition;
pub use io::{Device, IoMax};

use crate::{Bytes, Controller};

/// What a group may use. What is not said is not limited, or stays as it was where the group has a limit already.
///
/// The setters only store; [`Cgroup::apply`](crate::Cgroup::apply) checks every value before it writes the first.
/// [`Bytes::UNLIMITED`], `f64::INFINITY` cores and `u32::MAX` tasks lift a limit. Names and meanings are the kernel's:
/// Documentation/admin-guide/cgroup-v2.rst. Unless it says otherwise, a limit is for cgroup v2 alone, and an error where its
/// controller is on cgroup v1.
///
/// ```
/// use isolate_cgroups::{Bytes, Limits};
///
/// let limits = Limits::new().memory(Bytes::mib(256)).cpus(0.5).pids(64);
/// assert_eq!(limits.get_memory(), Some(Bytes::mib(256)));
/// assert!(Limits::new().is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[must_use = "limits bind nobody until a group applies them"]
pub struct Limits {
    pub(crate) memory: Option<Bytes>,
    pub(crate) memory_high: Option<Bytes>,
    pub(crate) memory_low: Option<Bytes>,
    pub(crate) memory_min: Option<Bytes>,
    pub(crate) swap: Option<Bytes>,
    pub(crate) swap_high: Option<Bytes>,
    pub(crate) zswap: Option<Bytes>,
    pub(crate) oom_group: Option<bool>,
    pub(crate) cpus: Option<f64>,
    pub(crate) cpu_burst: Option<Duration>,
    pub(crate) cpu_weight: Option<u32>,
    pub(crate) cpu_nice: Option<i32>,
    pub(crate) cpu_idle: Option<bool>,
    pub(crate) cpu_clamp: [Option<f64>; 2],
    pub(crate) cpuset: cpuset::Cpuset,
    pub(crate) io: io::Io,
    pub(crate) pids: Option<u32>,
    pub(crate) others: others::Others,
}

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

    /// Above this much memory the group is slowed down and its memory reclaimed; nobody is killed for it. `memory.high`.
    pub fn memory_high(mut self, most: impl Into<Bytes>) -> Self {
        self.memory_high = Some(most.into());
        self
    }

    /// This much is reclaimed only when nothing unprotected is left. `memory.low`.
    pub fn memory_low(mut self, protected: impl Into<Bytes>) -> Self {
        self.memory_low = Some(protected.into());
        self
    }

    /// This much is never reclaimed, whatever happens: more of it than the machine has kills others. `memory.min`.
    pub fn memory_min(mut self, protected: impl Into<Bytes>) -> Self {
        self.memory_min = Some(protected.into());
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

    /// Above this much swap the group is slowed down. `memory.swap.high`, Linux 5.8.
    pub fn swap_high(mut self, most: impl Into<Bytes>) -> Self {
        self.swap_high = Some(most.into());
        self
    }

    /// The most compressed swap in memory; 0 switches it off. `memory.zswap.max`, Linux 5.19 with `CONFIG_ZSWAP`.
    pub fn zswap(mut self, most: impl Into<Bytes>) -> Self {
        self.zswap = Some(most.into());
        self
    }

    /// The most processor time, in cores: 0.5 is half a core, 2.0 is two. At least 0.001.
    ///
    /// `cpu.max`, or `cpu.cfs_quota_us` on cgroup v1, with a period of 100 ms (1 s below a hundredth of a core, since the
    /// kernel takes no share of less than 1 ms): a group that used up its share waits for the next period.
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

    /// Time that a group may save up while it needs less than its [`cpus`](Self::cpus), and spend beyond them later. At most one
    /// period's share. `cpu.max.burst`, Linux 5.14.
    pub fn cpu_burst(mut self, saved: Duration) -> Self {
        self.cpu_burst = Some(saved);
        self
    }

    /// The [weight](Self::cpu_weight) as a nice value, -20 to 19: 0 is 100. `cpu.weight.nice`.
    pub fn cpu_nice(mut self, nice: i32) -> Self {
        self.cpu_nice = Some(nice);
        self
    }

    /// Whether the group runs only when nobody else wants to, as `SCHED_IDLE`. `cpu.idle`, Linux 5.15.
    pub fn cpu_idle(mut self, idle: bool) -> Self {
        self.cpu_idle = Some(idle);
        self
    }

    /// How much of a processor's capacity the group's tasks ask the frequency governor for, at least and at most, in percent.
    /// `cpu.uclamp.min` and `cpu.uclamp.max`, Linux 5.4 with `CONFIG_UCLAMP_TASK_GROUP`.
    pub fn cpu_clamp(mut self, least: f64, most: f64) -> Self {
        self.cpu_clamp = [Some(least), Some(most)];
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

    /// Whether one of them is the controller's.
    pub(crate) fn want(&self, controller: Controller) -> bool {
        let some = |values: &[Option<Bytes>]| values.iter().any(Option::is_some);
        match controller {
            Controller::Memory => {
                some(&[self.memory, self.swap]) || self.oom_group.is_some() || self.wants_newer_memory()
            }
            Controller::Cpu => self.cpus.is_some() || self.cpu_weight.is_some() || self.wants_newer_cpu(),
            Controller::Cpuset => self.cpuset != cpuset::Cpuset::default(),
            Controller::Io => self.io != io::Io::default(),
            Controller::Pids => self.pids.is_some(),
            Controller::Hugetlb => !self.others.huge.is_empty(),
            Controller::Misc => !self.others.misc.is_empty(),
            Controller::Rdma => !self.others.rdma.is_empty(),
            Controller::Freezer | Controller::Kill | Controller::OomGroup => false,
        }
    }

    /// What the memory controller of cgroup v1 has not got.
    pub(crate) fn wants_newer_memory(&self) -> bool {
        let all = [self.memory_high, self.memory_low, self.memory_min, self.swap_high, self.zswap];
        all.iter().any(Option::is_some)
    }

    /// What the cpu controller of cgroup v1 has not got.
    pub(crate) fn wants_newer_cpu(&self) -> bool {
        let clamped = self.cpu_clamp.iter().any(Option::is_some);
        clamped || self.cpu_burst.is_some() || self.cpu_nice.is_some() || self.cpu_idle.is_some()
    }

    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
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
            (Limits::new().memory(u64::MAX - 1), "memory: 16777215.9 TiB is not"),
            (Limits::new().swap(u64::MAX - 1), "swap: "),
            (Limits::new().cpus(0.0), "cpus: 0 is not between 0.001 and 100000"),
            (Limits::new().cpus(-1.0), "cpus: -1 is not"),
            (Limits::new().cpus(f64::NAN), "cpus: NaN is not"),
            (Limits::new().cpus(0.0009), "cpus: 0.0009 is not"),
            (Limits::new().cpu_weight(0), "cpu_weight: 0 is not between 1 and 10000"),
            (Limits::new().cpu_weight(10_001), "cpu_weight: 10001 is not"),
            (Limits::new().pids(0), "pids: 0 is not between 1 and 4194304"),
            (Limits::new().pids(u32::MAX - 1), "pids: 4294967294 is not"),
        ] {
            let error = limits.validate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(words), "{error} / {words}");
        }
    }

    #[test]
    fn the_edges_of_each_range_are_taken() {
        let least = Limits::new().memory(4096).swap(0).cpus(0.001).cpu_weight(1).pids(1);
        let bytes = i64::MAX as u64;
        let most = Limits::new().memory(bytes).swap(bytes).cpus(100_000.0).cpu_weight(10_000).pids(4_194_304);
        let none = Limits::new().memory(Bytes::UNLIMITED).swap(u64::MAX).cpus(f64::INFINITY).pids(u32::MAX);
        none.validate().unwrap();
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

    #[cfg(feature = "serde")]
    #[test]
    fn limits_are_read_as_they_were_written_and_a_slip_is_an_error() {
        let limits = Limits::new()
            .memory(Bytes::mib(1))
            .cpus(1.5)
            .cpu_burst(Duration::from_millis(20))
            .cpuset([0, 2])
            .io_max("/dev/sda", IoMax::new().read(Bytes::mib(9)))
            .huge_pages(Bytes::mib(2), Bytes::mib(4));
        let text = serde_json::to_string(&limits).unwrap();
        assert_eq!(serde_json::from_str::<Limits>(&text).unwrap(), limits);
        assert_eq!(serde_json::from_str::<Limits>("{}").unwrap(), Limits::new());
        assert_eq!(serde_json::from_str::<Limits>("{\"memory\": 4096}").unwrap(), Limits::new().memory(4096));
        serde_json::from_str::<Limits>("{\"memroy\": 4096}").unwrap_err();
    }
}
