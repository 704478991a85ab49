//! From a description to a command: what can be refused by looking is refused here, and nothing is made.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use isolate_namespaces::{Command, Mount, Namespace, Signal};

use crate::attach::{Attach, Mode};
use crate::builder::ContainerBuilder;
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::ids::COUNT;
use crate::inside::Inside;
use crate::mount_points::Made;
use crate::name;
use crate::network::check_places;
use crate::origin::From;
use crate::pasta;
use crate::pod::Member;
use crate::rootfs::{self, Layout, Scratch, Way};
use crate::user::{Resolved, layers};
use crate::user_namespace::{self, Decision, UserNamespace};
use crate::volume::{self, Use};

/// A container's umask, as Docker's.
const UMASK: u32 = 0o022;
/// Its search path, unless the description has another.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where POSIX shared memory is,
const MEMORY: &str = "/dev/shm";
/// and its size, as Docker's.
const SHM: u64 = 64 << 20;
/// The container's end of its first pair.
pub(crate) const INTERFACE: &str = "eth0";
/// The groups that may send echo requests without a capability.
const PING: &str = "net.ipv4.ping_group_range";
/// Programs that are inits themselves.
const INITS: [&str; 9] =
    ["init", "systemd", "tini", "dumb-init", "catatonit", "s6-svscan", "runit", "runit-init", "docker-init"];

/// What a description comes to, before anything is made.
pub(crate) struct Compiled {
    pub command: Command,
    pub layout: Layout,
    /// All of one mode; more than one are on bridges.
    pub attaches: Vec<Attach>,
    pub mode: Mode,
    pub decision: Decision,
    /// Those that it uses.
    pub volumes: Vec<Use>,
    /// What root is outside, in a user namespace of another container's.
    pub joined: Option<[u32; 2]>,
    /// Namespaces and ids made ahead will do.
    pub warm: bool,
    kinds: Vec<Namespace>,
}

impl Compiled {
    /// Root inside is `base` outside, where the container has a user namespace of a range of ids.
    pub(crate) fn map_ids(&mut self, base: u32) {
        if self.decision.is_mapped() && self.joined.is_none() {
            user_namespace::map_range(&mut self.command, base);
        }
    }

    /// Root inside is `base` outside, in namespaces that are there.
    pub(crate) fn join(&mut self, user: OwnedFd, network: OwnedFd, base: u32) {
        self.command.join_user(user, [base, base]).join_network(network);
    }

    /// Mount points that the start will make in a root that stays.
    pub(crate) fn made(&self) -> Option<Made> {
        let root = self.layout.kept.as_deref()?;
        Made::of(root, &self.layout.layers, self.command.mount_points())
    }

    /// What is executed in it later wants to know.
    pub(crate) fn inside(
        &self,
        builder: &ContainerBuilder,
        hostname: &str,
        root: Option<[u32; 2]>,
        entrances: Vec<OwnedFd>,
    ) -> Inside {
        Inside {
            confinement: builder.confinement.clone(),
            environment: environment(builder, hostname, None),
            workdir: builder.workdir.clone(),
            mode: self.mode,
            kinds: self.kinds.clone(),
            root,
            stop_signal: builder.stop_signal.unwrap_or(Signal::TERM),
            entrances,
            may_set_groups: may_set_groups(&self.decision),
            overlay: self.layout.overlay.clone(),
            #[cfg(feature = "images")]
            image: None,
            mount_points: mount_points(&self.command),
            entering: std::sync::Mutex::new(None),
        }
    }
}

/// From the root, without a slash before them.
fn mount_points(command: &Command) -> Vec<PathBuf> {
    command.mount_points().map(|point| point.strip_prefix("/").unwrap_or(point).to_owned()).collect()
}

