//! A program that goes on beyond its owner: what its keeper, a process of its own, shall do for it.

mod attachment;
mod check;
mod hand_over;
mod kept;
mod restart;
mod socket;
mod state;
mod state_words;
mod waiter;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::keeper_config::{LEAST_LOG, MOST_FILES};
use crate::plan::Plan;
use crate::{Error, Result};

pub use attachment::{Attachment, Output};
pub use check::HealthCheck;
pub use kept::Kept;
pub use restart::Restart;
pub use state::{Health, KeptEnd, KeptState, KeptStatus};
pub use waiter::Waiter;

/// What is to be done for a program that a [`Child`](crate::Child) is [handed over](crate::Child::hand_over) for: the
/// description of a keeper.
///
/// The keeper is a process of some 30 KiB that has the caller's place at the program's monitor. It reads the program's
/// output, so that the program is never held up; keeps a [`log`](Self::log); records how the program ends; starts it
/// [again](Self::restart); [checks its health](Self::health); and answers other processes ([`Kept`]). It is in a session of
/// its own, has every signal blocked, and cannot be looked into. **When the keeper dies, the program is killed,** as it is
/// when the owner of a [`Child`](crate::Child) dies.
///
/// In its directory it has, all readable and writable for the owner alone:
///
/// | file | what it holds |
/// |---|---|
/// | `state` | what [`KeptState`] is read from: a line `key value` each, replaced as a whole |
/// | `events` | a line `TIME KIND DETAIL` each: kept, started, health, oom, died, restarting, exited; beyond 64 KiB it becomes `events.1` |
/// | `log`, `log.1`, … | the output, see [`log`](Self::log) |
/// | `socket` | where [`Kept`] asks; it goes with the keeper |
///
/// A directory that is full or cannot be written to any more stops nothing: what has no room is dropped, and
/// [counted](KeptState::dropped). What is written is in the file system when others are told of it; it is not forced to
/// the disk (fsync(2)).
///
/// ```no_run
/// use isolate_namespaces::{Command, Keeper, Kept, Restart, Stdio};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let directory = std::fs::File::open("/run/mine/web")?;
/// let plan = Command::new("/bin/httpd").stdout(Stdio::piped()).stderr(Stdio::piped()).plan()?;
/// let keeper = Keeper::new(directory.try_clone()?)
///     .name("web")
///     .log(10 << 20, 3)
///     .restart(Restart::OnFailure { most: Some(5) })
///     .replay(&plan);
/// plan.spawn()?.hand_over(&keeper)?;
/// // From here on any process of this user can ask.
/// let end = Kept::new(directory).wait()?;
/// println!("{:?} after {} restarts", end.end, end.restarts);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "it does nothing until a child is handed over"]
pub struct Keeper {
    directory: Arc<OwnedFd>,
    name: OsString,
    log: Option<(u64, u32)>,
    restart: Restart,
    replay: Option<Plan>,
    check: Option<HealthCheck>,
    memory: Option<(Arc<OwnedFd>, u64)>,
    cgroup: Option<Arc<OwnedFd>>,
    cgroup_files: Vec<Arc<OwnedFd>>,
    held: Vec<Arc<OwnedFd>>,
}

impl Keeper {
    /// One that writes its files into this directory, which it is given by a descriptor: wherever the directory is moved,
    /// they are in it. No other keeper may be at work there.
    pub fn new(directory: impl Into<OwnedFd>) -> Self {
        Self {
            directory: Arc::new(directory.into()),
            name: OsString::new(),
            log: None,
            restart: Restart::Never,
            replay: None,
            check: None,
            memory: None,
            cgroup: None,
            cgroup_files: Vec::new(),
            held: Vec::new(),
        }
    }

    /// What ps(1) shows after `isolate-keeper`.
    pub fn name(mut self, name: impl AsRef<OsStr>) -> Self {
        name.as_ref().clone_into(&mut self.name);
        self
    }

