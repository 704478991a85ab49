//! A look at a group that is not opened for more.

use std::path::Path;

use crate::cgroup::{Cgroup, subject};
use crate::directory::Directory;
use crate::events::State;
use crate::kill::own_pids;
use crate::mountinfo::Mounts;
use crate::name::Name;
use crate::watch::GroupState;
use crate::{Error, Result};

/// What [`Cgroup::glance`] has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Glance {
    /// Whether processes are in it or below it, and whether they stand still.
    pub state: GroupState,
    /// The processes of the group itself, without those of groups below it, as the calling thread's pid namespace numbers them.
    pub pids: Vec<u32>,
}

impl Cgroup {
    /// What a group is doing, without opening it for more: for who looks at a thousand. In the hierarchy of cgroup v2 alone.
    ///
    /// ```no_run
    /// use isolate_cgroups::Cgroup;
    ///
    /// let seen = Cgroup::glance("build-42")?;
    /// println!("{} processes, frozen: {}", seen.pids.len(), seen.state.frozen);
    /// # Ok::<(), isolate_cgroups::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn glance(path: impl AsRef<Path>) -> Result<Glance> {
        let path = path.as_ref();
        Mounts::with(|mounts| {
            let name = Name::of(mounts, path)?;
            let look = || {
                let group = Directory::below(mounts.unified()?, name.components())?;
                let State { populated, frozen } = State::parse(&group.read("cgroup.events")?);
                let pids = if populated { own_pids(&group)? } else { Vec::new() };
                Ok(Glance { state: GroupState { populated, frozen, removed: false }, pids })
            };
            look().map_err(|error: Error| error.about(subject(&name)))
        })
    }
}
