//! What runs in a container.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use isolate_cgroups::Bytes;
use serde::Serialize;

use crate::container::Container;
use crate::error::Result;

/// A process of a container, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Process {
    /// Its number in the caller's pid namespace. For display: it may be another's by now.
    pub pid: u32,
    /// Its number inside, in its innermost pid namespace.
    pub inside: u32,
    /// The number of its parent in the caller's pid namespace; 0 where that is not in it.
    pub parent: u32,
    /// Its user in the caller's user namespace.
    pub user: u32,
    /// As ps(1) has it: `R`unning, `S`leeping, in an uninterruptible wait `D`, s`T`opped, a `Z`ombie, and others.
    pub state: char,
    /// Its processor time so far.
    pub cpu: Duration,
    /// What of its memory is in the machine's.
    pub memory: Bytes,
    /// Its program and arguments; of a zombie its name alone.
    #[serde(serialize_with = "crate::recorded::serialize")]
    pub command: Vec<OsString>,
}

impl Container {
    /// What runs in it, by number: as `docker top`.
    ///
    /// ```no_run
    /// # let container = isolate::Container::builder().command(["sleep", "9"]).start()?;
    /// for process in container.processes()? {
    ///     println!("{:>7} {:>6} {:?}", process.pid, process.inside, process.command);
    /// }
    /// # Ok::<(), isolate::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for one without a control group.
    #[doc(alias = "top")]
    #[doc(alias = "ps")]
    pub fn processes(&self) -> Result<Vec<Process>> {
        let mut pids = self.group()?.pids().map_err(|e| self.said(e))?;
        pids.sort_unstable();
        Ok(pids.into_iter().filter_map(Process::read).collect())
    }
}

impl Process {
    /// `None` if it has ended.
    fn read(pid: u32) -> Option<Self> {
        let file = |name: &str| fs::read(format!("/proc/{pid}/{name}")).ok();
        let (stat, status) = (file("stat")?, String::from_utf8_lossy(&file("status")?).into_owned());
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next();
        let stat = String::from_utf8_lossy(&stat).into_owned();
        // A name may have spaces and parentheses of its own.
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        // Fields 14 and 15 of proc_pid_stat(5); the state is the third.
        let ticks = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
        let per_second = rustix::param::clock_ticks_per_second();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let inside = numbers.and_then(|numbers| numbers.split_whitespace().last()?.parse().ok());
        let words = file("cmdline").unwrap_or_default();
        let words = words.strip_suffix(b"\0").unwrap_or(&words);
        let command = match words {
            [] => vec![OsString::from(name)],
            words => words.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect(),
        };
        Some(Self {
            pid,
            inside: inside.unwrap_or(pid),
            parent: field("PPid:")?.parse().ok()?,
            user: field("Uid:")?.parse().ok()?,
            state: fields.first()?.chars().next()?,
            cpu: Duration::from_millis(1000 * (ticks(14)? + ticks(15)?) / per_second.max(1)),
            memory: Bytes::kib(field("VmRSS:").and_then(|kib| kib.parse().ok()).unwrap_or(0)),
            command,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read_as_it_is() {
        let own = Process::read(std::process::id()).unwrap();
        assert_eq!((own.pid, own.user), (std::process::id(), rustix::process::geteuid().as_raw()));
        assert_eq!(own.parent, std::os::unix::process::parent_id());
        assert_eq!(own.command, std::env::args_os().collect::<Vec<_>>());
        assert!(own.memory > Bytes::kib(100) && "RS".contains(own.state), "{own:?}");
        assert_eq!(Process::read(0), None);
    }
}
