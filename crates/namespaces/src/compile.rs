//! From the settings of a [`Command`] to the steps of a [`Plan`], in the order in which the kernel wants them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::command::Command;
use crate::error::{Error, Result};
use crate::filesystem::RDONLY;
use crate::identity;
use crate::mount::{Late, Mount, What};
use crate::namespace::Namespace;
use crate::plan::{Arg, Plan, Section};
use crate::stdio::Kind;
use crate::steps::{MOUNT, ROOT, Source, Steps, UMASK, c_string, text};
use crate::wire::{KEPT, OP_ALIVE, OP_EXEC, OP_READY};

/// Where a program without `/` is looked for if the child has no `PATH`, as execvp(3) does.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// HOST_NAME_MAX of Linux.
const HOST_NAME_MAX: usize = 64;

pub(crate) fn plan(command: &Command, defaults: [Kind; 3]) -> Result<Plan> {
    if command.keep.len() > KEPT {
        return Err(Error::invalid(format!(
            "{} descriptors to keep: the most is {KEPT}",
            command.keep.len()
        )));
    }
    let namespaces = Namespaces::of(command);
    let [stdin, stdout, stderr] = &command.stdio;
    let [input, output, error] = defaults;
    let stdio =
        [stdin.clone().unwrap_or(input), stdout.clone().unwrap_or(output), stderr.clone().unwrap_or(error)];
    let mut steps = Steps::default();
    join(command, &mut steps);
    groups(command, &mut steps);
    identity::steps(command, namespaces.user, &mut steps)?;
    namespaces.in_child(command, &mut steps)?;
    if namespaces.mount {
        mounts(command, namespaces.user, &mut steps)?;
    }
    standard(&stdio, &mut steps);
    last(command, &mut steps)?;
    steps.list.sort_by_key(|step| step.section); // stable: the order within a section stays
    Ok(Plan {
        steps: steps.list,
        clone_flags: namespaces.flags(),
        cgroup: command.cgroup.clone(),
        procs: command.cgroup.as_ref().and_then(|group| procs(group)),
        kept: command.keep.clone(),
        stdio,
        clone_words: namespaces.words(command.cgroup.is_some()),
        program: command.program.clone(),
    })
}

/// The kinds that the child has new.
struct Namespaces {
    cloned: Vec<Namespace>,
    cgroup: bool,
    mount: bool,
    user: bool,
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
        if command.loopback {
            kinds.insert(Namespace::Net);
        }
        if command.uid_map.is_some() || command.gid_map.is_some() {
            kinds.insert(Namespace::User);
        }
        Self {
            // The child makes that one itself, once it is in its group: what it is in then is the root it sees.
            cgroup: kinds.remove(&Namespace::Cgroup),
            mount: kinds.contains(&Namespace::Mount),
            user: kinds.contains(&Namespace::User),
            cloned: kinds.into_iter().collect(),
        }
    }

    fn flags(&self) -> u64 {
        self.cloned.iter().fold(0, |flags, kind| flags | kind.flag())
    }

    fn words(&self, group: bool) -> String {
        let names: Vec<_> = self.cloned.iter().map(|kind| kind.name()).collect();
        let group = if group { " in its cgroup" } else { "" };
        match names.len() {
            0 => format!("clone the child{group}"),
            _ => format!("clone the child{group} with new namespaces: {}", names.join(", ")),
        }
    }

    fn in_child(&self, command: &Command, steps: &mut Steps) -> Result<()> {
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

fn join(command: &Command, steps: &mut Steps) {
    for namespace in &command.join {
        let args = vec![Arg::Descriptor(namespace.clone()), Arg::Number(0)];
        let words = match std::fs::read_link(format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&**namespace)
        )) {
            Ok(name) => format!("join the namespace {}", name.display()),
            Err(_) => "join a namespace".into(),
        };
        steps.call(Section::Prepare, words, libc::SYS_setns, args);
    }
}

/// The group's list of processes, for the child to write itself into where clone3 is refused.
fn procs(group: &OwnedFd) -> Option<Arc<OwnedFd>> {
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::openat(group, "cgroup.procs", flags, rustix::fs::Mode::empty()).ok()?;
    crate::kernel::above_standard(file).ok().map(Arc::new)
}

/// cgroup v1: each hierarchy by a file of its own.
fn groups(command: &Command, steps: &mut Steps) {
    for file in &command.cgroup_files {
        let args = vec![Arg::Descriptor(file.clone()), Arg::Text(c"0".into()), Arg::Number(1)];
        steps.call(Section::Child, "join a cgroup v1 group", libc::SYS_write, args);
    }
}

