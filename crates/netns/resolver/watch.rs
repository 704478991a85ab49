//! The table in its file: the one that is there now, looked at before each query.

use crate::sys::{self, Mapping, Stat};
use crate::table::{ENDED, Table};

/// The directory's descriptor, for as long as the program runs.
pub(crate) const DIRECTORY: i32 = 3;
const NAME: &core::ffi::CStr = c"names";
/// Milliseconds that the directory may be without a table.
const GRACE: u64 = 1000;
/// Milliseconds between two looks: while the table is missing, while nothing else would tell of its end, and else.
const OFTEN: u64 = 100;
const WITHOUT_INOTIFY: u64 = 1000;
const WITH_INOTIFY: u64 = 10_000;
/// IN_MOVED_FROM, IN_MOVED_TO, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF, IN_ONLYDIR.
const EVENTS: usize = 0x40 | 0x80 | 0x200 | 0x400 | 0x800 | 0x0100_0000;

#[derive(Debug)]
pub(crate) struct Watch {
    known: Option<Stat>,
    mapping: Option<Mapping>,
    /// When the table was missed first; 0 if it is there.
    missed: u64,
    /// 0: there is none.
    inotify: i32,
}

impl Watch {
    pub(crate) const NEW: Self = Self { known: None, mapping: None, missed: 0, inotify: 0 };

    /// Wants the directory as the working directory. Without inotify, what changes is noticed later.
    pub(crate) fn listen(&mut self) {
        let inotify = sys::numbers(sys::nr::INOTIFY_INIT1, [0o2004000 /* IN_NONBLOCK, IN_CLOEXEC */, 0, 0]);
        if inotify > 0 && sys::watch(inotify as i32, c".", EVENTS) >= 0 {
            self.inotify = inotify as i32;
        }
    }

    /// What tells of changes, for poll(2); -1 for nothing.
    pub(crate) fn descriptor(&self) -> i32 {
        if self.inotify == 0 { -1 } else { self.inotify }
    }

    /// Forgets what was told, if something was: everything is looked at anyway.
    pub(crate) fn heard(&self, told: bool) {
        let mut events = [0u8; 1024];
        while told && sys::read(self.inotify, &mut events) > 0 {}
    }

    /// How many milliseconds the next look can wait.
    pub(crate) fn pause(&self) -> u64 {
        match (self.missed, self.inotify) {
            (0, 0) => WITHOUT_INOTIFY,
            (0, _) => WITH_INOTIFY,
            _ => OFTEN,
        }
    }

    /// The first table, or the errno why there is none.
    pub(crate) fn first(&mut self) -> Result<(), isize> {
        self.load()?;
        match &self.mapping {
            None => Err(sys::EBADMSG),
            Some(_) if self.table().has(ENDED) => Err(sys::ENOENT),
            Some(_) => Ok(()),
        }
    }

    /// Looks for a new table. False if the server shall end: the library said so, or table and directory are gone.
    pub(crate) fn look(&mut self, now: u64) -> bool {
        match sys::stat(DIRECTORY, NAME) {
            Ok(stat) => {
                self.missed = 0;
                if self.known != Some(stat) {
                    // What cannot be read now is tried again with the next query; until then the old one is good.
                    self.load().ok();
                }
                !self.table().has(ENDED)
            }
            Err(_) if sys::is_removed(DIRECTORY) => false,
            Err(_) if self.missed == 0 => {
                self.missed = now.max(1);
                true
            }
            Err(_) => now.saturating_sub(self.missed) <= GRACE,
        }
    }

    /// One that is broken changes nothing, and is not looked at again.
    fn load(&mut self) -> Result<(), isize> {
        let fd = sys::open(DIRECTORY, NAME);
        if fd < 0 {
            return Err(-fd);
        }
        let fd = fd as i32;
        let mapped = sys::stat(fd, c"").and_then(|stat| Ok((Mapping::of(fd, stat.size as usize)?, stat)));
        sys::close(fd);
        let (mapping, stat) = mapped?;
        self.known = Some(stat);
        if Table::new(mapping.bytes()).is_some() {
            self.mapping = Some(mapping);
        }
        Ok(())
    }

    /// The table; an empty one where there is none, which does not happen after [`first`](Self::first).
    pub(crate) fn table(&self) -> Table<'_> {
        self.mapping.as_ref().and_then(|mapping| Table::new(mapping.bytes())).unwrap_or(Table::EMPTY)
    }
}
