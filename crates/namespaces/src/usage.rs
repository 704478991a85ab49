//! What a program has used, and how long it ran.

use std::time::Duration;

use crate::monitor::End;
use crate::wire::Report;

/// Time and memory of a program, from its execution to its end (getrusage(2)); what its start took does not count.
///
/// With a pid namespace and an [init](crate::Command::init) of its own that is every process in it that was waited for;
/// without, the program and those of its children that it waited for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Processor time in user mode.
    pub user: Duration,
    /// Processor time in the kernel, for the program.
    pub system: Duration,
    /// Time from the execution to the end. In time namespaces that were joined it begins with the last steps of the start.
    pub wall: Duration,
    /// The largest resident set of one process, in bytes.
    pub max_rss: u64,
}

impl Usage {
    /// What is said at the end less what was said just before the execution.
    pub(crate) fn of(end: &End, began: &Report, foreign_clocks: bool) -> Self {
        let since = |now: u64, then: u64| Duration::from_micros(now.saturating_sub(then));
        let from = if foreign_clocks || began.at == 0 { end.went } else { began.at };
        Self {
            user: since(end.user_us, began.user_us),
            system: since(end.system_us, began.system_us),
            wall: Duration::from_nanos(end.at.saturating_sub(from)),
            max_rss: end.max_rss.saturating_mul(1024),
        }
    }
}
