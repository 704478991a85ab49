//! From the settings of a [`Command`] to the steps of a [`Plan`], in the order in which the kernel wants them.

mod clocks;
mod mounts;
mod program;
mod rights;
mod view;

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use crate::command::{Command, Existing};
use crate::error::{Error, Result};
use crate::identity::{self, Maps};
use crate::namespace::Namespace;
use crate::outside::Outside;
use crate::plan::{Arg, Plan, Section, Words};
use crate::stdio::Kind;
use crate::steps::{Steps, text};
use crate::wire::KEPT;

/// HOST_NAME_MAX of Linux.
const HOST_NAME_MAX: usize = 64;

pub(crate) fn plan(command: &Command, defaults: [Kind; 3]) -> Result<Plan> {
    check(command)?;
    let namespaces = Namespaces::of(command);
    let stdio = stdio(command, defaults);
    let mut steps = Steps::default();
    steps.list.reserve(64);
    let words = "join the monitor's cgroup v1 group";
    groups(&command.monitor_cgroup_files, Section::Prepare, words, &mut steps);
    let maps = namespaces.user.then(|| Maps::of(command));
    if identity::is_privileged() {
        steps.outside = match (&command.user_namespace, &maps) {
            (Some((existing, root)), _) => Some(Outside::new(Some(existing.clone()), Some(*root))),
            (None, Some(maps)) => Some(Outside::new(None, maps.root())),
            (None, None) => None,
        };
    }
    if let Some(maps) = &maps {
        maps.steps(&mut steps)?;
    }
    let own_mounts = namespaces.mount && command.process.is_none();
    if own_mounts {
        mounts::outside(command, &mut steps)?;
    }
    if command.user_namespace.is_some() && command.cgroup.is_some() {
        become_root(Section::Child, &mut steps);
    }
    rights::before(command, &mut steps)?;
    clocks::steps(command, &namespaces, &mut steps)?;
    groups(&command.cgroup_files, Section::Child, "join a cgroup v1 group", &mut steps);
    enter(command, &mut steps);
    namespaces.in_child(command, &mut steps)?;
    if own_mounts {
        mounts::steps(command, maps.as_ref(), namespaces.user, &mut steps)?;
    } else if command.terminal.is_some() || command.process.is_some() {
        mounts::open_root(&mut steps);
    }
    view::steps(command, &mut steps)?;
    program::steps(command, &stdio, maps.as_ref(), &mut steps)?;
    // After all that the launcher does with the caller's rights.
    steps.foreign_mounts()?;
    join(command, &mut steps)?;
    steps.list.sort_by_key(|step| step.section); // stable: the order within a section stays
    Ok(Plan {
        steps: steps.list,
        clone_flags: namespaces.flags(),
        cgroup: command.cgroup.clone(),
        monitor_cgroup: command.monitor_cgroup.clone(),
        kept: command.keep.clone(),
        stdio,
        init: command.init,
        idle: command.idle,
        timeout: command.timeout,
        terminal: command.terminal.is_some(),
        readable: namespaces.user,
        helpers: maps.as_ref().and_then(Maps::helpers),
        foreign_clocks: clocks::foreign(command, &namespaces),
        clone_words: namespaces.words(command.cgroup.is_some()),
        program: command.program.clone(),
    })
}

