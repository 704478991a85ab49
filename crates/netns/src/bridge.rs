//! Bridges: a network on this host, with the host as its gateway.

mod builder;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub use builder::BridgeBuilder;

use crate::endpoint::Endpoint;
use crate::firewall::{BridgeRules, Version};
use crate::home::Home;
use crate::port::{Port, connect};
use crate::prepared::{Prepared, prepare};
use crate::route;
use crate::{Cidr, Error, ErrorKind, Firewall, NetworkNamespace, Problem, Result};

/// A bridge: one network on this host, with an address of its own as the gateway.
///
/// It is made in the calling thread's network namespace and belongs there: its methods can be called from threads in
/// any other. Everything needs `CAP_NET_ADMIN` there, and [`connect`](Self::connect) `CAP_SYS_ADMIN` too.
///
/// Its containers reach one another, and by default nobody else: not the outside ([`masquerade`](Self::masquerade)),
/// not the services of the host ([`BridgeBuilder::host_services`]; ping works), not another bridge. From outside,
/// only published ports lead in. What comes in by a port has the addresses of its container, or is dropped: MAC, IPv4, ARP, IPv6 and
/// neighbour advertisements; so is every word of a router.
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
    /// One of IPv4, and perhaps one of IPv6.
    pub(crate) gateways: Vec<Cidr>,
    pub(crate) internal: bool,
    pub(crate) mtu: Option<u32>,
    pub(crate) firewall: Firewall,
    pub(crate) rules: Mutex<BridgeRules>,
    /// The host forwards packets, as far as this handle has seen to it.
    forwards: AtomicBool,
}

impl Bridge {
    /// A bridge to be made, with options.
    pub fn builder(name: &str, gateway: Cidr) -> BridgeBuilder {
        BridgeBuilder::new(name, gateway)
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
        let (_, gateways) = existing(&home, name)?;
        let builder = Self::builder(name, gateways[0]);
        gateways.get(1).map_or(builder.clone(), |six| builder.ipv6(*six)).open_same()
    }

