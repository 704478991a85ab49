//! Rules of other programs that are in the way: a packet passes if every table lets it, so that an accept of ours does not undo a drop
//! of theirs.
//!
//! What is dropped there because nobody there knows of it, as by Docker's, ufw's and firewalld's chains at the forward hook, is let pass
//! by one rule a direction and bridge before all others of that chain. Nothing is opened by that: what goes to our bridges and comes from
//! them our own table judges, and its drop is as final.

use netlink_packet_netfilter::nftables::{MetaKey, Register};

use super::expression::{Expression, accept, interface, is, meta};
use super::messages::{self, Family, TABLE};
use super::nf_tables::{available, change, refused};
use super::{BridgeRules, Problem};
use crate::Result;
use crate::home::Home;
use crate::netlink::{Refusal, Request, Socket, attributes, string};

const FAMILIES: [Family; 3] = [Family::Ip, Family::Ip6, Family::Inet];
const HOOK_INPUT: u32 = 1;
const HOOK_FORWARD: u32 = 2;

/// A chain at a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    family: Family,
    table: String,
    name: String,
    hook: u32,
    drops: bool,
}

impl Chain {
    /// `ip filter FORWARD`
    fn words(&self) -> String {
        format!("{} {} {}", self.family.name(), self.table, self.name)
    }

    fn path(&self) -> (&str, &str) {
        (&self.table, &self.name)
    }
}

/// Lets pass what goes to and comes from the bridge, wherever a chain of others drops it; but for those of tables that have our jumps.
pub(super) fn let_pass(home: &Home, bridge: &BridgeRules, jumps: &[&str]) -> Result<()> {
    change(home, |socket| {
        let mut requests = Vec::new();
        for chain in blocking(socket)?.into_iter().filter(|chain| !jumps.contains(&chain.table.as_str())) {
            let there = ours(socket, &chain, &bridge.name)?;
            for (direction, expressions) in passes(&chain, bridge) {
                let comment = comment(&bridge.name, direction);
                if !there.iter().any(|(_, known)| *known == comment) {
                    requests.push(messages::first_rule(chain.family, chain.path(), &comment, expressions));
                }
            }
        }
        Ok(requests)
    })
}

/// Takes those rules back.
pub(super) fn stop_passing(home: &Home, bridge: &str) -> Result<()> {
    change(home, |socket| {
        let mut requests = Vec::new();
        for chain in chains(socket)? {
            let rules = ours(socket, &chain, bridge)?.into_iter();
            requests
                .extend(rules.map(|(handle, _)| messages::delete_rule(chain.family, chain.path(), handle)));
        }
        Ok(requests)
    })
}

/// Chains of others that drop what goes to or comes from the bridge.
pub(super) fn check(home: &Home, bridge: &BridgeRules, jumps: &[&str]) -> Result<Vec<Problem>> {
    if !available(home)? {
        return Ok(vec![]);
    }
    let blocked = home.netfilter(|socket| {
        let mut blocked = Vec::new();
        for chain in blocking(socket)?.into_iter().filter(|chain| !jumps.contains(&chain.table.as_str())) {
            let there = ours(socket, &chain, &bridge.name)?;
            let passed = |(direction, _): (&str, _)| {
                let comment = comment(&bridge.name, direction);
                there.iter().any(|(_, known)| *known == comment)
            };
            if !passes(&chain, bridge).into_iter().all(passed) {
                blocked.push(Problem::Blocked(chain.words()));
            }
        }
        Ok(blocked)
    })?;
    blocked.map_err(refused)
}

/// A chain that drops what is forwarded, if there is one.
pub(crate) fn forward_dropped_by(home: &Home) -> Result<Option<String>> {
    let blocking = home.netfilter(blocking)?.map_err(refused)?;
    Ok(blocking.iter().find(|chain| chain.hook == HOOK_FORWARD).map(Chain::words))
}

/// What is to be let pass by a chain: into the bridge and out of it; to the host itself, unless its services are open to the bridge:
/// then the host's own rules say which.
fn passes(chain: &Chain, bridge: &BridgeRules) -> Vec<(&'static str, Vec<Expression>)> {
    let by = |key| {
        let name = interface(&bridge.name);
        vec![meta(key, Register::Reg1), is(Register::Reg1, &name), accept()]
    };
    match chain.hook {
        HOOK_FORWARD => vec![("to", by(MetaKey::Oifname)), ("from", by(MetaKey::Iifname))],
        HOOK_INPUT if !bridge.host => vec![("from", by(MetaKey::Iifname))],
        _ => vec![],
    }
}