/// Settings that exclude each other.
fn check(command: &Command) -> Result<()> {
    if command.keep.len() > KEPT {
        let why = format!("{} descriptors to keep: the most is {KEPT}", command.keep.len());
        return Err(Error::invalid(why));
    }
    if command.monitor_cgroup.is_some() && command.cgroup.is_none() && command.cgroup_files.is_empty() {
        return Err(Error::invalid("a cgroup of the monitor's own, and none of the child's"));
    }
    let mounts = command.root.is_some() || command.scratch.is_some() || !command.mounts.is_empty();
    if mounts && command.process.as_ref().is_some_and(|(_, kinds)| kinds.contains(&Namespace::Mount)) {
        return Err(Error::invalid(
            "a root or mounts of one's own, and the mount namespace of another process",
        ));
    }
    if command.init && command.process.as_ref().is_some_and(|(_, kinds)| kinds.contains(&Namespace::Pid)) {
        return Err(Error::invalid("an init in the pid namespace of another process, which has one"));
    }
    if command.init && command.idle {
        return Err(Error::invalid("an init, and no program for it to wait for"));
    }
    let user = command.uid_map.is_some() || command.gid_map.is_some();
    if command.user_namespace.is_some() && (user || command.unshare.contains(&Namespace::User)) {
        return Err(Error::invalid("a new user namespace, and one that is there"));
    }
    if command.network.is_some() && command.unshare.contains(&Namespace::Net) {
        return Err(Error::invalid("a new network namespace, and one that is there"));
    }
    Ok(())
}

fn stdio(command: &Command, defaults: [Kind; 3]) -> [Kind; 3] {
    let [stdin, stdout, stderr] = &command.stdio;
    let [input, output, error] = defaults;
    if command.terminal.is_some() {
        // What is not set otherwise is the terminal.
        return [stdin, stdout, stderr].map(|set| set.clone().unwrap_or(Kind::Inherit));
    }
    [stdin.clone().unwrap_or(input), stdout.clone().unwrap_or(output), stderr.clone().unwrap_or(error)]
}

/// The kinds that the child has new.
struct Namespaces {
    cloned: Vec<Namespace>,
    cgroup: bool,
    mount: bool,
    user: bool,
    time: bool,
}

impl Namespaces {
    fn of(command: &Command) -> Self {
        let mut kinds = command.unshare.clone();
        if command.root.is_some() || command.scratch.is_some() || !command.mounts.is_empty() {
            kinds.insert(Namespace::Mount);
        }
        if command.hostname.is_some() {
            kinds.insert(Namespace::Uts);
        }
        if command.loopback && command.network.is_none() {
            kinds.insert(Namespace::Net);
        }
        if command.uid_map.is_some() || command.gid_map.is_some() {
            kinds.insert(Namespace::User);
        }
        if command.init {
            kinds.insert(Namespace::Pid);
        }
        Self {
            // The child makes that one itself, once it is in its group: what it is in then is the root it sees.
            cgroup: kinds.remove(&Namespace::Cgroup),
            mount: kinds.contains(&Namespace::Mount),
            user: kinds.contains(&Namespace::User),
            // Made before the clone or by the child: its offsets are set before anybody is in it.
            time: kinds.remove(&Namespace::Time),
            cloned: kinds.into_iter().collect(),
        }
    }

    fn flags(&self) -> u64 {
        self.cloned.iter().fold(0, |flags, kind| flags | kind.flag())
    }

    fn words(&self, group: bool) -> Words {
        let cloned = self.cloned.clone();
        let group = if group { " in its cgroup" } else { "" };
        Words::later(move || match &cloned[..] {
            [] => format!("clone the child{group}"),
            kinds => format!("clone the child{group} with new namespaces: {}", names(kinds)),
        })
    }

    fn in_child(&self, command: &Command, steps: &mut Steps) -> Result<()> {
        if let Some(network) = &command.network {
            let args = vec![Arg::Descriptor(network.clone()), Arg::Number(Namespace::Net.flag())];
            steps.call(Section::Child, "join the network namespace", libc::SYS_setns, args);
        }
        if command.loopback {
            steps.loopback_up();
        }
        if self.cgroup {
            let flag = vec![Arg::Number(Namespace::Cgroup.flag())];
            steps.call(Section::Child, "make a new cgroup namespace", libc::SYS_unshare, flag);
        }
        if let Some(name) = &command.hostname {
            if name.is_empty() || name.len() > HOST_NAME_MAX {
                let why = format!("host name {name:?}: {} bytes, wanted 1 to {HOST_NAME_MAX}", name.len());
                return Err(Error::invalid(why));
            }
            let args = vec![text(Path::new(name))?, Arg::Number(name.len() as u64)];
            steps.call(
                Section::Child,
                format!("set the host name {}", name.display()),
                libc::SYS_sethostname,
                args,
            );
        }
        Ok(())
    }
}

