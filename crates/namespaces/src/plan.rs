//! What the launcher will do, as data that can be printed and run again.

use std::borrow::Cow;
use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::wire;

/// The steps of a start, in order. Made by [`Command::plan`](crate::Command::plan); printing it shows each step in words.
///
/// ```
/// use isolate_namespaces::{Command, Namespace};
/// # fn main() -> isolate_namespaces::Result<()> {
/// let plan = Command::new("/bin/true").unshare([Namespace::Uts]).hostname("box").plan()?;
/// assert!(plan.steps().any(|step| step == "set the host name box"));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) clone_flags: u64,
    pub(crate) cgroup: Option<Arc<OwnedFd>>,
    /// The launcher's own, in place of the caller's.
    pub(crate) monitor_cgroup: Option<Arc<OwnedFd>>,
    pub(crate) kept: Vec<Arc<OwnedFd>>,
    pub(crate) stdio: [crate::stdio::Kind; 3],
    /// Whether the first process stays as the init of the program's.
    pub(crate) init: bool,
    /// Whether nobody executes a program.
    pub(crate) idle: bool,
    pub(crate) timeout: Option<Duration>,
    /// Whether the child sends a terminal.
    pub(crate) terminal: bool,
    /// Whether the child must stay readable for its owner until the maps of a new user namespace are written.
    pub(crate) readable: bool,
    /// Arguments of newuidmap(1) and newgidmap(1) after the process number, where those write the maps.
    pub(crate) helpers: Option<[Vec<String>; 2]>,
    /// Whether the child's clocks are others than the caller's.
    pub(crate) foreign_clocks: bool,
    /// The words of the clone step.
    pub(crate) clone_words: Words,
    /// The program, for the error when it is not there.
    pub(crate) program: std::ffi::OsString,
}

/// Who makes a step, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Section {
    /// The launcher, before the clone, in the caller's namespaces.
    Prepare,
    /// The launcher, between the clone and the go byte.
    Maps,
    /// The child, in its own namespaces.
    Child,
    /// The process that executes the program: the child, or one that the child has cloned.
    Main,
}

#[derive(Clone)]
pub(crate) struct Step {
    pub section: Section,
    pub words: Words,
    pub call: u32,
    pub args: Vec<Arg>,
    pub save: Option<u8>,
    pub retries: u8,
    pub ignore: [u16; 4],
}

/// What a step does. Most are never read: what must be put together is, once somebody wants to read it.
#[derive(Clone)]
pub(crate) enum Words {
    Fixed(&'static str),
    Ready(String),
    Later(Arc<dyn Fn() -> String + Send + Sync>),
}

impl Words {
    pub(crate) fn later(words: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self::Later(Arc::new(words))
    }

    fn read(&self) -> Cow<'_, str> {
        match self {
            Self::Fixed(words) => Cow::Borrowed(words),
            Self::Ready(words) => Cow::Borrowed(words),
            Self::Later(words) => Cow::Owned(words()),
        }
    }
}

impl From<&'static str> for Words {
    fn from(words: &'static str) -> Self {
        Self::Fixed(words)
    }
}

impl From<String> for Words {
    fn from(words: String) -> Self {
        Self::Ready(words)
    }
}

/// An argument before the layout is known.
#[derive(Clone)]
pub(crate) enum Arg {
    Number(u64),
    /// NUL-terminated.
    Text(CString),
    /// A structure.
    Bytes(Vec<u8>),
    /// Pointers to strings, ended by a null pointer.
    Table(Vec<CString>),
    /// The result of an earlier step.
    Slot(u8),
    /// A descriptor that the plan keeps open.
    Descriptor(Arc<OwnedFd>),
    /// The child's end of standard descriptor n, opened for each start.
    Standard(usize),
}

impl Plan {
    /// The steps in words, first to last; those that the launcher makes come before the clone.
    pub fn steps(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let at = self.steps.iter().position(|s| s.section > Section::Prepare).unwrap_or(self.steps.len());
        let (before, after) = self.steps.split_at(at);
        let words = before.iter().map(|step| &step.words).chain([&self.clone_words]);
        words.chain(after.iter().map(|step| &step.words)).map(Words::read)
    }

    /// How many of [`steps`](Self::steps) come before the child goes on: those of the launcher, and the clone itself.
    #[must_use]
    pub fn before_child(&self) -> usize {
        1 + self.steps.iter().filter(|step| step.section < Section::Child).count()
    }

    /// What the report's step number means.
    pub(crate) fn words(&self, step: u32) -> Cow<'_, str> {
        match step {
            wire::BEFORE => "read the plan".into(),
            wire::CLONE => self.clone_words.read(),
            wire::LAUNCH => "execute the launcher".into(),
            wire::INIT => "clone the program's process below its init".into(),
            wire::CLOSING => "close what the init of the program's process need not have".into(),
            n => self.steps.get(n as usize).map_or("make a step".into(), |step| step.words.read()),
        }
    }

    /// Every descriptor that the launcher must inherit for the steps.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = i32> {
        self.open().map(|fd| fd.as_raw_fd())
    }

    /// What the plan keeps open.
    pub(crate) fn open(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let of_steps = self.steps.iter().flat_map(|s| &s.args).filter_map(|arg| match arg {
            Arg::Descriptor(fd) => Some(fd.as_fd()),
            _ => None,
        });
        let others = self.cgroup.iter().chain(&self.kept).map(|fd| fd.as_fd());
        of_steps.chain(others)
    }
}

/// One line a step.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.steps().enumerate() {
            writeln!(f, "{:>3}. {step}", n + 1)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
