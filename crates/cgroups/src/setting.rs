//! One value of one file: written, read back, and put back where a later one is refused.

use std::borrow::Cow;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, retry_on_intr, write};

use crate::directory::{Directory, text};
use crate::{Bytes, Controller, Error, ErrorKind, Result, swap};

/// A value for a file of a group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setting {
    pub(crate) controller: Controller,
    pub(crate) file: Cow<'static, str>,
    pub(crate) value: String,
    pub(crate) held: Held,
    pub(crate) absent: Absent,
    /// What to do where the kernel refuses a value with this.
    pub(crate) refused: Option<(Errno, &'static str)>,
}

/// What it means that the kernel has not got the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Absent {
    /// An error, and this gives it.
    Wants(&'static str),
    /// Swap is not counted: for a limit that somebody asked for an error where the machine swaps.
    Swap(Option<Bytes>),
}

/// What the kernel must say it holds, after a write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Held {
    /// What was written.
    Exactly,
    /// That, or less by less than a page of this size. 0: a page of the machine.
    Bytes(Bytes, u64),
    /// A line that begins with the first word of what was written, and has all the others. Where it has none yet, the others are
    /// this.
    Line(&'static str),
    /// Another file says what it was before: the kernel derives one from the other.
    Derived(&'static str),
}

/// A setting whose file is open, and has said what it holds: that it is missing is known before anything is written.
#[derive(Debug)]
pub(crate) struct Open<'g> {
    group: &'g Directory,
    fd: OwnedFd,
    setting: Setting,
    /// The whole text of the file, or of the one that it is derived from.
    before: String,
}

impl Setting {
    /// `None` where there is nothing to do. What a `new` group holds need not be read.
    pub(crate) fn open(self, group: &Directory, new: bool) -> Result<Option<Open<'_>>> {
        let fd = match group.open_both(&self.file) {
            Ok(fd) => fd,
            Err(Errno::NOENT) if group.is_gone() => {
                return Err(Error::os(self.cannot_write(group), Errno::NODEV));
            }
            Err(Errno::NOENT | Errno::OPNOTSUPP) => {
                return match self.absent {
                    Absent::Swap(asked) => swap::without_accounting(asked, &self.file).map(|()| None),
                    Absent::Wants(hint) => {
                        let what = format!("{}: the kernel has no such file", self.cannot_write(group));
                        Err(Error::new(ErrorKind::Unsupported, what).with_hint(hint))
                    }
                };
            }
            Err(errno) => return Err(Error::os(self.cannot_write(group), errno)),
        };
        let before = match (self.held, in_a_new_group(&self.file).filter(|_| new)) {
            (Held::Derived(file), _) => group.read(file)?,
            (_, Some(known)) => known.to_owned(),
            _ => read(&fd, group, &self.file)?,
        };
        Ok(Some(Open { group, fd, setting: self, before }))
    }

    fn cannot_write(&self, group: &Directory) -> String {
        format!("cannot write {} to {}", self.value, group.path().join(&*self.file).display())
    }
}

impl Open<'_> {
    pub(crate) fn controller(&self) -> Controller {
        self.setting.controller
    }

    /// What the file held when it was opened.
    pub(crate) fn before(&self) -> &str {
        self.before.trim()
    }

    /// Writes it and reads it back: a limit that the kernel made weaker is an error.
    pub(crate) fn carry_out(&self) -> Result<()> {
        let Setting { file, value, held, refused, .. } = &self.setting;
        retry_on_intr(|| write(&self.fd, value.as_bytes())).map_err(|errno| {
            let error = Error::os(self.setting.cannot_write(self.group), errno);
            match refused {
                Some((wanted, hint)) if *wanted == errno => error.with_hint(*hint),
                _ => error,
            }
        })?;
        let now = read(&self.fd, self.group, file)?;
        if holds(&now, value, *held, rustix::param::page_size() as u64) {
            return Ok(());
        }
        let path = self.group.path().join(&**file);
        let what = format!("wrote {value} to {}, which now holds {}", path.display(), now.trim());
        Err(Error::new(ErrorKind::NotApplied, what))
    }

    /// Writes what was held before.
    pub(crate) fn put_back(&self) -> Result<()> {
        let Setting { file, value, held, .. } = &self.setting;
        let (file, before) = match held {
            Held::Line(none) => {
                let key = first_word(value);
                let line = self.before.lines().find(|line| first_word(line) == key);
                (&**file, line.map_or_else(|| format!("{key} {none}"), str::to_owned))
            }
            Held::Derived(from) => (*from, self.before().to_owned()),
            _ => (&**file, self.before().to_owned()),
        };
        // An empty set is written as a line without anything.
        self.group.write(file, if before.is_empty() { "\n" } else { &before })
    }
}

/// What the most usual files hold in a group that was just made, on cgroup v2 and v1.
pub(crate) fn in_a_new_group(file: &str) -> Option<&'static str> {
    Some(match file {
        "memory.max" | "memory.swap.max" | "pids.max" => "max",
        "cpu.max" => "max 100000",
        "cpu.weight" => "100",
        "memory.limit_in_bytes" | "memory.memsw.limit_in_bytes" | "cpu.cfs_quota_us" => "-1",
        "cpu.cfs_period_us" => "100000",
        "cpu.shares" => "1024",
        _ => return None,
    })
}

