//! A detached container as one that was started: for all that is done in it or with its files.

use std::fs::File;
use std::io::{Read, Write};
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::path::Path;

use isolate_cgroups::{Cgroup, ErrorKind as GroupErrorKind};
use isolate_overlay::Change;

use super::{Detached, DetachedRecord, not_running};
use crate::compile;
use crate::container::Container;
use crate::error::{Error, Result};
use crate::record::Record;
use crate::start;
use crate::undo::Undo;

/// Dropping it lets go of everything.
#[derive(Debug)]
pub(crate) struct View(Container);

impl Deref for View {
    type Target = Container;

    fn deref(&self) -> &Container {
        &self.0
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.0.undo_mut().let_go();
    }
}

impl Detached {
    /// While it runs.
    pub(super) fn running(&self) -> Result<View> {
        let view = self.record().and_then(|record| self.view(&record, true));
        self.said(view)
    }

    /// Whether it runs or not: for its files.
    pub(crate) fn files(&self) -> Result<View> {
        let view = self.record().and_then(|record| self.view(&record, false));
        self.said(view)
    }

    pub(super) fn view(&self, record: &DetachedRecord, must_run: bool) -> Result<View> {
        let seen = if self.is_started() { self.process()? } else { None };
        if must_run && seen.is_none() {
            return Err(not_running());
        }
        let state = self.store.container(&self.id);
        let privileged = start::is_privileged()?;
        let run = Record::read(&state).map_err(|e| Error::io(state.display(), &e))?;
        let run = run.unwrap_or_else(|| Record::new(&self.id, String::new()));
        let description = &record.description;
        // What it shares with another it is in itself.
        let process = seen.as_ref().map_or_else(std::process::id, |(pid, _)| *pid);
        let description = &*description.with_processes(Some(process))?;
        let compiled = compile::compile(description, &self.name, &record.id, &state, privileged, true)?;
        let root = record.base.map(|base| [base, base]).filter(|_| compiled.decision.is_mapped());
        let root = root.or(compiled.joined);
        let hostname = description.hostname.as_deref().unwrap_or(&self.name);
        let inside = compiled.inside(description, hostname, root, Vec::new());
        let addresses = run.places.iter().flat_map(|place| place.addresses.clone()).collect();
        let published = run.published.iter().filter_map(|text| text.parse().ok()).collect();
        let cgroup = match Cgroup::open(&run.cgroup) {
            _ if run.cgroup.is_empty() => None,
            Err(e) if e.kind() == GroupErrorKind::NotFound => None,
            other => Some(other?),
        };
        let mut undo = Undo::new(self.store.clone(), run, None);
        (undo.seen, undo.cgroup) = (seen, cgroup);
        Ok(View(Container::new(&self.name, addresses, published, inside, undo)))
    }

    /// Its first process: number and pidfd.
    fn process(&self) -> Result<Option<(u32, OwnedFd)>> {
        let kept = self.kept()?;
        let (Some((program, _)), Some(pid)) = (kept.pidfds()?, kept.state()?.pid) else { return Ok(None) };
        // In this process's pid namespace, which need not be that of who has started it.
        Ok(number_of(&program).or(Some(pid)).map(|pid| (pid, program)))
    }

    /// Copies a file or a directory of the host into it, while it runs, as [`Container::copy_in`].
    ///
    /// # Errors
    /// As there.
    pub fn copy_in(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        self.running()?.copy_in(from, to)
    }

    /// Copies a file or a directory of it to the host, as [`Container::copy_out`].
    ///
    /// # Errors
    /// As there.
    pub fn copy_out(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        self.files()?.copy_out(from, to)
    }

    /// Opens a file of it to be read, as [`Container::open_file`].
    ///
    /// # Errors
    /// As there.
    pub fn open_file(&self, path: impl AsRef<Path>) -> Result<File> {
        self.files()?.open_file(path)
    }

    /// Writes a file in it, while it runs, as [`Container::write_file`].
    ///
    /// # Errors
    /// As there.
    pub fn write_file(&self, path: impl AsRef<Path>, contents: impl Read, mode: u32) -> Result<()> {
        self.running()?.write_file(path, contents, mode)
    }

    /// What it has added, changed and deleted of its root's layers, over all its runs, as [`Container::changes`].
    ///
    /// # Errors
    /// As there.
    pub fn changes(&self) -> Result<Vec<Change>> {
        self.files()?.changes()
    }

    /// The same as a layer of an image, as [`Container::diff`].
    ///
    /// # Errors
    /// As there.
    pub fn diff(&self, writer: impl Write) -> Result<()> {
        self.files()?.diff(writer)
    }

    /// Writes its whole root as a tar archive, as [`Container::export`].
    ///
    /// # Errors
    /// As there.
    pub fn export(&self, writer: impl Write) -> Result<()> {
        self.files()?.export(writer)
    }
}

/// The number of a pidfd's process (proc_pid_fdinfo(5)); none where it has ended.
fn number_of(pidfd: &OwnedFd) -> Option<u32> {
    let path = format!("/proc/thread-self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(pidfd));
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
}
