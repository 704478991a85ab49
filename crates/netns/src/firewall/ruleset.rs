//! The table `ip isolate`: rules that never change, and sets and maps whose elements do.
//!
//! A published port is an element of a map, and a bridge an element of sets: the thousandth costs a packet what
//! the first did, adding one touches no rule, and any number of processes can do so at once.

use std::net::Ipv4Addr;

use netlink_packet_netfilter::nftables::{InetHookNumber, MetaKey, Register};

use super::Forward;
use super::expression::{
    Expression, KEY, SECOND_NAME, accept, destination_address, destination_port, dnat, drop, established,
    for_this_host, forged_source, from_loopback, goto, in_set, interface, is, is_not, mapped, masquerade,
    meta, not_from_this_host, not_in_set, to_loopback, was_dnat,
};
use super::messages::{Element, Set, base_chain, chain, new_table, rule};
use crate::netlink::Request;
use crate::publish::Protocol;

// Types of nft(8), for `nft list`; a concatenation has six bits for each.
const ADDRESS: u32 = 7;
const PROTOCOL: u32 = 12;
const SERVICE: u32 = 13;
const NAME: u32 = 41;
const NAME_LENGTH: u32 = 16;
const TARGET: (u32, u32) = (ADDRESS << 6 | SERVICE, 8);

/// Every bridge of this crate.
pub(crate) const BRIDGES: Set = Set { name: "bridges", id: 1, key: (NAME, NAME_LENGTH), data: None };
/// Each of them twice: in and out by the same one.
pub(crate) const SAME: Set =
    Set { name: "same_bridge", id: 2, key: (NAME << 6 | NAME, 2 * NAME_LENGTH), data: None };
/// Those whose containers reach the outside.
pub(crate) const OUTGOING: Set = Set { name: "outgoing", id: 3, key: (NAME, NAME_LENGTH), data: None };
/// Those whose containers reach the services of the host itself.
pub(crate) const HOST: Set = Set { name: "host_services", id: 4, key: (NAME, NAME_LENGTH), data: None };
/// Host address, protocol and port, to container and port.
pub(crate) const PUBLISHED: Set =
    Set { name: "published", id: 5, key: (ADDRESS << 12 | PROTOCOL << 6 | SERVICE, 12), data: Some(TARGET) };
/// The same for every address of the host.
pub(crate) const PUBLISHED_EVERYWHERE: Set =
    Set { name: "published_everywhere", id: 6, key: (PROTOCOL << 6 | SERVICE, 8), data: Some(TARGET) };

pub(crate) const SETS: [Set; 6] = [BRIDGES, SAME, OUTGOING, HOST, PUBLISHED, PUBLISHED_EVERYWHERE];

/// The element of [`SAME`] for a bridge.
pub(crate) fn same(name: &str) -> Element {
    Element { key: [interface(name), interface(name)].concat(), data: vec![] }
}

/// The element of the other sets for a bridge.
pub(crate) fn bridge(name: &str) -> Element {
    Element { key: interface(name), data: vec![] }
}

/// The element for a published port, and the map that it belongs to.
pub(crate) fn published(forward: &Forward) -> (Set, Element) {
    let service = |port: u16| [&port.to_be_bytes()[..], &[0, 0]].concat();
    let protocol = vec![forward.protocol.number(), 0, 0, 0];
    let data = [forward.container.octets().to_vec(), service(forward.container_port)].concat();
    let end = [protocol, service(forward.host_port)].concat();
    match forward.host.is_unspecified() {
        true => (PUBLISHED_EVERYWHERE, Element { key: end, data }),
        false => (PUBLISHED, Element { key: [forward.host.octets().to_vec(), end].concat(), data }),
    }
}

/// What an element of either map says.
pub(crate) fn forward(element: &Element) -> Option<Forward> {
    let (host, end) = element.key.split_at_checked(element.key.len().checked_sub(8)?)?;
    let host = if host.is_empty() { Ipv4Addr::UNSPECIFIED } else { address(host)? };
    Some(Forward {
        protocol: Protocol::from_number(*end.first()?)?,
        host,
        host_port: port(end.get(4..6)?)?,
        container: address(element.data.get(..4)?)?,
        container_port: port(element.data.get(4..6)?)?,
    })
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))
}

