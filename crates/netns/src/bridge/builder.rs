//! How a bridge is made, or opened and completed.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use super::{Bridge, Shared, check_name, existing, gone};
use crate::firewall::BridgeRules;
use crate::home::Home;
use crate::route::{self, without_ipv6_addresses};
use crate::{Cidr, Error, ErrorKind, Firewall, Result};

/// The link-local address of every bridge with IPv6.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// How a bridge is to be made: see [`Bridge::builder`].
#[derive(Clone, Debug)]
#[must_use = "it makes nothing before `create` or `ensure`"]
pub struct BridgeBuilder {
    name: String,
    gateways: Vec<Cidr>,
    firewall: Firewall,
    host_services: bool,
    names: bool,
    internal: bool,
    mtu: Option<u32>,
}

impl BridgeBuilder {
    pub(super) fn new(name: &str, gateway: Cidr) -> Self {
        Self {
            name: name.into(),
            gateways: vec![gateway],
            firewall: Firewall::Auto,
            host_services: false,
            names: false,
            internal: false,
            mtu: None,
        }
    }

    /// Its address in a network of IPv6 as well: dual stack. Addresses come from who connects containers alone: no router
    /// advertisements, no duplicate address detection; a link-local address has the bridge alone (`fe80::1`).
    ///
    /// ```no_run
    /// use isolate_netns::{Bridge, Endpoint, NetworkNamespace};
    /// use std::net::{Ipv4Addr, Ipv6Addr};
    ///
    /// let bridge = Bridge::builder("demo0", "10.77.0.1/24".parse()?).ipv6("fd00:77::1/64".parse()?).create()?;
    /// let endpoint = Endpoint::new("eth0", Ipv4Addr::new(10, 77, 0, 2)).ipv6(Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 2));
    /// let port = bridge.attach(&NetworkNamespace::new()?, &endpoint)?;
    /// # Ok::<(), isolate_netns::Error>(())
    /// ```
    pub fn ipv6(mut self, gateway: Cidr) -> Self {
        self.gateways.truncate(1);
        self.gateways.push(gateway);
        self
    }

    /// No way out of it, whatever else is said: containers get no default route, nothing is masqueraded or published.
    pub fn internal(self, internal: bool) -> Self {
        Self { internal, ..self }
    }

    /// The longest packet of its links, in bytes (68 to 65535, of IPv6 at least 1280). The kernel's default is 1500.
    pub fn mtu(self, bytes: u32) -> Self {
        Self { mtu: Some(bytes), ..self }
    }

    /// Whether its containers reach port 53 of the host, UDP and TCP: for a name server at the gateway's address.
    pub fn name_server(self, reachable: bool) -> Self {
        Self { names: reachable, ..self }
    }

    /// Where its rules are written; [`Firewall::Auto`] by default.
    pub fn firewall(self, firewall: Firewall) -> Self {
        Self { firewall, ..self }
    }

    /// Whether its containers may connect to services of the host itself, on any of its addresses. By default they
    /// may not; published ports are reached either way.
    pub fn host_services(self, reachable: bool) -> Self {
        Self { host_services: reachable, ..self }
    }

    /// Makes the bridge, up and with its rules.
    ///
    /// # Errors
    /// - [`InvalidInput`](ErrorKind::InvalidInput): a name that no link can have, or a gateway that is no host of its
    ///   network.
    /// - [`AlreadyExists`](ErrorKind::AlreadyExists): a link of that name.
    /// - [`Conflict`](ErrorKind::Conflict): another link has a route into the network.
    /// - [`Unsupported`](ErrorKind::Unsupported): the kernel has no bridges, or not the firewall asked for.
    /// - [`PermissionDenied`](ErrorKind::PermissionDenied) without `CAP_NET_ADMIN`.
    pub fn create(self) -> Result<Bridge> {
        self.check()?;
        let home = Home::of_this_thread()?;
        if home.route().index(&self.name)?.is_some() {
            return Err(
                Error::os(format!("bridge {}", self.name), libc::EEXIST).with_hint("Bridge::open opens it")
            );
        }
        self.check_routes(&home)?;
        home.route().apply(vec![route::create_bridge(&self.name, self.mac(), self.mtu)]).map_err(
            |error| match error.raw_os_error() {
                Some(libc::EOPNOTSUPP) => error.with_hint("the kernel has no bridges: modprobe bridge"),
                _ => error,
            },
        )?;
        let made = self.finish(&home);
        if made.is_err() {
            self.firewall.choose(&home).and_then(|chosen| chosen.remove(&home, &self.name, &[])).ok();
            home.route().apply(vec![route::delete_link(&self.name)]).ok();
        }
        Ok(Bridge { shared: made?, owned: true })
    }

    /// Opens the bridge, or makes it if it is not there; completes its rules either way. Any number of processes can
    /// do so at once. The bridge stays until it is removed by name.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if there is one of that name with another address, or something that is no
    /// bridge; else as [`create`](Self::create).
    pub fn ensure(self) -> Result<Bridge> {
        self.check()?;
        loop {
            match self.open_same() {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                // Whoever makes it may not be that far.
                Ok(bridge) => {
                    bridge.shared.home.route().apply(vec![route::up(&self.name)])?;
                    return Ok(bridge);
                }
            }
            match self.clone().create() {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                result => {
                    return result
                        .map(|bridge| Bridge { owned: false, shared: Arc::clone(&bridge.keep().shared) });
                }
            }
        }
    }

