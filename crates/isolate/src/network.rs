//! Networks: the default one, and those that a user makes.

mod builder;
mod forwarding;
mod leases;
mod link;
mod live;
mod macvlan;
pub(crate) mod names;
mod place;
mod record;
mod warm;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Mutex;

use isolate_netns::{
    Bridge, Cidr, ErrorKind as NetErrorKind, Firewall, MacvlanMode, Port, Publish, Reservation, remove_bridge,
};
use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::name;
use crate::store::{Guard, Store, make_directory};

pub use builder::NetworkBuilder;
pub(crate) use leases::Leases;
pub(crate) use link::Link;
pub(crate) use place::{Place, PlaceRecord, check as check_places};
pub(crate) use record::NetworkRecord;
pub use record::Subnet;
pub(crate) use warm::Slot;

/// The default network and its bridge, as docker0 is Docker's.
pub(crate) const DEFAULT: &str = "isolate0";

/// Subnets for it, the first that no route of the host and no other network overlaps.
const SUBNETS: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::new(10, 213, 0, 0), 16),
    (Ipv4Addr::new(172, 29, 0, 0), 16),
    (Ipv4Addr::new(192, 168, 213, 0), 24),
    (Ipv4Addr::new(10, 99, 213, 0), 24),
];

/// A user-defined network: a bridge of its own on this host. Containers on it reach one another, by address and by name, and the outside
/// under the host's address; not the containers of other networks, and not the host's services. Or, by [`NetworkBuilder::macvlan`], the
/// LAN that a link of the host leads to.
///
/// Dropping one that was [created](Self::create) removes it, unless a container is on it; [`keep`](Self::keep) makes it stay until it is
/// [removed](Self::remove), for any process of this user, until the machine is rebooted. One that was [opened](Self::open) stays.
///
/// Wants `CAP_NET_ADMIN` and `CAP_SYS_ADMIN`. Switches `net.ipv4.ip_forward` on, for IPv6 `net.ipv6.conf.all.forwarding`, too; when the
/// last network is removed, what was off before is off again.
///
/// ```no_run
/// use isolate::{Container, Network};
/// # fn main() -> isolate::Result<()> {
/// let web = Network::builder("web").subnet("172.30.0.0/24".parse()?).create()?;
/// let sn1 = Container::builder().name("sn1").network(&web).command(["sleep", "100"]).start()?;
/// let ping = Container::builder().network(&web).command(["ping", "-c1", "sn1"]).status()?;
/// assert!(ping.success());
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropping a created network removes it"]
pub struct Network {
    store: Store,
    record: NetworkRecord,
    /// Held as long as it goes when this is dropped.
    owned: Option<File>,
    /// Places made ahead, as long as this lives.
    warm: Mutex<Option<warm::Pool>>,
}

/// What a network is at the moment.
///
/// With [serde](https://docs.rs/serde) it can be written, as JSON for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct NetworkInfo {
    /// Its name.
    pub name: String,
    /// What connects its containers.
    pub driver: NetworkDriver,
    /// The name of its bridge, if it is one.
    pub bridge: Option<String>,
    /// Its addresses: of IPv4, and perhaps of IPv6.
    pub subnets: Vec<Subnet>,
    /// No way out, and none in.
    pub internal: bool,
    /// What its links take, in bytes, if that was said.
    pub mtu: Option<u32>,
    /// Where its rules are, if it has some.
    pub firewall: Option<Firewall>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// The containers on it, each with its addresses there.
    pub containers: BTreeMap<String, Vec<IpAddr>>,
}

/// What connects a network's containers, as Docker names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NetworkDriver {
    /// A bridge of this host, and NAT.
    Bridge,
    /// [Macvlans](NetworkBuilder::macvlan) of a link of this host.
    #[non_exhaustive]
    Macvlan {
        /// The name of that link.
        parent: String,
        /// How its macvlans are to one another.
        mode: MacvlanMode,
    },
}

impl Network {
    /// A network to be made, with options.
    pub fn builder(name: impl Into<String>) -> NetworkBuilder {
        NetworkBuilder::new(name.into())
    }

