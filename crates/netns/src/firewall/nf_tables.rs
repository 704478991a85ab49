//! The tables in the kernel: created with the first bridge, deleted with the last, by any number of processes at once.

use std::net::IpAddr;

use super::messages::{self, Element, Family, Set, TABLE, elements};
use super::ruleset::{BRIDGES, CHAINS, GUARDS, MAPS, OF_BRIDGES, OF_PORTS, PORTS};
use super::{BridgeRules, Forward, Guard, Problem, foreign, ruleset};
use crate::home::Home;
use crate::netlink::{NLM_F_EXCL, Refusal, Request, Socket, string};
use crate::{Cidr, Error, ErrorKind, Result};

/// How often an operation is begun anew because somebody else changed the rules meanwhile. Each time, that other
/// operation came to its end.
const ATTEMPTS: usize = 10_000;

/// Whether the kernel has nf_tables.
pub(crate) fn available(home: &Home) -> Result<bool> {
    let reply = match home.netfilter(|socket| socket.get(messages::get_generation())) {
        Ok(reply) => reply,
        Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(false),
        Err(error) => return Err(error),
    };
    match reply {
        Ok(_) => Ok(true),
        // nfnetlink without nf_tables
        Err(Refusal { errno: libc::EINVAL | libc::EOPNOTSUPP | libc::ENOENT, .. }) => Ok(false),
        Err(refusal) => Err(refused(refusal)),
    }
}

/// Adds or completes the elements of a bridge, and the table if there is none.
pub(super) fn add(home: &Home, bridge: &BridgeRules) -> Result<()> {
    let requests = grouped(&ruleset::bridge(bridge), |set, elements| set.add(elements, 0));
    or_created(home, &requests, ruleset::create)?.map_err(lacking)?;
    foreign::let_pass(home, bridge, &[])
}

/// Sends the requests; where there is no table for them, with those that make it.
fn or_created(
    home: &Home,
    requests: &[Request],
    create: impl Fn() -> Vec<Request>,
) -> Result<Result<(), Refusal>> {
    for _ in 0..ATTEMPTS {
        match batch(home, None, requests.to_vec())? {
            Err(Refusal { errno: libc::ENOENT, .. }) => {}
            result => return Ok(result),
        }
        match batch(home, None, [create(), requests.to_vec()].concat())? {
            // Somebody else was first.
            Err(Refusal { errno: libc::EEXIST, request: 0, .. }) => {}
            result => return Ok(result),
        }
    }
    Err(contended())
}

/// Whether the table has this bridge.
pub(super) fn knows(home: &Home, bridge: &str) -> Result<bool> {
    if !available(home)? {
        return Ok(false);
    }
    let element = ruleset::of_name(bridge);
    let known = home.netfilter(|socket| list(socket, &BRIDGES))?.map_err(refused)?;
    Ok(known.is_some_and(|known| known.contains(&element)))
}

/// Removes the elements of a bridge and those that lead into its networks, the table if it was the last; and its ports.
pub(super) fn remove(home: &Home, bridge: &str, networks: &[Cidr]) -> Result<()> {
    foreign::stop_passing(home, bridge)?;
    let (name, same) = (ruleset::of_name(bridge), ruleset::same(bridge));
    change(home, |socket| {
        let Some(bridges) = list(socket, &BRIDGES)? else { return Ok(vec![]) };
        if bridges.iter().all(|element| *element == name) {
            return Ok(vec![messages::delete_table(Family::Inet)]);
        }
        let mut requests = Vec::new();
        for set in OF_BRIDGES {
            let mut gone = list(socket, &set)?.unwrap_or_default();
            gone.retain(|element| *element == name || *element == same);
            requests.extend(set.delete(&gone));
        }
        for map in MAPS {
            let mut gone = list(socket, &map)?.unwrap_or_default();
            gone.retain(|element| {
                ruleset::forward(element).is_some_and(|forward| inside(networks, forward.container))
            });
            requests.extend(map.delete(&gone));
        }
        Ok(requests)
    })?;
    remove_guards(home, networks)
}

/// Removes the ports with an address in these networks; with the last, their table.
pub(super) fn remove_guards(home: &Home, networks: &[Cidr]) -> Result<()> {
    remove_ports(home, |_, address| address.is_some_and(|address| inside(networks, address)))
}

