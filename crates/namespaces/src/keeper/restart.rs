//! When a program is started again.

use crate::keeper_config::{RESTART_ALWAYS, RESTART_NEVER, RESTART_ON_FAILURE};

/// When a keeper starts its program again, as Docker's `--restart`.
///
/// It waits before it does: 100 ms, and twice as long each time, up to a minute; after a run of at least ten seconds it
/// begins with 100 ms again. A [stop that was asked for](crate::Kept::stop_intended) ends it in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case", deny_unknown_fields)
)]
#[non_exhaustive]
pub enum Restart {
    /// It is not.
    #[default]
    Never,
    /// When it has not ended with code 0.
    OnFailure {
        /// So many times at most; `None`: any number.
        #[cfg_attr(feature = "serde", serde(default))]
        most: Option<u32>,
    },
    /// However it has ended.
    Always,
    /// The same, for a keeper: what differs is whether somebody starts it after the machine has started, and that is who
    /// made the keeper.
    UnlessStopped,
}

impl Restart {
    /// For the keeper: which, and how often.
    pub(super) fn to_config(self) -> (u32, u32) {
        match self {
            Self::Never | Self::OnFailure { most: Some(0) } => (RESTART_NEVER, 0),
            Self::OnFailure { most } => (RESTART_ON_FAILURE, most.unwrap_or(0)),
            Self::Always | Self::UnlessStopped => (RESTART_ALWAYS, 0),
        }
    }
}
