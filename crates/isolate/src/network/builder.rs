//! How a network is made.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;

use isolate_netns::{Cidr, Firewall, MacvlanMode};

use super::link::Link;
use super::macvlan::{self, Parent};
use super::record::{self, NetworkRecord, Subnet};
use super::{DEFAULT, Network, all, names, owner, take_down, up};
use crate::error::{Error, ErrorKind, Result};
use crate::name;
use crate::store::{Store, make_directory};

/// How a network is to be made: see [`Network::builder`].
#[derive(Clone, Debug)]
#[must_use = "it makes nothing before `create`"]
pub struct NetworkBuilder {
    name: String,
    subnets: Vec<Cidr>,
    ranges: Vec<Cidr>,
    gateways: Vec<IpAddr>,
    ipv6: bool,
    internal: bool,
    host_services: bool,
    mtu: Option<u32>,
    firewall: Firewall,
    labels: BTreeMap<String, String>,
    parent: Option<String>,
    mode: Option<MacvlanMode>,
}

impl NetworkBuilder {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            subnets: Vec::new(),
            ranges: Vec::new(),
            gateways: Vec::new(),
            ipv6: false,
            internal: false,
            host_services: false,
            mtu: None,
            firewall: Firewall::Auto,
            labels: BTreeMap::new(),
            parent: None,
            mode: None,
        }
    }

    /// Its addresses; once of IPv4 and once of IPv6. By default a /24 that overlaps neither a route of the host nor another network. Of a
    /// [macvlan](Self::macvlan) network they must be said.
    pub fn subnet(mut self, subnet: Cidr) -> Self {
        self.subnets.push(subnet);
        self
    }

    /// The part of a subnet that addresses are handed out from. By default all of it.
    pub fn ip_range(mut self, range: Cidr) -> Self {
        self.ranges.push(range);
        self
    }

    /// The bridge's own address in a subnet; on a macvlan network that of its router. By default the first.
    pub fn gateway(mut self, gateway: impl Into<IpAddr>) -> Self {
        self.gateways.push(gateway.into());
        self
    }

    /// Addresses of IPv6, too: a subnet of unique local addresses (RFC 4193), unless one is said.
    pub fn ipv6(mut self) -> Self {
        self.ipv6 = true;
        self
    }

    /// No way out and none in: no default route, nothing is published, no name outside of it is resolved.
    pub fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// Its containers reach the services of the host itself, by the gateway's address or any other of the host's. Not on a macvlan network.
    pub fn host_services(mut self) -> Self {
        self.host_services = true;
        self
    }

    /// The longest packet of its links, in bytes. The kernel's default is 1500, that of macvlans their parent's.
    pub fn mtu(mut self, bytes: u32) -> Self {
        self.mtu = Some(bytes);
        self
    }

    /// Where its rules are written. By default nf_tables, where the kernel has it. A macvlan network has none.
    pub fn firewall(mut self, firewall: Firewall) -> Self {
        self.firewall = firewall;
        self
    }

    /// A label, for whoever looks for it.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Its containers are machines of the LAN that this link of the host leads to, as by Docker's `-d macvlan -o parent=eth0`: each has a
    /// macvlan of it, with a MAC address and an address of its own there. No bridge is made, and the link stays as it is.
    ///
    /// The [subnet](Self::subnet) must be said, and is the LAN's; the [gateway](Self::gateway), its router, gives the default route unless
    /// the network is internal. Other machines have addresses of the same subnet: [`ip_range`](Self::ip_range) says which part is for
    /// containers. They find one another by `/etc/hosts`, and ask the host's resolvers for other names.
    ///
    /// **The host holds none of its packets:** the LAN reaches all that listens in a container, nothing can be published, no bandwidth
    /// limited, no forged address dropped (a container has no capability to forge one, unless it is given `CAP_NET_RAW` or
    /// `CAP_NET_ADMIN`); `internal` takes the default route away and no more. The host and its containers do not reach
    /// one another by that link. What is published by another network is answered by the default route: that should be the bridge's then,
    /// by its [priority](crate::Attach::priority).
    ///
    /// Wants macvlans in the kernel (`modprobe macvlan`; Linux 2.6.23). Wireless links, and networks of many virtual machines, carry none.
    ///
    /// ```no_run
    /// use isolate::{Container, Network};
    /// # fn main() -> isolate::Result<()> {
    /// let lan = Network::builder("lan")
    ///     .macvlan("enp1s0")
    ///     .subnet("192.168.1.0/24".parse()?)
    ///     .ip_range("192.168.1.192/27".parse()?)
    ///     .create()?;
    /// let printer = Container::builder().name("printer").network(&lan).command(["cupsd", "-f"]).start()?;
    /// # Ok(()) }
    /// ```
    pub fn macvlan(mut self, parent: impl Into<String>) -> Self {
        self.parent = Some(parent.into());
        self
    }

    /// How macvlans of one parent are to one another; by default they reach one another ([`MacvlanMode::Bridge`]).
    ///
    /// ```no_run
    /// use isolate::{MacvlanMode, Network};
    /// # fn main() -> isolate::Result<()> {
    /// let guests = Network::builder("guests").macvlan("enp1s0").macvlan_mode(MacvlanMode::Private);
    /// let guests = guests.subnet("192.168.1.0/24".parse()?).create()?;
    /// # Ok(()) }
    /// ```
    pub fn macvlan_mode(mut self, mode: MacvlanMode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Makes the network.
    ///
    /// # Errors
    /// - [`AlreadyExists`](ErrorKind::AlreadyExists): there is one of that name.
    /// - [`InvalidConfig`](ErrorKind::InvalidConfig): a gateway or a range outside of its subnet, two subnets of one version; of a macvlan
    ///   network no subnet, or what the host would have to do for it.
    /// - [`InUse`](ErrorKind::InUse): the subnet overlaps a route of the host or another network, and which; of a macvlan network a bridge's,
    ///   or that of another on the same parent; the parent carries something else.
    /// - [`NotFound`](ErrorKind::NotFound): there is no such parent.
    /// - [`Unsupported`](ErrorKind::Unsupported): the kernel has no bridges, or no macvlans.
    /// - [`PermissionDenied`](ErrorKind::PermissionDenied) for an ordinary user.
    pub fn create(self) -> Result<Network> {
        let said = format!("network `{}`", self.name);
        self.make().map_err(|e| e.of(said))
    }

    fn make(self) -> Result<Network> {
        name::check(&self.name)?;
        if !crate::host::is_root() {
            let what = "this user may not make networks";
            return Err(Error::new(ErrorKind::PermissionDenied, what).with_hint(
                "run as root (CAP_SYS_ADMIN, CAP_NET_ADMIN), or put containers on Attach::pasta()",
            ));
        }
        let store = Store::open()?;
        let guard = store.lock()?;
        let directory = store.network(&self.name);
        if self.name == DEFAULT || NetworkRecord::read(&directory)?.is_some() {
            let hint = "Network::open opens it; or choose another name";
            return Err(Error::new(ErrorKind::AlreadyExists, "the name is in use").with_hint(hint));
        }
        let others = all(&store)?;
        let parent = self.chosen_parent()?;
        let subnets = self.chosen(&others, parent.as_ref())?;
        let link = if parent.is_some() { String::new() } else { format!("isb{}", name::random()) };
        let mut record = NetworkRecord::new(&self.name, link, subnets);
        record.parent = parent;
        (record.internal, record.host_services, record.mtu) = (self.internal, self.host_services, self.mtu);
        record.iptables = match self.firewall {
            Firewall::Iptables => Some(true),
            Firewall::NfTables => Some(false),
            _ => None,
        };
        record.labels = self.labels;
        make_directory(&directory)?;
        let made = owner(&directory).and_then(|lock| {
            record.write(&directory)?;
            if let Link::Macvlan(lan, _) = up(&store, &guard, &record)? {
                macvlan::patiently(|| lan.check())?;
            }
            names::begin(&store, &guard, &record).map(|()| lock)
        });
        match made {
            Ok(lock) => {
                Ok(Network { store: store.clone(), record, owned: Some(lock), warm: Mutex::default() })
            }
            Err(e) => {
                take_down(&store, &guard, &record).ok();
                Err(e)
            }
        }
    }

    /// What it is over, if it is a macvlan network.
    fn chosen_parent(&self) -> Result<Option<Parent>> {
        let Some(link) = self.parent.clone() else {
            return match self.mode {
                None => Ok(None),
                Some(mode) => {
                    let what = format!("mode {mode} of macvlans without a parent");
                    Err(Error::new(ErrorKind::InvalidConfig, what).with_hint("say one by `macvlan`"))
                }
            };
        };
        macvlan::check(self.host_services, self.firewall)?;
        Ok(Some(Parent { link, mode: self.mode.unwrap_or_default() }))
    }

    /// Its subnets, checked against one another, the host's routes and other networks.
    fn chosen(&self, others: &[NetworkRecord], parent: Option<&Parent>) -> Result<Vec<Subnet>> {
        let refused = |what: String| Err(Error::new(ErrorKind::InvalidConfig, what));
        let taken: Vec<Cidr> =
            others.iter().flat_map(|other| other.subnets.iter().map(|subnet| subnet.network())).collect();
        let mut subnets = Vec::new();
        for ipv6 in [false, true] {
            let mut own = self.subnets.iter().filter(|subnet| subnet.is_ipv6() == ipv6);
            let range = self.ranges.iter().find(|range| range.is_ipv6() == ipv6).copied();
            let gateway = self.gateways.iter().find(|gateway| gateway.is_ipv6() == ipv6).copied();
            let subnet = match (own.next(), own.next()) {
                (Some(one), Some(two)) => return refused(format!("subnets {one} and {two}: one of each version of IP")),
                (Some(subnet), None) => {
                    let overlapped = |other: &&NetworkRecord| {
                        let shares = parent.is_none_or(|own| macvlan::shares_addresses(own, other.parent.as_ref()));
                        shares && other.subnets.iter().any(|other| other.network().overlaps(subnet))
                    };
                    if let Some(other) = others.iter().find(overlapped) {
                        let what = format!("subnet {subnet} overlaps that of network `{}`", other.name);
                        return Err(Error::new(ErrorKind::InUse, what));
                    }
                    *subnet
                }
                (None, _) if range.is_some() || gateway.is_some() => {
                    return refused("a gateway or an ip range without its subnet".to_owned());
                }
                (None, _) if parent.is_some() && (!ipv6 || self.ipv6) => {
                    let version = if ipv6 { "IPv6" } else { "IPv4" };
                    let what = format!("a macvlan network without its {version} subnet");
                    return Err(Error::new(ErrorKind::InvalidConfig, what)
                        .with_hint("say that of the LAN by `subnet`, and by `ip_range` the part of it that is for containers"));
                }
                (None, _) if !ipv6 => record::first_free(record::pool(), &taken)?.ok_or_else(|| {
                    let what = "no subnet is free: every one of the pool overlaps a route of the host or another network";
                    Error::new(ErrorKind::InUse, what).with_hint("say one by `subnet`")
                })?,
                (None, _) if self.ipv6 => record::unique_local()?,
                (None, _) => continue,
            };
            subnets.push(Subnet::new(subnet, gateway, range)?);
        }
        Ok(subnets)
    }
}
