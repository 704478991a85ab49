//! What a keeper tells.

use std::time::{Duration, SystemTime};

/// What is known of a program that a keeper has. Times, ends and sizes are those of the last run that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeptState {
    /// Whether it runs.
    pub status: KeptStatus,
    /// The program's number in the pid namespace of whoever has handed it over, while it runs. Signals go by
    /// [`Kept::signal`](crate::Kept::signal).
    pub pid: Option<u32>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// How often it was started again.
    pub restarts: u64,
    /// What its health check says, if it has one.
    pub health: Option<Health>,
    /// Health checks that have failed in a row, and count.
    pub failing: u64,
    /// When it was started, the last time.
    pub started: SystemTime,
    /// When it ended.
    pub ended: Option<SystemTime>,
    /// How it ended.
    pub end: Option<KeptEnd>,
    /// Processes of it that were killed for memory, if the keeper was given the [counter](crate::Keeper::memory_events).
    pub oom_kills: u64,
    /// It was killed because its [time](crate::Command::timeout) was over.
    pub timed_out: bool,
    /// Processor time in user mode; whose, is said at [`Usage`](crate::Usage).
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
    /// The largest resident set of one process, in bytes.
    pub max_rss: u64,
    /// A [stop](crate::Kept::stop_intended) was asked for.
    pub stopped: bool,
    /// Bytes of output that could not be written to the log. In the file it is as old as the file.
    pub dropped: u64,
}

/// Whether a program runs that a keeper has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeptStatus {
    /// It runs.
    Running,
    /// It has ended and is to be started again, or is being started again.
    Restarting,
    /// It has ended for good.
    Exited,
    /// The keeper was killed, and with it the program; or its last word found no room on the disk.
    Lost,
}

/// How a program has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeptEnd {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody knows: its monitor was killed.
    Lost,
    /// It was not started again: this step of the start (of [`Plan::steps`](crate::Plan::steps), without the clone) failed
    /// with this errno.
    Failed {
        /// The number of the step, from 0 on; near 2³² of what is no step.
        step: u32,
        /// The errno.
        errno: i32,
    },
}

/// What a health check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Health {
    /// Not known yet.
    Starting,
    /// The last check succeeded, or not enough have failed since one did.
    Healthy,
    /// As many checks as were said have failed in a row.
    Unhealthy,
}

impl KeptState {
    /// Whether the last run ended with code 0, in its time.
    #[must_use]
    pub fn success(&self) -> bool {
        self.end == Some(KeptEnd::Code(0)) && !self.timed_out
    }
}