/// The same for ports of which the link is gone.
pub(crate) fn remove_stale_guards(home: &Home) -> Result<()> {
    remove_ports(home, |name, _| matches!(home.route().index(&string(name)), Ok(None)))
}

fn remove_ports(home: &Home, chosen: impl Fn(&[u8], Option<IpAddr>) -> bool) -> Result<()> {
    change(home, |socket| {
        let Some(ports) = list(socket, &PORTS)? else { return Ok(vec![]) };
        let (gone, requests) = without_ports(socket, &chosen)?;
        let all = ports.iter().all(|port| gone.contains(&port.key));
        Ok(if all { vec![messages::delete_table(Family::Bridge)] } else { requests })
    })
}

fn inside(networks: &[Cidr], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

/// The names of the ports of which an element is chosen, by name and address, and what deletes all of theirs.
fn without_ports(
    socket: &mut Socket,
    chosen: impl Fn(&[u8], Option<IpAddr>) -> bool,
) -> Result<(Vec<Vec<u8>>, Vec<Request>), Refusal> {
    let mut all = Vec::new();
    for set in OF_PORTS {
        all.push((set, list(socket, &set)?.unwrap_or_default()));
    }
    let about = all.iter().flat_map(|(set, list)| list.iter().filter_map(|e| ruleset::guarded(set, e)));
    let gone: Vec<_> = about.filter(|(name, address)| chosen(name, *address)).map(|(name, _)| name).collect();
    let requests = all.iter().flat_map(|(set, list)| {
        let of =
            |element: &&Element| ruleset::guarded(set, element).is_some_and(|(name, _)| gone.contains(&name));
        set.delete(&list.iter().filter(of).cloned().collect::<Vec<_>>())
    });
    let requests = requests.collect();
    Ok((gone, requests))
}

/// Adds published ports, all or none. One that is there already, for the same container or another, is an error.
pub(super) fn publish(home: &Home, forwards: &[Forward]) -> Result<()> {
    let elements: Vec<_> = forwards.iter().map(ruleset::published).collect();
    match batch(home, None, grouped(&elements, |map, elements| map.add(elements, NLM_F_EXCL)))? {
        Err(Refusal { errno: libc::EEXIST | libc::EBUSY, .. }) => {
            let there = published(home)?;
            let same = |forward: &Forward| there.iter().find(|other| other.same_host_side(forward)).copied();
            let pair = forwards.iter().find_map(|forward| Some((forward, Some(same(forward)?))));
            let (forward, other) = pair.or_else(|| Some((forwards.first()?, None))).ok_or_else(contended)?;
            Err(super::taken(forward, other))
        }
        result => result.map_err(refused),
    }
}

/// Takes elements back; one that is gone already is no error.
pub(super) fn unpublish(home: &Home, forwards: &[Forward]) -> Result<()> {
    take_back(home, &forwards.iter().map(ruleset::published).collect::<Vec<_>>())
}

/// From here on, what comes in by this port has its addresses, if the kernel filters what passes a bridge.
pub(super) fn guard(home: &Home, guard: &Guard) -> Result<()> {
    if home.bridge_filter.get() == Some(&false) {
        return Ok(());
    }
    let requests = grouped(&ruleset::guard(guard), |set, elements| set.add(elements, 0));
    match or_created(home, &requests, ruleset::create_guards)? {
        Err(Refusal { errno, .. }) if errno != libc::EPERM && !filters_bridges(home)? => Ok(()),
        result => {
            result.map_err(refused)?;
            home.bridge_filter.set(true).ok();
            Ok(())
        }
    }
}

pub(super) fn unguard(home: &Home, guard: &Guard) -> Result<()> {
    take_back(home, &ruleset::guard(guard))
}

/// The same by the port's name alone.
pub(crate) fn unguard_named(home: &Home, interface: &str) -> Result<()> {
    let wanted = ruleset::of_name(interface).key;
    change(home, |socket| Ok(without_ports(socket, |name, _| name == wanted)?.1))
}

/// Deletes the elements, or those that are left of them.
fn take_back(home: &Home, elements: &[(Set, Element)]) -> Result<()> {
    match batch(home, None, grouped(elements, |set, elements| set.delete(elements)))? {
        Err(Refusal { errno: libc::ENOENT, .. }) => {}
        result => return result.map_err(refused),
    }
    change(home, |socket| {
        let mut requests = Vec::new();
        for set in MAPS.into_iter().chain(OF_PORTS) {
            let wanted = |element: &Element| elements.iter().any(|(of, e)| of.id == set.id && e == element);
            if elements.iter().any(|(of, _)| of.id == set.id) {
                let mut left = list(socket, &set)?.unwrap_or_default();
                left.retain(wanted);
                requests.extend(set.delete(&left));
            }
        }
        Ok(requests)
    })
}

pub(super) fn published(home: &Home) -> Result<Vec<Forward>> {
    let lists = home.netfilter(|socket| MAPS.map(|map| list(socket, &map)))?;
    let mut forwards = Vec::new();
    for list in lists {
        forwards.extend(list.map_err(refused)?.unwrap_or_default().iter().filter_map(ruleset::forward));
    }
    Ok(forwards)
}

/// What is missing of the rules, and of the elements of this bridge.
pub(super) fn check(home: &Home, bridge: &BridgeRules) -> Result<Vec<Problem>> {
    missing(home, Family::Inet, &ruleset::bridge(bridge))
}

/// The same of its ports.
pub(super) fn check_guards(home: &Home, guards: &[Guard]) -> Result<Vec<Problem>> {
    let wanted: Vec<_> = guards.iter().flat_map(ruleset::guard).collect();
    match wanted.is_empty() || !available(home)? || !filters_bridges(home)? {
        true => Ok(vec![]),
        false => missing(home, Family::Bridge, &wanted),
    }
}

fn missing(home: &Home, family: Family, wanted: &[(Set, Element)]) -> Result<Vec<Problem>> {
    let name = format!("{} {TABLE}", family.name());
    let counted = home.netfilter(|socket| counted(socket, family))?.map_err(refused)?;
    let Some(counted) = counted else {
        return Ok(vec![Problem::Missing(format!("the nf_tables table {name}"))]);
    };
    let mut problems = Vec::new();
    for (chain, rules) in counted {
        let should = ruleset::count(chain);
        if rules != should {
            problems.push(Problem::Missing(format!(
                "rules of chain {chain} of {name}: {rules} of {should} are there"
            )));
        }
    }
    for set in OF_BRIDGES.iter().chain(&OF_PORTS) {
        let mut own = wanted.iter().filter(|(of, _)| of.id == set.id).peekable();
        if own.peek().is_some() {
            let there = home.netfilter(|socket| list(socket, set))?.map_err(refused)?.unwrap_or_default();
            if own.any(|(_, element)| !there.contains(element)) {
                problems.push(Problem::Missing(format!("elements of set {} of {name}", set.name)));
            }
        }
    }
    Ok(problems)
}

/// Makes the rules and what is known of this bridge whole again, at one stroke; what other bridges have stays.
pub(super) fn repair(home: &Home, bridge: &BridgeRules, forwards: &[Forward]) -> Result<()> {
    add(home, bridge)?;
    let wanted: Vec<_> = forwards.iter().map(ruleset::published).collect();
    change(home, |socket| whole_again(socket, Family::Inet, &wanted, ruleset::write_rules))
}

/// The same of its ports.
pub(super) fn repair_guards(home: &Home, guards: &[Guard]) -> Result<()> {
    let Some(first) = guards.first() else { return Ok(()) };
    if !available(home)? {
        return Ok(());
    }
    guard(home, first)?;
    let wanted: Vec<_> = guards.iter().flat_map(ruleset::guard).collect();
    change(home, |socket| whole_again(socket, Family::Bridge, &wanted, ruleset::write_guards))
}

fn whole_again(
    socket: &mut Socket,
    family: Family,
    wanted: &[(Set, Element)],
    write: impl Fn() -> Vec<Request>,
) -> Result<Vec<Request>, Refusal> {
    let Some(counted) = counted(socket, family)? else { return Ok(vec![]) };
    let whole = counted.iter().all(|(chain, n)| *n == ruleset::count(chain));
    let mut requests = if whole { vec![] } else { write() };
    for set in MAPS.iter().chain(&OF_PORTS) {
        let mut missing: Vec<_> =
            wanted.iter().filter(|(of, _)| of.id == set.id).map(|(_, element)| element.clone()).collect();
        if !missing.is_empty() {
            let there = list(socket, set)?.unwrap_or_default();
            missing.retain(|element| !there.contains(element));
            requests.extend(set.add(&missing, 0));
        }
    }
    Ok(requests)
}

/// How many rules our chains have; `None` without the table.
fn counted(socket: &mut Socket, family: Family) -> Result<Option<Vec<(&'static str, usize)>>, Refusal> {
    let chains: &[&'static str] = if family == Family::Bridge { &[GUARDS] } else { &CHAINS };
    let probe = if family == Family::Bridge { PORTS } else { BRIDGES };
    if list(socket, &probe)?.is_none() {
        return Ok(None);
    }
    let mut counted = Vec::new();
    for chain in chains {
        let rules = match socket.dump(&messages::get_rules(family, TABLE, chain)) {
            Err(Refusal { errno: libc::ENOENT, .. }) => 0,
            rules => rules?.len(),
        };
        counted.push((*chain, rules));
    }
    Ok(Some(counted))
}

/// The elements of each set in one request.
fn grouped(elements: &[(Set, Element)], f: impl Fn(&Set, &[Element]) -> Vec<Request>) -> Vec<Request> {
    let sets = OF_BRIDGES.iter().chain(&MAPS).chain(&OF_PORTS);
    let requests = sets.flat_map(|set| {
        let own: Vec<_> =
            elements.iter().filter(|(of, _)| of.id == set.id).map(|(_, element)| element.clone()).collect();
        if own.is_empty() { vec![] } else { f(set, &own) }
    });
    requests.collect()
}

/// Reads, and writes what `plan` makes of it, provided that nothing changed in between; else once more.
pub(super) fn change(home: &Home, plan: impl Fn(&mut Socket) -> Result<Vec<Request>, Refusal>) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let planned = home.netfilter(|socket| {
            let generation = messages::generation(&socket.get(messages::get_generation())?);
            Ok((generation, plan(socket)?))
        })?;
        let (generation, requests) = planned.map_err(refused)?;
        if requests.is_empty() {
            return Ok(());
        }
        match batch(home, generation, requests)? {
            Err(Refusal { errno: libc::ERESTART | libc::ENOENT, .. }) => {}
            result => return result.map_err(refused),
        }
    }
    Err(contended())
}

