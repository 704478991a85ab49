//! What there is to undo of a container, in a file: written before anything is made, read by whoever sweeps.

use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The format of the file.
const VERSION: u32 = 1;

/// A container's record. Process numbers are for a reader only: whether it lives is told by the lock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub version: u32,
    pub name: String,
    pub owner: u32,
    /// Name of the control group.
    pub cgroup: String,
    /// Directory for the root's upper layers.
    pub scratch: Option<PathBuf>,
    /// An upper layer's work directory, next to a layer that stays.
    pub work: Option<PathBuf>,
    pub network: Option<Network>,
    /// Published ports, as Docker writes them.
    #[serde(default)]
    pub published: Vec<String>,
}

/// A place on a bridge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Network {
    pub bridge: String,
    pub address: IpAddr,
}

impl Record {
    pub(crate) fn new(name: &str, cgroup: String) -> Self {
        Self {
            version: VERSION,
            name: name.to_owned(),
            owner: std::process::id(),
            cgroup,
            scratch: None,
            work: None,
            network: None,
            published: Vec::new(),
        }
    }

    /// Written aside and renamed: a reader sees the old or the new.
    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        let (path, aside) = (directory.join("record"), directory.join("record.new"));
        let written = serde_json::to_vec_pretty(self)
            .map_err(Into::into)
            .and_then(|text| private(&aside)?.write_all(&text))
            .and_then(|()| fs::rename(&aside, &path));
        written.map_err(|e| Error::io(path.display(), &e))
    }

    /// The record in a container's directory; `None` if there is none yet. One that is damaged, or of another version of this
    /// crate, is an error: what it says cannot be taken back by this one.
    pub(crate) fn read(directory: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read(directory.join("record")) {
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
        record.network = Some(Network { bridge: "isolate0".into(), address: [10, 0, 0, 2].into() });
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
