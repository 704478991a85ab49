//! A container's place on a network: addresses, a link, rules, names.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use isolate_netns::{
    Bandwidth, Bridge, Endpoint, NetworkNamespace, Prepared, remove_bandwidth, remove_guard, remove_published,
};
use serde::{Deserialize, Serialize};

use crate::attach::Attach;
use crate::error::{Error, ErrorKind, Result};
use crate::network::link::{Inside, Link};
use crate::network::record::NetworkRecord;
use crate::network::{self, Leases, Slot, macvlan};
use crate::record::Record;
use crate::store::{Guard, Store};

/// Default routes have metrics from here down and up: a priority of n takes n off, and those that were connected later follow.
const METRIC: i64 = 1000;
/// Priorities beyond that are as this.
const MOST: i32 = 50;

/// As a container's record has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlaceRecord {
    pub network: String,
    /// The network's bridge, if it has one.
    pub link: String,
    /// The pair's end on the host, and that inside.
    pub host: String,
    pub interface: String,
    /// One of IPv4, and perhaps one of IPv6.
    pub addresses: Vec<IpAddr>,
    pub mac: Option<[u8; 6]>,
    pub aliases: Vec<String>,
    pub priority: i32,
    /// How many places the container had had before: it settles between equal priorities.
    pub order: u32,
    pub internal: bool,
    /// Bits a second: what it sends, and what it receives.
    #[serde(default)]
    pub up: Option<u64>,
    #[serde(default)]
    pub down: Option<u64>,
    /// It is a macvlan, in the container's namespace alone.
    #[serde(default)]
    pub macvlan: bool,
}

/// A place that is had, for who started the container.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) record: PlaceRecord,
    pub(crate) link: Link,
    /// Made ahead, until it is used.
    pub(crate) slot: Option<Slot>,
}

impl PlaceRecord {
    /// Leases addresses on an existing network.
    pub(crate) fn lease(
        network: &NetworkRecord,
        leases: &Leases,
        container: &Record,
        attach: &Attach,
        order: u32,
    ) -> Result<Self> {
        if network.parent.is_some() {
            macvlan::check_bandwidth(&network.name, attach.bandwidth)?;
        }
        let taken = |interface: &String| container.places.iter().any(|place| place.interface == *interface);
        let interface = (0..).map(|n| format!("eth{n}")).find(|interface| !taken(interface));
        Ok(Self {
            network: network.name.clone(),
            link: network.link.clone(),
            host: format!("iso{}", crate::name::random()),
            interface: interface.unwrap_or_default(),
            addresses: leases.take(network, &container.name, &attach.addresses)?,
            mac: attach.mac,
            aliases: attach.aliases.clone(),
            priority: attach.priority,
            order,
            internal: network.internal,
            up: attach.bandwidth.get_up(),
            down: attach.bandwidth.get_down(),
            macvlan: network.parent.is_some(),
        })
    }

    pub(crate) fn address(&self) -> Ipv4Addr {
        let four = self.addresses.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        four.unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    /// The lowest of a container's is its way out.
    pub(crate) fn metric(&self) -> u32 {
        let metric = METRIC - 10 * i64::from(self.priority.clamp(-MOST, MOST)) + i64::from(self.order.min(9));
        u32::try_from(metric).unwrap_or(u32::MAX)
    }

    pub(crate) fn bandwidth(&self) -> Bandwidth {
        let up = self.up.map_or(Bandwidth::new(), |up| Bandwidth::new().up(up));
        self.down.map_or(up, |down| up.down(down))
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        let endpoint =
            Endpoint::new(&self.interface, self.address()).host_interface(&self.host).metric(self.metric());
        let endpoint = self.mac.map_or(endpoint.clone(), |mac| endpoint.with_mac(mac));
        let six = self.addresses.iter().find_map(|address| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        });
        six.map_or(endpoint.clone(), |six| endpoint.ipv6(six))
    }

    /// What a dead container had here: rules, and the right to its addresses. Its link went with its network namespace.
    pub(crate) fn sweep(&self, store: &Store, guard: &Guard, container: &str) -> Result<()> {
        let leases = Leases::of(&store.network(&self.network));
        let mut own = self.addresses.clone();
        own.retain(|address| leases.holder(*address).is_none_or(|holder| holder == container));
        if !self.macvlan {
            remove_published(&own)?;
            remove_guard(&self.host)?;
        }
        if self.up.is_some() {
            remove_bandwidth(&self.host)?;
        }
        leases.give_back(&own)?;
        network::left(store, guard, &self.network, container)
    }
}

