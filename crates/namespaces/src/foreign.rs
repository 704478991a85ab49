//! Copies of mounts that are in another mount namespace: the kernel makes them only for who is in it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Result;
use crate::mount::Traits;
use crate::outside::OWN_MOUNTS;
use crate::plan::{Arg, Section};
use crate::steps::{CLOEXEC, HERE, Source, Steps};

/// One of them, and where its copy is kept.
pub(crate) struct Foreign {
    pub namespace: Arc<OwnedFd>,
    pub source: PathBuf,
    pub traits: Traits,
    pub slot: u8,
}

impl Steps {
    /// By the launcher, after all that it looks up by a path of the caller's: who returns to a mount namespace is at its root.
    pub(crate) fn foreign_mounts(&mut self) -> Result<()> {
        if self.foreign.is_empty() {
            return Ok(());
        }
        let section = Section::Prepare;
        let kind = || Arg::Number(libc::CLONE_NEWNS as u64);
        let own = vec![Arg::Number(HERE), Arg::Text(c"/proc/self/ns/mnt".into()), Arg::Number(CLOEXEC)];
        self.call(section, "open the mount namespace of the caller", libc::SYS_openat, own).save =
            Some(OWN_MOUNTS);
        for Foreign { namespace, source, traits, slot } in std::mem::take(&mut self.foreign) {
            let shown = source.display().to_string();
            let enter = vec![Arg::Descriptor(namespace), kind()];
            self.call(section, format!("enter the mount namespace of {shown}"), libc::SYS_setns, enter);
            self.tree(section, &Source::Path(source), traits, slot, &shown, None)?;
        }
        let back = vec![Arg::Slot(OWN_MOUNTS), kind()];
        self.call(section, "return to the mount namespace of the caller", libc::SYS_setns, back);
        Ok(())
    }
}
