//! From a start to its end, and what is left of a run.

use std::fs::File;
use std::time::{Duration, Instant};

use isolate_cgroups::{Cgroup, Limits};
use isolate_namespaces::{Attachment, Keeper, KeptStatus, Restart, Signal, Stdio};

use super::{Detached, DetachedRecord, lost, outcome};
use crate::container::{Container, no_group};
use crate::error::{Error, ErrorKind, Result};
use crate::outcome::Outcome;
use crate::start::{self, Begun};
use crate::sweep;

/// Of a log: bytes a file, and files.
const LOG: (u64, u32) = (10 << 20, 3);
/// How long after its end a keeper's lock may take to be free.
const MOMENT: Duration = Duration::from_secs(5);

impl Detached {
    /// None for one that runs already, and for who does not want to be attached.
    pub(super) fn start_now(&self, attached: bool) -> Result<Option<Attachment>> {
        let _lock = self.lock()?;
        self.start_locked(attached)
    }

    /// The lock is held.
    pub(super) fn start_locked(&self, attached: bool) -> Result<Option<Attachment>> {
        if !self.tidy()? {
            return Ok(None);
        }
        let mut record = self.record()?;
        let mut description = record.described();
        if description.terminal.is_none() {
            let stdin = if description.open_stdin { Stdio::piped() } else { Stdio::null() };
            description.stdio = [Some(stdin), Some(Stdio::piped()), Some(Stdio::piped())];
        }
        let mut begun = start::begin(&description, &self.name, Some(&record))?;
        let places = begun.container.undo().read_record()?.places;
        let addresses = places.into_iter().map(|place| (place.network, place.addresses)).collect();
        // What it had none of when it was made stays its own, too.
        let base = begun.container.undo().ids.as_ref().map(|range| range.base).or(record.base);
        if !record.prepared || record.addresses != addresses || record.base != base {
            (record.prepared, record.addresses, record.base) = (true, addresses, base);
            record.write(&self.directory)?;
            begun.container.undo_mut().ids = None;
        }
        self.hand_over(begun, &record, attached)
    }

    /// Gives it to its keeper.
    fn hand_over(&self, begun: Begun, record: &DetachedRecord, attached: bool) -> Result<Option<Attachment>> {
        let Begun { mut container, again } = begun;
        let description = &record.description;
        let path = self.keeper_directory();
        let directory = File::open(&path).map_err(|e| Error::io(path.display(), &e))?;
        let (bytes, files) = description.log.unwrap_or(LOG);
        let mut keeper =
            Keeper::new(directory).name(&self.name).log(bytes, files).restart(description.restart);
        if let Some(again) = &again {
            keeper = keeper.replay(again);
        }
        if let Some(entry) = &container.undo().entry {
            keeper = keeper.hold(entry.share_lock()?);
        }
        if let Some(check) = description.health.as_ref().filter(|check| !check.is_none()) {
            let [program, args @ ..] = check.command.as_slice() else { return Ok(None) };
            let mut exec = container.exec(program);
            let plan = exec.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            keeper = keeper.health(check.of_keeper(&plan.command()?.plan()?));
        }
        if let Some(file) = container.cgroup().map_or(Ok(None), Cgroup::oom_kills_file)? {
            keeper = keeper.memory_events(file);
        }
        if let Some(group) = &container.undo().keeper {
            keeper = keeper.cgroup(group.try_clone_fd()?).cgroup_files(group.join_files()?);
        }
        hand_over(&mut container, &keeper, attached)
    }

    /// By a signal and with some time, or at once.
    pub(super) fn stop_now(&self, grace: Option<Duration>) -> Result<Option<Outcome>> {
        self.record()?;
        if !self.is_started() {
            return Ok(None);
        }
        let kept = self.kept()?;
        let mut state = kept.stop_intended()?;
        if let Some(grace) = grace
            && !matches!(state.status, KeptStatus::Exited | KeptStatus::Lost)
        {
            let signal = self.record()?.description.stop_signal.unwrap_or(Signal::TERM);
            kept.signal(signal)?;
            state = kept.wait_timeout(grace)?.unwrap_or(state);
        }
        if !matches!(state.status, KeptStatus::Exited | KeptStatus::Lost) {
            // Also what is frozen, or has no pid namespace that would end with its first process.
            if let Some(group) = self.group()? {
                group.kill()?;
            }
            kept.signal(Signal::KILL)?;
            state = kept.wait()?;
        }
        // It has ended: what of its run cannot be taken back now, the next sweep takes.
        self.tidy().ok();
        match state.status {
            KeptStatus::Lost => Err(lost()),
            _ => outcome(&state).map(Some),
        }
    }