pub(crate) fn compile(
    builder: &ContainerBuilder,
    name: &str,
    id: &str,
    state: &Path,
    privileged: bool,
    lasting: bool,
) -> Result<Compiled> {
    name::check(name)?;
    let attaches = builder.attaches();
    let mode = check_networks(builder, &attaches, privileged)?;
    let joined = joined(builder)?;
    let decision = decision(builder, privileged, joined.is_some())?;
    let way = Way {
        mapped: decision.is_mapped(),
        rootless: decision == Decision::Own,
        nosuid: builder.confinement.no_new_privileges,
        lasting,
    };
    let layout = match builder.holds {
        None => rootfs::compile(&builder.rootfs, Scratch::choose(id, privileged), id, state, way)?,
        Some(_) => rootfs::nothing(way),
    };
    let ids = layout.range.filter(|ids| joined.is_some_and(|([uid, _], _)| uid != *ids));
    if let (Some(ids), Some(member)) = (ids, &builder.member) {
        let pod = member.pod.called();
        let what =
            format!("its upper layer belongs to the ids from {ids} on, which are not those of pod `{pod}`");
        return Err(Error::new(ErrorKind::InvalidConfig, what));
    }
    let user = user(builder, &layout)?;
    let mut command = program(builder, name, &user)?;
    builder.confinement.apply(&user, may_set_groups(&decision), &mut command);
    builder.confinement.view(&mut command);
    let kinds = namespaces(builder, mode, decision.is_own(), &mut command)?;
    match (&decision, joined) {
        (Decision::Own, _) => user_namespace::map_own(&mut command),
        (_, Some((root, from))) => {
            if let Some(namespace) = from.open(Namespace::User)? {
                command.join_user(namespace, root);
            }
        }
        _ => {}
    }
    if matches!(mode, Mode::None | Mode::Bridge | Mode::Pasta) {
        command.loopback_up();
    }
    command.root(layout.root.clone());
    if let Some(scratch) = &layout.scratch {
        command.scratch(scratch.clone());
    }
    let own = standard_mounts(builder, mode, way)?;
    let files = if builder.holds.is_none() { files::mounts(state, &layout) } else { Vec::new() };
    for mount in layout.mounts.iter().cloned().chain(own).chain(files) {
        command.mount(mount);
    }
    if builder.confinement.read_only_root {
        // What is mounted over a part of it is not it.
        let parts = layout.mounts.iter().map(|mount| mount.target());
        for part in parts.filter(|part| builder.mounts.iter().all(|mount| mount.target() != *part)) {
            command.read_only_mount(part);
        }
        command.read_only_mount("/");
    }
    if mode == Mode::Bridge && builder.sysctls.iter().all(|(name, _)| name != PING) {
        // As on Docker's: everybody may send echo requests, which wants no capability then (icmp(7)).
        command.sysctl(PING, if decision.is_mapped() { "0 65535" } else { "0 2147483647" });
    }
    for (name, value) in &builder.sysctls {
        check_sysctl(name, &kinds)?;
        command.sysctl(name, value);
    }
    for device in &builder.devices {
        command.mount(mount_device(device)?);
    }
    let mut volumes = Vec::new();
    for (n, mount) in builder.mounts.iter().enumerate() {
        let volume = mount.volume_use(id, n)?;
        command.mount(mount.compile(way, volume.as_ref())?);
        volumes.extend(volume);
    }
    let joined = joined.map(|(root, _)| root);
    // From another user namespace the launcher may not lower the score. For a user that the ids have not there is an error.
    let known = user.groups.iter().chain([&user.uid, &user.gid]).all(|id| *id < COUNT);
    let free = layout.range.is_none() && builder.confinement.oom_score_adj.is_none() && known;
    let warm = free && mode == Mode::Bridge && decision.is_mapped() && joined.is_none();
    Ok(Compiled { command, layout, volumes, attaches, mode, decision, joined, warm, kinds })
}

