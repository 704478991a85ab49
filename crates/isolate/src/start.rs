//! A start: what is made, in which order.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use isolate_cgroups::Cgroup;
use isolate_namespaces::{Capabilities, Held, Namespace, Plan as LaunchPlan};
use isolate_netns::{NetworkNamespace, Reservation};

use crate::attach::{Attach, Mode};
use crate::builder::ContainerBuilder;
use crate::compile::{self, Compiled};
use crate::container::Container;
use crate::detached::{self, DetachedRecord};
use crate::devices;
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::group;
use crate::ids;
use crate::mount;
use crate::name;
use crate::network::{self, NetworkRecord, Place, Slot, names};
use crate::parcel;
use crate::pasta;
use crate::plan::Plan;
use crate::pod;
use crate::ports;
use crate::record::{self, Record};
use crate::rootfs::{self, Quota};
use crate::store::{Guard, Store};
use crate::sweep;
use crate::undo::Undo;
use crate::volume;

pub(crate) fn plan(builder: &ContainerBuilder, name: &str) -> Result<Plan> {
    let builder = &*builder.with_processes(None)?;
    #[cfg(feature = "images")]
    let described = crate::image::look(builder)?;
    #[cfg(feature = "images")]
    let builder = &*described.builder;
    let builder = &*pod::seen(builder)?;
    let state = Store::path()?.join("containers").join(name);
    let privileged = crate::host::is_root();
    let group = group::of(builder, &group::name(name, &name::random(), privileged));
    let id = group::leaf(&group);
    let mut compiled = compile::compile(builder, name, id, &state, privileged, false)?;
    let bridged = compiled.mode == Mode::Bridge;
    let mut before = vec![format!("lock {}", state.display())];
    if bridged {
        before.extend(builder.publish.iter().map(|publish| format!("reserve the host port of {publish}")));
        for attach in &compiled.attaches {
            before.push(network::words(attach.network()));
            before.push("lease an address on it".into());
        }
    }
    before.extend(compiled.decision.words());
    before.extend(compiled.layout.preparations.iter().map(rootfs::Preparation::words));
    before.extend(compiled.layout.quota.iter().map(Quota::words));
    before.extend(compiled.layout.limited.iter().map(rootfs::Limited::words));
    before.push(format!("write hosts, hostname and resolv.conf to {}", state.display()));
    if privileged {
        before.push(format!("make control group {group}"));
        before.extend(group::words(&group::limits(builder)));
        before.push("allow it no devices but its own".to_owned());
    } else {
        before.push(format!("make control group {group}, where one is delegated to this user"));
        before.extend(group::words(&builder.limits));
    }
    let mut held = Vec::new();
    if bridged {
        held.extend(compiled.attaches.iter().map(|attach| network::words_to_connect(attach.network())));
    }
    if compiled.mode == Mode::Pasta {
        held.push("connect the container's network namespace by pasta".to_owned());
    }
    held.extend(builder.publish.iter().map(|publish| format!("publish {publish}")));
    compiled.map_ids(ids::FIRST);
    if compiled.layout.limited.is_some() {
        // In the place of the one that a start makes: the steps are the same.
        let root = std::fs::File::open("/").map_err(|e| Error::io("/", &e))?;
        compiled.command.scratch_mount(root);
    }
    Ok(Plan { before, launch: compiled.command.plan()?, held })
}

/// Whether this user has all rights, which it needs to have then.
pub(crate) fn is_privileged() -> Result<bool> {
    let privileged = crate::host::is_root();
    if privileged && !crate::host::has_sys_admin() {
        let what = "this user may not make namespaces, mounts and control groups";
        return Err(Error::new(ErrorKind::PermissionDenied, what)
            .with_hint("run as root with CAP_SYS_ADMIN and CAP_NET_ADMIN, or as an ordinary user"));
    }
    Ok(privileged)
}

pub(crate) fn start(builder: &ContainerBuilder, name: &str) -> Result<Container> {
    builder.check_owned()?;
    Ok(begin(builder, name, None)?.container)
}

