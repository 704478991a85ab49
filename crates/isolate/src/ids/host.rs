//! What of the ids the host's own files give to somebody.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;

use super::subids::entries;
use super::{COUNT, END, FIRST};
use crate::error::{Error, Result};
use crate::user::layers::read_bounded;
use crate::user::passwd::{accounts, groups};

/// The files, for a message.
pub(crate) const FILES: &str = "/etc/subuid, /etc/subgid, /etc/passwd or /etc/group";
const PATHS: [&str; 4] = ["/etc/subuid", "/etc/subgid", "/etc/passwd", "/etc/group"];
/// A machine with a hundred thousand users has less.
const BIGGEST: u64 = 16 << 20;

/// Ids that somebody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reserved {
    pub start: u32,
    pub last: u32,
    pub file: &'static str,
}

impl Reserved {
    /// Whether any of the 65,536 ids from `base` on is among them.
    pub(crate) fn overlaps(&self, base: u32) -> bool {
        self.start <= base + (COUNT - 1) && base <= self.last
    }
}

/// What tells that a file is another one, or has other contents.
type Stamp = Option<[i64; 6]>;
/// The files as they were, and what was in them.
type Known = ([Stamp; 4], Arc<[Reserved]>);

/// What there is among the ids that containers get. The files are read again when one has changed.
pub(crate) fn reserved() -> Result<Arc<[Reserved]>> {
    static LAST: Mutex<Option<Known>> = Mutex::new(None);
    let mut stamps = [None; 4];
    for (stamp, path) in stamps.iter_mut().zip(PATHS) {
        *stamp = stamped(Path::new(path))?;
    }
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((known, reserved)) = &*last
        && *known == stamps
    {
        return Ok(Arc::clone(reserved));
    }
    let mut all = Vec::new();
    for path in PATHS {
        let named = |e: Error| e.of(path);
        all.extend(parse(path, &read(Path::new(path)).map_err(named)?));
    }
    let reserved: Arc<[Reserved]> = all.into();
    // Stamped before they were read: a change in between is seen the next time.
    *last = Some((stamps, Arc::clone(&reserved)));
    Ok(reserved)
}

/// `None` where there is no such file.
fn stamped(path: &Path) -> Result<Stamp> {
    match fs::metadata(path) {
        Ok(m) => Ok(Some([
            m.dev().cast_signed(),
            m.ino().cast_signed(),
            m.size().cast_signed(),
            m.mtime(),
            m.mtime_nsec(),
            m.ctime().wrapping_mul(1_000_000_000).wrapping_add(m.ctime_nsec()),
        ])),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(path.display(), &e)),
    }
}

/// Empty where there is no such file. Links are followed: the host is trusted.
fn read(path: &Path) -> Result<Vec<u8>> {
    match OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path) {
        Ok(file) => read_bounded(file, BIGGEST),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::io("open", &e)),
    }
}

fn parse(file: &'static str, text: &[u8]) -> Vec<Reserved> {
    let one = |id: u32| Reserved { start: id, last: id, file };
    let mut all: Vec<_> = match file {
        "/etc/passwd" => accounts(text).flat_map(|account| [one(account.uid), one(account.gid)]).collect(),
        "/etc/group" => groups(text).map(|group| one(group.gid)).collect(),
        _ => entries(text)
            .map(|entry| Reserved { start: entry.start, last: entry.start + (entry.count - 1), file })
            .collect(),
    };
    all.retain(|reserved| reserved.start < END && reserved.last >= FIRST);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_the_files_give_to_somebody_are_reserved_and_no_others() {
        let spans = |file, text: &[u8]| -> Vec<_> {
            parse(file, text).iter().map(|reserved| (reserved.start, reserved.last)).collect()
        };
        let subuid = b"a:100000:65536\nb:1879048191:1\nb:1879048191:2\nc:1:4294967290\nd:2147352576:9\n";
        assert_eq!(spans("/etc/subuid", subuid), [(FIRST - 1, FIRST), (1, 4_294_967_290)]);
        let passwd = b"a:x:1000:1879048200:::\nb:x:1879048201:5:::\n";
        assert_eq!(spans("/etc/passwd", passwd), [(FIRST + 8, FIRST + 8), (FIRST + 9, FIRST + 9)]);
        assert_eq!(spans("/etc/group", b"g:x:1879048202:\nh:x:7:\n"), [(FIRST + 10, FIRST + 10)]);
    }

    #[test]
    fn a_range_overlaps_by_one_id_at_either_end() {
        let one = |id| Reserved { start: id, last: id, file: "/etc/passwd" };
        let base = FIRST + COUNT;
        assert!(one(base).overlaps(base) && one(base + COUNT - 1).overlaps(base));
        assert!(!one(base - 1).overlaps(base) && !one(base + COUNT).overlaps(base));
    }

    #[test]
    fn a_stamp_differs_once_a_file_is_replaced_and_none_is_none() {
        let path = std::env::temp_dir().join(format!("stamp-{}", std::process::id()));
        assert_eq!(stamped(&path).unwrap(), None);
        fs::write(&path, "a").unwrap();
        let first = stamped(&path).unwrap();
        assert_eq!(first, stamped(&path).unwrap());
        fs::write(path.with_extension("new"), "b").unwrap();
        fs::rename(path.with_extension("new"), &path).unwrap();
        assert_ne!(first, stamped(&path).unwrap());
        fs::remove_file(&path).unwrap();
        assert!(read(&path).unwrap().is_empty());
    }
}
