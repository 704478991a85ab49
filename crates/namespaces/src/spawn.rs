//! One start of a plan: channels, the launcher, and what it reports.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use crate::birth;
use crate::child::Child;
use crate::clone;
use crate::encode::{Channels, encode};
use crate::error::{Error, ErrorKind, Result};
use crate::held::Held;
use crate::id_helpers;
use crate::image;
use crate::kernel::{self, Received};
use crate::monitor::{self, Monitor};
use crate::orphans;
use crate::plan::Plan;
use crate::stdio::Ends;
use crate::wire::{CLONE, ENDED, HOLD, OP_EXEC, QUIET, Report, STARTED, TELL, TERMINAL};

impl Plan {
    /// Carries the plan out. Returns when the program has been executed, or with the step that failed.
    ///
    /// A plan can be carried out any number of times, unless it names a detached mount and the kernel is older than Linux
    /// 6.15, which cannot copy one.
    pub fn spawn(&self) -> Result<Child> {
        if self.helpers.is_some() {
            return self.spawn_held()?.release();
        }
        let started = start(self, TELL)?;
        let began = executed(self, started.report, &started.monitor)?;
        let mut child = child(self, started.monitor, started.caller).map_err(Error::from)?;
        child.begin(self, began)?;
        Ok(child)
    }

    /// As [`spawn`](Self::spawn) and [`Child::wait`], but the caller is woken once, in the end.
    pub fn status(&self) -> Result<ExitStatus> {
        if self.helpers.is_some() || self.terminal {
            return self.spawn()?.wait();
        }
        let Started { monitor, caller: [stdin, _stdout, _stderr], .. } = start(self, QUIET)?;
        drop(stdin);
        while !monitor.ends_within(PATIENCE) {
            // A group may be frozen at any time, but a program that runs is not held from starting.
            if !monitor.speaks_within(Duration::ZERO) {
                refuse_frozen(self, &monitor)?;
            }
        }
        let (report, end) = monitor.last_words().map_err(|e| Error::io("cannot wait for the program", &e))?;
        verdict(self, report, &monitor, end.map(|end| end.status))?;
        monitor.end();
        end.map(|end| end.status).ok_or_else(monitor::killed)
    }

    /// As [`spawn`](Self::spawn), up to the point where the child waits for [`Held::release`].
    pub fn spawn_held(&self) -> Result<Held> {
        let started = start(self, HOLD)?;
        match child(self, started.monitor, started.caller) {
            Ok(child) => {
                if let Some(arguments) = &self.helpers {
                    id_helpers::write(child.id(), arguments)?;
                }
                Ok(Held { child, report: started.report, plan: Arc::new(self.clone()) })
            }
            // What went wrong is in the report; without a child there is nobody else who could write there.
            Err((Unheard::Ended(lost), monitor)) => {
                Err(executed(self, started.report, &monitor).err().unwrap_or(lost))
            }
            // There is a child, and it would wait for ever.
            Err((Unheard::Here(error), monitor)) => {
                monitor.abandon();
                Err(error)
            }
        }
    }
}

/// How long a start takes at most before it is asked whether its group is frozen: that question would be a tenth of a start.
const PATIENCE: Duration = Duration::from_millis(30);

/// The longest plan that goes through the control socket.
const MESSAGE: usize = 64 << 10;

struct Started {
    monitor: Monitor,
    /// None for a caller that waits for the end alone: then reports are messages.
    report: Option<OwnedFd>,
    caller: [Option<OwnedFd>; 3],
}