fn read(fd: &OwnedFd, group: &Directory, file: &str) -> Result<String> {
    text(fd).map_err(|errno| Error::os(format!("cannot read {}", group.path().join(file).display()), errno))
}

fn first_word(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

fn holds(read: &str, asked: &str, held: Held, machines: u64) -> bool {
    match held {
        Held::Exactly | Held::Derived(_) => read.trim() == asked,
        Held::Bytes(Bytes::UNLIMITED, _) => read.trim() == "max",
        Held::Bytes(asked, page) => {
            let page = if page == 0 { machines } else { page };
            read.trim().parse::<u64>().is_ok_and(|read| read <= asked.get() && asked.get() - read < page)
        }
        Held::Line(none) => {
            let mut words = asked.split(' ');
            let key = words.next();
            let line = read.lines().find(|line| Some(first_word(line)) == key);
            match line {
                Some(line) => words.all(|word| line.split(' ').any(|held| held == word)),
                // The kernel does not print what is not limited.
                None => words.eq(none.split(' ')),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use testkit::{Need, kernel_test};

    use super::*;
    use crate::Cgroup;

    #[test]
    fn a_size_may_lose_part_of_a_page_and_gain_nothing() {
        let holds = |read: &str, asked: u64| holds(read, "", Held::Bytes(Bytes::new(asked), 0), 4096);
        assert!(holds("8192", 8192));
        assert!(holds("8192", 12287));
        assert!(!holds("8192", 12288), "a whole page less is another limit");
        assert!(!holds("8192", 8191), "more than was asked for");
        assert!(!holds("max", 8192));
        assert!(!holds("-1", 8192));
        assert!(!holds("", 8192));
    }

    #[test]
    fn a_new_group_holds_what_it_is_known_to_hold() {
        kernel_test(&[Need::Root], || {
            let group = Cgroup::create(format!("isolate-test-new-{}", std::process::id())).unwrap();
            for controller in [Controller::Memory, Controller::Cpu, Controller::Pids] {
                // Without the feature `cgroup-v1` a hybrid machine has none.
                let _ = group.enable(&[controller]);
            }
            let mut known = 0;
            for path in group.paths() {
                for entry in std::fs::read_dir(path).unwrap().flatten() {
                    let Some(expected) = entry.file_name().to_str().and_then(in_a_new_group) else {
                        continue;
                    };
                    let text = std::fs::read_to_string(entry.path()).unwrap();
                    let none = text.trim().parse().is_ok_and(|limit: u64| limit >= crate::reader::UNLIMITED);
                    assert!(text.trim() == expected || (expected == "-1" && none), "{entry:?}: {text}");
                    known += 1;
                }
            }
            assert!(known >= 4 || cfg!(not(feature = "cgroup-v1")), "{known}");
            group.remove().unwrap();
        });
    }

    proptest! {
        #[test]
        fn no_more_than_what_was_asked_for_is_held(asked: u64, read: u64, huge: bool) {
            let page = if huge { 2 << 20 } else { 4096 };
            let held = Held::Bytes(Bytes::new(asked), if huge { page } else { 0 });
            let is = holds(&read.to_string(), &asked.to_string(), held, 4096);
            prop_assert_eq!(is, asked != u64::MAX && read <= asked && asked - read < page);
            // What the kernel makes of it, at each edge of a page.
            for asked in [asked / page * page, asked | (page - 1), (asked / page * page).saturating_add(1)] {
                if asked < u64::MAX {
                    let held = Held::Bytes(Bytes::new(asked), if huge { page } else { 0 });
                    prop_assert!(holds(&(asked / page * page).to_string(), "", held, 4096));
                }
            }
        }
    }

    #[test]
    fn other_values_are_held_as_written() {
        assert!(holds("50000 100000", "50000 100000", Held::Exactly, 4096));
        assert!(!holds("max 100000", "50000 100000", Held::Exactly, 4096));
    }

    #[test]
    fn no_limit_is_held_as_the_kernels_word() {
        let held = Held::Bytes(Bytes::UNLIMITED, 0);
        assert!(holds("max\n", "max", held, 4096));
        assert!(!holds("8192\n", "max", held, 4096));
        let huge = Held::Bytes(Bytes::mib(3), 2 << 20);
        assert!(holds("2097152", "3145728", huge, 4096), "whole pages of its own size");
    }

    #[test]
    fn a_line_is_held_whatever_stands_beside_it() {
        let held = |read: &str, asked: &str| holds(read, asked, Held::Line("rbps=max wbps=max"), 4096);
        assert!(held("8:0 rbps=1 wbps=max\n8:16 rbps=max wbps=5\n", "8:16 rbps=max wbps=5"));
        assert!(!held("8:0 rbps=1 wbps=max\n8:160 rbps=max wbps=5\n", "8:16 rbps=max wbps=5"));
        assert!(!held("8:16 rbps=max wbps=50\n", "8:16 rbps=max wbps=5"));
        assert!(held("", "8:16 rbps=max wbps=max"));
        assert!(!held("", "8:16 rbps=max wbps=5"));
    }
}