fn mounts(command: &Command, user: bool, steps: &mut Steps) -> Result<()> {
    let child = Section::Child;
    let private = vec![
        Arg::Number(0),
        Arg::Text(c"/".into()),
        Arg::Number(0),
        Arg::Number(libc::MS_REC | libc::MS_PRIVATE),
        Arg::Number(0),
    ];
    steps.call(child, "make every mount private", libc::SYS_mount, private);
    steps.call(child, "clear the umask", libc::SYS_umask, vec![Arg::Number(0)]).save = Some(UMASK);
    if let Some(scratch) = &command.scratch {
        steps.filesystem(scratch, MOUNT, "the scratch file system")?;
        steps.enter(MOUNT, "scratch file system");
    }
    let makes = root(command, user, steps)?;
    let mut made = BTreeSet::new();
    for mount in &command.mounts {
        let makes = makes && !made.contains(&mount.target);
        one_mount(mount, command.root.is_some(), makes, user, steps)?;
        made.retain(|path: &PathBuf| !path.starts_with(&mount.target));
        made.extend(mount.directories());
    }
    if command.root.is_some() {
        let dot = || Arg::Text(c".".into());
        steps.call(child, "pivot into the root", libc::SYS_pivot_root, vec![dot(), dot()]);
        let detach = || vec![dot(), Arg::Number(libc::MNT_DETACH as u64)];
        // The old root lies over the new one now, and what was moved over it before lies on top of that.
        if command.scratch.is_some() {
            steps.call(child, "unmount the scratch file system", libc::SYS_umount2, detach());
        }
        steps.call(child, "unmount the old root", libc::SYS_umount2, detach());
        steps.call(child, "enter /", libc::SYS_chdir, vec![Arg::Text(c"/".into())]);
        if let Some(What::Filesystem(filesystem)) = command.root.as_ref().map(|root| &root.0)
            && filesystem.attributes & RDONLY != 0
        {
            steps.set_attributes(child, ROOT, RDONLY, false, "set read-only on the root".into());
        }
    }
    steps.call(child, "restore the umask", libc::SYS_umask, vec![Arg::Slot(UMASK)]);
    Ok(())
}

/// Brings the root into its slot and over `/`; whether mount points can be made in it.
fn root(command: &Command, user: bool, steps: &mut Steps) -> Result<bool> {
    let Some(root) = &command.root else {
        let flags = Arg::Number((libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) as u64);
        let args = vec![Arg::Number(libc::AT_FDCWD as u64), Arg::Text(c"/".into()), flags];
        steps.call(Section::Child, "open /", libc::SYS_openat, args).save = Some(ROOT);
        return Ok(false);
    };
    let makes = match &root.0 {
        What::Filesystem(filesystem) => {
            let mut writable = filesystem.clone();
            writable.attributes &= !RDONLY;
            steps.filesystem(&writable, ROOT, "the root")?;
            true
        }
        What::Bind { source, attributes, .. } => {
            let (section, source_of, directory) = source_of(source, user, "root")?;
            if !directory {
                return Err(Error::os(format!("root {}", source.display()), libc::ENOTDIR));
            }
            steps.tree(section, &source_of, *attributes, ROOT, &source.display().to_string())?;
            attributes & RDONLY == 0
        }
        What::Tree { tree, attributes } => {
            steps.tree(Section::Prepare, &Source::Open(tree.clone()), *attributes, ROOT, "the root")?;
            attributes & RDONLY == 0
        }
    };
    steps.enter(ROOT, "root");
    Ok(makes)
}

fn one_mount(mount: &Mount, rooted: bool, makes: bool, user: bool, steps: &mut Steps) -> Result<()> {
    let target = mount.target.display().to_string();
    let mut directory = true;
    let slot = match &mount.what {
        What::Filesystem(filesystem) if rooted && mount.strict && filesystem.is_plain() => {
            if makes {
                steps.make_mount_point(&mount.target, true, true)?;
            }
            steps.mount_point(&mount.target, true)?;
            return steps.mount_there(filesystem, &target);
        }
        What::Filesystem(filesystem) => {
            steps.filesystem(filesystem, MOUNT, &target)?;
            MOUNT
        }
        What::Bind { source, attributes, late } => {
            let slot = steps.slot()?;
            let (section, source_of, is_directory) = match late {
                Some(kind) => {
                    let section = if by_child(user) { Section::Child } else { Section::Prepare };
                    (section, Source::Path(source.clone()), *kind == Late::Directory)
                }
                None => source_of(source, user, "source of a mount")?,
            };
            directory = is_directory;
            steps.tree(section, &source_of, *attributes, slot, &source.display().to_string())?;
            slot
        }
        What::Tree { tree, attributes } => {
            let slot = steps.slot()?;
            directory =
                File::from(tree.try_clone().map_err(|e| Error::io(format!("mount at {target}"), &e))?)
                    .metadata()
                    .map_err(|e| Error::io(format!("mount at {target}"), &e))?
                    .is_dir();
            steps.tree(Section::Prepare, &Source::Open(tree.clone()), *attributes, slot, &target)?;
            slot
        }
    };
    if makes {
        steps.make_mount_point(&mount.target, mount.strict, directory)?;
    }
    steps.mount_point(&mount.target, mount.strict)?;
    steps.attach(slot, format!("move the mount over {target}"));
    Ok(())
}

