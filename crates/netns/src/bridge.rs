//! Bridges: a network on this host, with the host as its gateway.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::firewall::BridgeRules;
use crate::home::Home;
use crate::port::{Port, connect};
use crate::route::{self, without_ipv6_addresses};
use crate::{Cidr, Error, ErrorKind, Firewall, Result};

/// A bridge: one network on this host, with an address of its own as the gateway.
///
/// It is made in the calling thread's network namespace and belongs there: its methods can be called from threads in
/// any other. Everything needs `CAP_NET_ADMIN` there, and [`connect`](Self::connect) `CAP_SYS_ADMIN` too.
///
/// Its containers reach one another, and by default nobody else: not the outside ([`masquerade`](Self::masquerade)),
/// not the services of the host ([`BridgeBuilder::host_services`]; ping works), not another bridge. From outside,
/// only published ports lead in.
///
/// Dropping one that was *created* removes it with its rules; see [`keep`](Self::keep). One that was *opened*
/// or *ensured* stays.
///
/// ```no_run
/// use isolate_netns::{Bridge, NetworkNamespace, Publish};
/// use std::net::Ipv4Addr;
///
/// let bridge = Bridge::create("demo0", "10.77.0.1/24".parse()?)?;
/// bridge.masquerade()?;
/// let namespace = NetworkNamespace::new()?;
/// let port = bridge.connect(&namespace, Ipv4Addr::new(10, 77, 0, 2), "eth0")?;
/// port.publish(Publish::tcp(9000, 8080))?;
/// # Ok::<(), isolate_netns::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping a created bridge removes it and its rules"]
pub struct Bridge {
    shared: Arc<Shared>,
    owned: bool,
}

/// What its ports need of a bridge, and may need longer than the handle lives.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) home: Arc<Home>,
    pub(crate) name: String,
    pub(crate) index: u32,
    pub(crate) gateway: Cidr,
    pub(crate) firewall: Firewall,
    rules: Mutex<BridgeRules>,
}

/// How a bridge is to be made: see [`Bridge::builder`].
#[derive(Clone, Debug)]
#[must_use = "it makes nothing before `create` or `ensure`"]
pub struct BridgeBuilder {
    name: String,
    gateway: Cidr,
    firewall: Firewall,
    host_services: bool,
}

