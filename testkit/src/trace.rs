//! One process and its kin, followed by their system calls: at one of them somebody is killed, or it fails.
//!
//! The process that is followed says by [`mark`] where what counts begins and ends. What is outside of that runs as always, and once the
//! fault has struck everybody is let go.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::ptrace::{self, Go, Stop};

/// Whose a system call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The process that is followed, all its threads.
    Owner,
    /// A child of it: a launcher, which becomes a monitor.
    Monitor,
    /// A child of those, up to what it executes.
    Child,
}

/// What happens at a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The owner is killed before it; or the monitor that makes it, else the youngest.
    Kill(Who),
    /// It is not made, and gives this error. One that closes is made all the same, as the kernel does it.
    Fail(i32),
}

/// A system call.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Whose it is.
    pub who: Who,
    /// The how manieth of theirs that counts, from 0 on.
    pub order: usize,
    /// Its number.
    pub number: i64,
    /// What it is given.
    pub args: [u64; 6],
    /// There is a monitor at that moment.
    pub monitored: bool,
}

/// What is tried at which calls.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Those that count.
    pub counts: fn(&Call) -> bool,
    /// Whether a call can give this error. If not, nothing happens there.
    pub can_give: fn(&Call, i32) -> bool,
}

/// What has happened.
#[derive(Debug)]
pub struct Trace {
    /// The calls that count, in their order, up to the fault.
    pub calls: Vec<Call>,
    /// The one that the fault struck. `None` if it was never reached.
    pub struck: Option<Call>,
    /// How the owner ended.
    pub status: ExitStatus,
    /// It took too long, and all were killed.
    pub hung: bool,
}

/// Numbers that no process has: the kernel's highest is 4194304.
const BEGIN: i32 = 0x7fff_0001;
const END: i32 = 0x7fff_0002;

/// Said by the process that is followed: from here on its calls count, or no more. A call that does nothing.
pub fn mark(begin: bool) {
    let number = if begin { BEGIN } else { END };
    test_kill_process(Pid::from_raw(number).expect("not zero")).expect_err("no process has that number");
}

/// Follows a child of the calling thread, which has no other, until it has ended, and all of its kin that are followed. What it has
/// started before is followed too. `begin` is called once that is so. The fault is for the n-th call of somebody that counts; an errno
/// that this one cannot give is for the next that can.
///
/// # Errors
/// What the kernel refused of ptrace(2).
pub fn follow(
    owner: u32,
    rules: Rules,
    fault: Option<(Who, usize, Fault)>,
    limit: Duration,
    begin: impl FnOnce(),
) -> io::Result<Trace> {
    let owner = owner.cast_signed();
    let mut tracer = Tracer::new(owner, rules, fault);
    for (pid, who) in kin(owner) {
        // One that has ended meanwhile need not be followed.
        if ptrace::seize(pid).and_then(|()| ptrace::interrupt(pid)).is_ok() {
            tracer.add(pid, who);
        }
    }
    let followed = Arc::clone(&tracer.followed);
    let (done, ended) = channel::<()>();
    let watch = std::thread::spawn(move || {
        let hung = ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
        if hung {
            let followed = followed.lock().unwrap_or_else(PoisonError::into_inner);
            followed.iter().copied().chain([owner]).for_each(kill);
        }
        hung
    });
    begin();
    let status = tracer.run();
    drop(done);
    let hung = watch.join().unwrap_or(true);
    let Tracer { calls, struck, .. } = tracer;
    Ok(Trace { calls, struck, status: ExitStatus::from_raw(status?), hung })
}

/// One that is followed.
#[derive(Clone, Copy)]
struct Kin {
    who: Who,
    /// What its call is to give, once that has been skipped.
    result: Option<i64>,
    /// Its last call was broken off, and is made again: the kernel does so itself where it waits for a lock of its own.
    again: bool,
}

/// What a call gives within the kernel that is made again (ERESTARTSYS and its kin).
const RESTARTED: std::ops::RangeInclusive<i64> = -516..=-512;

struct Tracer {
    owner: i32,
    rules: Rules,
    fault: Option<(Who, usize, Fault)>,
    kin: BTreeMap<i32, Kin>,
    /// The same numbers, for who kills them when it takes too long.
    followed: Arc<Mutex<BTreeSet<i32>>>,
    /// Those that live, the youngest last.
    monitors: Vec<i32>,
    orders: BTreeMap<Who, usize>,
    counting: bool,
    /// Whoever stops is let go.
    over: bool,
    calls: Vec<Call>,
    struck: Option<Call>,
}

impl Tracer {
    fn new(owner: i32, rules: Rules, fault: Option<(Who, usize, Fault)>) -> Self {
        Self {
            owner,
            rules,
            fault,
            kin: BTreeMap::new(),
            followed: Arc::default(),
            monitors: Vec::new(),
            orders: BTreeMap::new(),
            counting: false,
            over: false,
            calls: Vec::new(),
            struck: None,
        }
    }

    fn add(&mut self, pid: i32, who: Who) {
        self.kin.insert(pid, Kin { who, result: None, again: false });
        self.followed.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
        if who == Who::Monitor {
            self.monitors.push(pid);
        }
    }

    fn forget(&mut self, pid: i32) {
        self.kin.remove(&pid);
        self.followed.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
        self.monitors.retain(|monitor| *monitor != pid);
    }

    /// Until nobody is left; the owner's status.
    fn run(&mut self) -> io::Result<i32> {
        let mut ended = None;
        while let Some((pid, status)) = ptrace::wait()? {
            if libc::WIFSTOPPED(status) {
                match self.stopped(pid, status) {
                    // Killed where it stood.
                    Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
                    other => other?,
                }
            } else {
                self.forget(pid);
                if pid == self.owner {
                    ended = Some(status);
                    self.let_all_go();
                }
            }
        }
        ended.ok_or_else(|| io::Error::other("somebody else has waited for the owner"))
    }

