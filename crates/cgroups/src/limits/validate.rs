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
