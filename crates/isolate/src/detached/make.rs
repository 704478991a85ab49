//! From a description to a record, and to its end.

use std::fs;
use std::path::{Path, PathBuf};

use super::record::{self, DetachedRecord};
use super::{Detached, taken};
use crate::attach::Attach;
use crate::builder::ContainerBuilder;
use crate::compile;
use crate::error::{Error, ErrorKind, Result};
use crate::ids;
use crate::name;
use crate::network::names;
use crate::pod::{self, members};
use crate::record::Record;
use crate::recorded::Recorded;
use crate::start;
use crate::store::{self, Guard, Store};
use crate::sweep as sweeps;
use crate::undo::remove_tree;

/// Everything that would be refused at a start, and can be seen now, is refused.
pub(crate) fn create(builder: &ContainerBuilder, name: &str) -> Result<Detached> {
    name::check(name)?;
    builder.check_detached()?;
    let privileged = start::is_privileged()?;
    #[cfg(feature = "images")]
    let source = builder.rootfs.source().map(|(source, _)| source.to_owned());
    #[cfg(feature = "images")]
    let described = crate::image::bring(builder)?;
    #[cfg(feature = "images")]
    let builder = &*described.builder;
    let store = Store::open()?;
    let id = name::random();
    let seen = pod::seen(builder)?;
    // Others whose namespaces it shares need not run yet.
    let shared = seen.with_processes(Some(std::process::id()))?;
    let compiled = compile::compile(&shared, name, &id, &store.container(&id), privileged, true)?;
    let layout = &compiled.layout;
    let mut record = DetachedRecord::new(name, id, builder.clone());
    record.scratch = layout.directory.clone().map(Into::into);
    record.work = layout.work.clone().map(Into::into);
    record.volumes = compiled.volumes.iter().map(|volume| volume.name.clone()).collect();
    for volume in compiled.volumes.iter().filter(|volume| volume.anonymous) {
        record.anonymous.push(volume.directory()?.into());
    }

    let guard = store.lock()?;
    sweeps::first(&store, &guard);
    builder.pod.as_deref().map_or(Ok(()), check_pod)?;
    if store.container(name).exists() {
        // What is left of one whose owner was killed.
        sweeps::all(&store, &guard)?;
    }
    if store.container(name).exists() {
        return Err(taken());
    }
    let (directory, _lock) = record::make(name)?;
    let made = (|| {
        record.write(&directory)?;
        #[cfg(feature = "images")]
        {
            record.source = source;
            record.digest = described.kept.as_ref().map(crate::image::Kept::digest);
            record.image =
                described.kept.as_ref().map(|kept| kept.lease(&directory)).transpose()?.map(Into::into);
        }
        record.project = layout.quota.as_ref().map(|quota| start::project(&store, quota)).transpose()?;
        if compiled.decision.is_mapped() && compiled.joined.is_none() {
            record.base = Some(ids::take(&store, &guard, name, layout.range)?.base);
        }
        record.whole = true;
        record.write(&directory)?;
        Detached::of(&record)
    })();
    if made.is_err() {
        take_back(&store, &guard, &directory, Some(&record)).ok();
    }
    made
}

impl Detached {
    pub(super) fn remove_now(&self, by_force: bool) -> Result<()> {
        let _lock = self.lock()?;
        while !self.tidy()? {
            if !by_force {
                return Err(Error::new(ErrorKind::InUse, "it runs")
                    .with_hint("stop it before, or remove it by force"));
            }
            // How it ended nobody asks.
            match self.stop_now(None) {
                Err(e) if e.kind() != ErrorKind::Lost => return Err(e),
                _ => {}
            }
        }
        let mut record = self.record()?;
        let guard = self.store.lock()?;
        if record.is_pod() {
            // Nobody makes one meanwhile.
            members::check_none(&self.store, &self.name)?;
        }
        record.whole = false;
        // On a disk that is full it goes all the same; should this be killed then, somebody has to remove it once more.
        record.write(&self.directory).ok();
        take_back(&self.store, &guard, &self.directory, Some(&record))
    }

