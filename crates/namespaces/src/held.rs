//! A child that exists and waits.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::child::Child;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::spawn;

/// A child in its new namespaces and its cgroup that has not made a step yet. Dropping it kills it.
///
/// ```no_run
/// use isolate_namespaces::{Command, Namespace};
/// # fn main() -> isolate_namespaces::Result<()> {
/// let held = Command::new("/bin/ip").arg("address").unshare([Namespace::Net]).spawn_held()?;
/// let namespace = std::fs::File::open(format!("/proc/{}/ns/net", held.id()));
/// // … give it a network from outside …
/// let mut child = held.release()?;
/// child.wait()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropping it kills the child"]
pub struct Held {
    pub(crate) child: Child,
    pub(crate) report: Option<OwnedFd>,
    pub(crate) plan: Arc<Plan>,
}

impl Held {
    /// The child's number in the caller's pid namespace. It stays the child's as long as this value lives.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets the child go on. Returns when the program has been executed, or with the step that failed.
    pub fn release(mut self) -> Result<Child> {
        self.child.monitor().go().map_err(|e| Error::io("cannot let the child go on", &e))?;
        let began = spawn::executed(&self.plan, self.report, self.child.monitor())?;
        self.child.begin(&self.plan, began)?;
        Ok(self.child)
    }
}

/// The child's pidfd.
impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }
}