/// A container that has been started.
pub(crate) struct Begun {
    pub container: Container,
    /// How it is started again in its network and user namespaces, of a detached one.
    pub again: Option<LaunchPlan>,
}

/// Starts a container: one of the caller's own, or a detached one that was made before.
pub(crate) fn begin(
    builder: &ContainerBuilder,
    name: &str,
    before: Option<&DetachedRecord>,
) -> Result<Begun> {
    let privileged = is_privileged()?;
    let builder = &*builder.with_processes(None)?;
    #[cfg(feature = "images")]
    let source = builder.rootfs.source().map(|(source, _)| source.to_owned());
    #[cfg(feature = "images")]
    let described = crate::image::bring(builder)?;
    #[cfg(feature = "images")]
    let builder = &*described.builder;
    let builder = &*pod::starting(builder)?;
    let store = Store::open()?;
    let id = before.map_or_else(name::random, |before| before.id.clone());
    let own = group::name(name, &id, privileged);
    let group = group::of(builder, &own);
    // What a detached one has while it runs stays where it is when it is renamed.
    let key = before.map_or(name, |before| &before.id);
    let state = store.container(key);
    let place = scratch_name(&group, before);
    let mut compiled = compile::compile(builder, name, place, &state, privileged, before.is_some())?;
    if !compiled.layout.overlays.is_empty() {
        isolate_overlay::supported()?;
    }

    let mode = compiled.mode;
    // What pasta is to bind must be free.
    let reserved: &[_] = if mode == Mode::Pasta { &[] } else { &builder.publish };
    let reservations = ports::reserve(reserved, ipv6(&store, &compiled), key, &store)?;
    let published: Vec<_> = match mode {
        Mode::Pasta => builder.publish.clone(),
        _ => reservations.iter().map(Reservation::publish).collect(),
    };
    let mut record = Record::new(key, group.clone());
    record.called = before.map(|_| name.to_owned());
    record.counted = before.and_then(|_| record::counted_here());
    let hostname = builder.hostname.as_deref().unwrap_or(name);
    hostname.clone_into(&mut record.hostname);
    record.published = published.iter().map(ToString::to_string).collect();
    if before.is_some() {
        record.claimed.clone_from(&record.published);
    }
    record.command.clone_from(&builder.command);
    record.mounts = mount::told(&builder.mounts, place);
    record.labels.clone_from(&builder.labels);
    record.limits = group::limits(builder);
    #[cfg(feature = "images")]
    {
        let digest = described.kept.as_ref().map(crate::image::Kept::digest);
        (record.source, record.digest) = match before {
            Some(before) => (before.source.clone(), before.digest.clone()),
            None => (source, digest),
        };
        record.image = described.kept.as_ref().map(|kept| kept.lease(&state)).transpose()?.map(Into::into);
    }
    record.pod.clone_from(&builder.pod);
    record.is_pod = builder.holds.is_some();
    record.on_host = builder.holds.is_some() && mode == Mode::Host;
    record.shares = builder
        .holds
        .clone()
        .or(builder.member.as_ref().map(|member| member.shares.clone()))
        .unwrap_or_default();
    record.stop_signal = builder.stop_signal;
    // Beside the pod's group: it goes on while that stands still, and tells when that is killed.
    record.keeper = before.map(|_| format!("{own}-keeper"));
    let mut undo = claim(&store, record, &compiled, builder, before)?;
    let mapped = compiled.decision.is_mapped() && compiled.joined.is_none();
    let own = before.and_then(|before| before.base).filter(|_| mapped);
    let base = own.or(undo.ids.as_ref().map(|range| range.base));
    let slot = undo.places().first_mut().and_then(|place| place.slot.take());
    let entered = match (slot, base) {
        (Some(slot), Some(base)) => enter(slot, &mut undo.places()[0], &mut compiled, base),
        _ => None,
    };
    if let (None, Some(base)) = (&entered, base) {
        compiled.map_ids(base);
    }
    let owner = base.or(compiled.joined.map(|root| root[0]));
    for volume in &compiled.volumes {
        let others =
            store.records().iter().any(|other| other.name != key && other.volumes.contains(&volume.name));
        volume::prepare(volume, &compiled.layout.layers, others)?;
    }
    for preparation in &compiled.layout.preparations {
        preparation.make(owner)?;
    }
    if let (Some(quota), Some(project)) = (&compiled.layout.quota, undo.project) {
        quota.make(project)?;
    }
    if let (Some(quota), Some(before)) = (&compiled.layout.quota, before.filter(|before| !before.prepared)) {
        before.project.map_or(Ok(()), |project| quota.make(project))?;
    }
    if let Some(limited) = &compiled.layout.limited {
        compiled.command.scratch_mount(limited.make(owner)?);
    }
    if privileged {
        compiled.layout.overlays.iter().try_for_each(isolate_overlay::Overlay::check)?;
    }
    if let Some(early) = &compiled.layout.early {
        compiled.command.root(early.root()?);
    }
    // A pod's network is that of its containers.
    let written = builder.member.as_ref().filter(|member| member.is_on_network()).map(|member| &member.pod);
    let written = written.unwrap_or(&undo.record).clone();
    let addresses: Vec<IpAddr> = written.places.iter().flat_map(|place| place.addresses.clone()).collect();
    let network = !written.places.is_empty() || mode == Mode::Pasta;
    let texts = [names::hosts(&store, &written), names::resolv_conf(&store, &written, network)];
    let [hosts, resolv_conf] = texts;
    files::write(&state, hostname, hosts, resolv_conf, owner)?;
    if compiled.attaches.iter().any(|attach| attach.named.is_some()) {
        // Others may have come in between.
        names::refresh(&store, &store.lock()?, key)?;
    }

    let command = &mut compiled.command;
    undo.cgroup = group::make(&group, builder, privileged)?;
    // What is allowed to a pod's group is all that its containers can be allowed.
    let holder = builder.holds.as_ref().map(|_| pod::holder_group(&group)).transpose()?;
    if let Some(cgroup) = holder.as_ref().or(undo.cgroup.as_ref()) {
        if privileged {
            // In a user namespace of its own the kernel makes none.
            let can_make = owner.is_none() && builder.confinement.capabilities.contains(Capabilities::MKNOD);
            devices::allow(cgroup, &builder.devices, can_make)?;
        }
        if compiled.joined.is_some() {
            // From another user namespace nothing is born into a group of ours.
            command.cgroup_files([cgroup.procs_file()?]);
        } else {
            command.cgroup(cgroup.try_clone_fd()?);
        }
        command.cgroup_files(cgroup.join_files()?);
    }
    // It goes with the pod's.
    if let Some(holder) = holder {
        holder.keep();
    }
    let keeper = undo.record.keeper.as_ref().filter(|_| undo.cgroup.is_some());
    undo.keeper = keeper.map(Cgroup::create).transpose()?;
    if let Some(keeper) = &undo.keeper {
        command.monitor_cgroup(keeper.try_clone_fd()?).monitor_cgroup_files(keeper.join_files()?);
    }

    if let Some(entry) = &undo.entry {
        command.keep(entry.share_lock()?);
    }
    let sockets: Vec<_> = reservations.iter().flat_map(Reservation::fds).collect();
    if let Some(parcel) =
        parcel::of(&sockets).map_err(|e| Error::io("cannot keep the published ports", &e))?
    {
        command.keep(parcel);
    }
    let held = command.spawn_held()?;
    if mode == Mode::Bridge {
        let network = entered.map_or_else(|| NetworkNamespace::of_pid(held.id()), Ok)?;
        connect(&mut undo.places(), &network, &reservations)?;
    }
    if mode == Mode::Pasta {
        undo.pasta = Some(pasta::connect(held.id(), &builder.publish, name, &store)?);
    }
    let entrances = if privileged { Vec::new() } else { entrances(&held)? };
    let root = base.map(|base| [base, base]).or(compiled.joined);
    let again = before.map(|_| again(&mut compiled, &held, root)).transpose()?;
    undo.child = Some(held.release()?);
    let inside = compiled.inside(builder, hostname, root, entrances);
    #[cfg(feature = "images")]
    let inside = crate::inside::Inside { image: described.kept, ..inside };
    Ok(Begun { container: Container::new(name, addresses, published, inside, undo), again })
}

