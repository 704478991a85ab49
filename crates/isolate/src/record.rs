//! What there is to undo of a container, in a file: written before anything is made, read by whoever sweeps.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use isolate_cgroups::Limits;
use isolate_namespaces::{Namespace, Signal};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::mount::MountInfo;
use crate::mount_points::Made;
use crate::network::PlaceRecord;
use crate::recorded::Recorded;

/// The format of the file.
const VERSION: u32 = 2;

/// A container's record. Process numbers are for a reader only: whether it lives is told by the lock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub version: u32,
    /// That of its directory, and of whoever has its addresses and ids.
    pub name: String,
    /// What it is called, where that is another: a detached one's directory has its id, so that its name can change.
    #[serde(default)]
    pub called: Option<String>,
    pub owner: u32,
    /// The pid namespace that its keeper counts processes in.
    #[serde(default)]
    pub counted: Option<u64>,
    #[serde(default)]
    pub hostname: String,
    /// Seconds since 1970.
    #[serde(default)]
    pub created: u64,
    /// For a reader only, as it was described: its program and arguments,
    #[serde(default, with = "crate::recorded")]
    pub command: Vec<OsString>,
    /// what its root is an image of,
    #[serde(default)]
    pub source: Option<String>,
    /// that image's digest,
    #[serde(default)]
    pub digest: Option<String>,
    /// its mounts,
    #[serde(default)]
    pub mounts: Vec<MountInfo>,
    /// its labels,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// and its limits.
    #[serde(default)]
    pub limits: Limits,
    /// The pod that it is a container of.
    #[serde(default)]
    pub pod: Option<String>,
    /// Whether it is a pod itself.
    #[serde(default)]
    pub is_pod: bool,
    /// What the containers of a pod share, or what one has of its pod.
    #[serde(default)]
    pub shares: Vec<Namespace>,
    /// Whether the network of a pod is the host's.
    #[serde(default)]
    pub on_host: bool,
    /// First of its range of ids, of a pod that has one: root of its containers.
    #[serde(default)]
    pub base: Option<u32>,
    /// What asks its command to end, if that is not SIGTERM.
    #[serde(default)]
    pub stop_signal: Option<Signal>,
    /// Name of the control group,
    pub cgroup: String,
    /// and of its keeper's, of a detached one.
    #[serde(default)]
    pub keeper: Option<String>,
    /// Directory for the root's upper layers.
    pub scratch: Option<Recorded>,
    /// An upper layer's work directory, next to a layer that stays.
    pub work: Option<Recorded>,
    /// The project whose quota bounds what it writes.
    #[serde(default)]
    pub project: Option<u32>,
    /// What keeps its image's layers in their store.
    #[serde(default)]
    pub image: Option<Recorded>,
    /// Volumes by name, so that nobody removes them,
    #[serde(default)]
    pub volumes: Vec<String>,
    /// and the directories of those that go with the container.
    #[serde(default)]
    pub anonymous: Vec<Recorded>,
    /// Mount points that were made in a root that stays.
    #[serde(default)]
    pub made: Option<Made>,
    /// Its places on networks.
    pub places: Vec<PlaceRecord>,
    /// Published ports, as Docker writes them.
    #[serde(default)]
    pub published: Vec<String>,
    /// and those whose claim on the host's port somebody holds until its end, of a detached one.
    #[serde(default)]
    pub claimed: Vec<String>,
}

impl Record {
    pub(crate) fn new(name: &str, cgroup: String) -> Self {
        Self {
            version: VERSION,
            name: name.to_owned(),
            called: None,
            owner: std::process::id(),
            counted: None,
            hostname: name.to_owned(),
            created: std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
            command: Vec::new(),
            source: None,
            digest: None,
            mounts: Vec::new(),
            labels: BTreeMap::new(),
            limits: Limits::new(),
            pod: None,
            is_pod: false,
            shares: Vec::new(),
            on_host: false,
            base: None,
            stop_signal: None,
            cgroup,
            keeper: None,
            scratch: None,
            work: None,
            project: None,
            image: None,
            volumes: Vec::new(),
            anonymous: Vec::new(),
            made: None,
            places: Vec::new(),
            published: Vec::new(),
            claimed: Vec::new(),
        }
    }