/// What mode they are all of.
fn check_networks(builder: &ContainerBuilder, attaches: &[Attach], privileged: bool) -> Result<Mode> {
    let refused = |what| Error::new(ErrorKind::InvalidConfig, what);
    let mode = attaches.first().map_or(Mode::None, |attach| attach.mode);
    if attaches.len() > 1 && attaches.iter().any(|attach| attach.mode != Mode::Bridge) {
        let what = "several networks, of which one is none, the host's, another container's or pasta's";
        return Err(refused(what.to_owned()).with_hint("only networks of bridges can be several"));
    }
    if mode != Mode::Bridge {
        let hint = "put it on Attach::bridge()";
        if mode == Mode::Pasta {
            pasta::check(&builder.publish, privileged)?;
        } else if let Some(publish) = builder.publish.first() {
            return Err(refused(format!("cannot publish {publish}: the container is not on a bridge"))
                .with_hint(if privileged { hint } else { "put it on Attach::pasta()" }));
        }
        if let Some(wish) = attaches.iter().find_map(Attach::wants_a_bridge) {
            let what = format!("cannot have {wish}: the container is not on a bridge");
            return Err(refused(what).with_hint(hint));
        }
    } else if !privileged {
        return Err(Error::new(
            ErrorKind::PermissionDenied,
            "this user may not connect a container to a bridge",
        )
        .with_hint(
            "run as root (CAP_SYS_ADMIN, CAP_NET_ADMIN), or choose Attach::pasta(), Attach::none() or Attach::host()",
        ));
    }
    check_places(attaches)?;
    Ok(mode)
}

/// The user namespace that comes with those of another container.
fn joined(builder: &ContainerBuilder) -> Result<Option<([u32; 2], &From)>> {
    let mut found: Option<([u32; 2], &From)> = None;
    for kind in Namespace::CONTAINER {
        let Some(origin @ From::Container { pid, user: Some(root) }) = builder.origin(kind) else { continue };
        if let Some((_, From::Container { pid: other, .. })) = found
            && other != pid
        {
            let why = format!("the {kind} namespace is of another container, in another user namespace");
            return Err(Error::new(ErrorKind::InvalidConfig, why)
                .with_hint("share namespaces with one container, or start all with UserNamespace::Host"));
        }
        found = Some((*root, origin));
    }
    Ok(found)
}

fn decision(builder: &ContainerBuilder, privileged: bool, joined: bool) -> Result<Decision> {
    // A pod has nothing of a root itself. With `Auto` the host's programs stand for those of its containers, which are not known yet.
    let of_pod = builder.holds.is_some() && builder.user_namespace == UserNamespace::Required;
    let sources = if of_pod { Vec::new() } else { builder.rootfs.sources() };
    let mut paths: Vec<&Path> = sources.iter().map(PathBuf::as_path).collect();
    paths.extend(builder.mounts.iter().filter_map(crate::mount::Mount::source));
    let volumes = builder.mounts.iter().any(crate::mount::Mount::is_volume).then(volume::root).transpose()?;
    // What is not there yet will lie on the same file system.
    paths.extend(volumes.iter().flat_map(|place| place.ancestors()).find(|path| path.exists()));
    if joined {
        return match &builder.member {
            Some(member) => user_namespace::joined(member.pod.called(), &paths),
            None => Ok(Decision::Range),
        };
    }
    let pid = builder.origin(Namespace::Pid);
    let foreign =
        Namespace::CONTAINER.iter().any(|kind| matches!(builder.origin(*kind), Some(From::Container { .. })));
    // Only who owns the pid namespace may mount a /proc of it.
    let shares = match pid {
        Some(From::Host | From::Path(_) | From::Descriptor(_)) => Some("pid"),
        _ if foreign => Some("user"),
        _ => None,
    };
    let upper = builder.rootfs.owned_upper();
    let upper = upper.map(|upper| format!("upper layer {} belongs to ids of the caller's", upper.display()));
    let many = || {
        let (layers, most) = (sources.len(), crate::host::most_mapped_layers());
        (layers > most).then(|| format!("{layers} layers, of which {most} can be id-mapped"))
    };
    if builder.user_namespace != UserNamespace::Host
        && privileged
        && shares.is_none()
        && let Some(why) = upper.or_else(many)
    {
        return match builder.user_namespace {
            UserNamespace::Required => {
                Err(Error::new(ErrorKind::Unsupported, format!("no user namespace: {why}")))
            }
            _ => Ok(Decision::Host(Some(why))),
        };
    }
    user_namespace::decide(builder.user_namespace, privileged, &paths, shares)
}

