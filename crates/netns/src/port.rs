//! Ports of a bridge: the pair that leads to a container, and what is published of it.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::bridge::{Shared, check_name, gone};
use crate::firewall::Forward;
use crate::namespace::{id, run_in};
use crate::route::{Route, bridge_port, create_pair, delete_link, without_ipv6_addresses};
use crate::{Cidr, Error, ErrorKind, Publish, Reservation, Result};

/// A namespace's place on a bridge: see [`Bridge::connect`](crate::Bridge::connect).
///
/// Dropping it takes back what was published and deletes the pair; deleting a pair waits 10 to 30 ms for the kernel.
/// Where the namespace ends anyway, [`Port::remove_rules`] is the quick way.
#[derive(Debug)]
#[must_use = "dropping it disconnects the namespace"]
pub struct Port {
    bridge: Arc<Shared>,
    /// On the host's side.
    interface: String,
    address: Ipv4Addr,
    published: Mutex<Vec<(Forward, Option<Reservation>)>>,
    kept: bool,
}

pub(crate) fn connect(
    bridge: &Arc<Shared>,
    namespace: BorrowedFd<'_>,
    address: Ipv4Addr,
    inside: &str,
) -> Result<Port> {
    check_name(inside)?;
    let own = Cidr::new(address, bridge.gateway.prefix())?;
    if !bridge.gateway.is_host(address) || address == bridge.gateway.address() {
        let what = format!(
            "{address} is not an address for a container on bridge {} ({})",
            bridge.name, bridge.gateway
        );
        return Err(Error::invalid(what));
    }
    if id(namespace)? == bridge.home.id() {
        return Err(Error::invalid(format!(
            "bridge {} is in this namespace: connect another to it",
            bridge.name
        )));
    }
    let mut port = Port {
        bridge: Arc::clone(bridge),
        interface: name(),
        address,
        published: Mutex::new(Vec::new()),
        kept: true,
    };
    let pair = create_pair(&port.interface, bridge.index, inside, namespace, address);
    // The socket is free again before the error is looked into.
    let made = bridge.home.route().apply(vec![pair]);
    made.map_err(|error| explained(bridge, namespace, inside, error))?;
    // From here on, an error drops the port, and the port its pair.
    port.kept = false;
    bridge.home.route().apply(vec![bridge_port(&port.interface), without_ipv6_addresses(&port.interface)])?;
    run_in(namespace, || configure(inside, own, bridge.gateway.address()))??;
    settle(bridge, &port.interface)?;
    Ok(port)
}

/// The first packet is not to be lost: the host's end was up before it had a carrier, and so was the bridge with its
/// first port. The pair takes microseconds. The bridge, before Linux 6.8, takes up to a second that is not waited for.
fn settle(bridge: &Shared, interface: &str) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(1);
    while !bridge.home.route().is_operational(interface)? && Instant::now() < end {
        thread::sleep(Duration::from_micros(200));
    }
    bridge.home.route().is_operational(&bridge.name).map(drop)
}

/// Inside. Whatever can fail is done by netlink; `/proc/sys` may be read-only, and IPv6 has no address without it.
fn configure(name: &str, own: Cidr, gateway: Ipv4Addr) -> Result<()> {
    fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1").ok();
    Route::open()?.configure(name, own, gateway)
}

fn explained(bridge: &Shared, namespace: BorrowedFd<'_>, inside: &str, error: Error) -> Error {
    match error.raw_os_error() {
        Some(libc::EEXIST) => error.saying(format!("the namespace has a link {inside} already")),
        Some(libc::EINVAL | libc::ENODEV) if matches!(bridge.home.route().index(&bridge.name), Ok(None)) => {
            gone(&bridge.name)
        }
        Some(libc::EOPNOTSUPP) => error.with_hint("the kernel has no veth pairs: modprobe veth"),
        Some(libc::EINVAL) if run_in(namespace, || ()).is_err() => {
            error.with_kind(ErrorKind::InvalidInput).with_hint("the descriptor is not a network namespace's")
        }
        _ => error,
    }
}

/// A name for the host's end, new for every pair: that of one whose namespace has just ended may be there still.
fn name() -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("iso{:012x}", random & 0xffff_ffff_ffff)
}

