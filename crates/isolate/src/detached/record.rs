//! What is written down of a detached container.
//!
//! ```text
//! /var/lib/isolate/detached/NAME/record   how to start it, and what it has on the disk, as JSON
//! /var/lib/isolate/detached/NAME/lock     held while it is made, started, renamed or removed
//! /var/lib/isolate/detached/NAME/keeper   of its keeper: state, events, log, socket
//! ```
//!
//! What a run of it has besides is in a record of its own, as that of every container, but by its id: `/run/isolate/containers/ID`. So the
//! name of the directory here is all that its name is, and it has another from one moment to the next.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use isolate_namespaces::KeptState;
use serde::{Deserialize, Serialize};

use crate::builder::ContainerBuilder;
use crate::error::{Error, ErrorKind, Result};
use crate::mount;
use crate::record::Record;
use crate::recorded::Recorded;
use crate::store;

/// The format of the file.
const VERSION: u32 = 1;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DetachedRecord {
    pub version: u32,
    /// That of its directory, whatever is written here.
    pub name: String,
    /// Twelve digits that no other container has.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// Nothing in it is left to an image.
    pub description: ContainerBuilder,
    /// Whether it is whole: else it is being made or removed.
    pub whole: bool,
    /// What its root is an image of,
    #[serde(default)]
    pub source: Option<String>,
    /// its digest,
    #[serde(default)]
    pub digest: Option<String>,
    /// and what keeps that one's layers in their store.
    #[serde(default)]
    pub image: Option<Recorded>,
    /// First of its range of ids. Nobody else gets that, whether it runs or not.
    #[serde(default)]
    pub base: Option<u32>,
    /// Where its root's upper layers are,
    #[serde(default)]
    pub scratch: Option<Recorded>,
    /// and the work directory next to one that stays.
    #[serde(default)]
    pub work: Option<Recorded>,
    /// The project whose quota bounds what it writes.
    #[serde(default)]
    pub project: Option<u32>,
    /// Volumes by name,
    #[serde(default)]
    pub volumes: Vec<String>,
    /// and the directories of those that go with it.
    #[serde(default)]
    pub anonymous: Vec<Recorded>,
    /// The addresses that it had, by network.
    #[serde(default)]
    pub addresses: BTreeMap<String, Vec<IpAddr>>,
    /// Whether its place on the disk was made, by a start.
    #[serde(default)]
    pub prepared: bool,
}

impl DetachedRecord {
    pub(crate) fn new(name: &str, id: String, description: ContainerBuilder) -> Self {
        Self {
            version: VERSION,
            name: name.to_owned(),
            id,
            created: std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
            description,
            whole: false,
            source: None,
            digest: None,
            image: None,
            base: None,
            scratch: None,
            work: None,
            project: None,
            volumes: Vec::new(),
            anonymous: Vec::new(),
            addresses: BTreeMap::new(),
            prepared: false,
        }
    }

    /// Written aside and renamed: a reader sees the old or the new.
    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        let (path, aside) = (directory.join("record"), directory.join("record.new"));
        let open = || OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside);
        let written = serde_json::to_vec_pretty(self)
            .map_err(Into::into)
            .and_then(|text| open()?.write_all(&text))
            .and_then(|()| fs::rename(&aside, &path));
        written.map_err(|e: io::Error| Error::io(path.display(), &e))
    }

    /// `None` if there is none yet, or no more.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join("record");
        let failed = |e: &io::Error| Error::io(path.display(), e);
        let text = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| failed(&e))?,
        };
        let mut record: Self = serde_json::from_slice(&text).map_err(|e| failed(&e.into()))?;
        if let Some(name) = directory.file_name().and_then(OsStr::to_str) {
            name.clone_into(&mut record.name);
        }
        match record.version {
            VERSION => Ok(Some(record)),
            other => {
                let what = format!("{}: version {other} of the record", path.display());
                Err(Error::new(ErrorKind::Unsupported, what))
            }
        }
    }
}

impl DetachedRecord {
    /// What its keeper has written down last. `None`: nothing yet.
    pub(crate) fn state(&self) -> Result<Option<KeptState>> {
        let path = directory(&self.name)?.join("keeper/state");
        match fs::read_to_string(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(path.display(), &e)),
            Ok(text) => Ok(Some(text.parse()?)),
        }
    }

    /// As of a container that is not there: what its next run will be.
    pub(crate) fn as_run(&self) -> Record {
        let description = &self.description;
        let mut run = Record::new(&self.id, format!("isolate-{}-{}", self.name, self.id));
        run.called = Some(self.name.clone());
        description.hostname.as_ref().unwrap_or(&self.name).clone_into(&mut run.hostname);
        run.source.clone_from(&self.source);
        run.digest.clone_from(&self.digest);
        run.mounts = mount::told(&description.mounts, &self.id);
        run.labels.clone_from(&description.labels);
        run.volumes.clone_from(&self.volumes);
        run.published = description.publish.iter().map(ToString::to_string).collect();
        run
    }
}

/// The directory of all.
pub(crate) fn home() -> Result<PathBuf> {
    Ok(store::data()?.join("detached"))
}

pub(crate) fn directory(name: &str) -> Result<PathBuf> {
    Ok(home()?.join(name))
}

pub(crate) fn find(name: &str) -> Result<Option<DetachedRecord>> {
    match home() {
        Ok(home) => Ok(DetachedRecord::read(&home.join(name))?.filter(|record| record.whole)),
        Err(_) => Ok(None),
    }
}

/// Those that are there as a whole. A user without a place for them has none.
pub(crate) fn records() -> Result<Vec<DetachedRecord>> {
    loop {
        let mut all = BTreeMap::new();
        let mut moved = false;
        for path in directories()? {
            match DetachedRecord::read(&path) {
                Ok(Some(record)) if record.whole => _ = all.insert(record.id.clone(), record),
                // Removed, or called otherwise by now, and perhaps missed so.
                Ok(None) => moved |= !path.exists(),
                _ => {}
            }
        }
        if !moved {
            return Ok(all.into_values().collect());
        }
    }
}

pub(crate) fn directories() -> Result<Vec<PathBuf>> {
    let Ok(home) = home() else { return Ok(Vec::new()) };
    match fs::read_dir(&home) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::io(home.display(), &e)),
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
    }
}

/// A directory for a new one, with its lock, which is held. The name is free if it is not there.
pub(crate) fn make(name: &str) -> Result<(PathBuf, File)> {
    let path = directory(name)?;
    path.parent().map_or(Ok(()), store::make_directory)?;
    DirBuilder::new().mode(0o700).create(&path).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => taken(),
        _ => Error::io(path.display(), &e),
    })?;
    let held = DirBuilder::new().mode(0o700).create(path.join("keeper"));
    let held = held.map_err(|e| Error::io(path.display(), &e)).and_then(|()| {
        store::try_lock(&path.join("lock"))?.ok_or_else(|| Error::new(ErrorKind::InUse, "somebody sweeps it"))
    });
    match held {
        Ok(lock) => Ok((path, lock)),
        Err(e) => {
            fs::remove_dir_all(&path).ok();
            Err(e)
        }
    }
}

pub(crate) fn taken() -> Error {
    Error::new(ErrorKind::AlreadyExists, "the name is in use")
        .with_hint("another container has it; choose another name or remove that container")
}
