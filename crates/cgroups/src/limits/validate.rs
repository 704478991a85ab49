//! What no kernel would enforce.

use std::fmt;

use super::Limits;
use crate::cpu::share_us;
use crate::{Bytes, Error, Result};

/// The least that can be enforced: one page on most machines. The kernel rounds down to whole pages.
const MEMORY_MIN: Bytes = Bytes::kib(4);
/// The kernel's counters are signed on cgroup v1.
const BYTES_MAX: Bytes = Bytes::new(i64::MAX as u64);
/// Below, the kernel refuses the quota: at least one millisecond a period of at most a second (`kernel/sched/core.c`,
/// `min_cfs_quota_period`, `max_cfs_quota_period`).
const CPUS_MIN: f64 = 0.001;
/// Far above any machine; the quota still fits the kernel's `max_cfs_runtime`.
const CPUS_MAX: f64 = 100_000.0;
/// `cpu.weight` and `io.weight`, Documentation/admin-guide/cgroup-v2.rst.
const WEIGHT: std::ops::RangeInclusive<u32> = 1..=10_000;
/// `PID_MAX_LIMIT` of a 64-bit kernel; `pids.max` refuses more.
const PIDS: std::ops::RangeInclusive<u32> = 1..=4_194_304;

impl Limits {
    /// Refuses what no kernel would enforce.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), naming the value and the range. Whether *this* machine can
    /// enforce them only [`Cgroup::apply`](crate::Cgroup::apply) knows.
    pub fn validate(&self) -> Result<()> {
        self.validate_memory()?;
        self.validate_cpu()?;
        self.validate_io()?;
        if let Some(pids) = self.pids.filter(|pids| *pids != u32::MAX)
            && !PIDS.contains(&pids)
        {
            return Err(refused("pids", pids, PIDS.start(), PIDS.end()));
        }
        for (what, set) in [("cpuset", &self.cpuset.cpus), ("memory_nodes", &self.cpuset.nodes)] {
            if set.as_ref().is_some_and(std::collections::BTreeSet::is_empty) {
                return Err(Error::invalid(format!("limit {what}: an empty set")));
            }
        }
        for (size, most) in &self.others.huge {
            if !size.get().is_power_of_two() || *size < MEMORY_MIN {
                return Err(Error::invalid(format!("limit huge_pages: {size} is no size of a page")));
            }
            bytes("huge_pages", *most, Bytes::new(0))?;
        }
        let names = self
            .others
            .misc
            .iter()
            .map(|(name, _)| name)
            .chain(self.others.rdma.iter().map(|(name, _)| name));
        for name in names {
            if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err(Error::invalid(format!("limit of {name:?}: not a name of a resource")));
            }
        }
        Ok(())
    }

    fn validate_memory(&self) -> Result<()> {
        let none = Bytes::new(0);
        for (name, value, least) in [
            ("memory", self.memory, MEMORY_MIN),
            ("memory_high", self.memory_high, MEMORY_MIN),
            ("memory_low", self.memory_low, none),
            ("memory_min", self.memory_min, none),
            ("swap", self.swap, none),
            ("swap_high", self.swap_high, none),
            ("zswap", self.zswap, none),
        ] {
            value.map_or(Ok(()), |value| bytes(name, value, least))?;
        }
        Ok(())
    }

    fn validate_cpu(&self) -> Result<()> {
        let cpus = self.cpus.filter(|cpus| *cpus != f64::INFINITY);
        if let Some(cpus) = cpus
            // NaN is in no range.
            && !(CPUS_MIN..=CPUS_MAX).contains(&cpus)
        {
            return Err(refused("cpus", cpus, CPUS_MIN, CPUS_MAX));
        }
        if let (Some(burst), Some(cpus)) = (self.cpu_burst, cpus)
            && burst.as_micros() > u128::from(share_us(cpus).0)
        {
            let share = std::time::Duration::from_micros(share_us(cpus).0);
            return Err(Error::invalid(format!(
                "limit cpu_burst: {burst:?} is more than a period's share, {share:?}"
            )));
        }
        if let Some(weight) = self.cpu_weight
            && !WEIGHT.contains(&weight)
        {
            return Err(refused("cpu_weight", weight, WEIGHT.start(), WEIGHT.end()));
        }
        if let Some(nice) = self.cpu_nice
            && !(-20..=19).contains(&nice)
        {
            return Err(refused("cpu_nice", nice, -20, 19));
        }
        let weights = [self.cpu_weight.is_some(), self.cpu_nice.is_some(), self.cpu_idle == Some(true)];
        if weights.into_iter().filter(|said| *said).count() > 1 {
            return Err(Error::invalid("limits cpu_weight, cpu_nice and cpu_idle: more than one of them"));
        }
        let [least, most] = self.cpu_clamp;
        for clamp in [least, most].into_iter().flatten() {
            if !(0.0..=100.0).contains(&clamp) {
                return Err(refused("cpu_clamp", clamp, 0, 100));
            }
        }
        if least > most {
            return Err(Error::invalid(format!("limit cpu_clamp: {least:?} is more than {most:?}")));
        }
        Ok(())
    }

    fn validate_io(&self) -> Result<()> {
        for (device, max) in &self.io.max {
            if max.has_zero() {
                return Err(Error::invalid(format!(
                    "limit io_max of {device}: 0 is not between 1 and 18446744073709551614"
                )));
            }
        }
        let weights = self.io.weights.iter().map(|(_, weight)| weight).chain(&self.io.weight);
        for weight in weights {
            if !WEIGHT.contains(weight) {
                return Err(refused("io_weight", weight, WEIGHT.start(), WEIGHT.end()));
            }
        }
        Ok(())
    }
}