fn comment(bridge: &str, direction: &str) -> String {
    format!("isolate:{direction}:{bridge}")
}

/// Chains of others at both hooks that drop what no rule of theirs accepts.
fn blocking(socket: &mut Socket) -> Result<Vec<Chain>, Refusal> {
    let mut blocking = Vec::new();
    for chain in chains(socket)? {
        if chain.drops || ends_with_a_drop(socket, &chain)? {
            blocking.push(chain);
        }
    }
    Ok(blocking)
}

fn chains(socket: &mut Socket) -> Result<Vec<Chain>, Refusal> {
    let mut chains = Vec::new();
    for family in FAMILIES {
        let replies = match socket.dump(&messages::get_chains(family)) {
            Err(Refusal { errno: libc::ENOENT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP, .. }) => continue,
            replies => replies?,
        };
        chains.extend(replies.iter().filter_map(|reply| chain(family, reply)));
    }
    Ok(chains)
}

fn chain(family: Family, reply: &[u8]) -> Option<Chain> {
    const TABLE_NAME: u16 = 1;
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const HOOK_NUMBER: u16 = 1;
    let value = |wanted| find(reply.get(4..)?, wanted);
    let table = string(value(TABLE_NAME)?);
    let hook = find(value(HOOK)?, HOOK_NUMBER)?;
    let hook = u32::from_be_bytes(hook.try_into().ok()?);
    let drops = value(POLICY) == Some(&[0; 4]);
    let others = table != TABLE && [HOOK_INPUT, HOOK_FORWARD].contains(&hook);
    others.then(|| Chain { family, table, name: string(value(NAME).unwrap_or_default()), hook, drops })
}

/// Whether the last rule drops or rejects whatever comes that far, as firewalld's does.
fn ends_with_a_drop(socket: &mut Socket, chain: &Chain) -> Result<bool, Refusal> {
    const EXPRESSIONS: u16 = 4;
    let rules = rules(socket, chain)?;
    let Some(expressions) = rules.last().and_then(|rule| find(rule.get(4..)?, EXPRESSIONS)) else {
        return Ok(false);
    };
    let mut drops = false;
    for (_, expression) in attributes(expressions) {
        match find(expression, 1).map(string).as_deref() {
            Some("counter" | "log") => {}
            Some("reject") => drops = true,
            Some("immediate") => drops = verdict(expression) == Some(0),
            _ => return Ok(false),
        }
    }
    Ok(drops)
}

/// The verdict that an immediate expression gives: `NF_DROP` is 0.
fn verdict(expression: &[u8]) -> Option<u32> {
    let data = find(find(expression, 2)?, 2)?;
    Some(u32::from_be_bytes(find(find(data, 2)?, 1)?.try_into().ok()?))
}

/// The rules in a chain that are ours: handle and comment.
fn ours(socket: &mut Socket, chain: &Chain, bridge: &str) -> Result<Vec<(u64, String)>, Refusal> {
    const HANDLE: u16 = 3;
    const USER_DATA: u16 = 7;
    let own = ["to", "from"].map(|direction| comment(bridge, direction));
    let rules = rules(socket, chain)?;
    let ours = rules.iter().filter_map(|rule| {
        let data = find(rule.get(4..)?, USER_DATA)?;
        let comment = own.iter().find(|comment| messages::comment_data(comment) == data)?;
        let handle = u64::from_be_bytes(find(rule.get(4..)?, HANDLE)?.try_into().ok()?);
        Some((handle, comment.clone()))
    });
    Ok(ours.collect())
}

fn rules(socket: &mut Socket, chain: &Chain) -> Result<Vec<Vec<u8>>, Refusal> {
    let request: Request = messages::get_rules(chain.family, &chain.table, &chain.name);
    match socket.dump(&request) {
        Err(Refusal { errno: libc::ENOENT, .. }) => Ok(vec![]),
        rules => rules,
    }
}

fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}
