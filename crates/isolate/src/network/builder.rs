//! How a network is made.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;

use isolate_netns::{Cidr, Firewall};

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
        }
    }

    /// Its addresses; once of IPv4 and once of IPv6. By default a /24 that overlaps neither a route of the host nor another network.
    pub fn subnet(mut self, subnet: Cidr) -> Self {
        self.subnets.push(subnet);
        self
    }

    /// The part of a subnet that addresses are handed out from. By default all of it.
    pub fn ip_range(mut self, range: Cidr) -> Self {
        self.ranges.push(range);
        self
    }

    /// The bridge's own address in a subnet. By default the first.
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

    /// Its containers reach the services of the host itself, by the gateway's address or any other of the host's.
    pub fn host_services(mut self) -> Self {
        self.host_services = true;
        self
    }

    /// The longest packet of its links, in bytes. The kernel's default is 1500.
    pub fn mtu(mut self, bytes: u32) -> Self {
        self.mtu = Some(bytes);
        self
    }

    /// Where its rules are written. By default nf_tables, where the kernel has it.
    pub fn firewall(mut self, firewall: Firewall) -> Self {
        self.firewall = firewall;
        self
    }

    /// A label, for whoever looks for it.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Makes the network.
    ///
    /// # Errors
    /// - [`AlreadyExists`](ErrorKind::AlreadyExists): there is one of that name.
    /// - [`InvalidConfig`](ErrorKind::InvalidConfig): a gateway or a range outside of its subnet, two subnets of one version.
    /// - [`InUse`](ErrorKind::InUse): the subnet overlaps a route of the host or another network, and which.
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
        let mut record =
            NetworkRecord::new(&self.name, format!("isb{}", name::random()), self.chosen(&others)?);
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
            drop(up(&store, &guard, &record)?);
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

    /// Its subnets, checked against one another, the host's routes and other networks.
    fn chosen(&self, others: &[NetworkRecord]) -> Result<Vec<Subnet>> {
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
                        other.subnets.iter().any(|other| other.network().overlaps(subnet))
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