fn bytes(name: &str, value: Bytes, least: Bytes) -> Result<()> {
    if value == Bytes::UNLIMITED || (least..=BYTES_MAX).contains(&value) {
        return Ok(());
    }
    Err(refused(name, value, least, "8 EiB"))
}

fn refused(name: &str, value: impl fmt::Display, low: impl fmt::Display, high: impl fmt::Display) -> Error {
    Error::invalid(format!("limit {name}: {value} is not between {low} and {high}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{Device, IoMax};

    const PAGE: u64 = 4096;
    /// Where something changes: nothing, the least, around a page, what the kernel's counters hold, and no limit.
    const EDGES: [u64; 11] = [
        0,
        1,
        PAGE - 1,
        PAGE,
        PAGE + 1,
        u32::MAX as u64,
        i64::MAX as u64 - 1,
        i64::MAX as u64,
        i64::MAX as u64 + 1,
        u64::MAX - 1,
        u64::MAX,
    ];

    fn is_valid(limits: &Limits) -> bool {
        limits.validate().is_ok()
    }

    #[test]
    fn a_size_is_from_a_page_to_what_the_kernel_counts_or_none() {
        for value in EDGES {
            let fits = (PAGE..=i64::MAX as u64).contains(&value) || value == u64::MAX;
            assert_eq!(is_valid(&Limits::new().memory(value)), fits, "memory {value}");
            assert_eq!(is_valid(&Limits::new().memory_high(value)), fits, "memory_high {value}");
            let fits = value <= i64::MAX as u64 || value == u64::MAX;
            for limits in [
                Limits::new().memory_low(value),
                Limits::new().memory_min(value),
                Limits::new().swap(value),
                Limits::new().swap_high(value),
                Limits::new().zswap(value),
                Limits::new().huge_pages(Bytes::mib(2), value),
            ] {
                assert_eq!(is_valid(&limits), fits, "{limits}");
            }
            assert_eq!(
                is_valid(&Limits::new().io_max((8, 0), IoMax::new().read(value))),
                value > 0,
                "io_max {value}"
            );
        }
    }

    #[test]
    fn numbers_are_in_the_kernels_ranges() {
        for (value, fits) in [(0, false), (1, true), (4_194_304, true), (4_194_305, false), (u32::MAX, true)]
        {
            assert_eq!(is_valid(&Limits::new().pids(value)), fits, "pids {value}");
        }
        for (value, fits) in [(0, false), (1, true), (10_000, true), (10_001, false), (u32::MAX, false)] {
            assert_eq!(is_valid(&Limits::new().cpu_weight(value)), fits, "weight {value}");
            assert_eq!(is_valid(&Limits::new().io_weight(value)), fits, "io {value}");
            assert_eq!(
                is_valid(&Limits::new().io_device_weight(Device::from((8, 0)), value)),
                fits,
                "io {value}"
            );
        }
        for (nice, fits) in [(-21, false), (-20, true), (19, true), (20, false), (i32::MIN, false)] {
            assert_eq!(is_valid(&Limits::new().cpu_nice(nice)), fits, "nice {nice}");
        }
        for (cores, fits) in [
            (0.0, false),
            (-1.0, false),
            (0.000_999, false),
            (0.001, true),
            (100_000.0, true),
            (100_000.1, false),
            (f64::INFINITY, true),
            (f64::NEG_INFINITY, false),
            (f64::NAN, false),
        ] {
            assert_eq!(is_valid(&Limits::new().cpus(cores)), fits, "{cores} cores");
        }
        for (size, fits) in
            [(0, false), (1, false), (2048, false), (4096, true), (4097, false), (1 << 30, true)]
        {
            assert_eq!(is_valid(&Limits::new().huge_pages(Bytes::new(size), 0)), fits, "pages of {size}");
        }
        let burst = |micros| Limits::new().cpus(0.5).cpu_burst(Duration::from_micros(micros));
        assert!(is_valid(&burst(50_000)) && !is_valid(&burst(50_001)), "no more than the share");
        assert!(!is_valid(&Limits::new().cpuset([])), "no processor at all");
    }

    proptest! {
        #[test]
        fn what_is_taken_is_a_share_that_the_kernel_takes(cores in prop_oneof![0.001..0.02f64, 0.02..100_000.0f64]) {
            prop_assert!(is_valid(&Limits::new().cpus(cores)));
            let (quota, period) = share_us(cores);
            // kernel/sched/core.c: from 1 ms, in periods of at most 1 s.
            prop_assert!(quota >= 1_000 && (1_000..=1_000_000).contains(&period));
            prop_assert!((quota as f64 / period as f64 - cores).abs() <= 0.5 / period as f64 + 1e-9 * cores);
        }
    }
}