/// Who copies a source, and when: the launcher, of what is open, if it may; else the child, by path, in its own copy of
/// the mounts. And whether it is a directory.
fn source_of(path: &Path, user: bool, what: &str) -> Result<(Section, Source, bool)> {
    let named = |e: &std::io::Error| Error::io(format!("{what} {}", path.display()), e);
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_CLOEXEC)
        .open(path)
        .map_err(|e| named(&e))?;
    let directory = file.metadata().map_err(|e| named(&e))?.is_dir();
    if by_child(user) {
        let path = std::path::absolute(path).map_err(|e| named(&e))?;
        return Ok((Section::Child, Source::Path(path), directory));
    }
    let file = crate::kernel::above_standard(OwnedFd::from(file)).map_err(|e| named(&e))?;
    Ok((Section::Prepare, Source::Open(Arc::new(file)), directory))
}

/// Without privilege only the owner of a new user namespace, the child, may copy mounts.
fn by_child(user: bool) -> bool {
    user && !identity::is_privileged()
}

fn standard(stdio: &[Kind; 3], steps: &mut Steps) {
    for (n, name) in ["input", "output", "error"].into_iter().enumerate() {
        if !matches!(stdio[n], Kind::Inherit) {
            let args = vec![Arg::Standard(n), Arg::Number(n as u64), Arg::Number(0)];
            steps.call(Section::Child, format!("connect standard {name}"), libc::SYS_dup3, args);
        }
    }
}

/// What comes after everything that can be set up, up to the program.
fn last(command: &Command, steps: &mut Steps) -> Result<()> {
    let child = Section::Child;
    let current_dir = command.current_dir.as_deref();
    if let Some(directory) = current_dir {
        let words = format!("enter the working directory {}", directory.display());
        steps.call(child, words, libc::SYS_chdir, vec![text(directory)?]);
    }
    if let Some(mask) = command.umask {
        steps.call(
            child,
            format!("set the umask {mask:03o}"),
            libc::SYS_umask,
            vec![Arg::Number(mask.into())],
        );
    }
    // Late: a session is a group of the scheduler (sched(7), autogroups), and entering one costs the processor.
    if command.new_session {
        steps.call(child, "lead a new session", libc::SYS_setsid, vec![]);
    }
    let death = vec![Arg::Number(libc::PR_SET_PDEATHSIG as u64), Arg::Number(libc::SIGKILL as u64)];
    steps.call(child, "end with the monitor", libc::SYS_prctl, death);
    steps.operation(child, "see that the monitor lives", OP_ALIVE, vec![]);
    let all = vec![Arg::Number(3), Arg::Number(u32::MAX.into()), Arg::Number(4 /* CLOSE_RANGE_CLOEXEC */)];
    steps.call(child, "mark every other descriptor to be closed", libc::SYS_close_range, all);
    let none =
        vec![Arg::Number(libc::SIG_SETMASK as u64), Arg::Bytes(vec![0; 8]), Arg::Number(0), Arg::Number(8)];
    steps.call(child, "unblock every signal", libc::SYS_rt_sigprocmask, none);
    steps.operation(child, "report that all is ready", OP_READY, vec![]);
    let environment = environment(command);
    let paths = paths(command, &environment)?;
    let argv = std::iter::once(&command.program)
        .chain(&command.args)
        .map(|arg| c_string(arg))
        .collect::<Result<_>>()?;
    let envp = environment.iter().map(|(key, value)| variable(key, value)).collect::<Result<_>>()?;
    let words = format!("execute {}", command.program.display());
    steps.operation(child, words, OP_EXEC, vec![Arg::Table(paths), Arg::Table(argv), Arg::Table(envp)]);
    Ok(())
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
