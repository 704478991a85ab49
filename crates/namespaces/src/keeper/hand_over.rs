//! A child gets another owner: its keeper is started, and has what the caller had.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::time::ClockId;

use super::{Attachment, HealthCheck, Keeper, socket};
use crate::birth;
use crate::child::Child;
use crate::clone::{self, Born};
use crate::encode::{Channels, encode};
use crate::image;
use crate::keeper_config::{Again, Config, List};
use crate::kernel;
use crate::plan::Plan;
use crate::stdio::{Ends, Kind};
use crate::wire::{GROUPS, LAUNCH, QUIET, Report, STATE, TELL};
use crate::{Error, Result};

impl Child {
    /// Gives the program to a keeper, a process of its own, with which it goes on beyond the caller's end; others find it
    /// by the keeper's directory ([`Kept`](crate::Kept)). The keeper has what this child has: the pipes (standard input
    /// stays open, unless [`stdin`](Self::stdin) was taken out before), the terminal, and the lifeline.
    ///
    /// Returns when the keeper is at work and its `state` can be read. Keeper and monitor stay children of the calling
    /// process as long as that lives; the next starts, and ends, of this crate reap them. What was read of the output before
    /// is in no log. Without a pid namespace of its own the program may leave processes behind; what those write after its
    /// end for good nobody reads.
    ///
    /// # Errors
    ///
    /// **The program is killed,** as it is by dropping the child.
    ///
    /// - [`InvalidInput`](crate::ErrorKind::InvalidInput): what the keeper is to do cannot be; another keeper is at work in
    ///   that directory; or the program's end has been told to the caller already.
    /// - The directory cannot be written to, a control group takes no process, or the keeper cannot be started.
    pub fn hand_over(self, keeper: &Keeper) -> Result<()> {
        self.hand_over_to(keeper, |_| Ok(()))
    }

    /// The same, and one is attached from before the keeper reads for the first time: nothing of the output is missed.
    ///
    /// # Errors
    ///
    /// As of [`hand_over`](Self::hand_over). Where only the attachment fails the program goes on.
    pub fn hand_over_attached(self, keeper: &Keeper) -> Result<Attachment> {
        let terminal = self.terminal.is_some();
        let mut early = None;
        self.hand_over_to(keeper, |directory| {
            early = Some(socket::early(directory)?);
            Ok(())
        })?;
        let lost = || Error::lost("the keeper was killed");
        let socket = early.ok_or_else(lost)?;
        match socket::answer(&socket).map_err(|e| Error::io("cannot attach to the keeper", &e))? {
            Some(_) => Ok(Attachment::new(socket, terminal)),
            None => Err(lost()),
        }
    }

    fn hand_over_to(
        mut self,
        keeper: &Keeper,
        before: impl FnOnce(BorrowedFd<'_>) -> Result<()>,
    ) -> Result<()> {
        keeper.check()?;
        if self.has_ended() {
            return Err(Error::invalid("the program has ended, and the caller was told how"));
        }
        if self.terminal.is_some() && self.stdout.is_some() {
            return Err(Error::invalid("a program whose terminal and standard output are two things"));
        }
        let failed = |e: io::Error| Error::io("cannot prepare the keeper", &e);
        let socket = socket::listen(keeper.directory.as_fd())?;
        let given = Given::take(&mut self).map_err(failed)?;
        let ready = before(keeper.directory.as_fd())
            .and_then(|()| given.start(keeper, &self, &socket))
            .inspect_err(|_| socket::remove(keeper.directory.as_fd()))?;
        self.take_monitor().hand_over(ready);
        Ok(())
    }
}

/// What the keeper gets of the child; open until it has it.
struct Given {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

impl Given {
    fn take(child: &mut Child) -> io::Result<Self> {
        let above = |fd: Option<OwnedFd>| fd.map(kernel::above_standard).transpose();
        let stdin = above(child.stdin.take().map(Into::into))?;
        if let Some(stdin) = &stdin {
            // The open file is the caller's alone, and the keeper's from now on.
            fcntl_setfl(stdin, fcntl_getfl(stdin)? | OFlags::NONBLOCK)?;
        }
        Ok(Self {
            stdin,
            stdout: above(child.stdout.take().map(Into::into))?,
            stderr: above(child.stderr.take().map(Into::into))?,
            terminal: above(child.terminal.take().map(Into::into))?,
        })
    }

    /// The child's ends of the same pipes once more, for those that a plan wants.
    fn ends(&self, plan: &Plan) -> Result<Ends> {
        let ours = [&self.stdin, &self.stdout, &self.stderr];
        let mut kinds = plan.stdio.clone();
        for (n, (kind, ours)) in kinds.iter_mut().zip(ours).enumerate() {
            if !matches!(kind, Kind::Piped) {
                continue;
            }
            *kind = match ours {
                None => Kind::Null,
                Some(pipe) => {
                    let access = if n == 0 { OFlags::RDONLY } else { OFlags::WRONLY };
                    let other = other_end(pipe.as_fd(), access)
                        .map_err(|e| Error::io(format!("cannot open standard descriptor {n} again"), &e))?;
                    Kind::Descriptor(Arc::new(other))
                }
            };
        }
        Ends::open(&kinds)
    }

