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

use isolate_namespaces::{KeptState, Namespace};
use serde::{Deserialize, Serialize};

use crate::attach::Mode;
use crate::builder::ContainerBuilder;
use crate::error::{Error, ErrorKind, Result};
use crate::mount;
use crate::parallel;
use crate::record::{self, Record};
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
    /// What its containers share, of a pod.
    #[serde(default)]
    pub shares: Option<Vec<Namespace>>,
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
            shares: description.holds.clone(),
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
        let blank = Self::new("", String::new(), ContainerBuilder::new());
        let written = record::text(self, &blank)
            .and_then(|text| open()?.write_all(&text))
            .and_then(|()| fs::rename(&aside, &path));
        written.map_err(|e: io::Error| Error::io(path.display(), &e))
    }

    /// `None` if there is none yet, or no more.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join("record");
        let failed = |e: &io::Error| Error::io(path.display(), e);
        let text = match record::read(&path) {
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
        match record::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(path.display(), &e)),
            Ok(text) => Ok(Some(String::from_utf8_lossy(&text).parse()?)),
        }
    }

    pub(crate) fn is_pod(&self) -> bool {
        self.shares.is_some()
    }

    /// How it is started.
    pub(crate) fn described(&self) -> ContainerBuilder {
        ContainerBuilder { holds: self.shares.clone(), ..self.description.clone() }
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
        run.pod.clone_from(&description.pod);
        run.is_pod = self.is_pod();
        run.on_host = self.is_pod() && description.attaches().iter().any(|attach| attach.mode == Mode::Host);
        run.shares.clone_from(self.shares.as_ref().unwrap_or(&Vec::new()));
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
        let read = parallel::map(directories()?, |path| match DetachedRecord::read(&path) {
            // Removed, or called otherwise by now, and perhaps missed so.
            Ok(None) if !path.exists() => Err(()),
            read => Ok(read.ok().flatten()),
        });
        let moved = read.iter().any(std::result::Result::is_err);
        let whole = read.into_iter().flatten().flatten().filter(|record| record.whole);
        let all: BTreeMap<_, _> = whole.map(|record| (record.id.clone(), record)).collect();
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

#[cfg(test)]
mod tests {
    use isolate_cgroups::{Bytes, Limits};

    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_what_is_not_said_is_not_written() {
        let directory = std::env::temp_dir().join(format!("detached-record-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let name = directory.file_name().unwrap().to_str().unwrap();
        let written = |builder: ContainerBuilder| {
            let record = DetachedRecord::new(name, "0123456789ab".into(), builder);
            record.write(&directory).unwrap();
            let read = DetachedRecord::read(&directory).unwrap().unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), serde_json::to_value(record).unwrap());
            fs::read_to_string(directory.join("record")).unwrap()
        };
        let plain = written(ContainerBuilder::new().label("stage", "null"));
        assert!(plain.contains("\"stage\":\"null\"") && !plain.contains("memory"), "{plain}");
        // What is null, and is not so unless it is said, stays.
        let open = ContainerBuilder::new().seccomp_unconfined().hostname("h");
        let said = written(open.limits(Limits::new().memory(Bytes::mib(8)).cpus(0.5)));
        assert!(said.contains("\"seccomp\":null") && said.contains("\"memory\":8388608"), "{said}");
        fs::remove_dir_all(&directory).unwrap();
    }
}
