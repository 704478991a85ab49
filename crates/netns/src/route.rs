//! Links, addresses and routes (rtnetlink(7)): the requests, and a socket to send them with.
//!
//! The messages are made with `rtnetlink`'s builders. Its connection is not used: it is asynchronous, and its
//! `NetworkNamespace` forks and waits inside async code.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_packet_core::{
    DefaultNla, NLA_F_NESTED, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData, InfoKind,
    InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkInfo, LinkMessage, State,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType};
use rtnetlink::{
    AddressMessageBuilder, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};

use crate::netlink::{NLM_F_CREATE, NLM_F_EXCL, Refusal, Request, Socket};
use crate::{Cidr, Error, Result};

const IFLA_INET_CONF: u16 = 1;
const IPV4_DEVCONF_ROUTE_LOCALNET: u16 = 26;
const LOOPBACK: u32 = 1;

/// A route socket in one network namespace.
#[derive(Debug)]
pub(crate) struct Route(Socket);

/// One request, in words, with the errors that are none.
pub(crate) struct Step {
    what: String,
    request: Request,
    tolerated: &'static [i32],
}

impl Step {
    pub(crate) fn new(what: impl Into<String>, message: Message, flags: u16) -> Self {
        Self { what: what.into(), request: Request::new(message, flags), tolerated: &[] }
    }

    pub(crate) fn tolerating(self, tolerated: &'static [i32]) -> Self {
        Self { tolerated, ..self }
    }
}

/// The MAC address that goes with an IPv4 address, as Docker makes it: `02:42` and the address.
pub(crate) fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

pub(crate) fn create_bridge(name: &str, mac: [u8; 6], mtu: Option<u32>) -> Step {
    let link = LinkMessageBuilder::<LinkBridge>::new_with_info_kind(InfoKind::Bridge)
        .name(name)
        // Its own for good: else a bridge takes the lowest of its ports' and changes with them.
        .address(mac.into())
        // Nobody asks there who listens to which group, so that all go to every port either way; with it, each new port costs a look at
        // every other one.
        .set_info_data(InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)]));
    let mut link = link.build();
    link.attributes.extend(mtu.map(LinkAttribute::Mtu));
    Step::new(format!("bridge {name}"), Message::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
}

/// A pair to be made: its ends' names, the bridge of one, the namespace of the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair<'a> {
    pub(crate) host: &'a str,
    pub(crate) bridge: u32,
    pub(crate) inside: &'a str,
    pub(crate) namespace: BorrowedFd<'a>,
    /// One that the kernel makes up, if none is said.
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) mtu: Option<u32>,
}

/// Both ends in one request: the host's below the bridge and up, the other in its namespace, still down
/// (`IFF_UP` for the peer would fail the whole with ENOTCONN).
pub(crate) fn create_pair(pair: &Pair<'_>) -> Step {
    let peer =
        LinkMessageBuilder::<LinkUnspec>::new().name(pair.inside).setns_by_fd(pair.namespace.as_raw_fd());
    let mut peer = peer.build();
    peer.attributes.extend(pair.mac.map(|mac| LinkAttribute::Address(mac.into())));
    peer.attributes.extend(pair.mtu.map(LinkAttribute::Mtu));
    let link = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(pair.host)
        .controller(pair.bridge)
        .up()
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
    let mut link = link.build();
    link.attributes.extend(pair.mtu.map(LinkAttribute::Mtu));
    let what = format!("veth pair {} and {}", pair.host, pair.inside);
    Step::new(what, Message::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
}

/// The host's end of a pair, once it is below the bridge. It sends back to where a packet came from: where
/// br_netfilter translates addresses within the bridge, a container reaches its own published port that way. It has no IPv6 addresses.
pub(crate) fn bridge_port(name: &str) -> Step {
    let link = LinkUnspec::new_with_name(name)
        .set_port_kind(InfoPortKind::Bridge)
        .set_port_data(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)]))
        .append_extra_attribute(no_generated_addresses());
    Step::new(format!("bridge port {name}"), Message::NewLink(link.build()), 0)
        .tolerating(&[libc::EAFNOSUPPORT])
}

pub(crate) fn delete_link(name: &str) -> Step {
    Step::new(format!("link {name}"), Message::DelLink(LinkUnspec::new_with_name(name).build()), 0)
}

/// The same whatever it is called by now.
pub(crate) fn delete_link_number(index: u32) -> Step {
    let link = LinkUnspec::new_with_index(index);
    Step::new(format!("link number {index}"), Message::DelLink(link.build()), 0)
}

pub(crate) fn up(name: &str) -> Step {
    Step::new(format!("link {name} up"), Message::SetLink(LinkUnspec::new_with_name(name).up().build()), 0)
}

