//! Cores and weights as the kernel counts them.

/// The period of a processor limit, in microseconds: the kernel's default.
pub(crate) const PERIOD_US: u64 = 100_000;

/// The longest that the kernel takes (`max_cfs_quota_period`): for shares that would be less than 1 ms of a shorter one.
const LONG_PERIOD_US: u64 = 1_000_000;

/// How much processor time a period may use, and how long that is. In whole microseconds.
pub(crate) fn share_us(cores: f64) -> (u64, u64) {
    // Validated: between 0.001 and 100,000 cores.
    let period = if cores < 0.01 { LONG_PERIOD_US } else { PERIOD_US };
    ((cores * period as f64).round() as u64, period)
}

/// `cpu.shares` for a weight, by the ratio of `sched_weight_from_cgroup` (kernel/sched/core.c): on cgroup v2 the
/// kernel keeps `weight * 1024 / 100` itself. Other conversions stretch the two ranges over each other and
/// change how two groups share.
#[cfg_attr(not(feature = "cgroup-v1"), expect(dead_code, reason = "cgroup v1 only"))]
pub(crate) fn shares(weight: u32) -> u64 {
    (u64::from(weight) * 1024 + 50) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_become_microseconds_of_each_period() {
        assert_eq!(share_us(0.001), (1_000, 1_000_000));
        assert_eq!(share_us(0.0099), (9_900, 1_000_000));
        assert_eq!(share_us(0.01), (1_000, 100_000));
        assert_eq!(share_us(0.5), (50_000, 100_000));
        assert_eq!(share_us(2.0), (200_000, 100_000));
        assert_eq!(share_us(100_000.0), (10_000_000_000, 100_000));
    }

    #[cfg(feature = "cgroup-v1")]
    #[test]
    fn a_weight_without_wish_is_the_shares_without_wish() {
        assert_eq!(shares(100), 1024);
        assert_eq!(shares(1), 10);
        assert_eq!(shares(10_000), 102_400);
        assert_eq!(shares(50) * 2, shares(100));
    }
}
