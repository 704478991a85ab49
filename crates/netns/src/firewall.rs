//! What is let through, and translated on the way: by nf_tables, or by iptables where there is none.

mod expression;
mod foreign;
mod iptables;
mod messages;
mod nf_tables;
mod ruleset;
mod save;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) use expression::Version;
pub(crate) use foreign::forward_dropped_by;
pub(crate) use iptables::program as iptables_restore;
pub(crate) use nf_tables::{
    available as nf_tables_available, filters_bridges, remove_stale_guards, unguard_named,
};

use crate::home::Home;
use crate::publish::Protocol;
use crate::{Cidr, Error, ErrorKind, Publish, Result};

/// Which of the kernel's packet filters a bridge's rules are written to. Both do the same.
///
/// Neither reads the environment. Rules of other programs stay as they are; where a chain of theirs drops whatever it does not know, as
/// Docker's, ufw's and firewalld's do, a rule before all others of that chain lets pass what goes to a bridge and comes from it: an
/// `accept` in one table does not undo a `drop` in another, and this crate's own table judges those packets. That wants nf_tables, which
/// `iptables` writes to on most machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Firewall {
    /// [`NfTables`](Self::NfTables) unless the kernel has none, then [`Iptables`](Self::Iptables).
    #[default]
    Auto,
    /// Two tables, `inet isolate` and `bridge isolate`, written over netlink in atomic batches. No program is run.
    NfTables,
    /// Chains named `ISOLATE-…`, written by `iptables-restore --noflush` and read by its companion `iptables-save`, and for IPv6 by
    /// those of `ip6tables`, of `/usr/sbin`, `/sbin`, `/usr/bin`, `/bin` or `/usr/local/sbin`. About 20 ms a change. What a container
    /// sends to its neighbours on the bridge under another's address is dropped by the table `bridge isolate` here, too, and passes where
    /// the kernel has no nf_tables.
    Iptables,
}

/// Something that is not as it should be: see [`Bridge::check`](crate::Bridge::check) and
/// [`MacvlanPort::check`](crate::MacvlanPort::check).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// A part of the rules, or a link, that somebody took away.
    Missing(String),
    /// A link that nothing passes by, since it is down.
    Down(String),
    /// A chain of another program that drops what goes to the containers or comes from them.
    Blocked(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(what) => write!(f, "missing: {what}"),
            Self::Down(link) => write!(f, "down: {link}"),
            Self::Blocked(chain) => {
                write!(f, "blocked: chain {chain} of another program drops what it does not know")
            }
        }
    }
}

/// The rules of a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BridgeRules {
    pub(crate) name: String,
    /// One of IPv4, and perhaps one of IPv6.
    pub(crate) networks: Vec<Cidr>,
    /// Its containers reach the outside, under the host's address.
    pub(crate) outgoing: bool,
    /// Its containers reach the services of the host itself.
    pub(crate) host: bool,
    /// Its containers reach port 53 of the host.
    pub(crate) names: bool,
}

/// A port of a bridge, and what may come in by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Guard {
    pub(crate) interface: String,
    pub(crate) mac: [u8; 6],
    pub(crate) addresses: Vec<IpAddr>,
}

/// The rule of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Forward {
    pub(crate) protocol: Protocol,
    pub(crate) host: IpAddr,
    pub(crate) host_port: u16,
    pub(crate) container: IpAddr,
    pub(crate) container_port: u16,
}

impl Forward {
    /// Those of a published port that lead to a container with these addresses.
    pub(crate) fn of(publish: &Publish, containers: &[IpAddr]) -> Result<Vec<Self>> {
        publish.check_single()?;
        let hosts = match publish.address() {
            Some(host) => vec![host],
            None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        };
        let lead = |host: IpAddr| {
            let container = containers.iter().find(|container| container.is_ipv4() == host.is_ipv4())?;
            Some(Self {
                protocol: publish.protocol(),
                host,
                host_port: publish.host_port(),
                container: *container,
                container_port: publish.container_port(),
            })
        };
        let forwards: Vec<_> = hosts.into_iter().filter_map(lead).collect();
        match forwards.is_empty() {
            false => Ok(forwards),
            true => Err(Error::invalid(format!(
                "host port {}: the container has no address of that version of IP",
                publish.host_side()
            ))),
        }
    }

    /// The host's side in words.
    pub(crate) fn host_side(&self) -> String {
        let publish = match self.protocol {
            Protocol::Tcp => Publish::tcp(self.host_port, self.container_port),
            Protocol::Udp => Publish::udp(self.host_port, self.container_port),
        };
        publish.on(self.host).host_side()
    }

    /// Whether both claim the same port of the host.
    fn same_host_side(&self, other: &Self) -> bool {
        (self.protocol, self.host, self.host_port) == (other.protocol, other.host, other.host_port)
    }
}