    /// Limits of its group, now if it runs, and for the starts that follow.
    pub(crate) fn limit_group(
        &self,
        limits: &Limits,
        apply: impl FnOnce(&Cgroup) -> Result<()>,
    ) -> Result<()> {
        let _lock = self.lock()?;
        let mut record = self.record()?;
        if self.runs()? {
            match self.group().and_then(|group| apply(&group.ok_or_else(no_group)?)) {
                Err(e) if self.runs()? => return Err(e),
                // Else it has ended meanwhile.
                _ => {}
            }
        }
        record.description.limits = record.description.limits.clone().and(limits);
        record.write(&self.directory)
    }

    pub(super) fn update_restart_now(&self, policy: Restart) -> Result<()> {
        let _lock = self.lock()?;
        let mut record = self.record()?;
        record.description.restart = policy;
        record.write(&self.directory)?;
        match self.runs()? {
            // It may have ended meanwhile.
            true => self.kept()?.set_restart(policy).map(drop).or_else(|e| match self.runs()? {
                true => Err(e.into()),
                false => Ok(()),
            }),
            false => Ok(()),
        }
    }

    /// Whether it runs, or waits to be started again: its keeper holds the lock on its run.
    pub(super) fn runs(&self) -> Result<bool> {
        if !self.store.is_owned(&self.id) {
            return Ok(false);
        }
        // One that has ended lets go in a moment; so does one whose start was not finished, by who was killed.
        Ok(self.is_started()
            && !matches!(self.kept()?.state()?.status, KeptStatus::Exited | KeptStatus::Lost))
    }

    /// Takes back what is left of its last run; `false` if it runs. A keeper may have been starting when who started it was killed: then it
    /// comes to run, or ends, in a moment.
    pub(super) fn tidy(&self) -> Result<bool> {
        let begun = Instant::now();
        while self.store.is_owned(&self.id) {
            if self.runs()? {
                return Ok(false);
            }
            if begun.elapsed() > MOMENT {
                return Err(Error::new(
                    ErrorKind::InUse,
                    "its last run has not ended, and does not run either",
                ));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let guard = self.store.lock()?;
        let swept = sweep::of(&self.store, &guard, &self.id)?;
        if swept {
            // Its keeper and its monitor, if they were this process's children.
            isolate_namespaces::reap_orphans();
        }
        Ok(true)
    }

    pub(super) fn group(&self) -> Result<Option<Cgroup>> {
        let state = self.store.container(&self.id);
        let record = crate::record::Record::read(&state).map_err(|e| Error::io(state.display(), &e))?;
        match record.map(|record| Cgroup::open(&record.cgroup)) {
            None => Ok(None),
            Some(Err(e)) if e.kind() == isolate_cgroups::ErrorKind::NotFound => Ok(None),
            Some(group) => Ok(Some(group?)),
        }
    }
}

/// On an error it is still the caller's, and ends with it.
fn hand_over(container: &mut Container, keeper: &Keeper, attached: bool) -> Result<Option<Attachment>> {
    // Its pipes and its terminal were taken out of the child.
    let (stdin, stdout, stderr) = (container.stdin.take(), container.stdout.take(), container.stderr.take());
    let terminal = container.terminal.take();
    let undo = container.undo_mut();
    let Some(mut child) = undo.child.take() else {
        return Err(Error::new(ErrorKind::Lost, "its first process is gone"));
    };
    (child.stdin, child.stdout, child.stderr, child.terminal) = (stdin, stdout, stderr, terminal);
    let attachment = match attached {
        true => Some(child.hand_over_attached(keeper)?),
        false => child.hand_over(keeper).map(|()| None)?,
    };
    undo.let_go();
    Ok(attachment)
}