    /// Returns when the keeper is ready.
    fn start(self, keeper: &Keeper, child: &Child, socket: &OwnedFd) -> Result<Born> {
        let failed = |e: io::Error| Error::io("cannot prepare the keeper", &e);
        let monitor = child.monitor();
        let launcher =
            image::launcher().map_err(|e| Error::io("cannot make the launcher's memory file", &e))?;
        let mut list = Inherited::default();
        let mut config = Config::NONE;
        let own = image::data(&[]).map_err(failed)?;
        // Numbers that nothing else has in the keeper.
        let numbers = [own.try_clone().map_err(failed)?, own.try_clone().map_err(failed)?];
        config.own = list.one(own.as_fd());
        config.control_number = list.one(numbers[0].as_fd());
        config.report_number = list.one(numbers[1].as_fd());
        // Where the keeper has no standard descriptors of its own.
        let directory = keeper.directory.try_clone().map_err(failed)?;
        let memory = keeper.memory.as_ref().map(|(file, before)| Ok((file.try_clone()?, *before)));
        let memory: Option<(OwnedFd, u64)> = memory.transpose().map_err(failed)?;
        let groups = keeper.cgroup_files.iter().map(|file| file.try_clone()).collect::<io::Result<Vec<_>>>();
        let groups = groups.map_err(failed)?;
        let held = keeper.held.iter().map(|held| held.try_clone()).collect::<io::Result<Vec<_>>>();
        let held = held.map_err(failed)?;
        held.iter().for_each(|held| _ = list.one(held.as_fd()));
        config.directory = list.one(directory.as_fd());
        config.socket = list.one(socket.as_fd());
        config.control = list.one(monitor.control());
        config.monitor = list.one(monitor.as_fd());
        config.program = list.one(child.as_fd());
        config.launcher = list.one(launcher);
        config.stdin = list.optional(self.stdin.as_ref());
        config.stdout = list.optional(self.stdout.as_ref());
        config.stderr = list.optional(self.stderr.as_ref());
        config.terminal = list.optional(self.terminal.as_ref());
        config.pid = child.id().cast_signed();
        if let Some((file, before)) = &memory {
            config.memory = list.one(file.as_fd());
            config.oom_kills = *before;
        }
        (config.restart, config.most) = keeper.restart.to_config();
        (config.log_bytes, config.log_files) = keeper.log.unwrap_or_default();
        started(&mut config, child);
        // Open until the keeper has them.
        let mut open = Vec::new();
        if let Some(plan) = &keeper.replay {
            let ends = self.ends(plan)?;
            config.replay = list.plan(plan, &config, TELL, ends, &mut open).map_err(failed)?;
        }
        if let Some(check) = &keeper.check {
            check_times(&mut config, check);
            let mut plan = check.plan().clone();
            plan.timeout = Some(plan.timeout.map_or(check.timeout, |limit| limit.min(check.timeout)));
            let nowhere = Self { stdin: None, stdout: None, stderr: None, terminal: None };
            let ends = nowhere.ends(&plan)?;
            config.check = list.plan(&plan, &config, QUIET, ends, &mut open).map_err(failed)?;
            config.renewed = list.pidfds_of(&plan, child);
        }
        let numbers_of_groups = groups.iter().map(|file| list.one(file.as_fd())).collect();
        config.groups = list.list(numbers_of_groups);
        let bytes = [kernel::config_bytes(&config), &list.bytes].concat();
        let own = File::from(own);
        own.write_all_at(&bytes, 0).map_err(failed)?;
        execute(keeper, &list.keep, own.as_raw_fd())
    }
}

/// When the program was started, and what the start has used.
fn started(config: &mut Config, child: &Child) {
    let (began, comparable) = child.began();
    let now = kernel::clock(ClockId::Monotonic);
    config.began = if comparable { began.at } else { now };
    config.began_user = began.user_us;
    config.began_system = began.system_us;
    let since = now.saturating_sub(config.began);
    config.started = kernel::clock(ClockId::Realtime).saturating_sub(since);
}

fn check_times(config: &mut Config, check: &HealthCheck) {
    let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    config.interval = ns(check.interval);
    config.timeout = ns(check.timeout);
    config.start_period = ns(check.start_period);
    config.start_interval = check.start_interval.map_or(0, ns);
    config.retries = check.retries;
}

/// What the keeper inherits, and the lists after its configuration.
#[derive(Default)]
struct Inherited {
    keep: Vec<RawFd>,
    bytes: Vec<u8>,
}

impl Inherited {
    fn one(&mut self, fd: BorrowedFd<'_>) -> i32 {
        self.keep.push(fd.as_raw_fd());
        fd.as_raw_fd()
    }

