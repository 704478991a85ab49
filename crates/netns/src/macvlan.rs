//! Macvlans: links with MAC addresses of their own on a link of the host, for containers that are machines of its LAN
//! (`macvlan` in ip-link(8); drivers/net/macvlan.c).

mod mode;
mod port;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::link::{InfoMacVlan, LinkAttribute, LinkFlags, LinkLayerType, MacVlanFlags, State};
use rtnetlink::LinkMacVlan;

pub use mode::MacvlanMode;
pub use port::MacvlanPort;

use crate::bridge::check_name;
use crate::endpoint::Endpoint;
use crate::home::Home;
use crate::namespace::{id, run_in};
use crate::netlink::{NLM_F_CREATE, NLM_F_EXCL};
use crate::route::{Route, Step, delete_link};
use crate::{Cidr, Error, ErrorKind, NetworkNamespace, Result};

/// A network that a link of the host leads to, for containers that are on it as machines of their own: each gets a macvlan of that link,
/// the parent, with a MAC address and addresses of the LAN.
///
/// **What a container sends and gets does not pass the host's stack:** no rule of this host holds it, there is no NAT, no published port,
/// no guard against forged addresses, and every service of it is open to the LAN. The host does not reach its containers by the parent,
/// nor they the host, in any [mode](MacvlanMode): macvlans are made so. For what a bridge protects from, use a
/// [`Bridge`](crate::Bridge).
///
/// The parent is an Ethernet link of the calling thread's network namespace; none of its settings is changed. One that cannot filter by
/// several MAC addresses (a veth, some drivers) the kernel lets receive everything as long as it carries macvlans. Wireless ones refuse
/// other MAC addresses than their own, and so do many virtual machines' networks.
///
/// ```no_run
/// use isolate_netns::{Endpoint, Macvlan, NetworkNamespace};
///
/// let lan = Macvlan::new("enp1s0", "192.168.1.0/24".parse()?).gateway([192, 168, 1, 1]);
/// let namespace = NetworkNamespace::new()?;
/// let port = lan.attach(&namespace, &Endpoint::new("eth0", [192, 168, 1, 40].into()))?;
/// port.disconnect(&namespace)?;
/// # Ok::<(), isolate_netns::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a description does nothing until something is attached with it"]
pub struct Macvlan {
    parent: String,
    mode: MacvlanMode,
    mtu: Option<u32>,
    /// One of IPv4, and perhaps one of IPv6.
    networks: Vec<Cidr>,
    gateways: Vec<IpAddr>,
}

impl Macvlan {
    /// On the link of this name, with addresses of this IPv4 network. Nothing is checked before [`attach`](Self::attach) or
    /// [`check`](Self::check).
    pub fn new(parent: impl Into<String>, network: Cidr) -> Self {
        let parent = parent.into();
        let (mode, networks) = (MacvlanMode::Bridge, vec![network.network()]);
        Self { parent, mode, mtu: None, networks, gateways: Vec::new() }
    }

    /// Addresses of this IPv6 network, too. There is no duplicate address detection, and what routers advertise is not taken; beside its
    /// address a container has the link-local one of its MAC address, which machines of a LAN ask by (RFC 4291, 2.8).
    pub fn ipv6(mut self, network: Cidr) -> Self {
        self.networks.truncate(1);
        self.networks.push(network.network());
        self
    }

    /// A router of the LAN: the default route of that version of IP leads by it. Without one there is none.
    pub fn gateway(mut self, gateway: impl Into<IpAddr>) -> Self {
        let gateway = gateway.into();
        self.gateways.retain(|other| other.is_ipv6() != gateway.is_ipv6());
        self.gateways.push(gateway);
        self
    }

    /// How those of one parent are to one another; [`MacvlanMode::Bridge`] by default.
    pub fn mode(self, mode: MacvlanMode) -> Self {
        Self { mode, ..self }
    }

    /// The longest packet, in bytes (68 to the parent's, of IPv6 at least 1280). By default the parent's.
    pub fn mtu(self, bytes: u32) -> Self {
        Self { mtu: Some(bytes), ..self }
    }