/// An ordinary user whose one group is all there is may not even drop others (user_namespaces(7)).
fn may_set_groups(decision: &Decision) -> bool {
    *decision != Decision::Own || user_namespace::has_subordinate_ids()
}

fn user(builder: &ContainerBuilder, layout: &Layout) -> Result<Resolved> {
    let Some(user) = &builder.confinement.user else { return Ok(Resolved::root()) };
    let read = |path| layers::read(&layout.users, path);
    user.resolve(&read("etc/passwd")?, &read("etc/group")?)
}

fn program(builder: &ContainerBuilder, name: &str, user: &Resolved) -> Result<Command> {
    let command = if builder.holds.is_some() { &["pod".into()][..] } else { &builder.command };
    let [program, args @ ..] = command else {
        return Err(Error::new(ErrorKind::InvalidConfig, "no command")
            .with_hint("say what to run by `.command([…])`"));
    };
    let hostname = builder.hostname.as_deref().unwrap_or(name);
    let mut command = Command::new(program);
    command.args(args).env_clear();
    for (key, value) in environment(builder, hostname, Some(user)) {
        command.env(key, value);
    }
    let [stdin, stdout, stderr] = builder.stdio.clone();
    if let Some(stdin) = stdin {
        command.stdin(stdin);
    }
    if let Some(stdout) = stdout {
        command.stdout(stdout);
    }
    if let Some(stderr) = stderr {
        command.stderr(stderr);
    }
    // A session of its own: its processes cannot reach the caller's terminal by ioctl_tty(2).
    command.new_session().umask(UMASK);
    // Another's name is not ours to change.
    if matches!(builder.origin(Namespace::Uts), None | Some(From::New)) {
        command.hostname(OsStr::new(hostname));
    }
    if let Some(directory) = &builder.workdir {
        command.current_dir(directory);
    }
    if let Some(size) = builder.terminal {
        command.terminal(size).console();
    }
    if let Some(limit) = builder.timeout {
        command.timeout(limit);
    }
    let own_pids = matches!(builder.origin(Namespace::Pid), None | Some(From::New));
    let is_init = Path::new(program).file_name().is_some_and(|name| INITS.iter().any(|init| name == *init));
    match builder.holds {
        None => command.init(builder.init.unwrap_or(own_pids && !is_init)),
        Some(_) => command.idle(true),
    };
    Ok(command)
}

/// What the description says comes after the rest. Without a user `HOME` is left to who executes something.
fn environment(
    builder: &ContainerBuilder,
    hostname: &str,
    user: Option<&Resolved>,
) -> Vec<(OsString, OsString)> {
    let mut all: Vec<(OsString, OsString)> =
        vec![("PATH".into(), PATH.into()), ("HOSTNAME".into(), hostname.into())];
    if let Some(user) = user {
        all.push(("HOME".into(), user.home.clone().into()));
    }
    if builder.terminal.is_some() {
        all.push(("TERM".into(), "xterm".into()));
    }
    all.extend(builder.env.iter().cloned());
    all
}

