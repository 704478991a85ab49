//! How a program is scheduled: processor and disk.

use std::fmt;

use crate::error::{Error, Result};

/// A scheduling policy (sched(7)). It is inherited by what the program starts.
///
/// The real-time policies come before all others: a program that never sleeps keeps a processor for itself, but for what
/// `kernel.sched_rt_runtime_us` leaves. They want CAP_SYS_NICE in the initial user namespace, or a priority within
/// [`Resource::Rtprio`](crate::Resource::Rtprio); where the kernel groups real-time tasks (`CONFIG_RT_GROUP_SCHED`) a
/// group without real-time budget refuses them. The others want nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Scheduler {
    /// The default, by nice values.
    #[default]
    Other,
    /// As [`Other`](Self::Other), for work that nobody waits for: it preempts less when it wakes.
    Batch,
    /// Only when nothing else wants the processor; weaker than nice 19.
    Idle,
    /// Real-time, with a priority from 1 to 99, the strongest: until it sleeps or a stronger one wants to run.
    Fifo(u8),
    /// Real-time, with a priority from 1 to 99: in turns with those of the same priority.
    RoundRobin(u8),
}

impl Scheduler {
    /// Policy and priority for sched_setscheduler(2).
    pub(crate) fn numbers(self) -> Result<(i32, i32)> {
        match self {
            Self::Other => Ok((libc::SCHED_OTHER, 0)),
            Self::Batch => Ok((libc::SCHED_BATCH, 0)),
            Self::Idle => Ok((libc::SCHED_IDLE, 0)),
            Self::Fifo(priority @ 1..=99) => Ok((libc::SCHED_FIFO, priority.into())),
            Self::RoundRobin(priority @ 1..=99) => Ok((libc::SCHED_RR, priority.into())),
            Self::Fifo(_) | Self::RoundRobin(_) => {
                Err(Error::invalid(format!("scheduling policy {self}: the priority must be 1 to 99")))
            }
        }
    }
}

/// `other`, `fifo 10`.
impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other => f.write_str("other"),
            Self::Batch => f.write_str("batch"),
            Self::Idle => f.write_str("idle"),
            Self::Fifo(priority) => write!(f, "fifo {priority}"),
            Self::RoundRobin(priority) => write!(f, "round-robin {priority}"),
        }
    }
}

/// A class and level of input and output (ioprio_set(2)). It is inherited by what the program starts.
///
/// Only some I/O schedulers look at it: bfq for all, mq-deadline for the class, none and kyber not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum IoPriority {
    /// Before all others, with a level from 0, the first, to 7. Wants CAP_SYS_ADMIN, or since Linux 5.14 CAP_SYS_NICE, in
    /// the initial user namespace.
    RealTime(u8),
    /// The usual class, with a level from 0, the first, to 7. A program that is told nothing has a level after its nice
    /// value; 4 for nice 0.
    BestEffort(u8),
    /// Only when nobody else wants the disk.
    Idle,
}

impl IoPriority {
    /// The value for ioprio_set(2): the class above bit 13, the level below. libc has no constants for it.
    pub(crate) fn value(self) -> Result<u32> {
        let (class, level) = match self {
            Self::RealTime(level) => (1, level),
            Self::BestEffort(level) => (2, level),
            Self::Idle => (3, 0),
        };
        if level > 7 {
            return Err(Error::invalid(format!("I/O priority {self}: the level must be 0 to 7")));
        }
        Ok(class << 13 | u32::from(level))
    }
}

/// `best-effort 4`, `idle`.
impl fmt::Display for IoPriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RealTime(level) => write!(f, "real-time {level}"),
            Self::BestEffort(level) => write!(f, "best-effort {level}"),
            Self::Idle => f.write_str("idle"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn policies_have_the_kernels_numbers() {
        for (policy, numbers) in [
            (Scheduler::Other, (0, 0)),
            (Scheduler::Fifo(1), (1, 1)),
            (Scheduler::RoundRobin(99), (2, 99)),
            (Scheduler::Batch, (3, 0)),
            (Scheduler::Idle, (5, 0)),
        ] {
            assert_eq!(policy.numbers().unwrap(), numbers, "{policy}");
        }
    }

    #[test]
    fn a_real_time_priority_out_of_range_is_named() {
        for policy in
            [Scheduler::Fifo(0), Scheduler::Fifo(100), Scheduler::RoundRobin(0), Scheduler::RoundRobin(255)]
        {
            let error = policy.numbers().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&policy.to_string()), "{error}");
        }
    }

    #[test]
    fn io_priorities_have_the_kernels_values() {
        assert_eq!(IoPriority::RealTime(0).value().unwrap(), 0x2000);
        assert_eq!(IoPriority::BestEffort(4).value().unwrap(), 0x4004);
        assert_eq!(IoPriority::BestEffort(7).value().unwrap(), 0x4007);
        assert_eq!(IoPriority::Idle.value().unwrap(), 0x6000);
    }

    #[test]
    fn an_io_level_out_of_range_is_named() {
        for priority in [IoPriority::RealTime(8), IoPriority::BestEffort(255)] {
            let error = priority.value().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&priority.to_string()), "{error}");
        }
    }
}