/// Another MAC address.
pub(crate) fn address_of(name: &str, mac: [u8; 6]) -> Step {
    let link = LinkUnspec::new_with_name(name).address(mac.into()).build();
    Step::new(format!("MAC address of {name}"), Message::SetLink(link), 0)
}

pub(crate) fn down(name: &str) -> Step {
    Step::new(
        format!("link {name} down"),
        Message::SetLink(LinkUnspec::new_with_name(name).down().build()),
        0,
    )
}

fn loopback_up() -> Step {
    Step::new("loopback up", Message::SetLink(LinkUnspec::new_with_index(LOOPBACK).up().build()), 0)
}

fn no_generated_addresses() -> LinkAttribute {
    let mode = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    LinkAttribute::AfSpecUnspec(vec![mode])
}

/// No automatic IPv6 addresses: with them, each newcomer's duplicate detection is flooded to every port.
pub(crate) fn without_ipv6_addresses(name: &str) -> Step {
    let link = LinkUnspec::new_with_name(name).append_extra_attribute(no_generated_addresses());
    // A kernel without IPv6 needs no telling.
    Step::new(format!("no IPv6 on {name}"), Message::SetLink(link.build()), 0)
        .tolerating(&[libc::EAFNOSUPPORT])
}

/// `net.ipv4.conf.NAME.route_localnet = 1`: what the host sends from 127.0.0.1 may leave by this link.
pub(crate) fn route_localnet(name: &str) -> Step {
    let mut setting = [8_u16.to_ne_bytes(), IPV4_DEVCONF_ROUTE_LOCALNET.to_ne_bytes()].concat();
    setting.extend(1_u32.to_ne_bytes());
    let nested = AfSpecInet::Other(DefaultNla::new(IFLA_INET_CONF | NLA_F_NESTED, setting));
    let attribute = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![nested])]);
    let link = LinkUnspec::new_with_name(name).append_extra_attribute(attribute);
    Step::new(format!("route_localnet of {name}"), Message::SetLink(link.build()), 0)
}

/// Sees to it that a link may have IPv6 addresses, and takes none from whoever says it is a router. What cannot be written is as it was:
/// then an address is refused, or the rules drop what routers say.
pub(crate) fn takes_ipv6(name: &str) {
    for (parameter, value) in [("disable_ipv6", "0"), ("accept_ra", "0")] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/{parameter}"), value).ok();
    }
}

/// What comes back by this link for ::1 is the host's own: IPv6 looks for that address by the link a packet comes by, and knows it by
/// `lo` alone. After all others of that address.
pub(crate) fn loopback_by(link: u32) -> Step {
    const METRIC: u32 = 2048;
    const RT_TABLE_LOCAL: u32 = 255;
    let message = RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(Ipv6Addr::LOCALHOST, 128)
        .output_interface(link)
        .table_id(RT_TABLE_LOCAL)
        .kind(RouteType::Local)
        .priority(METRIC.saturating_add(link))
        .build();
    Step::new("route of ::1", Message::NewRoute(message), NLM_F_CREATE).tolerating(&[libc::EEXIST])
}

