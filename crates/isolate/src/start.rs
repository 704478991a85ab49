//! A start: what is made, in which order.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::Path;

use isolate_cgroups::{Cgroup, Limits};
use isolate_namespaces::{Command, Held, Mount, Namespace};
use isolate_netns::{NetworkNamespace, Port, Reservation};

use crate::attach::{Attach, Mode};
use crate::builder::ContainerBuilder;
use crate::container::Container;
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::name;
use crate::network::{self, Lease};
use crate::parcel;
use crate::plan::Plan;
use crate::ports;
use crate::record::{Network, Record};
use crate::rootfs::{self, Layout, Scratch};
use crate::store::Store;
use crate::sweep;
use crate::undo::Undo;

/// A container's umask, as Docker's.
const UMASK: u32 = 0o022;
/// Its search path, unless the description has another.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The size of /dev/shm, as Docker's.
const SHM: u64 = 64 << 20;

/// The container's end of its veth pair.
const INTERFACE: &str = "eth0";

/// What a description comes to, before anything is made.
struct Compiled {
    command: Command,
    layout: Layout,
    attach: Attach,
}

pub(crate) fn plan(builder: &ContainerBuilder, name: &str) -> Result<Plan> {
    let state = Store::path()?.join("containers").join(name);
    let group = group_name(name);
    let compiled = compile(builder, name, &group, &state)?;
    let bridged = compiled.attach.mode == Mode::Bridge;
    let mut before = vec![format!("lock {}", state.display())];
    before.extend(builder.publish.iter().map(|publish| format!("reserve the host port of {publish}")));
    if bridged {
        before.push(network::words());
        before.push("lease an address on it".into());
    }
    before.extend(compiled.layout.preparations.iter().map(rootfs::Preparation::words));
    before.push(format!("write hosts, hostname and resolv.conf to {}", state.display()));
    before.push(format!("make control group {group}"));
    before.extend(limits(&builder.limits));
    let mut held = Vec::new();
    if bridged {
        held.push("connect the container's network namespace to the bridge".to_owned());
        held.extend(builder.publish.iter().map(|publish| format!("publish {publish}")));
    }
    Ok(Plan { before, launch: compiled.command.plan()?, held })
}

/// The limits in words.
fn limits(limits: &Limits) -> Vec<String> {
    let one = |what: &str, value: Option<String>| value.map(|value| format!("limit its {what} to {value}"));
    let all = [
        one("memory", limits.get_memory().map(|bytes| bytes.to_string())),
        one("swap beyond memory", limits.get_swap().map(|bytes| bytes.to_string())),
        one("processor time", limits.get_cpus().map(|cores| format!("{cores} cores"))),
        one("processor weight", limits.get_cpu_weight().map(|weight| weight.to_string())),
        one("tasks", limits.get_pids().map(|most| most.to_string())),
    ];
    all.into_iter().flatten().collect()
}

pub(crate) fn start(builder: &ContainerBuilder, name: &str) -> Result<Container> {
    privileged()?;
    let store = Store::open()?;
    let group = group_name(name);
    let state = store.container(name);
    let Compiled { mut command, layout, attach } = compile(builder, name, &group, &state)?;
    if !layout.overlays.is_empty() {
        isolate_overlay::supported()?;
    }

    let reservations = ports::reserve(&builder.publish, &store)?;
    let mut record = Record::new(name, group.clone());
    record.published = reservations.iter().map(|reservation| reservation.publish().to_string()).collect();
    let mut undo = claim(&store, record, &layout, &attach)?;
    for preparation in &layout.preparations {
        preparation.make()?;
    }
    for overlay in &layout.overlays {
        overlay.check()?;
    }
    let address = undo.lease.as_ref().map(|lease| IpAddr::V4(lease.address));
    let hostname = builder.hostname.as_deref().unwrap_or(name);
    files::write(&state, hostname, name, address)?;

    let cgroup = Cgroup::create(group)?;
    command.cgroup(cgroup.try_clone_fd()?).cgroup_files(cgroup.join_files()?);
    let cgroup = undo.cgroup.insert(cgroup);
    cgroup.apply(&builder.limits)?;

    if let Some(entry) = &undo.entry {
        command.keep(entry.share_lock()?);
    }
    if let Some(parcel) =
        parcel::of(&reservations).map_err(|e| Error::io("cannot keep the published ports", &e))?
    {
        command.keep(parcel);
    }
    let held = command.spawn_held()?;
    if let Some(lease) = &undo.lease {
        undo.port = Some(connect(lease, &held, &reservations)?);
    }
    undo.child = Some(held.release()?);
    let published = reservations.iter().map(Reservation::publish).collect();
    Ok(Container::new(name, address, published, undo))
}

