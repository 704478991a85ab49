//! The tables `inet isolate` and `bridge isolate`: rules that never change, and sets and maps whose elements do.
//!
//! A published port is an element of a map, a bridge and a port of one are elements of sets: the thousandth costs a packet what
//! the first did, adding one touches no rule, and any number of processes can do so at once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_netfilter::nftables::{InetHookNumber, MetaKey, Register};

use super::expression::{
    Expression, KEY, Version, accept, advertised_target, arp_sender, destination_address, destination_port,
    dnat, drop, established, ether_type, for_this_host, forged_source, from_loopback, goto, icmpv6, in_set,
    interface, is, is_not, mapped, masquerade, meta, not_from_this_host, not_in_set, source_address,
    source_mac, to_loopback, was_dnat,
};
use super::messages::{Element, Family, Set, base_chain, chain, flush_chain, new_table, rule};
use super::{BridgeRules, Forward, Guard};
use crate::netlink::{NLM_F_EXCL, Request};
use crate::publish::Protocol;

// Types of nft(8), for `nft list`; a concatenation has six bits for each.
const ADDRESS: u32 = 7;
const ADDRESS6: u32 = 8;
const MAC: u32 = 9;
const PROTOCOL: u32 = 12;
const SERVICE: u32 = 13;
const NAME: u32 = 41;
const NAME_LENGTH: u32 = 16;
const END: u32 = PROTOCOL << 6 | SERVICE;
const TARGET: (u32, u32) = (ADDRESS << 6 | SERVICE, 8);
const TARGET6: (u32, u32) = (ADDRESS6 << 6 | SERVICE, 20);

// Protocols of frames: linux/if_ether.h.
const ARP: u16 = 0x0806;
const IP: u16 = 0x0800;
const IP6: u16 = 0x86dd;

// Messages of ICMPv6: RFC 4861 and RFC 4443.
const ECHO_REQUEST: u8 = 128;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;

const fn inet(name: &'static str, id: u32, key: (u32, u32), data: Option<(u32, u32)>) -> Set {
    Set { family: Family::Inet, name, id, key, data }
}

const fn on_bridge(name: &'static str, id: u32, key: (u32, u32)) -> Set {
    Set { family: Family::Bridge, name, id, key, data: None }
}

/// Every bridge of this crate.
pub(crate) const BRIDGES: Set = inet("bridges", 1, (NAME, NAME_LENGTH), None);
/// Each of them twice: in and out by the same one.
const SAME: Set = inet("same_bridge", 2, (NAME << 6 | NAME, 2 * NAME_LENGTH), None);
/// Those whose containers reach the outside.
const OUTGOING: Set = inet("outgoing", 3, (NAME, NAME_LENGTH), None);
/// Those whose containers reach the services of the host itself.
const HOST: Set = inet("host_services", 4, (NAME, NAME_LENGTH), None);
/// Those whose containers reach the name server of their network.
const NAMES: Set = inet("name_servers", 5, (NAME, NAME_LENGTH), None);
/// Host address, protocol and port, to container and port.
pub(crate) const PUBLISHED: Set = inet("published", 6, (ADDRESS << 12 | END, 12), Some(TARGET));
/// The same for every address of the host.
pub(crate) const PUBLISHED_EVERYWHERE: Set = inet("published_everywhere", 7, (END, 8), Some(TARGET));
/// Both for IPv6.
const PUBLISHED6: Set = inet("published6", 8, (ADDRESS6 << 12 | END, 24), Some(TARGET6));
const PUBLISHED6_EVERYWHERE: Set = inet("published6_everywhere", 9, (END, 8), Some(TARGET6));
/// The hosts' ends of pairs,
pub(crate) const PORTS: Set = on_bridge("ports", 10, (NAME, NAME_LENGTH));
/// and what may come in by each: MAC addresses,
const MACS: Set = on_bridge("port_macs", 11, (NAME << 6 | MAC, NAME_LENGTH + 8));
/// and addresses.
const ADDRESSES: Set = on_bridge("port_addresses", 12, (NAME << 6 | ADDRESS, NAME_LENGTH + 4));
const ADDRESSES6: Set = on_bridge("port_addresses6", 13, (NAME << 6 | ADDRESS6, NAME_LENGTH + 16));

/// Maps of published ports.
pub(crate) const MAPS: [Set; 4] = [PUBLISHED, PUBLISHED_EVERYWHERE, PUBLISHED6, PUBLISHED6_EVERYWHERE];
/// Sets of bridges.
pub(crate) const OF_BRIDGES: [Set; 5] = [BRIDGES, SAME, OUTGOING, HOST, NAMES];
/// Sets of ports.
pub(crate) const OF_PORTS: [Set; 4] = [PORTS, MACS, ADDRESSES, ADDRESSES6];