impl BridgeBuilder {
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
        home.route().apply(vec![route::create_bridge(&self.name, self.gateway.address())]).map_err(
            |error| match error.raw_os_error() {
                Some(libc::EOPNOTSUPP) => error.with_hint("the kernel has no bridges: modprobe bridge"),
                _ => error,
            },
        )?;
        let made = self.finish(&home);
        if made.is_err() {
            self.firewall.choose(&home).and_then(|chosen| chosen.remove(&home, &self.name, None)).ok();
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

    fn open_same(&self) -> Result<Bridge> {
        let home = Home::of_this_thread()?;
        let (index, gateway) = existing(&home, &self.name)?;
        if gateway != self.gateway {
            let what = format!("bridge {} has the address {gateway}, not {}", self.name, self.gateway);
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
        let steps = vec![
            route::address(index, self.gateway),
            without_ipv6_addresses(&self.name),
            route::route_localnet(&self.name),
        ];
        home.route().apply(steps)?;
        // The rules before the link is up: there is no moment without them.
        let shared = self.shared(home, index, self.firewall)?;
        home.route().apply(vec![route::up(&self.name)])?;
        Ok(shared)
    }

    fn shared(&self, home: &Arc<Home>, index: u32, firewall: Firewall) -> Result<Arc<Shared>> {
        let (name, gateway) = (self.name.clone(), self.gateway);
        let rules =
            BridgeRules { name: name.clone(), network: gateway, outgoing: false, host: self.host_services };
        let firewall = firewall.add(home, &rules)?;
        Ok(Arc::new(Shared {
            home: Arc::clone(home),
            name,
            index,
            gateway,
            firewall,
            rules: Mutex::new(rules),
        }))
    }

    fn check(&self) -> Result<()> {
        check_name(&self.name)?;
        let address = self.gateway.address();
        let usable = self.gateway.prefix() <= 30
            && !address.is_loopback()
            && !address.is_multicast()
            && address.octets()[0] != 0;
        match usable && self.gateway.is_host(address) {
            true => Ok(()),
            false => {
                Err(Error::invalid(format!("{}: not the address of a gateway in its network", self.gateway))
                    .with_hint("a host's address and a prefix of at most 30 bits, as in 172.30.0.1/24"))
            }
        }
    }

    fn check_routes(&self, home: &Home) -> Result<()> {
        let mut route = home.route();
        let Some((other, link)) = route.overlapping(self.gateway)? else { return Ok(()) };
        let what = format!(
            "network {} overlaps {other}, which link {} leads to",
            self.gateway.network(),
            route.name(link)
        );
        Err(Error::new(ErrorKind::Conflict, what))
    }
}

impl Bridge {
    /// A bridge to be made, with options.
    pub fn builder(name: &str, gateway: Cidr) -> BridgeBuilder {
        BridgeBuilder { name: name.into(), gateway, firewall: Firewall::Auto, host_services: false }
    }

    /// Makes a bridge: `builder(name, gateway).create()`.
    ///
    /// # Errors
    /// As [`BridgeBuilder::create`].
    pub fn create(name: &str, gateway: Cidr) -> Result<Self> {
        Self::builder(name, gateway).create()
    }

    /// Opens a bridge or makes it: `builder(name, gateway).ensure()`.
    ///
    /// # Errors
    /// As [`BridgeBuilder::ensure`].
    pub fn ensure(name: &str, gateway: Cidr) -> Result<Self> {
        Self::builder(name, gateway).ensure()
    }

    /// Opens a bridge that is there, with the firewall that has its rules; without rules it gets them.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such link, [`Conflict`](ErrorKind::Conflict) if it is no
    /// bridge or has no IPv4 address.
    pub fn open(name: &str) -> Result<Self> {
        check_name(name)?;
        let home = Home::of_this_thread()?;
        let (_, gateway) = existing(&home, name)?;
        Self::builder(name, gateway).open_same()
    }

    /// The link's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its own address, the gateway of its network, with the prefix.
    #[must_use]
    pub fn gateway(&self) -> Cidr {
        self.shared.gateway
    }

    /// Where its rules are: [`Firewall::NfTables`] or [`Firewall::Iptables`].
    #[must_use]
    pub fn firewall(&self) -> Firewall {
        self.shared.firewall
    }

    /// Lets its containers reach the outside, under the address of the link that a packet leaves by (source NAT).
    /// Other bridges stay out of reach.
    ///
    /// Switches `net.ipv4.ip_forward` on in the bridge's namespace if it is off, and leaves it on: other networks
    /// may need it by then. The host is a router from then on; what it forwards between links that are not this
    /// crate's is for the host's own rules to say.
    ///
    /// # Errors
    /// [`PermissionDenied`](ErrorKind::PermissionDenied), also where `/proc/sys` is read-only.
    pub fn masquerade(&self) -> Result<()> {
        self.shared.home.forward()?;
        self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner).outgoing = true;
        self.repair()
    }

    /// Writes the bridge's rules again, after somebody flushed them. Those that are there stay as they are.
    ///
    /// # Errors
    /// As [`BridgeBuilder::create`].
    pub fn repair(&self) -> Result<()> {
        self.shared.repair()
    }

    /// Connects a namespace: a veth pair, one end a port of the bridge, the other, named `interface`, inside with
    /// `address`, up. The loopback is brought up; the default route leads to the bridge unless there is one
    /// already, from the network that was connected first. IPv6 is off on both ends.
    ///
    /// The MAC address is `02:42` and the address. Two sends for the pair, and one more inside, from a thread made
    /// for it.
    ///
    /// # Errors
    /// - [`InvalidInput`](ErrorKind::InvalidInput): an address outside the bridge's network or its own, an interface
    ///   name that is empty or over 15 bytes, or the bridge's own namespace.
    /// - [`AlreadyExists`](ErrorKind::AlreadyExists): the namespace has a link of that name.
    /// - [`NotFound`](ErrorKind::NotFound): the bridge is gone.
    /// - [`PermissionDenied`](ErrorKind::PermissionDenied) without `CAP_SYS_ADMIN` and `CAP_NET_ADMIN` in both.
    ///
    /// Nothing is left behind then.
    pub fn connect(&self, namespace: &impl AsFd, address: Ipv4Addr, interface: &str) -> Result<Port> {
        connect(&self.shared, namespace.as_fd(), address, interface)
    }

    /// Gives up the duty to remove it: it stays when this is dropped.
    pub fn keep(mut self) -> Self {
        self.owned = false;
        self
    }

    /// Removes the bridge, its rules and those of its ports, whoever made it. The pairs of its ports end with their
    /// namespaces. Deleting a link waits 10 to 30 ms for the kernel.
    ///
    /// # Errors
    /// What the kernel refused; the rest is done even so.
    pub fn remove(mut self) -> Result<()> {
        self.owned = false;
        self.shared.remove()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if self.owned {
            self.shared.remove().ok();
        }
    }
}

impl Shared {
    pub(crate) fn repair(&self) -> Result<()> {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.firewall.add(&self.home, &rules).map(|_| ())
    }