/// By the launcher. The user namespace first, where its rights are needed for the others; after what needs the caller's rights.
fn join(command: &Command, steps: &mut Steps) -> Result<()> {
    if let Some((user, _)) = &command.user_namespace {
        let args = vec![Arg::Descriptor(user.clone()), Arg::Number(Namespace::User.flag())];
        steps.call(Section::Prepare, "join the user namespace", libc::SYS_setns, args);
        // Into a cgroup the child is born as who may write to it: it becomes root there by itself.
        if command.cgroup.is_none() {
            become_root(Section::Prepare, steps);
        }
    }
    for namespace in &command.join {
        let namespace = match namespace {
            Existing::Descriptor(fd) => fd.clone(),
            Existing::Path(path) => Arc::new(opened(path)?),
        };
        let words = match std::fs::read_link(format!("/proc/self/fd/{}", namespace.as_raw_fd())) {
            Ok(name) => format!("join the namespace {}", name.display()),
            Err(_) => "join a namespace".into(),
        };
        steps.call(
            Section::Prepare,
            words,
            libc::SYS_setns,
            vec![Arg::Descriptor(namespace), Arg::Number(0)],
        );
    }
    if let Some((process, kinds)) = &command.process
        && kinds.contains(&Namespace::Pid)
    {
        // Only who is born after that is in it.
        let args = vec![Arg::Descriptor(process.clone()), Arg::Number(Namespace::Pid.flag())];
        steps.call(Section::Prepare, "join the pid namespace of the process", libc::SYS_setns, args);
    }
    Ok(())
}

/// Whoever we were is nobody in a user namespace that was joined.
fn become_root(section: Section, steps: &mut Steps) {
    let zero = || vec![Arg::Number(0), Arg::Number(0), Arg::Number(0)];
    steps.call(section, "become group 0", libc::SYS_setresgid, zero());
    steps.call(section, "become user 0", libc::SYS_setresuid, zero());
}

fn opened(path: &Path) -> Result<OwnedFd> {
    let failed = |e: &std::io::Error| Error::io(format!("namespace {}", path.display()), e);
    let file = File::open(path).map_err(|e| failed(&e))?;
    crate::kernel::above_standard(file.into()).map_err(|e| failed(&e))
}

fn names(kinds: &[Namespace]) -> String {
    kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ")
}

/// By the child, once it is in its group.
fn enter(command: &Command, steps: &mut Steps) {
    let Some((process, kinds)) = &command.process else { return };
    let others: Vec<_> = kinds.iter().copied().filter(|kind| *kind != Namespace::Pid).collect();
    if others.is_empty() {
        return;
    }
    let flags = others.iter().fold(0, |flags, kind| flags | kind.flag());
    let args = vec![Arg::Descriptor(process.clone()), Arg::Number(flags)];
    let words = Words::later(move || format!("join the namespaces of the process: {}", names(&others)));
    steps.call(Section::Child, words, libc::SYS_setns, args);
    if kinds.contains(&Namespace::User) {
        // Until the program's own user is set.
        become_root(Section::Child, steps);
    }
}

/// cgroup v1: each hierarchy by a file of its own.
fn groups(files: &[Arc<OwnedFd>], section: Section, words: &'static str, steps: &mut Steps) {
    for file in files {
        let args = vec![Arg::Descriptor(file.clone()), Arg::Text(c"0".into()), Arg::Number(1)];
        steps.call(section, words, libc::SYS_write, args);
    }
}