/// The name, the address and the record, before anything is made that could be left behind.
fn claim(store: &Store, mut record: Record, layout: &Layout, attach: &Attach) -> Result<Undo> {
    let guard = store.lock()?;
    sweep::first(store, &guard)?;
    let entry = match store.create(&guard, &record.name) {
        // Its owner may have been killed since.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            sweep::all(store, &guard)?;
            store.create(&guard, &record.name)?
        }
        other => other?,
    };
    let mut undo = Undo::new(store.clone(), entry);
    record.scratch = layout.directory.clone();
    record.work = layout.work.clone();
    undo.directories.extend(layout.directory.iter().chain(&layout.work).cloned());
    let leased = match attach.mode {
        Mode::Bridge => network::lease(store, &guard, &record.name, attach.address).map(Some),
        _ => Ok(None),
    };
    let written = leased.and_then(|lease| {
        if let Some(lease) = &lease {
            record.network = Some(Network { bridge: network::DEFAULT.into(), address: lease.address.into() });
        }
        undo.lease = lease;
        undo.entry.as_ref().map_or(Ok(()), |entry| entry.write(&record))
    });
    // Taking back wants the lock.
    drop(guard);
    written.map(|()| undo)
}

/// A veth pair between the bridge and the namespace of the child that waits, and the rules that lead there.
fn connect(lease: &Lease, held: &Held, reservations: &[Reservation]) -> Result<Port> {
    let namespace = NetworkNamespace::of_pid(held.id())?;
    let port = lease.bridge.connect(&namespace, lease.address, INTERFACE)?;
    for reservation in reservations {
        port.publish_reserved(reservation)?;
    }
    Ok(port)
}

fn compile(builder: &ContainerBuilder, name: &str, id: &str, state: &Path) -> Result<Compiled> {
    name::check(name)?;
    let attach = builder.mode();
    if attach.mode != Mode::Bridge {
        let refused =
            |what| Error::new(ErrorKind::InvalidConfig, what).with_hint("put it on Attach::bridge()");
        if let Some(publish) = builder.publish.first() {
            return Err(refused(format!("cannot publish {publish}: the container is not on a bridge")));
        }
        if let Some(address) = attach.address {
            return Err(refused(format!(
                "cannot have the address {address}: the container is not on a bridge"
            )));
        }
    }
    let layout = rootfs::compile(&builder.rootfs, Scratch::choose(id), state)?;
    let mut command = program(builder, name)?;
    command.unshare(Namespace::CONTAINER.into_iter().filter(|kind| *kind != Namespace::Net));
    if attach.mode != Mode::Host {
        command.loopback_up();
    }
    command.root(layout.root.clone());
    if let Some(scratch) = &layout.scratch {
        command.scratch(scratch.clone());
    }
    for mount in layout.mounts.iter().cloned().chain(standard_mounts()).chain(files::mounts(state, &layout)) {
        command.mount(mount);
    }
    for mount in &builder.mounts {
        command.mount(mount.compile()?);
    }
    Ok(Compiled { command, layout, attach })
}

fn program(builder: &ContainerBuilder, name: &str) -> Result<Command> {
    let [program, args @ ..] = builder.command.as_slice() else {
        return Err(Error::new(ErrorKind::InvalidConfig, "no command")
            .with_hint("say what to run by `.command([…])`"));
    };
    let hostname = builder.hostname.as_deref().unwrap_or(name);
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", PATH).env("HOME", "/root").env("HOSTNAME", hostname);
    for (key, value) in &builder.env {
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
    command.new_session().umask(UMASK).hostname(OsStr::new(hostname));
    if let Some(directory) = &builder.workdir {
        command.current_dir(directory);
    }
    Ok(command)
}

fn standard_mounts() -> [Mount; 6] {
    [Mount::proc(), Mount::dev(), Mount::devpts(), Mount::shm(SHM), Mount::mqueue(), Mount::sysfs()]
}

/// Unique for as long as the record exists, also among users with state directories of their own.
fn group_name(name: &str) -> String {
    format!("isolate-{name}-{}", name::random())
}

fn privileged() -> Result<()> {
    if crate::host::has_sys_admin() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::PermissionDenied,
        "this user may not make namespaces, mounts and control groups",
    )
    .with_hint("run as root (CAP_SYS_ADMIN, CAP_NET_ADMIN)"))
}