/// New ones and those to be joined; which ones are not the host's.
fn namespaces(
    builder: &ContainerBuilder,
    mode: Mode,
    own_user: bool,
    command: &mut Command,
) -> Result<Vec<Namespace>> {
    let mut kinds = Vec::new();
    for kind in Namespace::CONTAINER.into_iter().chain([Namespace::Time]) {
        match (kind, builder.origin(kind)) {
            (
                Namespace::Mount,
                Some(
                    From::Host
                    | From::Container { .. }
                    | From::Detached(_)
                    | From::Path(_)
                    | From::Descriptor(_),
                ),
            ) => {
                let what = "the mount namespace: a container's root wants one of its own";
                return Err(Error::new(ErrorKind::InvalidConfig, what));
            }
            (_, Some(From::Host)) => continue,
            (
                _,
                Some(
                    from @ (From::Container { .. } | From::Detached(_) | From::Path(_) | From::Descriptor(_)),
                ),
            ) => {
                if let Some(namespace) = from.open(kind)? {
                    command.join(namespace);
                }
            }
            (Namespace::Net, _) if mode == Mode::Host => continue,
            // loopback_up asks for it.
            (Namespace::Net, _) => {}
            (Namespace::Time, None) if builder.clocks == [None; 2] => continue,
            (kind, _) => drop(command.unshare([kind])),
        }
        kinds.push(kind);
    }
    if builder.namespaces.contains_key(&Namespace::User) {
        return Err(Error::new(ErrorKind::InvalidConfig, "the user namespace comes with the others")
            .with_hint("say what it should be by `user_namespace`"));
    }
    if let Some((seconds, nanoseconds)) = builder.clocks[0] {
        command.monotonic_offset(seconds, nanoseconds);
    }
    if let Some((seconds, nanoseconds)) = builder.clocks[1] {
        command.boottime_offset(seconds, nanoseconds);
    }
    if own_user {
        kinds.push(Namespace::User);
    }
    Ok(kinds)
}

fn standard_mounts(builder: &ContainerBuilder, mode: Mode, way: Way) -> Result<Vec<Mount>> {
    let dev = if way.mapped { Mount::dev().outside() } else { Mount::dev() };
    let shared = builder.member.as_ref().map(Member::memory).transpose()?.flatten();
    let memory = match shared {
        Some(pod) => Mount::of_namespace(pod, MEMORY, MEMORY).noexec(),
        None => Mount::shm(SHM),
    };
    let mut mounts = vec![Mount::proc(), dev, Mount::devpts(), memory];
    // The kernel lets these two be mounted by who owns the namespace that they show: the container, or, of the host's, the launcher.
    let queues = builder.origin(Namespace::Ipc);
    let sys = match mode {
        Mode::None | Mode::Bridge | Mode::Pasta => None,
        Mode::Host => Some(&From::Host),
        Mode::Shared => builder.origin(Namespace::Net),
    };
    for (mount, origin) in [(Mount::mqueue(), queues), (Mount::sysfs(), sys)] {
        match origin {
            Some(From::Host) if way.mapped => mounts.push(mount.outside()),
            Some(From::Host) if way.rootless && mount.target() == Path::new("/sys") => {
                mounts.push(Mount::bind("/sys", "/sys").read_only());
            }
            Some(From::Host | From::Path(_) | From::Descriptor(_)) if way.mapped || way.rootless => {}
            _ => mounts.push(mount),
        }
    }
    Ok(mounts)
}

/// The parameters of the container's own namespaces, as Docker allows them.
fn check_sysctl(name: &str, kinds: &[Namespace]) -> Result<()> {
    const IPC: [&str; 9] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.auto_msgmni",
    ];
    let needs = if name.starts_with("net.") {
        Namespace::Net
    } else if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        Namespace::Ipc
    } else {
        let what =
            format!("kernel parameter {name}: it is the whole machine's, or not known to be a namespace's");
        return Err(Error::new(ErrorKind::InvalidConfig, what)
            .with_hint("a container has net.*, fs.mqueue.*, kernel.shm*, kernel.msg* and kernel.sem"));
    };
    if kinds.contains(&needs) {
        return Ok(());
    }
    let what = format!("kernel parameter {name}: the container is in the host's {needs} namespace");
    Err(Error::new(ErrorKind::InvalidConfig, what))
}

fn mount_device(path: &Path) -> Result<Mount> {
    let said = || format!("device {}", path.display());
    if !path.starts_with("/dev") || path.components().any(|part| part.as_os_str() == "..") {
        return Err(Error::new(ErrorKind::InvalidConfig, format!("{}: not below /dev", said())));
    }
    let kind = std::fs::metadata(path).map_err(|e| Error::io(said(), &e))?.file_type();
    if !kind.is_char_device() && !kind.is_block_device() {
        return Err(Error::new(ErrorKind::InvalidConfig, format!("{}: not a device", said())));
    }
    Ok(Mount::device(path, path))
}