    /// Another handle on the same bridge, which dropping leaves alone. With its sockets it is cheaper than to [`open`](Self::open) it.
    pub fn share(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), owned: false }
    }

    /// Whether it is in the calling thread's network namespace, and the same link still: not removed, nor made anew by somebody else.
    #[must_use]
    pub fn is_here(&self) -> bool {
        let here = Home::of_this_thread().is_ok_and(|home| home.id() == self.shared.home.id());
        here && matches!(self.shared.home.route().index(&self.shared.name), Ok(Some(index)) if index == self.shared.index)
    }

    /// The link's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its own IPv4 address, the gateway of its network, with the prefix.
    #[must_use]
    pub fn gateway(&self) -> Cidr {
        self.shared.gateways[0]
    }

    /// The same of IPv6, if it has one.
    #[must_use]
    pub fn gateway6(&self) -> Option<Cidr> {
        self.shared.gateways.get(1).copied()
    }

    /// Where its rules are: [`Firewall::NfTables`] or [`Firewall::Iptables`].
    #[must_use]
    pub fn firewall(&self) -> Firewall {
        self.shared.firewall
    }

    /// Lets its containers reach the outside, under the address of the link that a packet leaves by (source NAT).
    /// Other bridges stay out of reach.
    ///
    /// Switches `net.ipv4.ip_forward` on in the bridge's namespace if it is off, with IPv6 `net.ipv6.conf.all.forwarding`, too, and
    /// leaves it on: other networks may need it by then. The host is a router from then on; what it forwards between links that are not
    /// this crate's is for the host's own rules to say. A router takes no router advertisements, unless `accept_ra` of a link is 2.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for an internal bridge;
    /// [`PermissionDenied`](ErrorKind::PermissionDenied), also where `/proc/sys` is read-only.
    pub fn masquerade(&self) -> Result<()> {
        if self.shared.internal {
            return Err(Error::invalid(format!("bridge {} is internal: nothing leaves it", self.name())));
        }
        self.shared.forward()?;
        self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner).outgoing = true;
        self.shared.add_rules()
    }

    /// What of its rules somebody took away, and which chain of another program drops what goes to it. Nothing in order is nothing to
    /// tell. [`Port::check`] does the same with what is published of a port.
    ///
    /// ```no_run
    /// # let bridge = isolate_netns::Bridge::open("demo0")?;
    /// for problem in bridge.check()? {
    ///     eprintln!("{problem}");
    /// }
    /// bridge.repair()?;
    /// # Ok::<(), isolate_netns::Error>(())
    /// ```
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn check(&self) -> Result<Vec<Problem>> {
        let rules = self.shared.rules();
        self.shared.firewall.check(&self.shared.home, &rules, &[], &[])
    }

    /// Writes the bridge's rules again, after somebody flushed them. Those that are there stay as they are. What is published of its
    /// ports is for [`Port::repair`].
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
        self.attach(namespace, &Endpoint::new(interface, address))
    }

    /// The same with more than an address: see [`Endpoint`].
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn attach(&self, namespace: &impl AsFd, endpoint: &Endpoint) -> Result<Port> {
        connect(&self.shared, namespace.as_fd(), endpoint)
    }

    /// A pair of links into a namespace that a container will have, before it is known which: see [`Prepared`]. `interface` is the name
    /// of the end inside. It counts as one of the bridge's ports, of which the kernel takes 1023.
    ///
    /// ```no_run
    /// use isolate_netns::{Bridge, Endpoint, NetworkNamespace};
    /// use std::net::Ipv4Addr;
    ///
    /// let bridge = Bridge::open("demo0")?;
    /// let prepared = bridge.prepare(NetworkNamespace::new()?, "eth0")?;
    /// let port = prepared.attach(&Endpoint::new("eth0", Ipv4Addr::new(10, 77, 0, 2)))?;
    /// # Ok::<(), isolate_netns::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`connect`](Self::connect), without those of addresses.
    pub fn prepare(&self, namespace: NetworkNamespace, interface: &str) -> Result<Prepared> {
        prepare(&self.shared, namespace, interface)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// A port that is there, of which `interface` is the host's end: for one who did not make it. Dropping it does nothing.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such link.
    pub fn port(&self, interface: &str, endpoint: &Endpoint) -> Result<Port> {
        Port::open(&self.shared, interface, endpoint)
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
    pub(crate) fn rules(&self) -> BridgeRules {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds what is not there.
    fn add_rules(&self) -> Result<()> {
        self.firewall.add(&self.home, &self.rules()).map(|_| ())
    }

    pub(crate) fn repair(&self) -> Result<()> {
        self.firewall.repair(&self.home, &self.rules(), &[], &[])
    }

    /// Lets the host forward what its networks need.
    pub(crate) fn forward(&self) -> Result<()> {
        if self.forwards.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.home.forward(Version::Four)?;
        if self.gateways.len() > 1 {
            self.home.forward(Version::Six)?;
        }
        self.forwards.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn remove(&self) -> Result<()> {
        // The link first: rules are there as long as it is.
        let link = match self.home.route().apply(vec![route::delete_link(&self.name)]) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        };
        let rules = self.firewall.remove(&self.home, &self.name, &self.gateways);
        match (link, rules) {
            (Err(link), Err(rules)) => Err(link.and(rules)),
            (link, rules) => link.and(rules),
        }
    }
}

/// Index and addresses of a bridge. One that another process is just making gets its addresses in a moment.
fn existing(home: &Home, name: &str) -> Result<(u32, Vec<Cidr>)> {
    const MOMENT: Duration = Duration::from_secs(10);
    let begun = Instant::now();
    loop {
        let mut route = home.route();
        let index = route.index(name)?.ok_or_else(|| gone(name))?;
        if !route.is_bridge(name)? {
            return Err(Error::new(ErrorKind::Conflict, format!("link {name} is not a bridge")));
        }
        let mut addresses = route.addresses(index)?;
        drop(route);
        if addresses.first().is_some_and(|first| !first.is_ipv6()) {
            let own = |address: &Cidr| match address.address() {
                IpAddr::V6(address) => !Ipv6Addr::is_unicast_link_local(&address),
                IpAddr::V4(_) => false,
            };
            let six = addresses.iter().copied().find(own);
            addresses.truncate(1);
            addresses.extend(six);
            return Ok((index, addresses));
        }
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
}