    /// What the program writes to its standard output and error, or to its terminal, goes to the file `log`, in the format
    /// that Kubernetes has for containers: `2016-10-06T00:17:09.669794202Z stdout F text`, a line each, with the time (UTC)
    /// at which it was read. The bytes are the program's. A line of more than 3,072 bytes is in pieces, of which all but
    /// the last have `P` in place of `F`; so has one that the program has not ended.
    ///
    /// A file that would get larger than `bytes` is renamed to `log.1`, that to `log.2`, and so on, up to `files` in all;
    /// what was in the last one is gone. At least 16 KiB and 1 file, at most 100 files.
    ///
    /// Default: none; the output is read and thrown away.
    pub fn log(mut self, bytes: u64, files: u32) -> Self {
        self.log = Some((bytes, files));
        self
    }

    /// When it is started again, which wants a plan to [`replay`](Self::replay). Default: never.
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// The plan that is carried out for a restart; mostly that of the first start. Its descriptors are kept open.
    ///
    /// - Standard descriptors that are [pipes](crate::Stdio::piped) in the plan are the same pipes as those of the child
    ///   that is handed over, and `/dev/null` where that has none. Those that are inherited are `/dev/null`.
    /// - Without a [`root`](crate::Command::root) or a [`current_dir`](crate::Command::current_dir) it starts in `/`.
    /// - A plan whose id maps newuidmap(1) writes cannot be carried out by a keeper: handing over is an error. Below Linux
    ///   6.15 neither can one that mounts a detached mount, as the kernel cannot copy it: its restarts fail.
    /// - What was done to a [held](crate::Held) child from outside is not done again.
    pub fn replay(mut self, plan: &Plan) -> Self {
        self.replay = Some(plan.clone());
        self
    }

    /// How it is found out whether the program does what it should.
    pub fn health(mut self, check: HealthCheck) -> Self {
        self.check = Some(check);
        self
    }

    /// The open `memory.events` of its control group (cgroup v2), or `memory.oom_control` (v1): at the end of a run it says how
    /// many processes were killed for memory ([`KeptState::oom_kills`]). Counted are those after this call.
    pub fn memory_events(mut self, file: impl Into<OwnedFd>) -> Self {
        let file = file.into();
        let before = oom_kills(file.as_fd()).unwrap_or(0);
        self.memory = Some((Arc::new(file), before));
        self
    }

    /// The cgroup v2 directory that the keeper is born into, and the launchers of its restarts with it: who kills the caller's group does
    /// not kill it along. The monitor of the child that is handed over is in its own
    /// ([`Command::monitor_cgroup`](crate::Command::monitor_cgroup), which tells more of it).
    pub fn cgroup(mut self, directory: impl Into<OwnedFd>) -> Self {
        self.cgroup = Some(Arc::new(directory.into()));
        self
    }

    /// Files of cgroup v1 groups, open for writing (`tasks`), that the keeper writes itself into before anything else.
    pub fn cgroup_files(mut self, files: impl IntoIterator<Item = impl Into<OwnedFd>>) -> Self {
        self.cgroup_files.extend(files.into_iter().map(|file| Arc::new(file.into())));
        self
    }

    /// A descriptor that the keeper keeps open until its end, and does nothing with: for a lock that tells others that it lives (flock(2)).
    pub fn hold(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.held.push(Arc::new(descriptor.into()));
        self
    }

    /// What cannot be.
    fn check(&self) -> Result<()> {
        if let Some((bytes, files)) = self.log
            && (bytes < LEAST_LOG || !(1..=MOST_FILES).contains(&files))
        {
            return Err(Error::invalid(format!(
                "a log of {files} files of {bytes} bytes: 1 to {MOST_FILES} of at least {LEAST_LOG}"
            )));
        }
        if self.restart != Restart::Never && self.replay.is_none() {
            return Err(Error::invalid("restarts, and no plan for them").with_hint("Keeper::replay has it"));
        }
        if let Some(check) = &self.check {
            check.check()?;
        }
        let plans = self.replay.iter().chain(self.check.iter().map(HealthCheck::plan));
        if plans.into_iter().any(|plan| plan.helpers.is_some()) {
            return Err(Error::invalid("a keeper cannot carry out a plan whose id maps newuidmap(1) writes"));
        }
        Ok(())
    }
}

/// `oom_kill N` in such a file.
fn oom_kills(file: BorrowedFd<'_>) -> io::Result<u64> {
    let mut room = [0; 512];
    let got = rustix::io::pread(file, &mut room, 0)?;
    let text = String::from_utf8_lossy(room.get(..got).unwrap_or_default());
    let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
    Ok(kills.unwrap_or(0))
}