fn port(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

/// The whole table, to be created in one batch. `nft list table ip isolate` prints it.
pub(crate) fn create() -> Vec<Request> {
    let mut requests = vec![new_table()];
    requests.extend(SETS.iter().map(Set::create));
    requests.extend([
        base_chain("raw", "filter", InetHookNumber::PreRouting, -300),
        base_chain("prerouting", "nat", InetHookNumber::PreRouting, -100),
        base_chain("output", "nat", InetHookNumber::LocalOut, -100),
        base_chain("postrouting", "nat", InetHookNumber::PostRouting, 100),
        base_chain("forward", "filter", InetHookNumber::Forward, 0),
        base_chain("input", "filter", InetHookNumber::LocalIn, 0),
        chain("published"),
    ]);
    let rules = [raw(), nat(), forwarding(), input()];
    requests.extend(rules.into_iter().flatten().map(|(chain, parts)| rule(chain, parts.concat())));
    requests
}

type Rule = (&'static str, Vec<Vec<Expression>>);

/// What can only be forged. Loopback addresses come from `lo` alone: `route_localnet` opens them to the bridge, and
/// a port that is published on 127.0.0.1 would be open to every neighbour.
fn raw() -> Vec<Rule> {
    let not_from_lo =
        || vec![meta(MetaKey::Iifname, Register::Reg1), is_not(Register::Reg1, &interface("lo"))];
    vec![
        ("raw", vec![not_from_lo(), to_loopback().into(), vec![drop()]]),
        ("raw", vec![not_from_lo(), from_loopback().into(), vec![drop()]]),
        ("raw", vec![from(&BRIDGES), forged_source().into(), vec![drop()]]),
    ]
}

fn nat() -> Vec<Rule> {
    let service =
        |first: usize| [meta(MetaKey::L4Proto, KEY[first]), destination_port(KEY[first + 1])].into();
    vec![
        ("prerouting", vec![for_this_host().into(), vec![goto("published")]]),
        ("output", vec![for_this_host().into(), vec![goto("published")]]),
        (
            "published",
            vec![vec![destination_address(KEY[0])], service(1), vec![mapped(KEY[0], PUBLISHED.name), dnat()]],
        ),
        ("published", vec![service(0), vec![mapped(KEY[0], PUBLISHED_EVERYWHERE.name), dnat()]]),
        // From the host by 127.0.0.1: the container could not answer that address.
        ("postrouting", vec![to(&BRIDGES), from_loopback().into(), vec![masquerade()]]),
        // From a container to a published port of its own bridge: the answer must come back this way.
        ("postrouting", vec![within_one(), was_dnat().into(), vec![masquerade()]]),
        // The same where the bridge itself hands the packet to these rules (br_netfilter): it names no incoming link.
        ("postrouting", vec![to(&BRIDGES), bridged(), was_dnat().into(), vec![masquerade()]]),
        ("postrouting", vec![from(&OUTGOING), not_to(&BRIDGES), vec![masquerade()]]),
    ]
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

/// The host itself: answers, ping, and on request its services.
fn input() -> Vec<Rule> {
    const ICMP: [u8; 1] = [1];
    let ping = vec![meta(MetaKey::L4Proto, Register::Reg1), is(Register::Reg1, &ICMP), accept()];
    vec![
        ("input", vec![from(&BRIDGES), established().into(), vec![accept()]]),
        ("input", vec![from(&BRIDGES), ping]),
        ("input", vec![from(&BRIDGES), vec![not_in_set(Register::Reg1, HOST.name), drop()]]),
    ]
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
    let names = [meta(MetaKey::Iifname, KEY[0]), meta(MetaKey::Oifname, SECOND_NAME)];
    names.into_iter().chain([in_set(KEY[0], SAME.name)]).collect()
}