fn batch(home: &Home, generation: Option<u32>, requests: Vec<Request>) -> Result<Result<(), Refusal>> {
    home.netfilter(|socket| socket.batch(messages::begin(generation), requests, messages::end()))
}

/// The elements of a set; `None` if there is no table.
fn list(socket: &mut Socket, set: &Set) -> Result<Option<Vec<Element>>, Refusal> {
    match socket.dump(&set.list()) {
        Ok(replies) => Ok(Some(replies.iter().flat_map(|reply| elements(reply)).collect())),
        Err(Refusal { errno: libc::ENOENT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP, .. }) => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

pub(super) fn refused(refusal: Refusal) -> Error {
    let what = format!("nf_tables tables {TABLE}");
    match refusal.text {
        Some(text) => Error::os(format!("{what}: {text}"), refusal.errno),
        None => Error::os(what, refusal.errno),
    }
}

/// The same for what makes the tables.
fn lacking(refusal: Refusal) -> Error {
    match refusal.errno {
        libc::ENOENT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT => refused(refusal)
            .with_kind(ErrorKind::Unsupported)
            .with_hint("the kernel lacks a part of nf_tables (nft_nat, nft_masq, nft_ct, nft_fib_inet): load it, or use Firewall::Iptables"),
        _ => refused(refusal),
    }
}

/// Whether the kernel filters what passes a bridge: tried out by a batch that is refused as a whole.
pub(crate) fn filters_bridges(home: &Home) -> Result<bool> {
    if let Some(known) = home.bridge_filter.get() {
        return Ok(*known);
    }
    let [table, chain] = ruleset::probe();
    let nothing = messages::delete_rule(Family::Bridge, ("isolate-probe", "none"), 1);
    let filters = matches!(batch(home, None, vec![table, chain, nothing])?, Err(Refusal { request: 2, .. }));
    Ok(*home.bridge_filter.get_or_init(|| filters))
}

fn contended() -> Error {
    Error::new(ErrorKind::Kernel, format!("nf_tables tables {TABLE}: somebody else keeps changing the rules"))
}
