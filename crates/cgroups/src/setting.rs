//! One value of one file: written, read back, and put back where a later one is refused.

use std::borrow::Cow;

use rustix::io::Errno;

use crate::directory::Directory;
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
        before.push(self.before(group)?);
        group.write(&self.file, &self.value)?;
        verify(group, &self.file, &self.value, self.held)
    }

    fn before(&self, group: &Directory) -> Result<Before> {
        let file = match self.held {
            Held::Derived(file) => Cow::Borrowed(file),
            _ => self.file.clone(),
        };
        let Some(text) = group.read_optional(&file)? else {
            let path = group.path().join(&*file);
            let error = Error::new(
                ErrorKind::Unsupported,
                format!("cannot write {} to {}: the kernel has no such file", self.value, path.display()),
            );
            return Err(error.with_hint(self.wants));
        };
        let value = match self.held {
            Held::Line(none) => {
                let key = first_word(&self.value);
                let line = text.lines().find(|line| first_word(line) == key);
                line.map_or_else(|| format!("{key} {none}"), str::to_owned)
            }
            _ => text.trim().to_owned(),
        };
        Ok(Before { file, value })
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

pub(crate) fn verify(group: &Directory, file: &str, asked: &str, held: Held) -> Result<()> {
    let read = match group.read(file) {
        // Some files can only be written to while there is nothing to say.
        Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => return Ok(()),
        read => read?,
    };
    if holds(&read, asked, held, rustix::param::page_size() as u64) {
        return Ok(());
    }
    let path = group.path().join(file);
    Err(Error::new(
        ErrorKind::NotApplied,
        format!("wrote {asked} to {}, which now holds {}", path.display(), read.trim()),
    ))
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