    fn optional(&mut self, fd: Option<&OwnedFd>) -> i32 {
        fd.map_or(-1, |fd| self.one(fd.as_fd()))
    }

    fn list(&mut self, numbers: Vec<i32>) -> List {
        let at = (size_of::<Config>() + self.bytes.len()) as u32;
        self.bytes.extend(numbers.iter().flat_map(|number| number.to_ne_bytes()));
        List { at, count: numbers.len() as u32 }
    }

    /// A plan as a memory file, and what its launcher inherits.
    fn plan(
        &mut self,
        plan: &Plan,
        config: &Config,
        hear: u32,
        ends: Ends,
        open: &mut Vec<Arc<OwnedFd>>,
    ) -> io::Result<Again> {
        let report = if hear == QUIET { config.control_number } else { config.report_number };
        let bytes = encode(plan, &Channels { report, control: config.control_number, hear, ends: &ends });
        let file = Arc::new(image::data(&bytes)?);
        let ends = ends.child.into_iter().flatten().collect::<Vec<_>>();
        let keep: Vec<i32> = plan.descriptors().chain(ends.iter().map(|fd| fd.as_raw_fd())).collect();
        self.keep.extend(&keep);
        self.keep.push(file.as_raw_fd());
        let again = Again { plan: file.as_raw_fd(), length: bytes.len() as u32, keep: self.list(keep) };
        open.extend(ends);
        open.push(file);
        Ok(again)
    }

    /// Those descriptors of a plan that are pidfds of this child. Of one that has ended already nothing tells it from another that has.
    fn pidfds_of(&mut self, plan: &Plan, child: &Child) -> List {
        let over = |fd| kernel::is_of_nobody(fd) && kernel::is_of_nobody(child.as_fd());
        let mut numbers: Vec<i32> = plan
            .open()
            .filter(|fd| kernel::process_of(*fd) == Some(child.id()) || over(*fd))
            .map(|fd| fd.as_raw_fd())
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        self.list(numbers)
    }
}

/// A pipe's other end, which is open: opening it does not wait (fifo(7)).
fn other_end(pipe: BorrowedFd<'_>, access: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/thread-self/fd/{}", pipe.as_raw_fd());
    kernel::above_standard(open(path, access | OFlags::CLOEXEC, Mode::empty())?)
}

fn execute(keeper: &Keeper, keep: &[RawFd], config: RawFd) -> Result<Born> {
    let failed = |e: io::Error| Error::io("cannot start the keeper", &e);
    let (reader, writer) = io::pipe().map_err(failed)?;
    let writer = kernel::above_standard(writer.into()).map_err(failed)?;
    let mut keep = keep.to_vec();
    keep.push(writer.as_raw_fd());
    let space = if keeper.name.is_empty() { &b""[..] } else { b" " };
    let name = [b"isolate-keeper", space, keeper.name.as_bytes()].concat();
    let name: Vec<u8> = name.into_iter().filter(|byte| *byte != 0).take(LONGEST_NAME).collect();
    let texts = [name, config.to_string().into_bytes(), writer.as_raw_fd().to_string().into_bytes()];
    let texts = texts.map(|text| CString::new(text).unwrap_or_default());
    let [name, config, report] = &texts;
    let argv = [name.as_ptr(), config.as_ptr(), report.as_ptr(), std::ptr::null(), std::ptr::null()];
    let image = image::keeper().map_err(|e| Error::io("cannot make the keeper's memory file", &e))?;
    let start =
        clone::Start { image: image.as_raw_fd(), keep: &keep, argv: &argv, report: writer.as_raw_fd() };
    let born = birth::start(&start, keeper.cgroup.as_ref().map(|group| group.as_fd()), "keeper")?;
    drop(writer);
    while !kernel::readable_within(reader.as_fd(), PATIENCE) {
        if keeper.cgroup.as_ref().is_some_and(|group| birth::is_frozen(group.as_fd())) {
            birth::end(&born);
            return Err(birth::frozen("keeper"));
        }
    }
    let mut room = [0; size_of::<Report>()];
    let got = kernel::read_all(reader.as_fd(), &mut room).map_err(failed);
    let error = match got {
        Ok(got) if got == room.len() => match Report::from_bytes(&room) {
            Report { errno: 0, .. } => return Ok(born),
            Report { step: LAUNCH, errno, .. } => Error::os("cannot execute the keeper", errno),
            Report { step: GROUPS, errno, .. } => {
                Error::os("the keeper cannot join its control group", errno)
            }
            Report { step: STATE, errno, .. } => Error::os("the keeper cannot write its state", errno),
            Report { errno, .. } => Error::os("the keeper cannot read what it is to do", errno),
        },
        Ok(_) => Error::lost("the keeper was killed before it was ready"),
        Err(error) => error,
    };
    birth::end(&born);
    Err(error)
}

/// After so long it is asked whether its group is frozen.
const PATIENCE: Duration = Duration::from_millis(30);
/// What ps(1) shows of it.
const LONGEST_NAME: usize = 256;
