//! The table in the kernel: created with its first bridge, deleted with its last, by any number of processes at once.

use super::messages::{self, Element, Set, TABLE, elements};
use super::ruleset::{BRIDGES, HOST, OUTGOING, PUBLISHED, PUBLISHED_EVERYWHERE, SAME, SETS};
use super::{BridgeRules, Forward, ruleset};
use crate::home::Home;
use crate::netlink::{NLM_F_EXCL, Refusal, Request, Socket, attributes, string};
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
    let element = [ruleset::bridge(&bridge.name)];
    let mut requests = [BRIDGES.add(&element, 0), SAME.add(&[ruleset::same(&bridge.name)], 0)].concat();
    for (set, _) in [(OUTGOING, bridge.outgoing), (HOST, bridge.host)].iter().filter(|(_, wanted)| *wanted) {
        requests.extend(set.add(&element, 0));
    }
    for _ in 0..ATTEMPTS {
        match batch(home, None, requests.clone())? {
            Err(Refusal { errno: libc::ENOENT, .. }) => {}
            result => return result.map_err(refused),
        }
        let create = [ruleset::create(), requests.clone()].concat();
        match batch(home, None, create)? {
            // Somebody else was first.
            Err(Refusal { errno: libc::EEXIST, request: 0, .. }) => {}
            Err(refusal @ Refusal { errno: libc::ENOENT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT, .. }) => {
                let hint = "the kernel lacks a part of nf_tables (nft_nat, nft_masq, nft_ct, nft_fib_ipv4): load it, or use Firewall::Iptables";
                return Err(refused(refusal).with_kind(ErrorKind::Unsupported).with_hint(hint));
            }
            result => return result.map_err(refused),
        }
    }
    Err(contended())
}

/// Whether the table has this bridge.
pub(super) fn knows(home: &Home, bridge: &str) -> Result<bool> {
    if !available(home)? {
        return Ok(false);
    }
    let element = ruleset::bridge(bridge);
    let known = home.netfilter(|socket| list(socket, &BRIDGES))?.map_err(refused)?;
    Ok(known.is_some_and(|known| known.contains(&element)))
}

/// Removes the elements of a bridge and those that lead into its network; the whole table if it was the last.
pub(super) fn remove(home: &Home, bridge: &str, network: Option<Cidr>) -> Result<()> {
    let (name, same) = (ruleset::bridge(bridge), ruleset::same(bridge));
    change(home, |socket| {
        let Some(bridges) = list(socket, &BRIDGES)? else { return Ok(vec![]) };
        if bridges.iter().all(|element| *element == name) {
            return Ok(vec![messages::delete_table()]);
        }
        let mut requests = Vec::new();
        for set in SETS {
            let mut gone = list(socket, &set)?.unwrap_or_default();
            gone.retain(|element| match (ruleset::forward(element), network) {
                (Some(forward), Some(network)) => network.contains(forward.container),
                _ => *element == name || *element == same,
            });
            requests.extend(set.delete(&gone));
        }
        Ok(requests)
    })
}

/// Adds a published port. One that is there already, for the same container or another, is an error.
pub(super) fn publish(home: &Home, forward: &Forward) -> Result<()> {
    let (map, element) = ruleset::published(forward);
    match batch(home, None, map.add(&[element], NLM_F_EXCL))? {
        Err(Refusal { errno: libc::EEXIST | libc::EBUSY, .. }) => {
            let taken = published(home)?.into_iter().find(|other| other.same_host_side(forward));
            Err(super::iptables::taken(forward, taken))
        }
        result => result.map_err(refused),
    }
}

pub(super) fn unpublish(home: &Home, forwards: &[Forward]) -> Result<()> {
    let elements: Vec<_> = forwards.iter().map(ruleset::published).collect();
    let requests =
        elements.iter().flat_map(|(map, element)| map.delete(std::slice::from_ref(element))).collect();
    match batch(home, None, requests)? {
        Err(Refusal { errno: libc::ENOENT, .. }) => {}
        result => return result.map_err(refused),
    }
    // Some are gone already: those that are left.
    change(home, |socket| {
        let mut requests = Vec::new();
        for map in [PUBLISHED, PUBLISHED_EVERYWHERE] {
            let mut left = list(socket, &map)?.unwrap_or_default();
            left.retain(|element| elements.iter().any(|(of, wanted)| of.id == map.id && wanted == element));
            requests.extend(map.delete(&left));
        }
        Ok(requests)
    })
}

pub(super) fn published(home: &Home) -> Result<Vec<Forward>> {
    let lists = home.netfilter(|socket| [PUBLISHED, PUBLISHED_EVERYWHERE].map(|map| list(socket, &map)))?;
    let mut forwards = Vec::new();
    for list in lists {
        forwards.extend(list.map_err(refused)?.unwrap_or_default().iter().filter_map(ruleset::forward));
    }
    Ok(forwards)
}

/// The name of a chain of another table that drops what is forwarded, if there is one, and whether Docker's
/// `DOCKER-USER` is in the same table.
pub(crate) fn forward_dropped_by(home: &Home) -> Result<Option<(String, bool)>> {
    const NFTA_CHAIN_TABLE: u16 = 1;
    const NFTA_CHAIN_NAME: u16 = 3;
    const NFTA_CHAIN_HOOK: u16 = 4;
    const NFTA_CHAIN_POLICY: u16 = 5;
    const NFTA_HOOK_HOOKNUM: u16 = 1;
    const FORWARD: [u8; 4] = 2_u32.to_be_bytes();
    const DROP: [u8; 4] = 0_u32.to_be_bytes();
    let chains = home.netfilter(|socket| socket.dump(&messages::get_chains()))?.map_err(refused)?;
    let chains = chains.iter().map(|chain| {
        let value =
            |wanted| attributes(chain.get(4..)?).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        let hook = value(NFTA_CHAIN_HOOK)
            .and_then(|hook| attributes(hook).find(|(kind, _)| *kind == NFTA_HOOK_HOOKNUM));
        let drops =
            value(NFTA_CHAIN_POLICY) == Some(&DROP) && hook.is_some_and(|(_, number)| number == FORWARD);
        Some((string(value(NFTA_CHAIN_TABLE)?), string(value(NFTA_CHAIN_NAME)?), drops))
    });
    let chains: Vec<_> = chains.flatten().collect();
    Ok(chains.iter().find(|(table, _, drops)| *drops && table != TABLE).map(|(table, name, _)| {
        let docker = chains.iter().any(|(other, name, _)| other == table && name == "DOCKER-USER");
        (format!("ip {table} {name}"), docker)
    }))
}

/// Reads, and writes what `plan` makes of it, provided that nothing changed in between; else once more.
fn change(home: &Home, plan: impl Fn(&mut Socket) -> Result<Vec<Request>, Refusal>) -> Result<()> {
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
        Err(Refusal { errno: libc::ENOENT, .. }) => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

fn refused(refusal: Refusal) -> Error {
    let what = format!("nf_tables table ip {TABLE}");
    match refusal.text {
        Some(text) => Error::os(format!("{what}: {text}"), refusal.errno),
        None => Error::os(what, refusal.errno),
    }
}

fn contended() -> Error {
    Error::new(
        ErrorKind::Kernel,
        format!("nf_tables table ip {TABLE}: somebody else keeps changing the rules"),
    )
}