    /// Also those that wait for something: they are let go where they stop.
    fn let_all_go(&mut self) {
        self.over = true;
        for pid in self.kin.keys() {
            // One that has ended meanwhile need not stop.
            ptrace::interrupt(*pid).ok();
        }
    }

    fn stopped(&mut self, pid: i32, status: i32) -> io::Result<()> {
        if !self.kin.contains_key(&pid) {
            // A thread or a process that one of them has just started.
            self.add(pid, whose(pid, self.owner));
        }
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        let mut deliver = 0;
        if signal == libc::SIGTRAP | 0x80 {
            match ptrace::stop(pid)? {
                Stop::Entry(number, args) => self.entry(pid, number, args)?,
                Stop::Exit(result) => self.exit(pid, result)?,
                Stop::Other => {}
            }
        } else if event == 0 {
            deliver = signal;
        }
        let Some(Kin { who, result, .. }) = self.kin.get(&pid).copied() else { return Ok(()) };
        let executed = event == libc::PTRACE_EVENT_EXEC && who == Who::Child;
        if executed || self.over && result.is_none() {
            self.forget(pid);
            return ptrace::go_on(pid, Go::Free, deliver);
        }
        ptrace::go_on(pid, Go::ToCall, deliver)
    }

    fn entry(&mut self, pid: i32, number: i64, args: [u64; 6]) -> io::Result<()> {
        let Some(kin) = self.kin.get_mut(&pid) else { return Ok(()) };
        let (who, again) = (kin.who, std::mem::take(&mut kin.again));
        if again {
            return Ok(());
        }
        if who == Who::Owner && number == libc::SYS_kill {
            match args[0] as i32 {
                BEGIN => self.counting = true,
                END => (self.counting, self.over) = (false, true),
                _ => {}
            }
        }
        let marked = number == libc::SYS_kill && [BEGIN, END].contains(&(args[0] as i32));
        if !self.counting || self.over || marked {
            return Ok(());
        }
        let order = *self.orders.entry(who).or_insert(0);
        let call = Call { who, order, number, args, monitored: !self.monitors.is_empty() };
        if !(self.rules.counts)(&call) {
            return Ok(());
        }
        self.orders.insert(who, order + 1);
        self.calls.push(call);
        // Calls differ a little from run to run: where it is another one that cannot give this errno, the next that can.
        let is_due = |(whose, at, fault): &(Who, usize, Fault)| {
            let can_give = |errno| (self.rules.can_give)(&call, errno);
            *whose == who
                && match *fault {
                    Fault::Fail(errno) => order >= *at && can_give(errno),
                    Fault::Kill(_) => order == *at,
                }
        };
        let Some((_, _, fault)) = self.fault.filter(is_due) else { return Ok(()) };
        self.over = true;
        self.struck = Some(call);
        match fault {
            Fault::Fail(errno) => {
                if number != libc::SYS_close {
                    ptrace::skip_call(pid)?;
                }
                let result = Some(-i64::from(errno));
                self.kin.insert(pid, Kin { who, result, again: false });
            }
            Fault::Kill(Who::Owner) => kill(self.owner),
            Fault::Kill(_) if who == Who::Monitor => kill(pid),
            Fault::Kill(_) => self.monitors.last().copied().into_iter().for_each(kill),
        }
        Ok(())
    }

    fn exit(&mut self, pid: i32, given: i64) -> io::Result<()> {
        let Some(kin) = self.kin.get_mut(&pid) else { return Ok(()) };
        kin.again = RESTARTED.contains(&given);
        if kin.again {
            // To and fro without a pause the two of us would keep the kernel's own threads from the processor, on which the lock waits.
            std::thread::sleep(Duration::from_millis(1));
        }
        match kin.result.take() {
            Some(result) => ptrace::set_result(pid, result),
            None => Ok(()),
        }
    }
}

fn kill(pid: i32) {
    Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
}

/// The owner's threads, its children and theirs, as far as they are of the launcher's program.
fn kin(owner: i32) -> Vec<(i32, Who)> {
    let below = |pid: i32| -> Vec<i32> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        let numbers: Vec<String> = children.collect();
        numbers.iter().flat_map(|text| text.split_whitespace()).filter_map(|pid| pid.parse().ok()).collect()
    };
    let tasks = fs::read_dir(format!("/proc/{owner}/task")).into_iter().flatten().flatten();
    let threads = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok());
    let mut kin: Vec<_> = threads.map(|thread| (thread, Who::Owner)).collect();
    let monitors = below(owner);
    let mut children: Vec<_> = monitors.iter().flat_map(|monitor| below(*monitor)).collect();
    children.retain(|pid| {
        fs::read_link(format!("/proc/{pid}/exe"))
            .is_ok_and(|program| program.to_string_lossy().contains("isolate-launcher"))
    });
    kin.extend(monitors.into_iter().map(|pid| (pid, Who::Monitor)));
    kin.extend(children.into_iter().map(|pid| (pid, Who::Child)));
    kin
}

/// By its parent, as long as that lives; afterwards it does not matter.
fn whose(pid: i32, owner: i32) -> Who {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<i32>().ok()).unwrap_or(0)
    };
    match (field("Tgid:"), field("PPid:")) {
        (process, _) if process == owner => Who::Owner,
        (_, parent) if parent == owner => Who::Monitor,
        _ => Who::Child,
    }
}
