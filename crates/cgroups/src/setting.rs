//! One value of one file: written, read back, and put back where a later one is refused.

use std::borrow::Cow;

use rustix::io::{Errno, retry_on_intr, write};

use crate::directory::{Directory, text};
use crate::{Bytes, Controller, Error, ErrorKind, Result};

/// A value for a file of a group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setting {
    pub(crate) controller: Controller,
    pub(crate) file: Cow<'static, str>,
    pub(crate) value: String,
    pub(crate) held: Held,
    /// What gives the file, where the kernel has not got it.
    pub(crate) wants: &'static str,
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

/// What a file held before a setting.
#[derive(Debug)]
pub(crate) struct Before {
    file: Cow<'static, str>,
    value: String,
}

impl Setting {
    /// Writes it and reads it back: a limit that the kernel made weaker is an error. What the file held before is in `before` as soon
    /// as it may be another.
    pub(crate) fn carry_out(&self, group: &Directory, before: &mut Vec<Before>) -> Result<()> {
        let path = || group.path().join(&*self.file).display().to_string();
        let refused = |errno| Error::os(format!("cannot write {} to {}", self.value, path()), errno);
        let fd = match group.open_both(&self.file) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::OPNOTSUPP) => {
                let what = format!("cannot write {} to {}: the kernel has no such file", self.value, path());
                return Err(Error::new(ErrorKind::Unsupported, what).with_hint(self.wants));
            }
            Err(errno) => return Err(refused(errno)),
        };
        let read = || text(&fd).map_err(|errno| Error::os(format!("cannot read {}", path()), errno));
        before.push(match self.held {
            Held::Derived(file) => self.before(file.into(), &group.read(file)?),
            _ => self.before(self.file.clone(), &read()?),
        });
        retry_on_intr(|| write(&fd, self.value.as_bytes())).map_err(refused)?;
        self.held.check(&read()?, &self.value, path)
    }

    fn before(&self, file: Cow<'static, str>, text: &str) -> Before {
        let value = match self.held {
            Held::Line(none) => {
                let key = first_word(&self.value);
                let line = text.lines().find(|line| first_word(line) == key);
                line.map_or_else(|| format!("{key} {none}"), str::to_owned)
            }
            _ => text.trim().to_owned(),
        };
        Before { file, value }
    }
}

impl Before {
    pub(crate) fn put_back(&self, group: &Directory) -> Result<()> {
        // An empty set is written as a line without anything.
        let value = if self.value.is_empty() { "\n" } else { &self.value };
        group.write(&self.file, value)
    }
}

fn first_word(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

impl Held {
    fn check(self, read: &str, asked: &str, path: impl Fn() -> String) -> Result<()> {
        if holds(read, asked, self, rustix::param::page_size() as u64) {
            return Ok(());
        }
        let what = format!("wrote {asked} to {}, which now holds {}", path(), read.trim());
        Err(Error::new(ErrorKind::NotApplied, what))
    }
}

#[cfg_attr(not(feature = "cgroup-v1"), expect(dead_code, reason = "cgroup v1 only"))]
pub(crate) fn verify(group: &Directory, file: &str, asked: &str, held: Held) -> Result<()> {
    held.check(&group.read(file)?, asked, || group.path().join(file).display().to_string())
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
    use super::*;

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