/// An address of IPv6 is used at once, without asking whether somebody has it: leases say nobody does.
pub(crate) fn address(link: u32, address: Cidr) -> Step {
    let message = match address.address() {
        IpAddr::V4(own) => {
            AddressMessageBuilder::<Ipv4Addr>::new().index(link).address(own, address.prefix()).build()
        }
        IpAddr::V6(own) => {
            let built = AddressMessageBuilder::<Ipv6Addr>::new().index(link).address(own, address.prefix());
            let mut message = built.build();
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            message
        }
    };
    Step::new(format!("address {address}"), Message::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// Of several default routes of one metric the first stays; of several metrics the lowest is used.
pub(crate) fn default_route(link: u32, gateway: IpAddr, metric: Option<u32>) -> Step {
    let message = match gateway {
        IpAddr::V4(gateway) => {
            let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(link);
            metric.map_or(route.clone(), |metric| route.priority(metric)).build()
        }
        IpAddr::V6(gateway) => {
            let route = RouteMessageBuilder::<Ipv6Addr>::new().gateway(gateway).output_interface(link);
            metric.map_or(route.clone(), |metric| route.priority(metric)).build()
        }
    };
    Step::new(format!("default route by {gateway}"), Message::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)
        .tolerating(&[libc::EEXIST])
}

impl Route {
    /// In the calling thread's network namespace.
    pub(crate) fn open() -> Result<Self> {
        let socket = Socket::open(netlink_sys::protocols::NETLINK_ROUTE);
        socket.map(Self).map_err(|error| Error::io("a route netlink socket", &error))
    }

    /// All in one send; the first that was refused is the error.
    pub(crate) fn apply(&mut self, steps: Vec<Step>) -> Result<()> {
        let (names, requests): (Vec<_>, Vec<_>) =
            steps.into_iter().map(|s| ((s.what, s.tolerated), s.request)).unzip();
        let refusals = self.0.transact(requests);
        let refused = refusals.into_iter().find_map(|refusal| {
            let (what, tolerated) = names.get(refusal.request)?;
            (!tolerated.contains(&refusal.errno)).then(|| refused(what.clone(), refusal))
        });
        refused.map_or(Ok(()), Err)
    }

    pub(crate) fn loopback_up(&mut self) -> Result<()> {
        self.apply(vec![loopback_up()])
    }

    /// What a container's end needs: loopback up, no IPv6 address but its own, addresses, up, default routes.
    pub(crate) fn configure(
        &mut self,
        name: &str,
        own: &[Cidr],
        gateways: &[IpAddr],
        metric: Option<u32>,
    ) -> Result<()> {
        let link = self.index(name)?.ok_or_else(|| Error::os(format!("link {name}"), libc::ENODEV))?;
        let steps = || {
            let mut steps = vec![loopback_up(), without_ipv6_addresses(name)];
            steps.extend(own.iter().map(|own| address(link, *own).tolerating(&[libc::EEXIST])));
            steps.push(up(name));
            steps.extend(gateways.iter().map(|gateway| default_route(link, *gateway, metric)));
            steps
        };
        match self.apply(steps()) {
            // IPv6 is disabled where new links are made.
            Err(error) if own.len() > 1 && error.raw_os_error() == Some(libc::EACCES) => {
                takes_ipv6(name);
                self.apply(steps())
            }
            result => result,
        }
    }

    /// The index of the link of this name (netdevice(7), `SIOCGIFINDEX`).
    pub(crate) fn index(&self, name: &str) -> Result<Option<u32>> {
        match rustix::net::netdevice::name_to_index(self.0.as_fd(), name) {
            Ok(index) => Ok(Some(index)),
            Err(rustix::io::Errno::NODEV) => Ok(None),
            Err(errno) => Err(Error::os(format!("link {name}"), errno.raw_os_error())),
        }
    }

    pub(crate) fn name(&self, index: u32) -> String {
        rustix::net::netdevice::index_to_name(self.0.as_fd(), index)
            .unwrap_or_else(|_| format!("number {index}"))
    }

    /// Whether the link of this name is a bridge.
    pub(crate) fn is_bridge(&mut self, name: &str) -> Result<bool> {
        let bridge = LinkInfo::Kind(InfoKind::Bridge);
        let is = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::LinkInfo(i) if i.contains(&bridge));
        Ok(self.link(name, false)?.attributes.iter().any(is))
    }

    /// The bridge that the link of this name is a port of, by its index.
    pub(crate) fn controller(&mut self, name: &str) -> Result<Option<u32>> {
        let of = |attribute: LinkAttribute| match attribute {
            LinkAttribute::Controller(index) => Some(index),
            _ => None,
        };
        Ok(self.link(name, false)?.attributes.into_iter().find_map(of))
    }

    /// Whether packets pass by it. A link that sees its carrier late drops them until the kernel's link watch has
    /// run; since Linux 6.8 it runs at this question.
    pub(crate) fn is_operational(&mut self, name: &str) -> Result<bool> {
        Ok(self.link(name, false)?.attributes.contains(&LinkAttribute::OperState(State::Up)))
    }

    /// What the kernel says of a link; what it has counted only if that is asked for.
    pub(crate) fn link(&mut self, name: &str, counters: bool) -> Result<LinkMessage> {
        let mut link = LinkUnspec::new_with_name(name).build();
        if !counters {
            link.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        }
        let request = Request::new(Message::GetLink(link), 0);
        let reply = self.0.get(request).map_err(|refusal| refused(format!("link {name}"), refusal))?;
        match parsed(&Message::NewLink(LinkMessage::default()), &reply) {
            Some(Message::NewLink(link)) => Ok(link),
            _ => Ok(LinkMessage::default()),
        }
    }

    /// The addresses of the link with this index, those of IPv4 first.
    pub(crate) fn addresses(&mut self, link: u32) -> Result<Vec<Cidr>> {
        let mut addresses = Vec::new();
        let four = AddressMessageBuilder::<Ipv4Addr>::new().build();
        let six = AddressMessageBuilder::<Ipv6Addr>::new().build();
        for filter in [four, six] {
            let replies = self
                .0
                .dump(&Request::new(Message::GetAddress(filter), 0))
                .map_err(|refusal| refused("the addresses".into(), refusal))?;
            let kind = Message::NewAddress(AddressMessage::default());
            addresses.extend(replies.iter().filter_map(|reply| match parsed(&kind, reply)? {
                Message::NewAddress(message) if message.header.index == link => own_address(&message),
                _ => None,
            }));
        }
        Ok(addresses)
    }

    /// A route that another link has into `network`, and that link's index.
    pub(crate) fn overlapping(&mut self, network: Cidr) -> Result<Option<(Cidr, u32)>> {
        Ok(self.routes(network.is_ipv6())?.into_iter().find(|(route, _)| route.overlaps(&network)))
    }

    /// Where links lead to, but for default routes.
    pub(crate) fn routes(&mut self, six: bool) -> Result<Vec<(Cidr, u32)>> {
        let filter = match six {
            true => RouteMessageBuilder::<Ipv6Addr>::new().build(),
            false => RouteMessageBuilder::<Ipv4Addr>::new().build(),
        };
        let replies = self
            .0
            .dump(&Request::new(Message::GetRoute(filter), 0))
            .map_err(|refusal| refused("the routes".into(), refusal))?;
        let kind = Message::NewRoute(RouteMessage::default());
        let routes = replies.iter().filter_map(|reply| match parsed(&kind, reply)? {
            Message::NewRoute(message) => destination(&message),
            _ => None,
        });
        // Every link has the same addresses of its own (fe80::/10) and the same groups (ff00::/8).
        let own = |route: &Cidr| match route.address() {
            IpAddr::V6(address) => address.is_unicast_link_local() || address.is_multicast(),
            IpAddr::V4(_) => false,
        };
        Ok(routes.filter(|(route, _)| route.prefix() > 0 && !own(route)).collect())
    }

    /// What has passed the link of this name, as it counts: received, sent.
    pub(crate) fn counters(&mut self, name: &str) -> Result<[Counted; 2]> {
        let stats = self.link(name, true)?.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(stats),
            _ => None,
        });
        let stats = stats.unwrap_or_default();
        Ok([
            Counted {
                bytes: stats.rx_bytes,
                packets: stats.rx_packets,
                errors: stats.rx_errors,
                dropped: stats.rx_dropped,
            },
            Counted {
                bytes: stats.tx_bytes,
                packets: stats.tx_packets,
                errors: stats.tx_errors,
                dropped: stats.tx_dropped,
            },
        ])
    }
}