    fn remove(&self) -> Result<()> {
        // The link first: rules are there as long as it is.
        let link = match self.home.route().apply(vec![route::delete_link(&self.name)]) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        };
        let rules = self.firewall.remove(&self.home, &self.name, Some(self.gateway));
        match (link, rules) {
            (Err(link), Err(rules)) => Err(link.and(rules)),
            (link, rules) => link.and(rules),
        }
    }
}

/// Index and address of a bridge. One that another process is just making gets its address in a moment.
fn existing(home: &Home, name: &str) -> Result<(u32, Cidr)> {
    const MOMENT: Duration = Duration::from_secs(10);
    let begun = Instant::now();
    loop {
        let mut route = home.route();
        let index = route.index(name)?.ok_or_else(|| gone(name))?;
        if !route.is_bridge(name)? {
            return Err(Error::new(ErrorKind::Conflict, format!("link {name} is not a bridge")));
        }
        if let Some(gateway) = route.addresses(index)?.first() {
            return Ok((index, *gateway));
        }
        drop(route);
        if begun.elapsed() > MOMENT {
            return Err(Error::new(ErrorKind::Conflict, format!("bridge {name} has no IPv4 address")));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn gone(name: &str) -> Error {
    Error::os("", libc::ENODEV).saying(format!("bridge {name} is not there"))
}

/// What the kernel takes as a link's name (`dev_valid_name`).
pub(crate) fn check_name(name: &str) -> Result<()> {
    const LONGEST: usize = libc::IFNAMSIZ - 1;
    let why = match name {
        "" => "it is empty",
        "." | ".." => "it is a directory's",
        _ if name.len() > LONGEST => "it is over 15 bytes",
        _ if !name.bytes().all(|byte| byte.is_ascii_graphic() && !b"/:%\"'\\!".contains(&byte)) => {
            "it has a character that no link's name may have"
        }
        _ => return Ok(()),
    };
    Err(Error::invalid(format!("`{}` cannot be a link's name: {why}", name.escape_debug())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_link_can_have_is_an_error() {
        for name in ["", ".", "..", "sixteen-bytes-xx", "a/b", "a:b", "a b", "a\0b", "a%d", "!a", "ä"] {
            assert_eq!(check_name(name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
        }
        check_name("isolate0").unwrap();
        check_name("fifteen-bytes-x").unwrap();
    }

    #[test]
    fn a_gateway_that_is_no_host_of_its_network_is_an_error() {
        for gateway in
            ["10.0.0.0/24", "10.0.0.255/24", "10.0.0.1/31", "127.0.0.1/8", "224.0.0.1/24", "0.0.0.1/8"]
        {
            let error = Bridge::builder("x", gateway.parse().unwrap()).check().unwrap_err();
            assert!(error.to_string().starts_with(gateway), "{error}");
        }
    }
}