fn start(plan: &Plan, hear: u32) -> Result<Started> {
    orphans::reap_some();
    let ends = Ends::open(&plan.stdio)?;
    let failed = |e: io::Error| Error::io("cannot prepare the start", &e);
    let (control, far) = kernel::control_pair().map_err(failed)?;
    let (report, theirs) =
        if hear == QUIET { (None, None) } else { pipe().map(|(a, b)| (Some(a), Some(b))).map_err(failed)? };
    let to = theirs.as_ref().unwrap_or(&far).as_raw_fd();
    let channels = Channels { report: to, control: far.as_raw_fd(), hear, ends: &ends };
    let bytes = encode(plan, &channels);
    // A message costs half of what a file does; what does not fit into one is a file.
    let sent = bytes.len() <= MESSAGE && kernel::send_whole(control.as_fd(), &bytes);
    let file = if sent { None } else { Some(image::data(&bytes).map_err(failed)?) };
    let data = file.as_ref().unwrap_or(&far).as_raw_fd();
    let mut keep: Vec<RawFd> = vec![to, far.as_raw_fd(), data];
    keep.extend(plan.descriptors());
    keep.extend(ends.child.iter().flatten().map(|fd| fd.as_raw_fd()));
    let numbers = [data as usize, bytes.len(), to as usize].map(argument);
    let [plan_fd, length, report_fd] = &numbers;
    let argv = [
        c"isolate-launcher".as_ptr(),
        plan_fd.as_ptr().cast(),
        length.as_ptr().cast(),
        report_fd.as_ptr().cast(),
        std::ptr::null(),
    ];
    let image = image::launcher().map_err(|e| Error::io("cannot make the launcher's memory file", &e))?;
    let start = clone::Start { image: image.as_raw_fd(), keep: &keep, argv: &argv, report: to };
    let born = birth::start(&start, plan.monitor_cgroup.as_ref().map(|group| group.as_fd()), "launcher")?;
    let monitor = Monitor::new(born, control);
    Ok(Started { monitor, report, caller: ends.caller })
}

/// For reports: the reading end, and the writing one.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((reader.into(), kernel::above_standard(writer.into())?))
}

/// A number in decimal, NUL-terminated.
fn argument(number: usize) -> Vec<u8> {
    format!("{number}\0").into_bytes()
}

/// Why there is no word of a child.
enum Unheard {
    /// The launcher has ended.
    Ended(Error),
    /// It has spoken, but the caller could not hear it.
    Here(Error),
}

/// The first message: the child exists. On failure the monitor comes back along with the error.
fn child(plan: &Plan, monitor: Monitor, pipes: [Option<OwnedFd>; 3]) -> Result<Child, (Unheard, Monitor)> {
    let mut master = None;
    while !monitor.speaks_within(PATIENCE) {
        if let Err(error) = refuse_frozen(plan, &monitor) {
            return Err((Unheard::Here(error), monitor));
        }
    }
    loop {
        let error = match monitor.receive(true) {
            Ok(Received::Message(message, Some(pidfd))) if message.kind == STARTED => {
                let mut child = Child::new(message.code.cast_unsigned(), pidfd, monitor, pipes);
                if let Some(Err(e)) = master.map(|master| child.attach(master)) {
                    return Err((Unheard::Here(e), child.take_monitor()));
                }
                return Ok(child);
            }
            // It may have been faster than its monitor.
            Ok(Received::Message(message, Some(fd))) if message.kind == TERMINAL => {
                master = Some(fd);
                continue;
            }
            // The kernel leaves out what it has no number for (SCM_RIGHTS in unix(7)).
            Ok(Received::Message(message, None)) if message.kind != ENDED => Unheard::Here(
                Error::os("cannot receive a descriptor of the child's", libc::EMFILE)
                    .with_hint("the caller's limit of open files (RLIMIT_NOFILE) is reached"),
            ),
            Ok(_) => Unheard::Ended(Error::lost("the launcher ended before it started the program")),
            Err(e) => Unheard::Here(Error::io("cannot hear the launcher", &e)),
        };
        return Err((error, monitor));
    }
}

impl From<(Unheard, Monitor)> for Error {
    fn from((why, monitor): (Unheard, Monitor)) -> Self {
        monitor.end();
        match why {
            Unheard::Ended(error) | Unheard::Here(error) => error,
        }
    }
}

