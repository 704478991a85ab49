//! A detached pod: what is done to it beside what is done to containers.

use isolate_cgroups::Cgroup;

use super::{Detached, not_running};
use crate::error::{Error, ErrorKind, Result};
use crate::pod::members;

impl Detached {
    /// Starts it, if it does not run: after what is to be done before.
    pub(crate) fn hold(&self, before: impl FnOnce() -> Result<()>) -> Result<()> {
        let _lock = self.lock()?;
        if !self.tidy()? {
            return Ok(());
        }
        before()?;
        self.start_locked(false).map(drop)
    }

    /// Ends what holds it together, and kills what is in its group still.
    pub(crate) fn end(&self) -> Result<()> {
        match self.stop_now(None) {
            // How it ended nobody asks.
            Err(e) if e.kind() != ErrorKind::Lost => Err(e),
            _ => Ok(()),
        }
    }

    /// The group of its containers.
    pub(crate) fn group_of_run(&self) -> Result<Cgroup> {
        match self.runs()? {
            true => self.group()?.ok_or_else(not_running),
            false => Err(not_running()),
        }
    }

    /// Removes it. What somebody owns of its containers goes by force alone.
    pub(crate) fn remove_holder(&self, by_force: bool) -> Result<()> {
        if by_force {
            let _lock = self.lock()?;
            self.end()?;
            let guard = self.store.lock()?;
            Error::all(members::take_back(&self.store, &guard, &self.name))?;
        } else {
            members::check_none(&self.store, &self.name)?;
        }
        self.remove_now(by_force)
    }

    /// No restart follows its end, of which its keeper will hear.
    pub(crate) fn give_up(&self) {
        // Where there is no keeper, nobody starts it again.
        self.kept().and_then(|kept| Ok(kept.stop_intended()?)).ok();
    }
}
