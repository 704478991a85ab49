//! The last steps: standard descriptors, session, rights, and the program itself.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::rights;
use crate::command::Command;
use crate::error::{Error, Result};
use crate::identity::Maps;
use crate::plan::{Arg, Section, Words};
use crate::stdio::Kind;
use crate::steps::{Steps, c_string, text};
use crate::wire::{OP_ALIVE, OP_CLOSE, OP_EXEC, OP_READY};

/// Where a program without `/` is looked for if the child has no `PATH`, as execvp(3) does.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where the terminal is kept, the program's side.
pub(super) const TERMINAL: u8 = 12;

pub(super) fn steps(
    command: &Command,
    stdio: &[Kind; 3],
    maps: Option<&Maps>,
    steps: &mut Steps,
) -> Result<()> {
    let main = Section::Main;
    standard(command, stdio, steps);
    if let Some(mask) = command.umask {
        let words = Words::later(move || format!("set the umask {mask:03o}"));
        steps.call(main, words, libc::SYS_umask, vec![Arg::Number(mask.into())]);
    }
    // A session is a group of the scheduler (sched(7), autogroups), and entering one costs the processor.
    if command.new_session {
        steps.call(main, "lead a new session", libc::SYS_setsid, vec![]);
    }
    if command.terminal.is_some() {
        let args = vec![Arg::Slot(TERMINAL), Arg::Number(libc::TIOCSCTTY), Arg::Number(0)];
        steps.call(main, "take the terminal as the controlling one", libc::SYS_ioctl, args);
    }
    rights::steps(command, maps, steps)?;
    // Before a path of the caller's is followed: /proc/self/fd must lead to none of ours.
    steps.operation(main, "close every other descriptor", OP_CLOSE, vec![]);
    if let Some(directory) = command.current_dir.as_deref() {
        let (argument, shown) = (text(directory)?, directory.to_owned());
        let words = Words::later(move || format!("enter the working directory {}", shown.display()));
        steps.call(main, words, libc::SYS_chdir, vec![argument]);
    }
    // After the ids: setresuid(2) forgets it.
    let death = vec![Arg::Number(libc::PR_SET_PDEATHSIG as u64), Arg::Number(libc::SIGKILL as u64)];
    steps.call(main, "end with its parent", libc::SYS_prctl, death);
    steps.operation(main, "see that the monitor lives", OP_ALIVE, vec![]);
    if command.idle {
        steps.operation(main, "report that all is ready", OP_READY, vec![]);
        rights::last(command, steps);
        let name = vec![Arg::Number(libc::PR_SET_NAME as u64), Arg::Text(c"idle".into())];
        steps.call(main, "stay without a program", libc::SYS_prctl, name);
        return Ok(());
    }
    let none =
        vec![Arg::Number(libc::SIG_SETMASK as u64), Arg::Bytes(vec![0; 8]), Arg::Number(0), Arg::Number(8)];
    steps.call(main, "unblock every signal", libc::SYS_rt_sigprocmask, none);
    steps.operation(main, "report that all is ready", OP_READY, vec![]);
    rights::last(command, steps);
    let environment = environment(command);
    let paths = paths(command, &environment)?;
    let argv = std::iter::once(&command.program)
        .chain(&command.args)
        .map(|arg| c_string(arg))
        .collect::<Result<_>>()?;
    let envp = environment.iter().map(|(key, value)| variable(key, value)).collect::<Result<_>>()?;
    let shown = command.program.clone();
    let words = Words::later(move || format!("execute {}", shown.display()));
    steps.operation(main, words, OP_EXEC, vec![Arg::Table(paths), Arg::Table(argv), Arg::Table(envp)]);
    Ok(())
}

fn standard(command: &Command, stdio: &[Kind; 3], steps: &mut Steps) {
    let words = ["connect standard input", "connect standard output", "connect standard error"];
    for (n, words) in words.into_iter().enumerate() {
        let from = match &stdio[n] {
            Kind::Inherit if command.terminal.is_some() && command.stdio[n].is_none() => Arg::Slot(TERMINAL),
            Kind::Inherit => continue,
            _ => Arg::Standard(n),
        };
        let args = vec![from, Arg::Number(n as u64), Arg::Number(0)];
        steps.call(Section::Main, words, libc::SYS_dup3, args);
    }
}

fn environment(command: &Command) -> BTreeMap<OsString, OsString> {
    let mut all: BTreeMap<_, _> =
        if command.env_clear { BTreeMap::new() } else { std::env::vars_os().collect() };
    for (key, value) in &command.env {
        match value {
            Some(value) => all.insert(key.clone(), value.clone()),
            None => all.remove(key),
        };
    }
    all
}

fn variable(key: &OsStr, value: &OsStr) -> Result<CString> {
    if key.is_empty() || key.as_bytes().contains(&b'=') {
        return Err(Error::invalid(format!(
            "environment variable {key:?}: a name is not empty and has no `=`"
        )));
    }
    let mut line = key.to_owned();
    line.push("=");
    line.push(value);
    c_string(&line)
}

/// The files to try, in order.
fn paths(command: &Command, environment: &BTreeMap<OsString, OsString>) -> Result<Vec<CString>> {
    let program = &command.program;
    if program.is_empty() {
        return Err(Error::invalid("the program's name is empty"));
    }
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![c_string(program)?]);
    }
    let path = environment.get(OsStr::new("PATH")).map_or(OsStr::new(DEFAULT_PATH), OsString::as_os_str);
    std::env::split_paths(path)
        .map(|directory: PathBuf| c_string(directory.join(program).as_os_str()))
        .collect()
}