/// Waits until the program has been executed, or the start has failed.
pub(crate) fn executed(plan: &Plan, report: Option<OwnedFd>, monitor: &Monitor) -> Result<Report> {
    let Some(report) = report else { return Ok(Report::default()) };
    while !kernel::closed_within(report.as_fd(), PATIENCE) {
        refuse_frozen(plan, monitor)?;
    }
    let mut bytes = [0; 4 * size_of::<Report>()];
    let read =
        kernel::read_all(report.as_fd(), &mut bytes).map_err(|e| Error::io("cannot read the report", &e))?;
    let all = bytes[..read].chunks_exact(size_of::<Report>()).map(Report::from_bytes);
    verdict(plan, all.reduce(Report::and), monitor, None)
}

/// A failure counts more than READY, after which the exec may fail. Without a report the child was killed; `end` is how, if that has been
/// heard.
fn verdict(plan: &Plan, said: Option<Report>, monitor: &Monitor, end: Option<ExitStatus>) -> Result<Report> {
    let failed = match said {
        Some(ready) if ready.errno == 0 => return Ok(ready),
        Some(Report { step, errno, .. }) => explain(plan, step, errno),
        None => {
            let end = end.or_else(|| monitor.last_words().ok()?.1.map(|end| end.status));
            let how = end.map(|status| format!(" ({status})")).unwrap_or_default();
            let program = plan.program.display();
            Error::lost(format!("{program} was not executed: the child was killed before{how}")).with_hint(
                "the memory limit of its cgroup may be too small to start in, or somebody killed it",
            )
        }
    };
    monitor.reap();
    Err(failed)
}

/// The sentence for a failed step.
fn explain(plan: &Plan, step: u32, errno: i32) -> Error {
    let words = plan.words(step);
    let executing = plan.steps.get(step as usize).is_some_and(|s| s.call == OP_EXEC);
    let error = Error::os(format!("cannot {words}"), errno);
    match errno {
        libc::ENOENT if executing => {
            let named = plan.program.as_bytes().contains(&b'/');
            error.with_kind(ErrorKind::ProgramNotFound).with_hint(if named {
                "it is looked up inside the container's root; a script's or dynamic program's interpreter must be there too"
            } else {
                "it is looked up in the container's PATH, inside the container's root"
            })
        }
        libc::EACCES if executing => error
            .with_kind(ErrorKind::NotExecutable)
            .with_hint("it is not executable, or lies on a mount with noexec"),
        libc::ENOEXEC if executing => error
            .with_kind(ErrorKind::NotExecutable)
            .with_hint("not a program for this machine, or a script without `#!`"),
        libc::EPERM if step == CLONE => error
            .with_hint("new namespaces want root (CAP_SYS_ADMIN), or a new user namespace along with them"),
        libc::ENOSPC if step == CLONE => error.with_hint(
            "a limit on namespaces is reached: see /proc/sys/user/max_*_namespaces, and at most 32 levels",
        ),
        libc::EAGAIN if step == CLONE => error.with_hint(
            "a limit on processes is reached: pids.max of the cgroup or one above, or RLIMIT_NPROC",
        ),
        libc::EBUSY if step == CLONE => error.with_hint(
            "a cgroup with controllers enabled for its children takes no process: name one of the children",
        ),
        _ => error,
    }
}

/// Gives a start up that is held by its group.
fn refuse_frozen(plan: &Plan, monitor: &Monitor) -> Result<()> {
    let is_frozen =
        |group: &Option<Arc<OwnedFd>>| group.as_ref().is_some_and(|group| birth::is_frozen(group.as_fd()));
    if is_frozen(&plan.monitor_cgroup) {
        monitor.kill();
        return Err(birth::frozen("launcher"));
    }
    if is_frozen(&plan.cgroup) {
        monitor.abandon();
        return Err(birth::frozen("program"));
    }
    Ok(())
}