    /// Makes a network: `builder(name).create()`.
    ///
    /// # Errors
    /// As [`NetworkBuilder::create`].
    pub fn create(name: impl Into<String>) -> Result<Self> {
        Self::builder(name).create()
    }

    /// One that is there, whoever made it.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound).
    pub fn open(name: impl AsRef<str>) -> Result<Self> {
        let store = Store::open()?;
        let name = name.as_ref();
        name::check(name)?;
        let record = NetworkRecord::read(&store.network(name))?.ok_or_else(|| missing(&store, name))?;
        Ok(Self { store, record, owned: None, warm: Mutex::default() })
    }

    /// All of this user's, the default one too while it is there, by name.
    ///
    /// # Errors
    /// What the state directory cannot be read for.
    pub fn list() -> Result<Vec<Self>> {
        let store = Store::open()?;
        let records = all(&store)?.into_iter();
        let open = |record| Self { store: store.clone(), record, owned: None, warm: Mutex::default() };
        Ok(records.map(open).collect())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Its subnets: one of IPv4, and perhaps one of IPv6.
    #[must_use]
    pub fn subnets(&self) -> &[Subnet] {
        &self.record.subnets
    }

    /// What it is at the moment, and which containers are on it.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it was removed.
    pub fn inspect(&self) -> Result<NetworkInfo> {
        let store = &self.store;
        let directory = store.network(self.name());
        let record = NetworkRecord::read(&directory)?.ok_or_else(|| missing(store, self.name()))?;
        let mut containers = BTreeMap::<String, Vec<IpAddr>>::new();
        let leases = Leases::of(&directory);
        for (address, holder) in leases.all()? {
            containers.entry(leases.called(holder)).or_default().push(address);
        }
        containers.values_mut().for_each(|addresses| addresses.sort());
        let (driver, bridge, firewall) = match record.parent {
            Some(parent) => (NetworkDriver::Macvlan { parent: parent.link, mode: parent.mode }, None, None),
            None => {
                let firewall = Bridge::open(&record.link).map_err(|e| self.said(e))?.firewall();
                (NetworkDriver::Bridge, Some(record.link), Some(firewall))
            }
        };
        Ok(NetworkInfo {
            driver,
            firewall,
            name: record.name,
            bridge,
            subnets: record.subnets,
            internal: record.internal,
            mtu: record.mtu,
            labels: record.labels,
            created: record.created,
            containers,
        })
    }

    /// Gives up the duty to remove it: it stays when this is dropped.
    ///
    /// # Errors
    /// What its record cannot be written for.
    pub fn keep(mut self) -> Result<Self> {
        let guard = self.store.lock()?;
        self.record.kept = true;
        self.record.write(&self.store.network(self.name())).map_err(|e| self.said(e))?;
        drop(guard);
        self.owned = None;
        Ok(self)
    }

    /// Removes it, whoever made it.
    ///
    /// # Errors
    /// [`InUse`](ErrorKind::InUse) while containers are on it, and which; [`NotFound`](ErrorKind::NotFound) if it is gone.
    pub fn remove(mut self) -> Result<()> {
        // Held until it is gone: a sweep would do the same in between.
        let _owned = self.owned.take();
        self.cool();
        self.remove_unused().map_err(|e| self.said(e))
    }

    fn remove_unused(&self) -> Result<()> {
        let guard = self.store.lock()?;
        let directory = self.store.network(self.name());
        let record = NetworkRecord::read(&directory)?.ok_or_else(|| missing(&self.store, self.name()))?;
        let leases = Leases::of(&directory);
        let mut users: Vec<_> =
            leases.all()?.into_iter().map(|(_, holder)| format!("`{}`", leases.called(holder))).collect();
        if !users.is_empty() {
            users.sort();
            users.dedup();
            let what = format!("in use by container {}", users.join(", "));
            return Err(Error::new(ErrorKind::InUse, what).with_hint("disconnect or remove them first"));
        }
        take_down(&self.store, &guard, &record)
    }

    /// The addresses that containers on it find for a name. None for a name that no container on it has.
    ///
    /// ```no_run
    /// # let network = isolate::Network::open("web")?;
    /// let addresses = network.resolve("db")?;
    /// # Ok::<(), isolate::Error>(())
    /// ```
    ///
    /// # Errors
    /// What its table cannot be read for.
    pub fn resolve(&self, name: &str) -> Result<Vec<IpAddr>> {
        names::resolve(&self.store, self.name(), name).map_err(|e| self.said(e))
    }

    fn said(&self, error: impl Into<Error>) -> Error {
        error.into().of(format!("network `{}`", self.record.name))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.cool();
        let owned = self.owned.take();
        if owned.is_some() {
            self.remove_unused().ok();
        }
    }
}

/// Every network's record, by name, but for those of other versions of this library.
pub(crate) fn all(store: &Store) -> Result<Vec<NetworkRecord>> {
    let directory = store.networks();
    let mut records = Vec::new();
    for entry in fs::read_dir(&directory).map_err(|e| Error::io(directory.display(), &e))?.flatten() {
        records.extend(NetworkRecord::read(&entry.path()).ok().flatten());
    }
    records.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(records)
}

fn missing(store: &Store, name: &str) -> Error {
    let others: Vec<_> =
        all(store).unwrap_or_default().into_iter().map(|record| format!("`{}`", record.name)).collect();
    let error = Error::new(ErrorKind::NotFound, format!("network `{name}`: there is none of that name"));
    match others.is_empty() {
        true => error.with_hint("Network::create makes one"),
        false => error.with_hint(format!("there are {}", others.join(", "))),
    }
}

/// The network of this name; the default one is made if it is not there.
pub(crate) fn find(store: &Store, _: &Guard, name: &str) -> Result<NetworkRecord> {
    name::check(name)?;
    let directory = store.network(name);
    if let Some(record) = NetworkRecord::read(&directory)? {
        return Ok(record);
    }
    if name != DEFAULT {
        return Err(missing(store, name));
    }
    let subnets = match Bridge::open(DEFAULT) {
        // Somebody was killed who made it, or who removed it.
        Ok(bridge) => vec![subnet_of(bridge.gateway())?],
        Err(e) if [NetErrorKind::NotFound, NetErrorKind::Conflict].contains(&e.kind()) => {
            vec![Subnet::new(default_subnet(store)?, None, None)?]
        }
        Err(e) => return Err(e.into()),
    };
    let mut record = NetworkRecord::new(DEFAULT, DEFAULT.to_owned(), subnets);
    record.implicit = true;
    make_directory(&directory)?;
    record.write(&directory)?;
    Ok(record)
}

fn subnet_of(gateway: Cidr) -> Result<Subnet> {
    Subnet::new(gateway.network(), Some(gateway.address()), None)
}

fn default_subnet(store: &Store) -> Result<Cidr> {
    let others: Vec<Cidr> =
        all(store)?.iter().flat_map(|other| other.subnets.iter().map(|subnet| subnet.network())).collect();
    let candidates = SUBNETS.into_iter().filter_map(|(network, prefix)| Cidr::new(network, prefix).ok());
    record::first_free(candidates, &others)?.ok_or_else(|| {
        let what = format!(
            "network `{DEFAULT}`: no subnet is free: each overlaps a route of the host or another network"
        );
        Error::new(ErrorKind::InUse, what)
            .with_hint("make one with a subnet of your own, by Network::builder")
    })
}

/// What connects to it: its bridge with all that belongs to it, unless it has none.
pub(crate) fn up(store: &Store, guard: &Guard, record: &NetworkRecord) -> Result<Link> {
    if record.parent.is_none() {
        forwarding::remember(store, guard, record.subnet(true).is_some())?;
    }
    Link::of(store, record)
}

/// The port that a container's default route leads by, of those on bridges.
pub(crate) fn way_out(places: &[Place]) -> Option<&Port> {
    let ways = places.iter().filter(|place| !place.record.internal && !place.record.macvlan);
    ways.min_by_key(|place| place.record.metric())?.link.port()
}

/// The same, that something is to be published by.
pub(crate) fn way_in<'a>(places: &'a [Place], publish: &Publish) -> Result<&'a Port> {
    let why = || match places.iter().find(|place| place.record.macvlan) {
        Some(place) => format!(
            "network `{}` is a macvlan, where all ports of a container are open at its own address",
            place.record.network
        ),
        None if places.is_empty() => "the container is on no bridge".to_owned(),
        None => "every network of the container is internal".to_owned(),
    };
    way_out(places).ok_or_else(|| {
        Error::new(ErrorKind::InvalidConfig, format!("cannot publish {publish}: {}", why()))
            .with_hint("put it on a bridge that is not internal")
    })
}