/// The same start in the namespaces that the child has: of its network, which others know by its addresses, and its users.
fn again(compiled: &mut Compiled, held: &Held, root: Option<[u32; 2]>) -> Result<LaunchPlan> {
    let namespace = |kind: Namespace| {
        let path = format!("/proc/{}/ns/{kind}", held.id());
        std::fs::File::open(&path).map_err(|e| Error::io(path, &e))
    };
    let caller = || [rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()];
    if compiled.decision.is_own() && compiled.joined.is_none() {
        compiled.command.join_user(namespace(Namespace::User)?, root.unwrap_or_else(caller));
    }
    if matches!(compiled.mode, Mode::None | Mode::Bridge) {
        compiled.command.join_network(namespace(Namespace::Net)?);
    }
    Ok(compiled.command.plan()?)
}

/// What names its place on the disk.
pub(crate) fn scratch_name<'n>(group: &'n str, before: Option<&'n DetachedRecord>) -> &'n str {
    before.map_or_else(|| group::leaf(group), |before| &before.id)
}

/// Whether what is published leads to an address of IPv6, too, on a bridge.
fn ipv6(store: &Store, compiled: &Compiled) -> bool {
    let has = |attach: &Attach| {
        NetworkRecord::read(&store.network(attach.network())).is_ok_and(|found| {
            found.is_some_and(|network| network.parent.is_none() && network.subnet(true).is_some())
        })
    };
    compiled.mode == Mode::Bridge && compiled.attaches.iter().any(has)
}

