//! Which network a container is on.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use isolate_netns::Bandwidth;
use serde::{Deserialize, Serialize};

use crate::network::{DEFAULT, Network};
use crate::origin::Origin;

/// A container's network, one of Docker's modes.
///
/// Default: [`none`](Self::none), or, once a port is published, [`bridge`](Self::bridge), for an ordinary user
/// [`pasta`](Self::pasta).
///
/// ```no_run
/// use isolate::{Attach, Container, Network};
/// # fn main() -> isolate::Result<()> {
/// let backend = Network::create("backend")?;
/// let db = Container::builder()
///     .name("db")
///     .network(Attach::to(&backend).alias("postgres"))
///     .command(["postgres"])
///     .start()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use = "a description does nothing until a container is started with it"]
pub struct Attach {
    pub(crate) mode: Mode,
    /// The network's name, on a bridge; the default one's if it is `None`.
    #[serde(default)]
    pub(crate) named: Option<String>,
    /// At most one of each version of IP.
    #[serde(default)]
    pub(crate) addresses: Vec<IpAddr>,
    #[serde(default)]
    pub(crate) mac: Option<[u8; 6]>,
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    #[serde(default)]
    pub(crate) priority: i32,
    #[serde(default)]
    pub(crate) bandwidth: Bandwidth,
    /// Where a shared namespace comes from.
    #[serde(default)]
    pub(crate) origin: Option<Origin>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    None,
    Host,
    Bridge,
    Pasta,
    /// Another container's, or one by path or descriptor.
    Shared,
}

impl Attach {
    pub(crate) fn of(mode: Mode) -> Self {
        Self {
            mode,
            named: None,
            addresses: Vec::new(),
            mac: None,
            aliases: Vec::new(),
            priority: 0,
            bandwidth: Bandwidth::new(),
            origin: None,
        }
    }

    /// A network namespace of its own with nothing but the loopback device.
    pub fn none() -> Self {
        Self::of(Mode::None)
    }

    /// The host's own network, ports and abstract Unix sockets: **no isolation**.
    pub fn host() -> Self {
        Self::of(Mode::Host)
    }

    /// The default network, with an address of its own and NAT to the outside: the bridge `isolate0`, there while a container is on it. As
    /// on Docker's, containers reach one another by address, not by name.
    pub fn bridge() -> Self {
        Self::of(Mode::Bridge)
    }

    /// A user-defined network: a bridge, or a [macvlan](crate::NetworkBuilder::macvlan). Containers on it find one another by name.
    #[doc(alias = "network")]
    pub fn to(network: &Network) -> Self {
        Self::named(network.name())
    }

    /// The same by the network's name, which is looked up when the container is started.
    pub fn named(network: impl Into<String>) -> Self {
        Self { named: Some(network.into()), ..Self::of(Mode::Bridge) }
    }

    /// The network of another container, as Docker's `--network container:NAME`: the same interfaces, addresses, ports and loopback. The
    /// other must run when this one starts. With it comes the user namespace of that container, if it has one of its own. A container that
    /// lasts can share with another one that does: as long as it runs it stays in the network that it found at its start.
    ///
    /// ```no_run
    /// use isolate::{Attach, Container};
    /// # fn main() -> isolate::Result<()> {
    /// let web = Container::open("web")?;
    /// let proxy = Container::builder().network(Attach::container(&web)).command(["haproxy"]).create()?;
    /// proxy.start()?; // while `web` runs
    /// # Ok(()) }
    /// ```
    pub fn container(other: impl Into<Origin>) -> Self {
        Self { origin: Some(Origin::container(other)), ..Self::of(Mode::Shared) }
    }

    /// A network namespace by its path: `/proc/PID/ns/net`, or a file that it is bound to, as `ip netns` does in `/run/netns`.
    pub fn path(path: impl AsRef<Path>) -> Self {
        Self { origin: Some(Origin::path(path)), ..Self::of(Mode::Shared) }
    }

