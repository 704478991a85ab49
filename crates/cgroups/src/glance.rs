//! A look at groups that are not opened for more.

use std::path::Path;

use crate::cgroup::subject;
use crate::directory::Directory;
use crate::events::State;
use crate::kill::pids_of;
use crate::mountinfo::Mounts;
use crate::name::Name;
use crate::watch::GroupState;
use crate::{Error, Result};

/// A look at many groups, one after the other or by several threads, in the hierarchy of cgroup v2 alone. Each costs one file that is
/// opened and read; a [`Cgroup`](crate::Cgroup) of each costs several times that. Groups are named as there.
///
/// ```no_run
/// use isolate_cgroups::Glance;
///
/// let glance = Glance::new()?;
/// for name in ["build-41", "build-42"] {
///     println!("{name}: frozen: {}, processes: {:?}", glance.state(name)?.frozen, glance.pids(name)?);
/// }
/// # Ok::<(), isolate_cgroups::Error>(())
/// ```
#[derive(Debug)]
pub struct Glance(Directory);

impl Glance {
    /// Of the hierarchy that the calling thread sees. It holds a descriptor.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::ErrorKind::Unsupported): cgroup v2 is not mounted.
    pub fn new() -> Result<Self> {
        Mounts::with(|mounts| Directory::below(mounts.unified()?, &[])).map(Self)
    }

    /// What a group is doing.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::open`](crate::Cgroup::open).
    pub fn state(&self, group: impl AsRef<Path>) -> Result<GroupState> {
        let State { populated, frozen } = State::parse(&self.read(group.as_ref(), "cgroup.events")?);
        Ok(GroupState { populated, frozen, removed: false })
    }

    /// The processes of a group itself, without those of groups below it, as the calling thread's pid namespace numbers them.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::open`](crate::Cgroup::open). Those of a threaded group only the group above it tells.
    pub fn pids(&self, group: impl AsRef<Path>) -> Result<Vec<u32>> {
        self.read(group.as_ref(), "cgroup.procs").map(|text| pids_of(&text))
    }

    fn read(&self, group: &Path, file: &str) -> Result<String> {
        let name = Name::parse(group.strip_prefix(self.0.path()).unwrap_or(group))?;
        self.0.read_below(&name.path(), file).map_err(|error: Error| error.about(subject(&name)))
    }
}