/// The error for a host port that has a rule already.
fn taken(forward: &Forward, other: Option<Forward>) -> Error {
    let leads = other.map_or(String::new(), |other| {
        format!(": it leads to {}", std::net::SocketAddr::new(other.container, other.container_port))
    });
    Error::new(
        ErrorKind::AddressInUse,
        format!("host port {} is published already{leads}", forward.host_side()),
    )
}

impl Firewall {
    /// The one that is used for [`Firewall::Auto`]: never `Auto`.
    pub(crate) fn choose(self, home: &Home) -> Result<Self> {
        match self {
            Self::Auto if nf_tables::available(home)? => Ok(Self::NfTables),
            Self::Auto => Ok(Self::Iptables),
            chosen => Ok(chosen),
        }
    }

    /// The one that has rules for the bridge, if any.
    pub(crate) fn that_knows(home: &Home, bridge: &str) -> Result<Option<Self>> {
        if nf_tables::knows(home, bridge)? {
            return Ok(Some(Self::NfTables));
        }
        Ok(iptables::knows(home, bridge)?.then_some(Self::Iptables))
    }

    /// Adds or completes the rules of a bridge. For `Auto`, where nf_tables lacks a part, iptables; which it was.
    pub(crate) fn add(self, home: &Home, bridge: &BridgeRules) -> Result<Self> {
        let chosen = self.choose(home)?;
        match chosen {
            Self::Iptables => iptables::add(home, bridge)?,
            _ => match nf_tables::add(home, bridge) {
                Err(error) if self == Self::Auto && error.kind() == ErrorKind::Unsupported => {
                    iptables::add(home, bridge)?;
                    return Ok(Self::Iptables);
                }
                result => result?,
            },
        }
        Ok(chosen)
    }

    /// Removes the rules of a bridge and of every port of its networks; with the last bridge, everything.
    pub(crate) fn remove(self, home: &Home, bridge: &str, networks: &[Cidr]) -> Result<()> {
        match self {
            Self::Iptables => iptables::remove(home, bridge, networks),
            _ => nf_tables::remove(home, bridge, networks),
        }
    }

    /// All or none.
    pub(crate) fn publish(self, home: &Home, forwards: &[Forward]) -> Result<()> {
        match self {
            Self::Iptables => iptables::publish(home, forwards),
            _ => nf_tables::publish(home, forwards),
        }
    }

    /// Takes rules back; one that is gone already is no error.
    pub(crate) fn unpublish(self, home: &Home, forwards: &[Forward]) -> Result<()> {
        match self {
            Self::Iptables => iptables::unpublish(home, forwards),
            _ => nf_tables::unpublish(home, forwards),
        }
    }

    /// All rules that lead to a container's address.
    pub(crate) fn published(self, home: &Home) -> Result<Vec<Forward>> {
        match self {
            Self::Iptables => iptables::published(home),
            _ => nf_tables::published(home),
        }
    }

    /// From here on, what comes in by this port has its addresses.
    pub(crate) fn guard(self, home: &Home, guard: &Guard) -> Result<()> {
        match self {
            Self::Iptables if !nf_tables::available(home)? => Ok(()),
            _ => nf_tables::guard(home, guard),
        }
    }

    /// Takes that back; what is gone already is no error.
    pub(crate) fn unguard(self, home: &Home, guard: &Guard) -> Result<()> {
        match self {
            Self::Iptables if !nf_tables::available(home)? => Ok(()),
            _ => nf_tables::unguard(home, guard),
        }
    }

    /// What is not as it should be for a bridge with these ports.
    pub(crate) fn check(
        self,
        home: &Home,
        bridge: &BridgeRules,
        guards: &[Guard],
        forwards: &[Forward],
    ) -> Result<Vec<Problem>> {
        let mut problems = match self {
            Self::Iptables => iptables::check(home, bridge)?,
            _ => nf_tables::check(home, bridge)?,
        };
        problems.extend(nf_tables::check_guards(home, guards)?);
        let there = self.published(home)?;
        for forward in forwards.iter().filter(|forward| !there.contains(forward)) {
            problems.push(Problem::Missing(format!("the published port {}", forward.host_side())));
        }
        problems.extend(foreign::check(home, bridge, self.jumps())?);
        Ok(problems)
    }

    /// Makes it so.
    pub(crate) fn repair(
        self,
        home: &Home,
        bridge: &BridgeRules,
        guards: &[Guard],
        forwards: &[Forward],
    ) -> Result<()> {
        match self {
            Self::Iptables => iptables::repair(home, bridge, forwards)?,
            _ => nf_tables::repair(home, bridge, forwards)?,
        }
        nf_tables::repair_guards(home, guards)
    }

    /// Tables of others whose chains jump to ours first.
    const fn jumps(self) -> &'static [&'static str] {
        match self {
            Self::Iptables => &["filter"],
            _ => &[],
        }
    }
}
