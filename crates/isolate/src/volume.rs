//! Volumes: directories by name that outlive containers.
//!
//! ```text
//! /var/lib/isolate/volumes/NAME/data      what containers see
//! /var/lib/isolate/volumes/NAME/lock      held while it is filled
//! /var/lib/isolate/volumes/NAME/filling   a first use's copy, until it is whole
//! ```

mod fill;

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use fill::prepare;

use crate::detached;
use crate::error::{Error, ErrorKind, Result};
use crate::name;
use crate::store::{self, Store};
use crate::undo::remove_tree;

/// A directory by name, for containers to share and to outlive them.
///
/// It need not be made before: a [`Mount::volume`](crate::Mount::volume) does. The first container that has it at a place where its root
/// has something finds that in it.
///
/// Root's lie in `/var/lib/isolate/volumes`, another user's in `$XDG_DATA_HOME/isolate/volumes` or the same below `~/.local/share`.
///
/// ```no_run
/// use isolate::{Container, Mount, Volume};
/// # fn main() -> isolate::Result<()> {
/// let data = Volume::create("pgdata")?;
/// let db = Container::builder().mount(Mount::volume(data.name(), "/var/lib/postgresql")).command(["postgres"]).start()?;
/// println!("{}", data.path().display()); // live in both directions
/// db.remove()?;
/// data.remove()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    name: String,
    directory: PathBuf,
}

/// A container's use of one.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    pub name: String,
    pub target: PathBuf,
    /// Filled on its first use.
    pub copy: bool,
    /// It goes with the container.
    pub anonymous: bool,
}

impl Volume {
    /// Makes it, empty. One that is there already is that one.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) for a name that is none: letters, digits, `_`, `.` and `-`.
    pub fn create(name: impl AsRef<str>) -> Result<Self> {
        let volume = Self::at(name.as_ref())?;
        fill::make(&volume.directory)?;
        Ok(volume)
    }

    /// The one of this name.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if there is none.
    pub fn open(name: impl AsRef<str>) -> Result<Self> {
        let volume = Self::at(name.as_ref())?;
        if volume.path().is_dir() {
            return Ok(volume);
        }
        Err(Error::new(ErrorKind::NotFound, format!("volume `{}`: there is none", volume.name)))
    }

    /// All of this user, sorted by name; those that go with their containers, too.
    pub fn list() -> Result<Vec<Self>> {
        let all = root()?;
        let entries = match fs::read_dir(&all) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|e| Error::io(all.display(), &e))?,
        };
        let mut volumes: Vec<Self> =
            entries.flatten().filter_map(|entry| Self::open(entry.file_name().to_str()?).ok()).collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory that containers see. Files in it have the owners that they have inside, unless an ordinary user's containers have
    /// a range of ids.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Removes it with everything in it.
    ///
    /// # Errors
    ///
    /// [`InUse`](ErrorKind::InUse) for one that a container has, by whose name.
    pub fn remove(self) -> Result<()> {
        let store = Store::open()?;
        let aside = self.directory.with_file_name(format!("{}.removed-{}", self.name, name::random()));
        {
            // A start says that it uses one under this lock.
            let guard = store.lock()?;
            crate::sweep::all(&store, &guard)?;
            if let Some(user) = user_of(&store, &self.name)? {
                let what = format!("volume `{}`: container `{user}` has it", self.name);
                return Err(Error::new(ErrorKind::InUse, what));
            }
            fs::rename(&self.directory, &aside)
                .map_err(|e| Error::io(format!("volume `{}`", self.name), &e))?;
        }
        remove_tree(&aside)
    }

    fn at(name: &str) -> Result<Self> {
        name::check(name).map_err(|e| e.of("volume"))?;
        Ok(Self { name: name.to_owned(), directory: root()?.join(name) })
    }
}

impl Use {
    /// A volume by name, or, without one, the n-th of the container of this id.
    pub(crate) fn new(name: Option<&str>, target: &Path, copy: bool, id: &str, n: usize) -> Result<Self> {
        let anonymous = name.is_none();
        let name = match name {
            Some(name) => name::check(name).map(|()| name.to_owned()).map_err(|e| e.of("volume"))?,
            None => format!("{id}-{n}"),
        };
        Ok(Self { name, target: target.to_owned(), copy, anonymous })
    }

    /// What is its own on the disk.
    pub(crate) fn directory(&self) -> Result<PathBuf> {
        Ok(root()?.join(&self.name))
    }

    /// What is mounted.
    pub(crate) fn data(&self) -> Result<PathBuf> {
        Ok(self.directory()?.join("data"))
    }
}

/// The container that has it, or will have it when it is started again.
fn user_of(store: &Store, volume: &str) -> Result<Option<String>> {
    let has = |volumes: &[String]| volumes.iter().any(|other| other == volume);
    let running = store.records().into_iter().find(|record| has(&record.volumes));
    let running = running.map(|record| record.called().to_owned());
    let written = detached::records()?.into_iter().find(|record| has(&record.volumes));
    Ok(running.or(written.map(|record| record.name)))
}

/// Where this user's are.
pub(crate) fn root() -> Result<PathBuf> {
    Ok(store::data()?.join("volumes"))
}

/// The directory of them all, made if missing, for its owner only.
fn make_root(directory: &Path) -> Result<()> {
    directory.parent().map_or(Ok(()), store::make_directory)
}