/// The elements of a bridge: of each set, whether it has it.
pub(crate) fn bridge(rules: &BridgeRules) -> Vec<(Set, Element)> {
    let sets = [(BRIDGES, true), (OUTGOING, rules.outgoing), (HOST, rules.host), (NAMES, rules.names)];
    let own = sets.into_iter().filter(|(_, wanted)| *wanted).map(|(set, _)| (set, of_name(&rules.name)));
    own.chain([(SAME, same(&rules.name))]).collect()
}

/// The element of [`SAME`] for a bridge.
pub(crate) fn same(name: &str) -> Element {
    Element { key: [interface(name), interface(name)].concat(), data: vec![] }
}

/// The element of the other sets for a bridge, and of [`PORTS`] for a port.
pub(crate) fn of_name(name: &str) -> Element {
    Element { key: interface(name), data: vec![] }
}

/// The elements of a port.
pub(crate) fn guard(guard: &Guard) -> Vec<(Set, Element)> {
    let keyed =
        |value: &[u8]| Element { key: [&interface(&guard.interface)[..], value].concat(), data: vec![] };
    let mut elements =
        vec![(PORTS, of_name(&guard.interface)), (MACS, keyed(&[&guard.mac[..], &[0, 0]].concat()))];
    elements.extend(guard.addresses.iter().map(|address| match address {
        IpAddr::V4(address) => (ADDRESSES, keyed(&address.octets())),
        IpAddr::V6(address) => (ADDRESSES6, keyed(&address.octets())),
    }));
    elements
}

/// The port that an element is about: its name as bytes, and its address if it has one.
pub(crate) fn guarded(set: &Set, element: &Element) -> Option<(Vec<u8>, Option<IpAddr>)> {
    let (name, value) = element.key.split_at_checked(NAME_LENGTH as usize)?;
    let address = match (set.id, value.len()) {
        (id, 4) if id == ADDRESSES.id => Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
        (id, 16) if id == ADDRESSES6.id => Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
        _ => None,
    };
    Some((name.to_vec(), address))
}