    pub(super) fn rename_now(&self, name: &str) -> Result<Self> {
        name::check(name)?;
        let _lock = self.lock()?;
        let mut record = self.record()?;
        let guard = self.store.lock()?;
        let directory = record::directory(name)?;
        if directory.exists() || self.store.container(name).exists() {
            return Err(taken());
        }
        // Its host name stays.
        record.description.hostname.get_or_insert_with(|| self.name.clone());
        record.description.name = Some(name.to_owned());
        record.write(&self.directory)?;
        // Of what is killed before its end, one of the two leases leads to a directory that is there.
        #[cfg(feature = "images")]
        let leased = crate::image::lease_again(&mut record, &directory)?;
        // From here on it has the other name. What else is called so follows, or is made to by the next sweep.
        fs::rename(&self.directory, &directory).map_err(|e| Error::io(directory.display(), &e))?;
        name.clone_into(&mut record.name);
        record.write(&directory)?;
        #[cfg(feature = "images")]
        leased.map_or(Ok(()), |(_hold, old)| remove_tree(&old))?;
        record.follow(&self.store, &guard)?;
        Self::of(&record)
    }
}

/// A pod that lasts as well.
fn check_pod(name: &str) -> Result<()> {
    match record::find(name)?.is_some_and(|pod| pod.is_pod()) {
        true => Ok(()),
        false => {
            let what =
                format!("a detached container, and pod `{name}` is somebody's own, with which it would go");
            Err(Error::new(ErrorKind::InvalidConfig, what).with_hint("make the pod by PodBuilder::create"))
        }
    }
}

impl DetachedRecord {
    /// What others know it by, where that is not its name any more or was lost with the machine's end: the holder of its ids, its run.
    fn follow(&self, store: &Store, guard: &Guard) -> Result<()> {
        if let Some(base) = self.base {
            ids::keep(store, guard, &self.name, base)?;
        }
        let state = store.container(&self.id);
        let run = Record::read(&state).map_err(|e| Error::io(state.display(), &e))?;
        let Some(mut run) = run.filter(|run| run.called() != self.name) else { return Ok(()) };
        run.called = Some(self.name.clone());
        names::rename(store, guard, &run)?;
        run.write(&state)
    }
}

/// What was begun and not finished by who was killed, and what was to be removed at its end.
pub(crate) fn sweep(store: &Store, guard: &Guard) -> Result<()> {
    let mut errors = Vec::new();
    for directory in record::directories()? {
        // Somebody is at work there.
        let Ok(Some(_lock)) = store::try_lock(&directory.join("lock")) else { continue };
        let Ok(record) = DetachedRecord::read(&directory) else { continue };
        let goes = match &record {
            Some(record) if record.whole => record.is_over(store),
            _ => true,
        };
        if goes {
            errors.extend(take_back(store, guard, &directory, record.as_ref()).err());
        } else if let Some(record) = &record {
            errors.extend(record.follow(store, guard).err());
        }
    }
    Error::all(errors)
}

impl DetachedRecord {
    /// It was to be removed at its end, and has ended.
    fn is_over(&self, store: &Store) -> bool {
        self.description.remove_at_end
            && self.state().is_ok_and(|state| state.is_some())
            && store.is_gone(&self.id)
    }

    /// The same attachment at the address that it had, if another is not asked for.
    pub(crate) fn same_place(&self, attach: &Attach) -> Option<Attach> {
        let addresses = self.addresses.get(attach.network())?;
        attach.addresses.is_empty().then(|| Attach { addresses: addresses.clone(), ..attach.clone() })
    }
}

/// Everything that it has on the disk; the record last.
fn take_back(store: &Store, guard: &Guard, directory: &Path, record: Option<&DetachedRecord>) -> Result<()> {
    let mut errors = Vec::new();
    if let Some(record) = record {
        let own = record.scratch.iter().chain(&record.work).chain(&record.image).chain(&record.anonymous);
        let own: Vec<&Recorded> = own.collect();
        errors.extend(sweeps::own(own, record.project));
        errors.extend(record.base.and_then(|base| ids::release(store, guard, base).err()));
    }
    Error::all(errors)?;
    remove_tree(&PathBuf::from(directory))
}