    /// Whether containers can be attached: the parent is there and carries macvlans. One is made, in a namespace that is thrown away, and
    /// deleted.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub fn check(&self) -> Result<()> {
        self.check_words()?;
        let home = Home::of_this_thread()?;
        let parent = self.usable(&home)?;
        let trial = NetworkNamespace::new()?;
        // Another mode than passthru: that would take the parent's packets meanwhile.
        let modest = Self { mode: MacvlanMode::Private, ..self.clone() };
        trial.run(|| {
            let mut inside = Route::open()?;
            modest.make(&home, &parent, trial.as_fd(), "try0", None)?;
            inside.apply(vec![delete_link("try0")])
        })?
    }

    /// Makes a macvlan of the parent in the namespace: named, with MAC address and addresses, up; the loopback, too. Default routes lead
    /// by the [gateways](Self::gateway), with the endpoint's metric. It works once the parent is up.
    ///
    /// The MAC address is `02:42` and the address, unless the endpoint says one; in mode `passthru` it is the parent's.
    ///
    /// # Errors
    /// - [`NotFound`](ErrorKind::NotFound): there is no parent of that name.
    /// - [`InvalidInput`](ErrorKind::InvalidInput): an address, a gateway or an MTU that cannot be, a parent that is no Ethernet link, the
    ///   parent's own namespace.
    /// - [`Conflict`](ErrorKind::Conflict): the parent is a port of a bridge or a bond, or carries ipvlans; `passthru` of one that carries
    ///   others, or anything on one that is taken by `passthru`; a MAC address that another macvlan of the parent has.
    /// - [`AlreadyExists`](ErrorKind::AlreadyExists): the namespace has a link of that name.
    /// - [`Unsupported`](ErrorKind::Unsupported): the kernel has no macvlans (`CONFIG_MACVLAN`, since Linux 2.6.23).
    /// - [`PermissionDenied`](ErrorKind::PermissionDenied) without `CAP_SYS_ADMIN` and `CAP_NET_ADMIN` in both namespaces, and where
    ///   `/proc/sys` is read-only: router advertisements could not be refused.
    ///
    /// Nothing is left behind then.
    pub fn attach(&self, namespace: &impl AsFd, endpoint: &Endpoint) -> Result<MacvlanPort> {
        let namespace = namespace.as_fd();
        check_name(&endpoint.interface)?;
        self.check_words()?;
        let mut own = self.own_addresses(endpoint)?;
        let home = Home::of_this_thread()?;
        if id(namespace)? == home.id() {
            let what = format!("link {} is in this namespace: attach another", self.parent);
            return Err(Error::invalid(what));
        }
        let parent = self.usable(&home)?;
        let mac = match (self.mode, endpoint.mac) {
            (MacvlanMode::Passthru, Some(_)) => {
                let what = format!("a MAC address: in mode passthru it is that of {}", self.parent);
                return Err(Error::invalid(what));
            }
            (MacvlanMode::Passthru, None) => parent.mac,
            _ => endpoint.mac(),
        };
        if own.len() > 1 {
            own.push(Cidr::new(link_local(mac), 64)?);
        }
        let (name, metric) = (endpoint.interface.as_str(), endpoint.metric);
        let gateways: Vec<_> = match endpoint.default_route {
            true => {
                self.gateways.iter().copied().filter(|g| g.is_ipv4() || endpoint.ipv6.is_some()).collect()
            }
            false => vec![],
        };
        let configure = |inside: &mut Route| {
            refuse_advertisements(name, own.len() > 1)?;
            inside.configure(name, &own, &gateways, metric)?;
            settle(inside, name, &own, &parent)?;
            inside.index(name)?.ok_or_else(|| Error::os(format!("link {name}"), libc::ENODEV))
        };
        let said = (self.mode != MacvlanMode::Passthru).then_some(mac);
        let made = run_in(namespace, || {
            let mut inside = Route::open()?;
            self.make(&home, &parent, namespace, name, said)?;
            let configured = configure(&mut inside);
            if configured.is_err() {
                inside.apply(vec![delete_link(name)]).ok();
            }
            configured
        });
        let made = made.map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => error.with_kind(ErrorKind::InvalidInput),
            _ => error,
        });
        let index = made?.map_err(|error| match error.raw_os_error() {
            // A hash of the parent's: `up` asks it.
            Some(libc::EADDRINUSE) => {
                let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
                let what = format!(
                    "MAC address {mac} is taken on {}: by another macvlan of it, or by itself",
                    self.parent
                );
                error.with_kind(ErrorKind::Conflict).saying(what)
            }
            _ => error,
        })?;
        let (parent, interface) = (self.parent.clone(), endpoint.interface.clone());
        Ok(MacvlanPort { home, parent, interface, index, mac, addresses: endpoint.addresses() })
    }

    /// One that somebody else has [attached](Self::attach): by the endpoint, which says its name inside.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none; [`PermissionDenied`](ErrorKind::PermissionDenied) without `CAP_SYS_ADMIN`.
    pub fn port(&self, namespace: &impl AsFd, endpoint: &Endpoint) -> Result<MacvlanPort> {
        let home = Home::of_this_thread()?;
        let interface = endpoint.interface.clone();
        let index = run_in(namespace.as_fd(), || Route::open()?.index(&interface))??;
        let index = index.ok_or_else(|| {
            Error::os(format!("link {interface}"), libc::ENODEV).with_kind(ErrorKind::NotFound)
        })?;
        let mac = match self.mode {
            MacvlanMode::Passthru => self.usable(&home)?.mac,
            _ => endpoint.mac(),
        };
        Ok(MacvlanPort {
            home,
            parent: self.parent.clone(),
            interface,
            index,
            mac,
            addresses: endpoint.addresses(),
        })
    }

    /// Makes the link, from the host's side.
    fn make(
        &self,
        home: &Home,
        parent: &Parent,
        namespace: BorrowedFd<'_>,
        name: &str,
        mac: Option<[u8; 6]>,
    ) -> Result<()> {
        let made = home.route().apply(vec![self.create(parent, namespace, name, mac)]);
        made.map_err(|error| self.explained(parent, name, error))
    }

    /// In the namespace at once; the parent is looked for in that of the socket.
    fn create(&self, parent: &Parent, namespace: BorrowedFd<'_>, name: &str, mac: Option<[u8; 6]>) -> Step {
        let mut link = LinkMacVlan::new(name, parent.index, self.mode.to_kernel());
        if self.mode == MacvlanMode::Passthru {
            link = link.append_info_data(InfoMacVlan::Flags(MacVlanFlags::NoPromisc));
        }
        let mut link = link.setns_by_fd(namespace.as_raw_fd()).build();
        link.attributes.extend(mac.map(|mac| LinkAttribute::Address(mac.into())));
        link.attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        let what = format!("macvlan {name} of {}", self.parent);
        Step::new(what, Message::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
    }

    fn explained(&self, parent: &Parent, inside: &str, error: Error) -> Error {
        let link = &self.parent;
        match error.raw_os_error() {
            Some(libc::EEXIST) => error.saying(format!("the namespace has a link {inside} already")),
            Some(libc::ENODEV) => missing(link),
            Some(libc::EOPNOTSUPP) => error.with_hint("the kernel has no macvlans: modprobe macvlan"),
            Some(libc::EBUSY) => error
                .with_kind(ErrorKind::Conflict)
                .saying(format!("link {link} carries something else: it cannot carry macvlans"))
                .with_hint("it is a port of a bridge, a bond or a team, or carries ipvlans: the bridge or the bond itself can be the parent"),
            Some(libc::EADDRNOTAVAIL) => error
                .with_kind(ErrorKind::InvalidInput)
                .saying("a MAC address that no machine can have: its first byte is even, and not all are 0"),
            Some(libc::EINVAL) if self.mtu.is_some_and(|mtu| mtu > parent.mtu) => error
                .with_kind(ErrorKind::InvalidInput)
                .saying(format!("an MTU above that of {link}, which is {} bytes", parent.mtu)),
            // What else the kernel calls invalid was looked at before.
            Some(libc::EINVAL) => error
                .with_kind(ErrorKind::Conflict)
                .saying(format!("link {link} cannot carry one more macvlan: one in mode passthru is alone on its parent")),
            _ => error,
        }
    }

    /// The parent, if it can be one.
    fn usable(&self, home: &Home) -> Result<Parent> {
        let parent = parent(home, &self.parent)?;
        match parent.ethernet {
            true => Ok(parent),
            false => {
                let what = format!("link {} is no Ethernet link: it cannot carry macvlans", self.parent);
                Err(Error::invalid(what))
            }
        }
    }

    fn check_words(&self) -> Result<()> {
        check_name(&self.parent)?;
        for (n, network) in self.networks.iter().enumerate() {
            let most = if network.is_ipv6() { 126 } else { 30 };
            if network.is_ipv6() != (n == 1) || network.prefix() > most {
                let what = format!("{network}: not a network of IPv{}", if n == 1 { "6" } else { "4" });
                let hint = "as 192.168.1.0/24 with a prefix of at most 30 bits, or fd00:1::/64 with one of at most 126";
                return Err(Error::invalid(what).with_hint(hint));
            }
        }
        if let Some(gateway) = self.gateways.iter().find(|gateway| self.network(**gateway).is_none()) {
            let what = format!("gateway {gateway} is not an address of the network");
            return Err(Error::invalid(what));
        }
        let least = if self.networks.len() > 1 { 1280 } else { 68 };
        match self.mtu {
            Some(mtu) if !(least..=65535).contains(&mtu) => {
                let what =
                    format!("macvlans of {}: an MTU of {mtu}: it is {least} to 65535 bytes", self.parent);
                Err(Error::invalid(what))
            }
            _ => Ok(()),
        }
    }

    /// The network that this is a host's address of.
    fn network(&self, address: IpAddr) -> Option<&Cidr> {
        self.networks.iter().find(|network| network.is_host(address))
    }

    fn own_addresses(&self, endpoint: &Endpoint) -> Result<Vec<Cidr>> {
        let with_prefix = |address: IpAddr| match self.network(address) {
            Some(network) if !self.gateways.contains(&address) => Cidr::new(address, network.prefix()),
            _ => Err(Error::invalid(format!(
                "{address} is not an address for a container on link {}",
                self.parent
            ))),
        };
        endpoint.addresses().into_iter().map(with_prefix).collect()
    }
}