/// Publishes what is claimed by the container's way out.
pub(crate) fn publish(places: &[Place], reservations: &[Reservation]) -> Result<()> {
    match reservations.first() {
        None => Ok(()),
        Some(first) => Ok(way_in(places, &first.publish())?.publish_all(reservations)?),
    }
}

/// The network as it is without a container: the default one goes.
pub(crate) fn left(store: &Store, guard: &Guard, network: &str, container: &str) -> Result<()> {
    let directory = store.network(network);
    match NetworkRecord::read(&directory)? {
        Some(record) if record.implicit && Leases::of(&directory).none()? => take_down(store, guard, &record),
        Some(record) => names::leave(store, guard, &record, container),
        // It was being taken down before.
        None if network == DEFAULT && directory.exists() && Leases::of(&directory).none()? => {
            take_down(store, guard, &the_default())
        }
        None => forwarding::restore(store, guard),
    }
}

/// All that is to be known of the default network to take it down, its record being gone.
fn the_default() -> NetworkRecord {
    let mut record = NetworkRecord::new(DEFAULT, DEFAULT.to_owned(), Vec::new());
    record.implicit = true;
    record
}

/// Removes its bridge, if it has one, with rules and links, and then its directory: as long as that is there, a sweep looks for the bridge.
fn take_down(store: &Store, guard: &Guard, record: &NetworkRecord) -> Result<()> {
    warm::forget(store, guard, &record.name);
    place::forget(store, &record.name, &record.link);
    names::end(store, record)?;
    if record.parent.is_none() {
        remove_bridge(&record.link)?;
    }
    let directory = store.network(&record.name);
    fs::remove_dir_all(&directory).map_err(|e| Error::io(directory.display(), &e))?;
    forwarding::restore(store, guard)
}