    /// A network namespace by a descriptor.
    pub fn descriptor(namespace: impl Into<OwnedFd>) -> Self {
        Self { origin: Some(Origin::descriptor(namespace)), ..Self::of(Mode::Shared) }
    }

    /// For an ordinary user: pasta(1), a program that connects the container with no more rights than that user has. Inside there is
    /// `eth0` with the addresses of the host's own interface; what leaves the container leaves as the user's own connections; published
    /// ports are bound on the host by pasta. The host's loopback is not reached from inside.
    ///
    /// Needs no privilege but that pasta is installed (Debian: `passt`), a route to the outside, and `/dev/net/tun`. A start fails with
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for root, who has bridges, and for a published host port of 0; without pasta,
    /// with [`Unsupported`](crate::ErrorKind::Unsupported). Such a container [cannot be detached](crate::Container::detach): nobody
    /// would end its pasta.
    ///
    /// ```no_run
    /// use isolate::{Attach, Container};
    /// # fn main() -> isolate::Result<()> {
    /// let server = Container::builder()
    ///     .network(Attach::pasta())
    ///     .publish((9000, 8080))
    ///     .command(["busybox", "httpd", "-f", "-p", "8080"])
    ///     .start()?;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "slirp")]
    #[doc(alias = "rootless")]
    pub fn pasta() -> Self {
        Self::of(Mode::Pasta)
    }

    /// This address instead of the next free one, on a network; of IPv4, and once more of IPv6 where the network has both.
    #[doc(alias = "ip")]
    pub fn address(mut self, address: impl Into<IpAddr>) -> Self {
        let address = address.into();
        self.addresses.retain(|other| other.is_ipv6() != address.is_ipv6());
        self.addresses.push(address);
        self
    }

    /// This MAC address, on a network. By default `02:42` and the IPv4 address; on a macvlan in mode `passthru` it is the parent's, and no
    /// other can be said.
    pub fn mac(mut self, mac: [u8; 6]) -> Self {
        self.mac = Some(mac);
        self
    }

    /// One more name that it is found by on a user-defined network. Several containers can have the same: each answer names all of
    /// them, in turn first.
    pub fn alias(mut self, name: impl Into<String>) -> Self {
        self.aliases.push(name.into());
        self
    }

    /// Of several networks, the one with the highest priority (-50 to 50, 0 by default) gives the container its default route; of equal
    /// ones, the first. Connecting another later moves nothing then. An internal network gives none.
    #[doc(alias = "gw-priority")]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// How fast it sends and receives by this network. [`Container::limit_network`](crate::Container::limit_network) changes it later. On a macvlan network a start fails
    /// with [`Unsupported`](crate::ErrorKind::Unsupported): nothing on the host could hold it.
    ///
    /// ```
    /// use isolate::{Attach, Bandwidth};
    ///
    /// let slow = Attach::bridge().bandwidth(Bandwidth::new().up(20_000_000).down(50_000_000)); // bit/s
    /// ```
    pub fn bandwidth(mut self, bandwidth: Bandwidth) -> Self {
        self.bandwidth = bandwidth;
        self
    }

    /// The network's name.
    pub(crate) fn network(&self) -> &str {
        self.named.as_deref().unwrap_or(DEFAULT)
    }

    /// What only a place on a bridge can have, in words.
    pub(crate) fn wants_a_bridge(&self) -> Option<String> {
        if let Some(address) = self.addresses.first() {
            return Some(format!("the address {address}"));
        }
        if self.mac.is_some() {
            return Some("a MAC address".to_owned());
        }
        if self.bandwidth != Bandwidth::new() {
            return Some("a limit of its bandwidth".to_owned());
        }
        self.aliases.first().map(|alias| format!("the alias `{alias}`"))
    }
}

impl From<&Network> for Attach {
    fn from(network: &Network) -> Self {
        Self::to(network)
    }
}