/// The namespaces of a process, for what is executed in them later, the user namespace first, which gives the rights to the others. Of a
/// child that waits: the kernel shows those of its init to root alone.
fn entrances(held: &Held) -> Result<Vec<OwnedFd>> {
    let kinds =
        [Namespace::User, Namespace::Pid, Namespace::Ipc, Namespace::Uts, Namespace::Net, Namespace::Mount];
    kinds
        .iter()
        .map(|kind| {
            let path = format!("/proc/{}/ns/{kind}", held.id());
            std::fs::File::open(&path).map(Into::into).map_err(|e| Error::io(path, &e))
        })
        .collect()
}

/// The name, the address and the record, before anything is made that could be left behind. What a detached container has had before is
/// its own.
fn claim(
    store: &Store,
    mut record: Record,
    compiled: &Compiled,
    builder: &ContainerBuilder,
    before: Option<&DetachedRecord>,
) -> Result<Undo> {
    let layout = &compiled.layout;
    // What is made before the name is claimed.
    let image = Directory(record.image.as_deref().map(Path::to_owned));
    // Dropped after the guard: taking back wants the lock.
    let mut undo;
    let guard = store.lock()?;
    sweep::first(store, &guard);
    if before.is_none() && detached::is_there(&record.name)? {
        return Err(detached::taken());
    }
    builder.member.as_ref().map_or(Ok(()), |member| member.check(store))?;
    let entry = match store.create(&guard, &record.name) {
        // Its owner may have been killed since.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            let swept = sweep::all(store, &guard);
            store.create(&guard, &record.name).map_err(|e| swept.err().unwrap_or(e))?
        }
        other => other?,
    };
    undo = Undo::new(store.clone(), record.clone(), Some(entry));
    record.volumes = compiled.volumes.iter().map(|volume| volume.name.clone()).collect();
    undo.directories.extend(image.keep());
    // Where one that lasts got no place on the disk, it has one for a run.
    if before.is_none_or(|before| before.scratch.is_none()) {
        record.scratch = layout.directory.clone().map(Into::into);
        undo.directories.extend(layout.directory.clone());
    }
    if before.is_none() {
        record.work = layout.work.clone().map(Into::into);
        undo.directories.extend(layout.work.clone());
        for volume in compiled.volumes.iter().filter(|volume| volume.anonymous) {
            undo.directories.push(volume.directory()?);
            record.anonymous.push(volume.directory()?.into());
        }
        if let Some(quota) = &layout.quota {
            record.project = Some(project(store, quota)?);
            undo.project = record.project;
        }
    }
    record.made = compiled.made();
    undo.made.clone_from(&record.made);
    let leased = match compiled.mode {
        Mode::Bridge => lease(store, &guard, &mut undo, &mut record, compiled, before),
        _ => Ok(()),
    };
    let written = leased.and_then(|()| {
        let has_ids = undo.ids.is_some() || before.is_some_and(|before| before.base.is_some());
        let mapped = compiled.decision.is_mapped() && compiled.joined.is_none();
        if mapped && !has_ids {
            undo.ids = Some(ids::take(store, &guard, &record.name, layout.range)?);
        }
        let own = undo.ids.as_ref().map(|ids| ids.base);
        record.base = own.or(before.and_then(|before| before.base)).filter(|_| mapped);
        undo.record = record.clone();
        undo.entry.as_ref().map_or(Ok(()), |entry| entry.write(&record))
    });
    drop(guard);
    written.map(|()| undo)
}