/// Takes back leases whose container has no directory, and networks whose maker was killed and that nobody is on.
pub(crate) fn sweep(store: &Store, guard: &Guard) -> Result<()> {
    let networks = store.networks();
    let failed = |e| Error::io(networks.display(), &e);
    for entry in fs::read_dir(&networks).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let directory = entry.path();
        let leases = Leases::of(&directory);
        let Ok(found) = NetworkRecord::read(&directory) else {
            // What cannot be read is left to who can.
            continue;
        };
        let record = match found {
            Some(record) => record,
            None if entry.file_name() == DEFAULT => the_default(),
            // Nothing was made of it yet.
            None => {
                fs::remove_dir_all(&directory).map_err(failed)?;
                continue;
            }
        };
        for (address, holder) in leases.all()? {
            if holder.is_empty() || store.is_gone(&holder) {
                leases.give_back(&[address])?;
                names::leave(store, guard, &record, &holder)?;
            }
        }
        let unused = directory.exists() && leases.none()?;
        let unwanted = record.implicit || !record.kept && owner(&directory).is_ok();
        if unused && unwanted {
            take_down(store, guard, &record)?;
        }
    }
    // Who removed the last one may have been killed before this.
    forwarding::restore(store, guard)
}

/// The lock of who is to remove the network, if nobody has it.
fn owner(directory: &Path) -> Result<File> {
    let path = directory.join("owner");
    crate::store::try_lock(&path)?.ok_or_else(|| {
        Error::new(ErrorKind::InUse, format!("{}: another process is its owner", path.display()))
    })
}

/// The default network in words, for a plan.
pub(crate) fn words(name: &str) -> String {
    match name {
        DEFAULT => format!("make bridge {DEFAULT} unless it is there, with NAT to the outside"),
        other => format!("open network `{other}`"),
    }
}

/// That a container is connected, for a plan.
pub(crate) fn words_to_connect(name: &str) -> String {
    let to = if name == DEFAULT { "the bridge".to_owned() } else { format!("network `{name}`") };
    format!("connect the container's network namespace to {to}")
}