/// The element for a published port, and the map that it belongs to.
pub(crate) fn published(forward: &Forward) -> (Set, Element) {
    let service = |port: u16| [&port.to_be_bytes()[..], &[0, 0]].concat();
    let protocol = vec![forward.protocol.number(), 0, 0, 0];
    let data = [octets(forward.container), service(forward.container_port)].concat();
    let end = [protocol, service(forward.host_port)].concat();
    let (one, every) = match forward.host {
        IpAddr::V4(_) => (PUBLISHED, PUBLISHED_EVERYWHERE),
        IpAddr::V6(_) => (PUBLISHED6, PUBLISHED6_EVERYWHERE),
    };
    match forward.host.is_unspecified() {
        true => (every, Element { key: end, data }),
        false => (one, Element { key: [octets(forward.host), end].concat(), data }),
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// What an element of one of the maps says.
pub(crate) fn forward(element: &Element) -> Option<Forward> {
    let (host, end) = element.key.split_at_checked(element.key.len().checked_sub(8)?)?;
    let (container, target) = element.data.split_at_checked(element.data.len().checked_sub(4)?)?;
    let container = address(container)?;
    let host = match (host.is_empty(), container) {
        (false, _) => address(host)?,
        (true, IpAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
        (true, IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
    };
    Some(Forward {
        protocol: Protocol::from_number(*end.first()?)?,
        host,
        host_port: port(end.get(4..6)?)?,
        container,
        container_port: port(target.get(..2)?)?,
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        _ => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
    }
}

fn port(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

/// The table of what is routed, to be created in one batch. `nft list table inet isolate` prints it.
pub(crate) fn create() -> Vec<Request> {
    let base = |name, kind, hook, priority| base_chain(Family::Inet, name, kind, hook, priority);
    let mut requests = vec![new_table(Family::Inet, NLM_F_EXCL)];
    requests.extend(OF_BRIDGES.iter().chain(&MAPS).map(Set::create));
    requests.extend([
        base("raw", "filter", InetHookNumber::PreRouting, -300),
        base("prerouting", "nat", InetHookNumber::PreRouting, -100),
        base("output", "nat", InetHookNumber::LocalOut, -100),
        base("postrouting", "nat", InetHookNumber::PostRouting, 100),
        base("forward", "filter", InetHookNumber::Forward, 0),
        base("input", "filter", InetHookNumber::LocalIn, 0),
        chain(Family::Inet, "published"),
    ]);
    requests.extend(rules().into_iter().map(|(chain, parts)| rule(Family::Inet, chain, parts.concat())));
    requests
}

/// The table of what passes a bridge: what comes in by a port has its own addresses. `nft list table bridge isolate` prints it.
pub(crate) fn create_guards() -> Vec<Request> {
    let mut requests = vec![new_table(Family::Bridge, NLM_F_EXCL)];
    requests.extend(OF_PORTS.iter().map(Set::create));
    requests.push(base_chain(Family::Bridge, GUARDS, "filter", InetHookNumber::PreRouting, -300));
    requests.extend(guards().into_iter().map(|parts| rule(Family::Bridge, GUARDS, parts.concat())));
    requests
}

/// A table and a chain that tell whether there can be such ones.
pub(crate) fn probe() -> [Request; 2] {
    [
        new_table(Family::Bridge, 0),
        base_chain(Family::Bridge, "probe", "filter", InetHookNumber::PreRouting, -300),
    ]
}

/// The rules anew, in chains that are there.
pub(crate) fn write_rules() -> Vec<Request> {
    let mut requests: Vec<_> = CHAINS.iter().map(|chain| flush_chain(Family::Inet, chain)).collect();
    requests.extend(rules().into_iter().map(|(chain, parts)| rule(Family::Inet, chain, parts.concat())));
    requests
}

/// The same of the other table.
pub(crate) fn write_guards() -> Vec<Request> {
    let rules = guards().into_iter().map(|parts| rule(Family::Bridge, GUARDS, parts.concat()));
    [flush_chain(Family::Bridge, GUARDS)].into_iter().chain(rules).collect()
}

/// Chains with rules.
pub(crate) const CHAINS: [&str; 7] =
    ["raw", "prerouting", "output", "published", "postrouting", "forward", "input"];
pub(crate) const GUARDS: &str = "guards";

/// How many rules each chain has.
pub(crate) fn count(chain: &str) -> usize {
    match chain {
        GUARDS => guards().len(),
        chain => rules().iter().filter(|(of, _)| *of == chain).count(),
    }
}

type Rule = (&'static str, Vec<Vec<Expression>>);

fn rules() -> Vec<Rule> {
    [raw(), nat(), forwarding(), input()].into_iter().flatten().collect()
}

/// What can only be forged. Loopback addresses come from `lo` alone: `route_localnet` opens them to the bridge, and
/// a port that is published on 127.0.0.1 would be open to every neighbour.
fn raw() -> Vec<Rule> {
    let not_from_lo =
        || vec![meta(MetaKey::Iifname, Register::Reg1), is_not(Register::Reg1, &interface("lo"))];
    let mut rules = Vec::new();
    for version in Version::BOTH {
        for loopback in [to_loopback(version), from_loopback(version)] {
            rules.push(("raw", vec![not_from_lo(), version.is().into(), loopback.into(), vec![drop()]]));
        }
    }
    rules.push(("raw", vec![from(&BRIDGES), forged_source().into(), vec![drop()]]));
    rules
}

fn nat() -> Vec<Rule> {
    let mut rules = vec![
        ("prerouting", vec![for_this_host().into(), vec![goto("published")]]),
        ("output", vec![for_this_host().into(), vec![goto("published")]]),
    ];
    let service =
        |first: usize| [meta(MetaKey::L4Proto, KEY[first]), destination_port(KEY[first + 1])].into();
    for (version, one, every, behind) in [
        (Version::Four, PUBLISHED, PUBLISHED_EVERYWHERE, 1),
        (Version::Six, PUBLISHED6, PUBLISHED6_EVERYWHERE, 4),
    ] {
        let address = vec![destination_address(version, KEY[0])];
        let lead = |map: &Set| vec![mapped(KEY[0], map.name), dnat(version)];
        rules.push(("published", vec![version.is().into(), address, service(behind), lead(&one)]));
        rules.push(("published", vec![version.is().into(), service(0), lead(&every)]));
        // From the host by its loopback: the container could not answer that address.
        let own = from_loopback(version).into();
        rules.push(("postrouting", vec![to(&BRIDGES), version.is().into(), own, vec![masquerade()]]));
    }
    rules.extend([
        // From a container to a published port of its own bridge: the answer must come back this way.
        ("postrouting", vec![within_one(), was_dnat().into(), vec![masquerade()]]),
        // The same where the bridge itself hands the packet to these rules (br_netfilter): it names no incoming link.
        ("postrouting", vec![to(&BRIDGES), bridged(), was_dnat().into(), vec![masquerade()]]),
        ("postrouting", vec![from(&OUTGOING), not_to(&BRIDGES), vec![masquerade()]]),
    ]);
    rules
}

fn forwarding() -> Vec<Rule> {
    vec![
        ("forward", vec![to(&BRIDGES), established().into(), vec![accept()]]),
        ("forward", vec![from(&BRIDGES), established().into(), vec![accept()]]),
        ("forward", vec![to(&BRIDGES), was_dnat().into(), vec![accept()]]),
        ("forward", vec![within_one(), vec![accept()]]),
        // From another bridge, or straight to a container's address.
        ("forward", vec![to(&BRIDGES), vec![drop()]]),
        ("forward", vec![from(&BRIDGES), vec![not_in_set(Register::Reg1, OUTGOING.name), drop()]]),
    ]
}

/// The host itself: answers, ping, who has which address, names, and on request its services. Above all no router that
/// a container pretends to be.
fn input() -> Vec<Rule> {
    const ICMP: [u8; 1] = [1];
    let icmp = vec![meta(MetaKey::L4Proto, Register::Reg1), is(Register::Reg1, &ICMP)];
    let dns = |protocol: Protocol| {
        [
            meta(MetaKey::L4Proto, Register::Reg1),
            is(Register::Reg1, &[protocol.number()]),
            destination_port(Register::Reg1),
            is(Register::Reg1, &53_u16.to_be_bytes()),
        ]
    };
    let mut rules = vec![
        ("input", vec![from(&BRIDGES), established().into(), vec![accept()]]),
        ("input", vec![from(&BRIDGES), Version::Four.is().into(), icmp, vec![accept()]]),
    ];
    for kind in [ECHO_REQUEST, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT] {
        rules.push(("input", vec![from(&BRIDGES), icmpv6(kind).into(), vec![accept()]]));
    }
    for kind in [ROUTER_ADVERTISEMENT, REDIRECT] {
        rules.push(("input", vec![from(&BRIDGES), icmpv6(kind).into(), vec![drop()]]));
    }
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        rules.push((
            "input",
            vec![from(&NAMES), for_this_host().into(), dns(protocol).into(), vec![accept()]],
        ));
    }
    rules.push(("input", vec![from(&BRIDGES), vec![not_in_set(Register::Reg1, HOST.name), drop()]]));
    rules
}

/// What comes in by a port and is not from its own addresses; and no word of routers from there.
fn guards() -> Vec<Vec<Vec<Expression>>> {
    let port = || vec![meta(MetaKey::Iifname, KEY[0]), in_set(KEY[0], PORTS.name)];
    let other_than = |value: Expression, set: &Set| {
        vec![meta(MetaKey::Iifname, KEY[0]), value, not_in_set(KEY[0], set.name), drop()]
    };
    let neither = [ARP, IP, IP6].map(|number| is_not(Register::Reg1, &number.to_be_bytes()));
    let mut protocol = vec![meta(MetaKey::EtherTypeProtocol, Register::Reg1)];
    protocol.extend(neither);
    protocol.push(drop());
    let mut rules = vec![
        vec![port(), other_than(source_mac(KEY[4]), &MACS)],
        vec![port(), ether_type(ARP).into(), other_than(arp_sender(KEY[4]), &ADDRESSES)],
        vec![port(), ether_type(IP).into(), other_than(source_address(Version::Four, KEY[4]), &ADDRESSES)],
    ];
    for kind in [ROUTER_ADVERTISEMENT, REDIRECT] {
        rules.push(vec![port(), ether_type(IP6).into(), icmpv6(kind).into(), vec![drop()]]);
    }
    let advertises = icmpv6(NEIGHBOUR_ADVERTISEMENT).into();
    rules.push(vec![
        port(),
        ether_type(IP6).into(),
        advertises,
        other_than(advertised_target(KEY[4]), &ADDRESSES6),
    ]);
    // The unspecified address is that of who has none yet (RFC 4862), and the kernel's reports of multicast listeners have it.
    let unspecified = vec![source_address(Version::Six, KEY[0]), is(KEY[0], &[0; 16]), accept()];
    rules.push(vec![port(), ether_type(IP6).into(), unspecified]);
    rules.push(vec![
        port(),
        ether_type(IP6).into(),
        other_than(source_address(Version::Six, KEY[4]), &ADDRESSES6),
    ]);
    rules.push(vec![port(), protocol]);
    rules
}

fn from(set: &Set) -> Vec<Expression> {
    vec![meta(MetaKey::Iifname, Register::Reg1), in_set(Register::Reg1, set.name)]
}

fn to(set: &Set) -> Vec<Expression> {
    vec![meta(MetaKey::Oifname, Register::Reg1), in_set(Register::Reg1, set.name)]
}

fn not_to(set: &Set) -> Vec<Expression> {
    vec![meta(MetaKey::Oifname, Register::Reg1), not_in_set(Register::Reg1, set.name)]
}

/// Neither routed nor of this host.
fn bridged() -> Vec<Expression> {
    let no_link = [meta(MetaKey::Iif, Register::Reg1), is(Register::Reg1, &[0; 4])];
    no_link.into_iter().chain(not_from_this_host()).collect()
}

fn within_one() -> Vec<Expression> {
    let names = [meta(MetaKey::Iifname, KEY[0]), meta(MetaKey::Oifname, KEY[4])];
    names.into_iter().chain([in_set(KEY[0], SAME.name)]).collect()
}