/// What there is to know of a parent.
#[derive(Clone, Copy, Debug)]
struct Parent {
    index: u32,
    mac: [u8; 6],
    mtu: u32,
    /// Of a kind that macvlans can be of.
    ethernet: bool,
    up: bool,
    /// Packets pass by it.
    operational: bool,
}

fn parent(home: &Home, name: &str) -> Result<Parent> {
    let link = home.route().link(name, false).map_err(|error| match error.kind() {
        ErrorKind::NotFound => missing(name),
        _ => error,
    })?;
    let flags = link.header.flags;
    let ethernet =
        link.header.link_layer_type == LinkLayerType::Ether && !flags.contains(LinkFlags::Loopback);
    let up = flags.contains(LinkFlags::Up);
    let mut parent =
        Parent { index: link.header.index, mac: [0; 6], mtu: 0, ethernet, up, operational: false };
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::Address(mac) => parent.mac = mac.try_into().unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => parent.mtu = mtu,
            LinkAttribute::OperState(state) => parent.operational = state == State::Up,
            _ => {}
        }
    }
    Ok(parent)
}

fn missing(name: &str) -> Error {
    Error::os("", libc::ENODEV)
        .saying(format!("link {name}, the parent, is not there"))
        .with_hint("`ip link` lists the links of this network namespace")
}

