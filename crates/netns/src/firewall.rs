//! What is let through, and translated on the way: by nf_tables, or by iptables where there is none.

mod expression;
mod iptables;
mod messages;
mod nf_tables;
mod ruleset;
mod save;

use std::net::Ipv4Addr;

pub(crate) use iptables::program as iptables_restore;
pub(crate) use nf_tables::{available as nf_tables_available, forward_dropped_by};

use crate::home::Home;
use crate::publish::Protocol;
use crate::{Cidr, ErrorKind, Publish, Result};

/// Which of the kernel's packet filters a bridge's rules are written to. Both do the same.
///
/// Neither reads the environment. Rules of other programs stay as they are: an `accept` here does not undo a
/// `drop` there (see [`detect`](crate::detect)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Firewall {
    /// [`NfTables`](Self::NfTables) unless the kernel has none, then [`Iptables`](Self::Iptables).
    #[default]
    Auto,
    /// One table, `ip isolate`, written over netlink in atomic batches. No program is run.
    NfTables,
    /// Chains named `ISOLATE-…`, written by `iptables-restore --noflush` and read by its companion `iptables-save`,
    /// of `/usr/sbin`, `/sbin`, `/usr/bin`, `/bin` or `/usr/local/sbin`. About 20 ms a change.
    Iptables,
}

/// The rules of a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BridgeRules {
    pub(crate) name: String,
    pub(crate) network: Cidr,
    /// Its containers reach the outside, under the host's address.
    pub(crate) outgoing: bool,
    /// Its containers reach the services of the host itself.
    pub(crate) host: bool,
}

/// The rule of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Forward {
    pub(crate) protocol: Protocol,
    pub(crate) host: Ipv4Addr,
    pub(crate) host_port: u16,
    pub(crate) container: Ipv4Addr,
    pub(crate) container_port: u16,
}

impl Forward {
    pub(crate) fn new(publish: &Publish, container: Ipv4Addr) -> Result<Self> {
        Ok(Self {
            protocol: publish.protocol(),
            host: publish.host_address()?,
            host_port: publish.host_port(),
            container,
            container_port: publish.container_port(),
        })
    }

    pub(crate) fn publish(&self) -> Publish {
        let publish = match self.protocol {
            Protocol::Tcp => Publish::tcp(self.host_port, self.container_port),
            Protocol::Udp => Publish::udp(self.host_port, self.container_port),
        };
        publish.on(self.host)
    }

    /// Whether both claim the same port of the host.
    fn same_host_side(&self, other: &Self) -> bool {
        (self.protocol, self.host, self.host_port) == (other.protocol, other.host, other.host_port)
    }
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

    /// Removes the rules of a bridge and of every port of its network; with the last bridge, everything.
    pub(crate) fn remove(self, home: &Home, bridge: &str, network: Option<Cidr>) -> Result<()> {
        match self {
            Self::Iptables => iptables::remove(home, bridge, network),
            _ => nf_tables::remove(home, bridge, network),
        }
    }

    pub(crate) fn publish(self, home: &Home, forward: &Forward) -> Result<()> {
        match self {
            Self::Iptables => iptables::publish(home, forward),
            _ => nf_tables::publish(home, forward),
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
}
