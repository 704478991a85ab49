//! What a program has used.

use std::time::Duration;

/// Processor time of a program and of those of its children that it waited for (getrusage(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// In user mode.
    pub user: Duration,
    /// In the kernel, for the program.
    pub system: Duration,
}