/// Of what routers of the LAN say nothing is taken: it would be addresses and routes that nobody leased. Before the link is up.
fn refuse_advertisements(name: &str, ipv6: bool) -> Result<()> {
    let all = Path::new("/proc/sys/net/ipv6/conf");
    // A kernel without IPv6.
    if !all.exists() && Path::new("/proc/sys/net/ipv4").exists() && !ipv6 {
        return Ok(());
    }
    let own = all.join(name);
    let write = |parameter: &str| {
        let path = own.join(parameter);
        let failed = |error: io::Error| Error::io(path.display().to_string(), &error);
        fs::write(&path, "0").map_err(failed)
    };
    write("accept_ra")?;
    if ipv6 { write("disable_ipv6") } else { Ok(()) }
}

/// The first packet is not to be lost: the link is seen to have a carrier, and neighbours who ask for an address of IPv6 are heard, which
/// the kernel sees to in the background. A parent that is down is not waited for.
fn settle(inside: &mut Route, name: &str, own: &[Cidr], parent: &Parent) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(1);
    while parent.operational
        && Instant::now() < end
        && !(inside.is_operational(name)? && own.iter().all(|own| is_asked_for(name, own.address())))
    {
        thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// Whether the link listens to the group that this address is asked for by (RFC 4291, 2.7.1), as `/proc/net/igmp6` has it.
fn is_asked_for(name: &str, address: IpAddr) -> bool {
    let IpAddr::V6(address) = address else { return true };
    let [.., b, c, d] = address.octets();
    let group = format!("ff0200000000000000000001ff{b:02x}{c:02x}{d:02x}");
    let listens = |line: &str| line.split_whitespace().skip(1).take(2).eq([name, &group]);
    fs::read_to_string("/proc/thread-self/net/igmp6").map_or(true, |all| all.lines().any(listens))
}

/// The link-local address of a MAC address (RFC 4291, appendix A).
fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let pair = u16::from_be_bytes;
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair([a ^ 2, b]), pair([c, 0xff]), pair([0xfe, d]), pair([e, f]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lan() -> Macvlan {
        Macvlan::new("lan0", "192.0.2.0/24".parse().unwrap())
    }

    #[test]
    fn a_link_local_address_follows_from_the_mac_address() {
        let expected: Ipv6Addr = "fe80::42:c0ff:fe00:202".parse().unwrap();
        assert_eq!(link_local([0x02, 0x42, 192, 0, 2, 2]), expected);
    }

    #[test]
    fn what_cannot_be_is_an_error_that_names_it() {
        let cidr = |text: &str| text.parse::<Cidr>().unwrap();
        for (lan, why) in [
            (Macvlan::new("a/b", cidr("192.0.2.0/24")), "`a/b` cannot be a link's name"),
            (Macvlan::new("lan0", cidr("192.0.2.0/31")), "192.0.2.0/31: not a network of IPv4"),
            (Macvlan::new("lan0", cidr("fd00::/64")), "fd00::/64: not a network of IPv4"),
            (lan().ipv6(cidr("fd00::/127")), "fd00::/127: not a network of IPv6"),
            (lan().gateway([192, 0, 3, 1]), "gateway 192.0.3.1 is not an address of the network"),
            (lan().gateway([192, 0, 2, 255]), "gateway 192.0.2.255 is not"),
            (lan().gateway(Ipv6Addr::LOCALHOST), "gateway ::1 is not"),
            (lan().mtu(67), "macvlans of lan0: an MTU of 67"),
            (lan().ipv6(cidr("fd00::/64")).mtu(1279), "macvlans of lan0: an MTU of 1279: it is 1280"),
        ] {
            let error = lan.check_words().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().starts_with(why), "{error}");
        }
        lan().gateway([192, 0, 2, 1]).gateway([192, 0, 2, 254]).check_words().unwrap();
    }

    #[test]
    fn an_endpoint_has_addresses_of_the_network_that_are_not_a_gateways() {
        let lan = lan().gateway([192, 0, 2, 1]);
        let own = |address: [u8; 4]| lan.own_addresses(&Endpoint::new("eth0", address.into()));
        assert_eq!(own([192, 0, 2, 9]).unwrap(), ["192.0.2.9/24".parse().unwrap()]);
        for address in [[192, 0, 2, 1], [192, 0, 2, 0], [192, 0, 2, 255], [192, 0, 3, 9]] {
            assert_eq!(own(address).unwrap_err().kind(), ErrorKind::InvalidInput, "{address:?}");
        }
        let six = Endpoint::new("eth0", [192, 0, 2, 9].into()).ipv6("fd00::9".parse().unwrap());
        assert!(lan.own_addresses(&six).unwrap_err().to_string().contains("fd00::9"));
        let both = lan.clone().ipv6("fd00::/64".parse().unwrap());
        assert_eq!(both.own_addresses(&six).unwrap()[1], "fd00::9/64".parse().unwrap());
    }
}