/// A directory that goes unless somebody else is to remove it.
struct Directory(Option<PathBuf>);

impl Directory {
    fn keep(mut self) -> Option<PathBuf> {
        self.0.take()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.0.take().map(std::fs::remove_dir_all);
    }
}

/// Addresses on each of the networks, written down before anything is made there.
fn lease(
    store: &Store,
    guard: &Guard,
    undo: &mut Undo,
    record: &mut Record,
    compiled: &Compiled,
    before: Option<&DetachedRecord>,
) -> Result<()> {
    for (order, attach) in (0..).zip(&compiled.attaches) {
        let network = network::find(store, guard, attach.network())?;
        let warm = compiled.warm && order == 0 && before.is_none();
        let taken = before.and_then(|before| {
            Place::take(store, guard, &network, record, &before.same_place(attach)?, order, false).ok()
        });
        let mut place = match taken {
            Some(place) => place,
            None => Place::take(store, guard, &network, record, attach, order, warm)?,
        };
        if let Some(ids) = place.slot.as_mut().and_then(|slot| slot.ids.take()) {
            undo.ids.insert(ids).hand_over(guard, &record.name)?;
        }
        undo.places().push(place);
        names::join(store, guard, &network, record)?;
    }
    Ok(())
}

/// Makes namespaces and a pair of links that were made ahead those of the container. The network namespace, unless somebody has
/// interfered: then all is made the usual way.
fn enter(slot: Slot, place: &mut Place, compiled: &mut Compiled, base: u32) -> Option<NetworkNamespace> {
    let Slot { user, prepared, .. } = slot;
    let network = prepared.namespace().try_clone().ok()?;
    let joined = network.try_clone().ok()?;
    place.adopt(prepared).ok()?;
    compiled.join(user, joined.into(), base);
    Some(network)
}

/// Veth pairs between the bridges and the namespace that the child has or will enter, macvlans in it, and the rules that lead there.
fn connect(places: &mut [Place], namespace: &NetworkNamespace, reservations: &[Reservation]) -> Result<()> {
    for place in places.iter_mut().filter(|place| !place.link.is_connected()) {
        place.connect(namespace)?;
    }
    network::publish(places, reservations)
}

/// A project that no container has.
pub(crate) fn project(store: &Store, quota: &Quota) -> Result<u32> {
    let running = store.records().into_iter().filter_map(|record| record.project);
    let detached = detached::records()?.into_iter().filter_map(|record| record.project);
    quota.choose(&running.chain(detached).collect::<Vec<_>>())
}