/// What has passed a link in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counted {
    /// Bytes, with the headers of frames.
    pub bytes: u64,
    /// Packets; a large one that is cut later counts as one.
    pub packets: u64,
    /// Packets that were broken.
    pub errors: u64,
    /// Packets that were dropped on the way, for want of room or by a limit.
    pub dropped: u64,
}

fn refused(what: String, refusal: Refusal) -> Error {
    match refusal.text {
        Some(text) => Error::os(format!("{what}: {text}"), refusal.errno),
        None => Error::os(what, refusal.errno),
    }
}

/// A reply of the same type as `kind`; `None` for what this crate's parser does not know.
fn parsed(kind: &Message, reply: &[u8]) -> Option<Message> {
    let mut header = NetlinkHeader::default();
    header.message_type = NetlinkSerializable::message_type(kind);
    Message::deserialize(&header, reply).ok()
}

fn own_address(message: &AddressMessage) -> Option<Cidr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address @ IpAddr::V4(_))
        | AddressAttribute::Address(address @ IpAddr::V6(_)) => {
            Cidr::new(*address, message.header.prefix_len).ok()
        }
        _ => None,
    })
}

/// Where a route of the main table leads, and by which link.
fn destination(message: &RouteMessage) -> Option<(Cidr, u32)> {
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let network = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => {
            Cidr::new(*address, header.destination_prefix_length).ok()
        }
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
            Cidr::new(*address, header.destination_prefix_length).ok()
        }
        _ => None,
    })?;
    let link = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(link) => Some(*link),
        _ => None,
    })?;
    Some((network, link))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_follows_from_the_address() {
        assert_eq!(mac(Ipv4Addr::new(172, 30, 0, 2)), [0x02, 0x42, 172, 30, 0, 2]);
    }

    #[test]
    fn route_localnet_is_asked_for_as_the_kernel_expects_it() {
        let bytes = route_localnet("iso0").request.bytes().to_vec();
        // IFLA_AF_SPEC { AF_INET { IFLA_INET_CONF { 26: 1 } } }
        let expected =
            [[20, 0, 26, 0].as_slice(), &[16, 0, 2, 0], &[12, 0, 1, 0x80], &[8, 0, 26, 0], &[1, 0, 0, 0]];
        let (tail, expected) = (&bytes[bytes.len() - 20..], expected.concat());
        // The nested flag is the encoder's choice on the two outer levels.
        let plain =
            |bytes: &[u8]| bytes.chunks(4).map(|c| [c[0], c[1], c[2], c[3] & 0x7f]).collect::<Vec<_>>();
        assert_eq!(plain(tail), plain(&expected));
    }
}
