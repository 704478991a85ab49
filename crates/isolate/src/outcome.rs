//! How a run ended, and what it took.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use isolate_cgroups::Bytes;
use isolate_namespaces::Signal;
use serde::Serialize;

/// How a container's program ended. Not 137 for everything: being killed for its memory, for its time, and by a signal are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal, real-time ones included.
    Signaled(Signal),
    /// The kernel killed it because memory ran out: its [limit](isolate_cgroups::Limits::memory), or the machine's. Also where it was a child
    /// of a shell that passed that on with code 137. Where the program went on without such a child, [`Usage::oom_kills`] tells, and with
    /// [`Limits::oom_group`](isolate_cgroups::Limits::oom_group) none goes on.
    OutOfMemory,
    /// It was killed because its [time](crate::ContainerBuilder::timeout) was over.
    TimedOut,
    /// It was killed before its program ran: its limits may be too small to start in.
    NeverStarted,
}

/// The code with which a shell passes SIGKILL on.
const PASSED_ON: i32 = 128 + 9;

impl Outcome {
    pub(crate) fn of(status: ExitStatus, timed_out: bool, oom_kills: u64) -> Self {
        match (status.code(), status.signal().and_then(|number| Signal::try_from(number).ok())) {
            (Some(code), _) => Self::ended(Ok(code), timed_out, oom_kills),
            (None, Some(signal)) => Self::ended(Err(signal), timed_out, oom_kills),
            // Neither an exit nor a signal: a status that no wait for an end gives.
            (None, None) => Self::NeverStarted,
        }
    }

    /// With a code, or by a signal.
    pub(crate) fn ended(how: Result<i32, Signal>, timed_out: bool, oom_kills: u64) -> Self {
        match how {
            Err(Signal::KILL) if timed_out => Self::TimedOut,
            Err(Signal::KILL) | Ok(PASSED_ON) if oom_kills > 0 => Self::OutOfMemory,
            Ok(code) => Self::Exited(code),
            Err(signal) => Self::Signaled(signal),
        }
    }

    /// Whether it ended by itself with code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Signaled(signal) => write!(f, "killed by {signal}"),
            Self::OutOfMemory => f.write_str("killed: out of memory"),
            Self::TimedOut => f.write_str("killed: its time was over"),
            Self::NeverStarted => f.write_str("killed before its program ran"),
        }
    }
}

/// What a container has used in all, from the execution of its program to the end: every process in it, whoever waited for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Processor time in programs.
    pub user: Duration,
    /// Processor time in the kernel for them.
    pub system: Duration,
    /// Time from the execution of the program to its end.
    pub wall: Duration,
    /// The most memory that was in use at once, file cache and kernel memory included: `memory.peak` of cgroup v2 (Linux 5.19), or
    /// `memory.max_usage_in_bytes` of cgroup v1. `None` where neither is kept.
    pub peak_memory: Option<Bytes>,
    /// The largest resident set of a single process: with pages of files, also those that others had in memory before. 0 as long as it runs.
    pub max_rss: Bytes,
    /// How many processes of it the kernel has killed because memory ran out; 0 also where nobody counts them.
    pub oom_kills: u64,
}

impl Usage {
    /// Processor time in all.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.user + self.system
    }
}

/// A whole run: how it ended, what it used, what it wrote.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Run {
    /// How it ended.
    pub outcome: Outcome,
    /// What it used.
    pub usage: Usage,
    /// What it wrote to its standard output, where that was a pipe.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error, where that was a pipe.
    pub stderr: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_for_memory_for_time_and_by_somebody_are_told_apart() {
        let of = |raw, timed_out, kills| Outcome::of(ExitStatus::from_raw(raw), timed_out, kills);
        assert_eq!(of(9, false, 0), Outcome::Signaled(Signal::KILL));
        assert_eq!(of(9, false, 1), Outcome::OutOfMemory);
        assert_eq!(of(137 << 8, false, 1), Outcome::OutOfMemory, "a shell passed it on");
        assert_eq!(of(137 << 8, false, 0), Outcome::Exited(137));
        assert_eq!(of(9, true, 0), Outcome::TimedOut);
        assert_eq!(of(0, true, 0), Outcome::Exited(0), "it was faster");
        assert_eq!(of(0, false, 3), Outcome::Exited(0), "it did without the child that was killed");
        assert_eq!(of(40, false, 0), Outcome::Signaled(Signal::rt(6).unwrap()));
    }
}