    /// What users know it by.
    pub(crate) fn called(&self) -> &str {
        self.called.as_deref().unwrap_or(&self.name)
    }

    /// Twelve digits that no other container has, as the end of its group's name.
    pub(crate) fn id(&self) -> &str {
        self.cgroup.rsplit('-').next().unwrap_or_default()
    }

    /// Written aside and renamed: a reader sees the old or the new.
    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        let (path, aside) = (directory.join("record"), directory.join("record.new"));
        let written = text(self, &Self::new("", String::new()))
            .and_then(|text| private(&aside)?.write_all(&text))
            .and_then(|()| fs::rename(&aside, &path));
        written.map_err(|e| Error::io(path.display(), &e))
    }

    /// The record in a container's directory; `None` if there is none yet. One that is damaged, or of another version of this
    /// crate, is an error: what it says cannot be taken back by this one.
    pub(crate) fn read(directory: &Path) -> io::Result<Option<Self>> {
        let text = match read(&directory.join("record")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let record: Self = serde_json::from_slice(&text)?;
        if record.version == VERSION {
            return Ok(Some(record));
        }
        Err(io::Error::new(io::ErrorKind::Unsupported, format!("version {} of the record", record.version)))
    }
}

/// A record as JSON, without what is null in it as in a blank one: half of all there is to read. So what is null in a blank one of this
/// version is in those of later ones.
pub(crate) fn text<T: Serialize>(record: &T, blank: &T) -> io::Result<Vec<u8>> {
    fn strip(value: &mut Value, blank: &Value) {
        let (Value::Object(values), Value::Object(blank)) = (value, blank) else { return };
        values.retain(|name, value| {
            let blank = blank.get(name);
            blank.into_iter().for_each(|blank| strip(value, blank));
            !(value.is_null() && blank.is_some_and(Value::is_null))
        });
    }
    let mut value = serde_json::to_value(record)?;
    strip(&mut value, &serde_json::to_value(blank)?);
    Ok(serde_json::to_vec(&value)?)
}

/// This process's pid namespace, if the kernel tells: what numbers mean depends on it.
pub(crate) fn counted_here() -> Option<u64> {
    fs::metadata("/proc/self/ns/pid").ok().map(|namespace| namespace.ino())
}

/// A file that nobody writes to once it is there; one that is short by one call.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let mut short = [0; 4096];
    let got = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut short))?;
    let mut text = short[..got].to_vec();
    // A regular file gives what it has.
    if got == short.len() {
        file.read_to_end(&mut text)?;
    }
    Ok(text)
}

/// A file for its owner only, whatever the umask is.
fn private(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_another_version_is_not() {
        let directory = std::env::temp_dir().join(format!("record-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let mut record = Record::new("tomcat5", "isolate-tomcat5".into());
        let odd = std::os::unix::ffi::OsStringExt::from_vec(b"/a\xff\nb".to_vec());
        record.scratch = Some(std::path::PathBuf::from("/var").into());
        record.work = Some(std::path::PathBuf::from(OsString::clone(&odd)).into());
        record.write(&directory).unwrap();
        assert_eq!(Record::read(&directory).unwrap(), Some(record.clone()));
        record.version += 1;
        record.write(&directory).unwrap();
        assert_eq!(Record::read(&directory).unwrap_err().kind(), io::ErrorKind::Unsupported);
        fs::write(directory.join("record"), "{").unwrap();
        Record::read(&directory).unwrap_err();
        fs::remove_file(directory.join("record")).unwrap();
        assert_eq!(Record::read(&directory).unwrap(), None);
        fs::remove_dir_all(&directory).unwrap();
    }
}
