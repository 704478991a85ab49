//! Links, addresses and routes (rtnetlink(7)): the requests, and a socket to send them with.
//!
//! The messages are made with `rtnetlink`'s builders. Its connection is not used: it is asynchronous, and its
//! `NetworkNamespace` forks and waits inside async code.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_packet_core::{
    DefaultNla, NLA_F_NESTED, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage, State,
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
    fn new(what: impl Into<String>, message: Message, flags: u16) -> Self {
        Self { what: what.into(), request: Request::new(message, flags), tolerated: &[] }
    }

    fn tolerating(self, tolerated: &'static [i32]) -> Self {
        Self { tolerated, ..self }
    }
}

/// The MAC address that goes with an IPv4 address, as Docker makes it: `02:42` and the address.
pub(crate) fn mac(address: Ipv4Addr) -> Vec<u8> {
    [&[0x02, 0x42], &address.octets()[..]].concat()
}

pub(crate) fn create_bridge(name: &str, address: Ipv4Addr) -> Step {
    let link = LinkMessageBuilder::<LinkBridge>::new_with_info_kind(InfoKind::Bridge)
        .name(name)
        // Its own for good: else a bridge takes the lowest of its ports' and changes with them.
        .address(mac(address))
        .build();
    Step::new(format!("bridge {name}"), Message::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
}

/// Both ends in one request: `host` below the bridge and up, `inside` in its namespace, still down
/// (`IFF_UP` for the peer would fail the whole with ENOTCONN).
pub(crate) fn create_pair(
    host: &str,
    bridge: u32,
    inside: &str,
    namespace: BorrowedFd<'_>,
    address: Ipv4Addr,
) -> Step {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(inside)
        .address(mac(address))
        .setns_by_fd(namespace.as_raw_fd())
        .build();
    let link = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(host)
        .controller(bridge)
        .up()
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    Step::new(format!("veth pair {host} and {inside}"), Message::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
}

/// The host's end of a pair, once it is below the bridge. It sends back to where a packet came from: where
/// br_netfilter translates addresses within the bridge, a container reaches its own published port that way.
pub(crate) fn bridge_port(name: &str) -> Step {
    let link = LinkUnspec::new_with_name(name)
        .set_port_kind(InfoPortKind::Bridge)
        .set_port_data(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)]));
    Step::new(format!("bridge port {name}"), Message::NewLink(link.build()), 0)
}

pub(crate) fn delete_link(name: &str) -> Step {
    Step::new(format!("link {name}"), Message::DelLink(LinkUnspec::new_with_name(name).build()), 0)
}

pub(crate) fn up(name: &str) -> Step {
    Step::new(format!("link {name} up"), Message::SetLink(LinkUnspec::new_with_name(name).up().build()), 0)
}

fn loopback_up() -> Step {
    Step::new("loopback up", Message::SetLink(LinkUnspec::new_with_index(LOOPBACK).up().build()), 0)
}

/// No automatic IPv6 addresses: with them, each newcomer's duplicate detection is flooded to every port.
pub(crate) fn without_ipv6_addresses(name: &str) -> Step {
    let mode = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let link =
        LinkUnspec::new_with_name(name).append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![mode]));
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

pub(crate) fn address(link: u32, address: Cidr) -> Step {
    let message =
        AddressMessageBuilder::<Ipv4Addr>::new().index(link).address(address.address(), address.prefix());
    Step::new(format!("address {address}"), Message::NewAddress(message.build()), NLM_F_CREATE | NLM_F_EXCL)
}

/// The first network that a namespace is connected to gives it its default route; it stays with that.
pub(crate) fn default_route(link: u32, gateway: Ipv4Addr) -> Step {
    let message = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(link).build();
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

    /// What a container's end of a pair needs: loopback up, no IPv6, an address, up, the default route.
    pub(crate) fn configure(&mut self, name: &str, own: Cidr, gateway: Ipv4Addr) -> Result<()> {
        let link = self.index(name)?.ok_or_else(|| Error::os(format!("link {name}"), libc::ENODEV))?;
        let steps = vec![loopback_up(), without_ipv6_addresses(name), address(link, own), up(name)];
        self.apply(steps.into_iter().chain([default_route(link, gateway)]).collect())
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
        Ok(self.link(name)?.iter().any(is))
    }

    /// Whether packets pass by it. A link that sees its carrier late drops them until the kernel's link watch has
    /// run; since Linux 6.8 it runs at this question.
    pub(crate) fn is_operational(&mut self, name: &str) -> Result<bool> {
        Ok(self.link(name)?.contains(&LinkAttribute::OperState(State::Up)))
    }

    /// What the kernel says of a link.
    fn link(&mut self, name: &str) -> Result<Vec<LinkAttribute>> {
        let request = Request::new(Message::GetLink(LinkUnspec::new_with_name(name).build()), 0);
        let reply = self.0.get(request).map_err(|refusal| refused(format!("link {name}"), refusal))?;
        match parsed(&Message::NewLink(LinkMessage::default()), &reply) {
            Some(Message::NewLink(link)) => Ok(link.attributes),
            _ => Ok(vec![]),
        }
    }

    /// The IPv4 addresses of the link with this index.
    pub(crate) fn addresses(&mut self, link: u32) -> Result<Vec<Cidr>> {
        let filter = Message::GetAddress(AddressMessageBuilder::<Ipv4Addr>::new().build());
        let replies = self
            .0
            .dump(&Request::new(filter, 0))
            .map_err(|refusal| refused("the addresses".into(), refusal))?;
        let kind = Message::NewAddress(AddressMessage::default());
        let addresses = replies.iter().filter_map(|reply| match parsed(&kind, reply)? {
            Message::NewAddress(message) if message.header.index == link => own_address(&message),
            _ => None,
        });
        Ok(addresses.collect())
    }

    /// A route that another link has into `network`, and that link's index.
    pub(crate) fn overlapping(&mut self, network: Cidr) -> Result<Option<(Cidr, u32)>> {
        let filter = Message::GetRoute(RouteMessageBuilder::<Ipv4Addr>::new().build());
        let replies =
            self.0.dump(&Request::new(filter, 0)).map_err(|refusal| refused("the routes".into(), refusal))?;
        let kind = Message::NewRoute(RouteMessage::default());
        let mut routes = replies.iter().filter_map(|reply| match parsed(&kind, reply)? {
            Message::NewRoute(message) => destination(&message),
            _ => None,
        });
        Ok(routes.find(|(route, _)| route.prefix() > 0 && route.overlaps(&network)))
    }
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
        AddressAttribute::Local(IpAddr::V4(address)) => Cidr::new(*address, message.header.prefix_len).ok(),
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
