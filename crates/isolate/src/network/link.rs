//! What connects a container to a network: a port of a bridge, or a macvlan.

use isolate_netns::{
    Bandwidth, Bridge, Counted, Macvlan, MacvlanPort, NetworkNamespace, Port, Prepared, Problem,
};

use crate::error::{Error, ErrorKind, Result};
use crate::network::macvlan::patiently;
use crate::network::place::{PlaceRecord, bridge};
use crate::network::record::NetworkRecord;
use crate::store::Store;

/// A network's side, and once the container is connected, its place there.
#[derive(Debug)]
pub(crate) enum Link {
    Bridge(Bridge, Option<Port>),
    /// Its port holds nothing: the link is in the container's namespace, and goes with it.
    Macvlan(Macvlan, Option<MacvlanPort>),
}

/// How a container's network namespace is found. `None` once that has ended.
pub(crate) type Inside<'a> = &'a dyn Fn() -> Result<Option<NetworkNamespace>>;

impl Link {
    /// The network's bridge, made if need be; of a macvlan network there is nothing to make.
    pub(super) fn of(store: &Store, network: &NetworkRecord) -> Result<Self> {
        match &network.parent {
            Some(parent) => Ok(Self::Macvlan(parent.describe(network)?, None)),
            None => Ok(Self::Bridge(bridge(store, network)?, None)),
        }
    }

    /// Connects the container's network namespace.
    pub(super) fn connect(&mut self, record: &PlaceRecord, namespace: &NetworkNamespace) -> Result<()> {
        match self {
            Self::Bridge(bridge, place) => {
                *place = Some(limited(bridge.attach(namespace, &record.endpoint())?, record)?);
            }
            Self::Macvlan(lan, place) => *place = Some(attach(lan, record, namespace)?),
        }
        Ok(())
    }

    /// What connects a container that somebody else has started. Dropping it does nothing.
    pub(super) fn open(
        store: &Store,
        network: &NetworkRecord,
        record: &PlaceRecord,
        inside: Inside<'_>,
    ) -> Result<Self> {
        Ok(match Self::of(store, network)? {
            Self::Bridge(bridge, _) => {
                let port = bridge.port(&record.host, &record.endpoint())?;
                Self::Bridge(bridge, Some(port))
            }
            Self::Macvlan(lan, _) => {
                let port = lan.port(&running(inside)?, &record.endpoint())?;
                Self::Macvlan(lan, Some(port))
            }
        })
    }

    /// The same, on a bridge, with a pair of links that was made ahead.
    pub(super) fn adopt(&mut self, record: &PlaceRecord, prepared: Prepared) -> Result<()> {
        if let Self::Bridge(_, place) = self {
            *place = Some(limited(prepared.attach(&record.endpoint())?, record)?);
        }
        Ok(())
    }

    pub(crate) fn is_connected(&self) -> bool {
        match self {
            Self::Bridge(_, port) => port.is_some(),
            Self::Macvlan(_, port) => port.is_some(),
        }
    }

    /// What publishes: a bridge's port.
    pub(crate) fn port(&self) -> Option<&Port> {
        match self {
            Self::Bridge(_, port) => port.as_ref(),
            Self::Macvlan(..) => None,
        }
    }

    /// What has passed it, as the container sees it: received, sent. `None` where it is not connected.
    pub(crate) fn counters(&self, inside: Inside<'_>) -> Result<Option<[Counted; 2]>> {
        Ok(match self {
            Self::Bridge(_, port) => port.as_ref().map(Port::counters).transpose()?,
            Self::Macvlan(_, Some(port)) => Some(port.counters(&running(inside)?)?),
            Self::Macvlan(_, None) => None,
        })
    }

    pub(crate) fn check(&self, inside: Inside<'_>) -> Result<Vec<Problem>> {
        Ok(match self {
            Self::Bridge(_, port) => port.as_ref().map_or(Ok(vec![]), Port::check)?,
            Self::Macvlan(_, Some(port)) => match inside()? {
                Some(namespace) => port.check(&namespace)?,
                None => vec![],
            },
            Self::Macvlan(_, None) => vec![],
        })
    }

    /// The rules of a bridge's port again; of a macvlan that went with its parent, another, once that is there.
    pub(crate) fn repair(&mut self, record: &PlaceRecord, inside: Inside<'_>) -> Result<()> {
        match self {
            Self::Bridge(_, port) => Ok(port.as_ref().map_or(Ok(()), Port::repair)?),
            Self::Macvlan(lan, Some(port)) => {
                if let Some(namespace) = inside()?
                    && !port.is_there(&namespace)?
                {
                    *port = attach(lan, record, &namespace)?;
                }
                Ok(())
            }
            Self::Macvlan(_, None) => Ok(()),
        }
    }

    /// Takes the link away from a container that goes on.
    pub(crate) fn disconnect(&mut self, inside: Inside<'_>) -> Result<()> {
        match self {
            Self::Bridge(_, port) => port.take().map_or(Ok(()), |port| Ok(port.disconnect()?)),
            Self::Macvlan(_, port) => match (port.take(), inside()?) {
                (Some(port), Some(namespace)) => Ok(port.disconnect(&namespace)?),
                _ => Ok(()),
            },
        }
    }

    /// The same, and its pair is gone afterwards: for a process that may end before a thread has deleted it.
    pub(crate) fn remove(&mut self, inside: Inside<'_>) -> Result<()> {
        match self {
            Self::Bridge(_, port) => port.take().map_or(Ok(()), |port| Ok(port.remove()?)),
            Self::Macvlan(..) => self.disconnect(inside),
        }
    }

    /// Takes back the rules that lead to it. The link goes with the network namespace: to delete it would wait for the kernel.
    pub(super) fn close(&mut self) -> Result<()> {
        match self {
            Self::Bridge(_, port) => {
                port.take().map_or(Ok(()), |port| port.remove_rules().map_err(Error::from))
            }
            Self::Macvlan(..) => Ok(()),
        }
    }

    /// Gives up all duties.
    pub(super) fn keep(self) {
        if let Self::Bridge(_, Some(port)) = self {
            drop(port.keep());
        }
    }
}

/// With the bandwidth that was said.
fn limited(port: Port, record: &PlaceRecord) -> Result<Port> {
    let bandwidth = record.bandwidth();
    if bandwidth != Bandwidth::new() {
        port.limit(bandwidth)?;
    }
    Ok(port)
}

fn attach(lan: &Macvlan, record: &PlaceRecord, namespace: &NetworkNamespace) -> Result<MacvlanPort> {
    patiently(|| lan.attach(namespace, &record.endpoint()))
}

fn running(inside: Inside<'_>) -> Result<NetworkNamespace> {
    inside()?.ok_or_else(|| Error::new(ErrorKind::NotFound, "it has ended"))
}