impl Place {
    /// Addresses on a network, and what connects to it. They are in the container's record from here on, which the caller writes.
    pub(crate) fn take(
        store: &Store,
        guard: &Guard,
        network: &NetworkRecord,
        container: &mut Record,
        attach: &Attach,
        order: u32,
        warm: bool,
    ) -> Result<Self> {
        let taken = network::up(store, guard, network).and_then(|link| {
            let leases = Leases::of(&store.network(&network.name));
            let mut record = PlaceRecord::lease(network, &leases, container, attach, order)?;
            let slot = match &link {
                Link::Bridge(bridge, _) if warm => {
                    super::warm::take(store, guard, &network.name, bridge, &record)
                }
                _ => None,
            };
            if let Some(slot) = &slot {
                slot.prepared.host_interface().clone_into(&mut record.host);
            }
            container.places.push(record.clone());
            Ok(Self { record, link, slot })
        });
        if taken.is_err() {
            network::left(store, guard, &network.name, &container.name).ok();
        }
        taken
    }

    /// Of a container that somebody else has started. Dropping it does nothing.
    pub(crate) fn open(store: &Store, record: &PlaceRecord, inside: Inside<'_>) -> Result<Self> {
        let network = NetworkRecord::read(&store.network(&record.network))?.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("network `{}`: there is none of that name", record.network),
            )
        })?;
        let link = Link::open(store, &network, record, inside)?;
        Ok(Self { record: record.clone(), link, slot: None })
    }

    /// Connects the container's network namespace.
    pub(crate) fn connect(&mut self, namespace: &NetworkNamespace) -> Result<()> {
        self.link.connect(&self.record, namespace)
    }

    /// The same with what was made ahead. On an error it is gone, and nothing is connected.
    pub(crate) fn adopt(&mut self, prepared: Prepared) -> Result<()> {
        self.link.adopt(&self.record, prepared)
    }

    /// Takes back the rules that lead here. The link goes with the network namespace.
    pub(crate) fn close(&mut self) -> Result<()> {
        self.link.close()
    }

    /// Gives the addresses back, once nothing runs any more that has them.
    pub(crate) fn leave(self, store: &Store, guard: &Guard, container: &str) -> Result<()> {
        Leases::of(&store.network(&self.record.network)).give_back(&self.record.addresses)?;
        drop(self.link);
        network::left(store, guard, &self.record.network, container)
    }

    /// Gives up all duties, for a container that outlives its owner: its monitor holds the host ports, too.
    pub(crate) fn keep(self) {
        self.link.keep();
    }
}

/// The bridges that this process uses, with their sockets: by state directory and link.
static BRIDGES: Mutex<Option<HashMap<(PathBuf, String), Bridge>>> = Mutex::new(None);

/// The network's bridge: one that was used before and is the same still, or made or completed.
pub(crate) fn bridge(store: &Store, network: &NetworkRecord) -> Result<Bridge> {
    let key = (store.network(&network.name), network.link.clone());
    let mut known = BRIDGES.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    match known.get(&key) {
        Some(bridge) if bridge.is_here() => Ok(bridge.share()),
        _ => {
            let bridge = network.ensure()?;
            known.insert(key, bridge.share());
            Ok(bridge.keep())
        }
    }
}

/// Forgets a bridge that is removed.
pub(crate) fn forget(store: &Store, network: &str, link: &str) {
    let mut known = BRIDGES.lock().unwrap_or_else(PoisonError::into_inner);
    known.get_or_insert_default().remove(&(store.network(network), link.to_owned()));
}

/// Several places of one container are of several networks.
pub(crate) fn check(attaches: &[Attach]) -> Result<()> {
    for (n, attach) in attaches.iter().enumerate() {
        if attaches[..n].iter().any(|other| other.network() == attach.network()) {
            let what = format!("network `{}` is named twice", attach.network());
            return Err(Error::new(ErrorKind::InvalidConfig, what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(priority: i32, order: u32) -> PlaceRecord {
        PlaceRecord {
            network: "web".into(),
            link: "isb1".into(),
            host: "iso1".into(),
            interface: "eth0".into(),
            addresses: vec![[10, 0, 0, 2].into(), "fd00::2".parse().unwrap()],
            mac: None,
            aliases: vec![],
            priority,
            order,
            internal: false,
            up: None,
            down: None,
            macvlan: false,
        }
    }

    #[test]
    fn the_way_out_is_the_highest_priority_and_then_the_first() {
        let mut all = [place(0, 1), place(0, 0), place(1, 5), place(-3, 0)];
        all.sort_by_key(PlaceRecord::metric);
        assert_eq!(all.map(|place| (place.priority, place.order)), [(1, 5), (0, 0), (0, 1), (-3, 0)]);
        assert!(place(i32::MAX, 0).metric() < place(0, 0).metric());
    }

    #[test]
    fn an_endpoint_has_all_that_the_record_says() {
        let mut place = place(0, 2);
        assert_eq!(place.endpoint().addresses(), place.addresses);
        assert_eq!(place.endpoint().mac(), [0x02, 0x42, 10, 0, 0, 2]);
        place.mac = Some([2, 0, 0, 0, 0, 9]);
        assert_eq!(place.endpoint().mac(), [2, 0, 0, 0, 0, 9]);
    }
}