    pub(super) fn open_same(&self) -> Result<Bridge> {
        let home = Home::of_this_thread()?;
        let (index, gateways) = existing(&home, &self.name)?;
        if gateways != self.gateways {
            let words = |all: &[Cidr]| all.iter().map(Cidr::to_string).collect::<Vec<_>>().join(" and ");
            let (has, wanted) = (words(&gateways), words(&self.gateways));
            let what = format!("bridge {} has the address {has}, not {wanted}", self.name);
            return Err(Error::new(ErrorKind::Conflict, what));
        }
        let firewall = match Firewall::that_knows(&home, &self.name)? {
            Some(known) => known,
            None => self.firewall,
        };
        Ok(Bridge { shared: self.shared(&home, index, firewall)?, owned: false })
    }

    fn finish(&self, home: &Arc<Home>) -> Result<Arc<Shared>> {
        let index = home.route().index(&self.name)?.ok_or_else(|| gone(&self.name))?;
        let mut steps = vec![without_ipv6_addresses(&self.name), route::route_localnet(&self.name)];
        if self.gateways.len() > 1 {
            home.inside(|| route::takes_ipv6(&self.name))?;
            // For packets of others, a host asks for neighbours under such an address only (RFC 4861, 7.2.2).
            steps.push(route::address(index, Cidr::new(LINK_LOCAL, 64)?));
        }
        // IPv4 last: who opens a bridge that has that has all.
        steps.extend(self.gateways.iter().rev().map(|gateway| route::address(index, *gateway)));
        home.route().apply(steps)?;
        // The rules before the link is up: there is no moment without them.
        let shared = self.shared(home, index, self.firewall)?;
        let mut last = vec![route::up(&self.name)];
        if self.gateways.len() > 1 {
            last.push(route::loopback_by(index));
        }
        home.route().apply(last)?;
        Ok(shared)
    }

    fn shared(&self, home: &Arc<Home>, index: u32, firewall: Firewall) -> Result<Arc<Shared>> {
        let rules = BridgeRules {
            name: self.name.clone(),
            networks: self.gateways.clone(),
            outgoing: false,
            host: self.host_services,
            names: self.names,
        };
        let firewall = firewall.add(home, &rules)?;
        let (home, name, gateways) = (Arc::clone(home), self.name.clone(), self.gateways.clone());
        Ok(Arc::new(Shared {
            home,
            name,
            index,
            gateways,
            internal: self.internal,
            mtu: self.mtu,
            firewall,
            rules: Mutex::new(rules),
            forwards: AtomicBool::new(false),
        }))
    }

    fn check(&self) -> Result<()> {
        check_name(&self.name)?;
        for (n, gateway) in self.gateways.iter().enumerate() {
            let address = gateway.address();
            let usable = match address {
                IpAddr::V4(address) => {
                    gateway.prefix() <= 30 && !address.is_loopback() && address.octets()[0] != 0
                }
                IpAddr::V6(address) => {
                    gateway.prefix() <= 126
                        && !address.is_unicast_link_local()
                        && address.to_ipv4_mapped().is_none()
                }
            };
            let version = address.is_ipv6() == (n == 1);
            if !version || !usable || address.is_multicast() || !gateway.is_host(address) {
                let hint = match n {
                    0 => "a host's IPv4 address and a prefix of at most 30 bits, as in 172.30.0.1/24",
                    _ => "a host's IPv6 address and a prefix of at most 126 bits, as in fd00:30::1/64",
                };
                let what = format!("{gateway}: not the address of a gateway in its network");
                return Err(Error::invalid(what).with_hint(hint));
            }
        }
        let least = if self.gateways.len() > 1 { 1280 } else { 68 };
        match self.mtu {
            Some(mtu) if !(least..=65535).contains(&mtu) => Err(Error::invalid(format!(
                "bridge {}: an MTU of {mtu}: it is {least} to 65535 bytes",
                self.name
            ))),
            _ => Ok(()),
        }
    }

    fn check_routes(&self, home: &Home) -> Result<()> {
        for gateway in &self.gateways {
            let mut route = home.route();
            if let Some((other, link)) = route.overlapping(*gateway)? {
                let (network, link) = (gateway.network(), route.name(link));
                let what = format!("network {network} overlaps {other}, which link {link} leads to");
                return Err(Error::new(ErrorKind::Conflict, what));
            }
        }
        Ok(())
    }

    fn mac(&self) -> [u8; 6] {
        match self.gateways.first().map(Cidr::address) {
            Some(IpAddr::V4(address)) => route::mac(address),
            _ => [2, 0, 0, 0, 0, 1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_is_no_host_of_its_network_is_an_error() {
        for gateway in
            ["10.0.0.0/24", "10.0.0.255/24", "10.0.0.1/31", "127.0.0.1/8", "224.0.0.1/24", "0.0.0.1/8"]
        {
            let error = Bridge::builder("x", gateway.parse().unwrap()).check().unwrap_err();
            assert!(error.to_string().starts_with(gateway), "{error}");
        }
        let bridge =
            |six: &str| Bridge::builder("x", "10.0.0.1/24".parse().unwrap()).ipv6(six.parse().unwrap());
        for gateway in
            ["fd00::/64", "fe80::1/64", "ff02::1/64", "fd00::1/127", "10.0.1.1/24", "::ffff:10.0.0.1/120"]
        {
            let error = bridge(gateway).check().unwrap_err();
            assert!(error.to_string().starts_with(&gateway.parse::<Cidr>().unwrap().to_string()), "{error}");
        }
        bridge("fd00::1/64").mtu(9000).check().unwrap();
        assert!(bridge("fd00::1/64").mtu(1279).check().unwrap_err().to_string().contains("1280"));
    }
}