impl Port {
    /// The name of the pair's end on the host, a port of the bridge.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The container's address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Publishes a port of the container: claims the host's ([`Publish::reserve`]), and leads it there. It is
    /// reached from other hosts, from this one (by 127.0.0.1 too), from other containers and from the container
    /// itself; never more widely than the host address says. Connections keep their client's address, but for those
    /// from 127.0.0.1 and from the same bridge, which come from the bridge's.
    ///
    /// Switches `net.ipv4.ip_forward` on, as [`masquerade`](crate::Bridge::masquerade) does.
    ///
    /// # Errors
    /// [`AddressInUse`](ErrorKind::AddressInUse) if somebody has the host port, and who; else as [`Publish::reserve`].
    pub fn publish(&self, publish: impl Into<Publish>) -> Result<Publish> {
        let publish = publish.into();
        let reservation = self.bridge.home.inside(|| publish.reserve())??;
        let publish = reservation.publish();
        self.lead(publish, Some(reservation))?;
        Ok(publish)
    }

    /// The same with a host port that was claimed before, and that the caller goes on holding.
    ///
    /// # Errors
    /// [`AddressInUse`](ErrorKind::AddressInUse) if it leads to some container already.
    pub fn publish_reserved(&self, reservation: &Reservation) -> Result<()> {
        self.lead(reservation.publish(), None)
    }

    fn lead(&self, publish: Publish, reservation: Option<Reservation>) -> Result<()> {
        let forward = Forward::new(&publish, self.address)?;
        if publish.container_port() == 0 {
            return Err(Error::invalid(format!("{publish}: a container's port is 1 to 65535")));
        }
        let home = &self.bridge.home;
        home.forward()?;
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        match self.bridge.firewall.publish(home, &forward) {
            // Somebody flushed all rules.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.bridge.repair()?;
                self.bridge.firewall.publish(home, &forward)?;
            }
            result => result?,
        }
        published.push((forward, reservation));
        Ok(())
    }

    /// What is published of it.
    #[must_use]
    pub fn published(&self) -> Vec<Publish> {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.iter().map(|(forward, _)| forward.publish()).collect()
    }

    /// Takes back what [`publish`](Self::publish) returned, and gives the host port up. Connections that are open go on.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it was not published by this port.
    pub fn unpublish(&self, publish: impl Into<Publish>) -> Result<()> {
        let publish = publish.into();
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let place = published.iter().position(|(forward, _)| forward.publish() == publish);
        let place =
            place.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{publish} is not published")))?;
        self.bridge.firewall.unpublish(&self.bridge.home, &[published[place].0])?;
        published.remove(place);
        Ok(())
    }

    /// Writes the rules of what is published again, and the bridge's, after somebody flushed them.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn repair(&self) -> Result<()> {
        self.bridge.repair()?;
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let there = self.bridge.firewall.published(&self.bridge.home)?;
        let mut missing = published.iter().filter(|(forward, _)| !there.contains(forward));
        missing.try_for_each(|(forward, _)| self.bridge.firewall.publish(&self.bridge.home, forward))
    }

    /// Takes back what was published and deletes the pair.
    ///
    /// # Errors
    /// What the kernel refused; the rest is done even so.
    pub fn remove(mut self) -> Result<()> {
        self.kept = true;
        let (rules, link) = (self.take_back(), self.delete());
        match (rules, link) {
            (Err(rules), Err(link)) => Err(rules.and(link)),
            (rules, link) => rules.and(link),
        }
    }

    /// Takes back what was published, and leaves the pair to the end of its namespace, which deletes it in the
    /// background. Some microseconds, where [`remove`](Self::remove) waits.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn remove_rules(mut self) -> Result<()> {
        self.kept = true;
        self.take_back()
    }

    /// Gives up the duty to disconnect, for a container that outlives this process. Whoever is to hold the claims on
    /// its host ports gets them. Later, [`remove_published`](crate::remove_published) and
    /// [`delete_link`](crate::delete_link) do by address and name what this would have done.
    pub fn keep(mut self) -> Vec<Reservation> {
        self.kept = true;
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.drain(..).filter_map(|(_, reservation)| reservation).collect()
    }

    fn take_back(&self) -> Result<()> {
        let published = std::mem::take(&mut *self.published.lock().unwrap_or_else(PoisonError::into_inner));
        let forwards: Vec<_> = published.iter().map(|(forward, _)| *forward).collect();
        match forwards.is_empty() {
            true => Ok(()),
            false => self.bridge.firewall.unpublish(&self.bridge.home, &forwards),
        }
    }

    fn delete(&self) -> Result<()> {
        match self.bridge.home.route().apply(vec![delete_link(&self.interface)]) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if !self.kept {
            self.take_back().ok();
            self.delete().ok();
        }
    }
}
