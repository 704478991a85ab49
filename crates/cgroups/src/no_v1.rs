//! What stands for `v1.rs` without the feature `cgroup-v1`: no group there, so that a limit that only cgroup v1
//! could enforce is an error.

use std::os::fd::OwnedFd;

use crate::directory::Directory;
use crate::mountinfo::Mounts;
use crate::name::Name;
use crate::reader::What;
use crate::setting::Open;
use crate::{Controller, Limits, Result};

#[expect(clippy::unnecessary_wraps, reason = "the signature of v1/settings.rs")]
pub(crate) fn open_settings<'g>(
    _: &Limits,
    _: Controller,
    _: &'g Directory,
    _: bool,
) -> Result<Vec<Open<'g>>> {
    Ok(Vec::new())
}

#[derive(Debug)]
pub(crate) struct Groups;

#[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "the signatures of v1.rs")]
impl Groups {
    pub(crate) fn create(_: &Mounts, _: &Name) -> Result<Self> {
        Ok(Self)
    }

    pub(crate) fn open(_: &Mounts, _: &Name) -> Result<Self> {
        Ok(Self)
    }

    pub(crate) fn begin(&self, _: &Mounts, _: &Name, _: Controller) -> Result<Option<&Directory>> {
        Ok(None)
    }

    pub(crate) fn look(&self, _: &Name) {}

    pub(crate) fn find(&self, _: Controller) -> Option<&Directory> {
        None
    }

    pub(crate) fn directories(&self) -> impl Iterator<Item = &Directory> {
        std::iter::empty()
    }

    pub(crate) fn add(&self, _: u32) -> Result<()> {
        Ok(())
    }

    pub(crate) fn readings(&self) -> impl Iterator<Item = (What, &Directory, &'static str)> {
        std::iter::empty()
    }

    pub(crate) fn join_files(&self) -> Result<Vec<OwnedFd>> {
        Ok(Vec::new())
    }
}
