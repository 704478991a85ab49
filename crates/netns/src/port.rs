//! Ports of a bridge: the pair that leads to a container, and what is published of it.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::bridge::{Shared, check_name, gone};
use crate::endpoint::Endpoint;
use crate::firewall::{Forward, Guard};
use crate::namespace::{id, run_beside, run_in};
use crate::route::{self, Counted, Pair, Route, bridge_port, create_pair, delete_link};
use crate::traffic::{self, Bandwidth};
use crate::{Cidr, Error, ErrorKind, Problem, Publish, Reservation, Result};

/// A namespace's place on a bridge: see [`Bridge::connect`](crate::Bridge::connect).
///
/// Dropping it takes back what was published and deletes the pair; deleting a pair waits 10 to 30 ms for the kernel.
/// Where the namespace ends anyway, [`Port::remove_rules`] is the quick way.
#[derive(Debug)]
#[must_use = "dropping it disconnects the namespace"]
pub struct Port {
    bridge: Arc<Shared>,
    /// The host's end, and what comes in by it.
    guard: Guard,
    address: Ipv4Addr,
    published: Mutex<Vec<Published>>,
    bandwidth: Mutex<Bandwidth>,
    kept: bool,
}

/// What leads to one port, and what claims the host's.
#[derive(Debug)]
struct Published {
    publish: Publish,
    forwards: Vec<Forward>,
    reservation: Option<Reservation>,
}

pub(crate) fn connect(bridge: &Arc<Shared>, namespace: BorrowedFd<'_>, endpoint: &Endpoint) -> Result<Port> {
    check_name(&endpoint.interface)?;
    let own = own_addresses(bridge, endpoint)?;
    if id(namespace)? == bridge.home.id() {
        return Err(Error::invalid(format!(
            "bridge {} is in this namespace: connect another to it",
            bridge.name
        )));
    }
    let host = endpoint.host.clone().unwrap_or_else(name);
    check_name(&host)?;
    let mut port = Port::of(bridge, host, endpoint);
    let pair = create_pair(&Pair {
        host: &port.guard.interface,
        bridge: bridge.index,
        inside: &endpoint.interface,
        namespace,
        mac: Some(port.guard.mac),
        mtu: bridge.mtu,
    });
    port.is_made();
    let guard = &port.guard;
    let made = AtomicBool::new(false);
    let (tell, told) = mpsc::channel::<()>();
    // The inside is entered, and its addresses are guarded, while the pair is made, which is most of the time.
    let (addresses, is_made) = (&own, &made);
    let inside = move || {
        bridge.firewall.guard(&bridge.home, guard)?;
        let mut route = Route::open()?;
        // An end of the channel is as good as a word.
        told.recv().ok();
        match is_made.load(Ordering::Relaxed) {
            true => configure(bridge, endpoint, addresses, &mut route),
            false => Ok(()),
        }
    };
    let host = &guard.interface;
    let (pair, configured) = run_beside(namespace, inside, || {
        let result = bridge.home.route().apply(vec![pair, bridge_port(host)]);
        made.store(result.is_ok(), Ordering::Relaxed);
        drop(tell);
        result
    });
    pair.map_err(|error| explained(bridge, namespace, &endpoint.interface, error))?;
    configured??;
    settle(bridge, host)?;
    Ok(port)
}

/// Its addresses with the bridge's prefixes.
pub(crate) fn own_addresses(bridge: &Shared, endpoint: &Endpoint) -> Result<Vec<Cidr>> {
    let with_prefix = |address: IpAddr| {
        let gateway = bridge.gateways.iter().find(|gateway| gateway.is_ipv6() == address.is_ipv6());
        match gateway {
            Some(gateway) if gateway.is_host(address) && address != gateway.address() => {
                Cidr::new(address, gateway.prefix())
            }
            _ => {
                let of = gateway.map_or("it has no such network".to_owned(), Cidr::to_string);
                let what =
                    format!("{address} is not an address for a container on bridge {} ({of})", bridge.name);
                Err(Error::invalid(what))
            }
        }
    };
    endpoint.addresses().into_iter().map(with_prefix).collect()
}

/// The first packet is not to be lost: the host's end was up before it had a carrier, and so was the bridge with its
/// first port. The pair takes microseconds. The bridge, before Linux 6.8, takes up to a second that is not waited for.
pub(crate) fn settle(bridge: &Shared, interface: &str) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(1);
    while !bridge.home.route().is_operational(interface)? && Instant::now() < end {
        thread::sleep(Duration::from_micros(200));
    }
    bridge.home.route().is_operational(&bridge.name).map(drop)
}

/// Inside, by netlink alone as a rule: of a parameter below `/proc/sys` the kernel keeps an entry for each namespace, and looks at all.
pub(crate) fn configure(bridge: &Shared, endpoint: &Endpoint, own: &[Cidr], route: &mut Route) -> Result<()> {
    let name = &endpoint.interface;
    if endpoint.ipv6.is_some() && bridge.home.bridge_filter.get() == Some(&false) {
        // Nobody else keeps out what neighbours say as routers.
        route::takes_ipv6(name);
    }
    let gateways = bridge.gateways.iter().map(Cidr::address);
    let routed = |gateway: &IpAddr| gateway.is_ipv4() || endpoint.ipv6.is_some();
    let gateways: Vec<_> = match endpoint.default_route && !bridge.internal {
        true => gateways.filter(routed).collect(),
        false => vec![],
    };
    route.configure(name, own, &gateways, endpoint.metric)
}

pub(crate) fn explained(bridge: &Shared, namespace: BorrowedFd<'_>, inside: &str, error: Error) -> Error {
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
pub(crate) fn name() -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("iso{:012x}", random & 0xffff_ffff_ffff)
}

impl Port {
    pub(crate) fn of(bridge: &Arc<Shared>, interface: String, endpoint: &Endpoint) -> Self {
        let guard = Guard { interface, mac: endpoint.mac(), addresses: endpoint.addresses() };
        let (bridge, address) = (Arc::clone(bridge), endpoint.address);
        let (published, bandwidth) = (Mutex::new(Vec::new()), Mutex::new(Bandwidth::new()));
        Self { bridge, guard, address, published, bandwidth, kept: true }
    }

    /// From here on dropping it takes back what it has: what is not there yet is no error.
    pub(crate) fn is_made(&mut self) {
        self.kept = false;
    }

    pub(crate) fn guard(&self) -> &Guard {
        &self.guard
    }

    pub(crate) fn open(bridge: &Arc<Shared>, interface: &str, endpoint: &Endpoint) -> Result<Self> {
        match bridge.home.route().index(interface)? {
            Some(_) => Ok(Self::of(bridge, interface.to_owned(), endpoint)),
            None => Err(Error::os(format!("port {interface} of bridge {}", bridge.name), libc::ENODEV)),
        }
    }

    /// The name of the pair's end on the host, a port of the bridge.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.guard.interface
    }

    /// The container's IPv4 address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// All of its addresses.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.guard.addresses
    }

    /// What has passed it, as the container sees it: received, sent.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it is gone.
    pub fn counters(&self) -> Result<[Counted; 2]> {
        let [received, sent] = self.bridge.home.route().counters(self.interface())?;
        Ok([sent, received])
    }

    /// Limits how fast the container sends and receives by it, in place of what was said before; [`Bandwidth::new`] lifts both limits. What
    /// it sends passes a link of its own (ifb), which is deleted with the port, and that waits 10 to 30 ms for the kernel.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) below 8000 bit/s; [`Unsupported`](ErrorKind::Unsupported) where the kernel lacks a part of
    /// traffic control.
    pub fn limit(&self, bandwidth: Bandwidth) -> Result<()> {
        let mut known = self.bandwidth.lock().unwrap_or_else(PoisonError::into_inner);
        // Before it is made: what fails half-way is taken back with the port.
        if bandwidth.get_up().is_some() {
            *known = bandwidth;
        }
        traffic::limit(&self.bridge.home, self.interface(), &bandwidth)?;
        *known = bandwidth;
        Ok(())
    }

    /// What it is limited to, as far as this handle knows.
    pub fn bandwidth(&self) -> Bandwidth {
        *self.bandwidth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes a port of the container: claims the host's ([`Publish::reserve_both`], or [`Publish::reserve`] without an IPv6 address),
    /// and leads it there. It is reached from other hosts, from this one (by 127.0.0.1 and ::1 too), from other containers and from the
    /// container itself (by ::1 only where the kernel parameter `net.bridge.bridge-nf-call-ip6tables` is 0 or not there: else it drops
    /// the answers); never more widely than the host address says. Connections keep their client's address, but for those
    /// from the loopback and from the same bridge, which come from the bridge's.
    ///
    /// Switches `net.ipv4.ip_forward` on, as [`masquerade`](crate::Bridge::masquerade) does.
    ///
    /// # Errors
    /// [`AddressInUse`](ErrorKind::AddressInUse) if somebody has the host port, and who;
    /// [`InvalidInput`](ErrorKind::InvalidInput) on an internal bridge, and for an address of IPv6 where the container has none; else as
    /// [`Publish::reserve`].
    pub fn publish(&self, publish: impl Into<Publish>) -> Result<Publish> {
        let publish = publish.into();
        // What cannot be led there is not claimed.
        Forward::of(&publish, &self.guard.addresses)?;
        let both = self.guard.addresses.len() > 1;
        let claim = || if both { publish.reserve_both() } else { publish.reserve() };
        let reservation = self.bridge.home.inside(claim)??;
        let publish = reservation.publish();
        self.lead(vec![(publish, Some(reservation))])?;
        Ok(publish)
    }

    /// The same with a host port that was claimed before, and that the caller goes on holding.
    ///
    /// # Errors
    /// [`AddressInUse`](ErrorKind::AddressInUse) if it leads to some container already.
    pub fn publish_reserved(&self, reservation: &Reservation) -> Result<()> {
        self.publish_all(std::slice::from_ref(reservation))
    }

    /// Publishes what somebody else has claimed and goes on holding.
    ///
    /// # Errors
    /// As [`publish_reserved`](Self::publish_reserved).
    pub fn publish_claimed(&self, publish: &[Publish]) -> Result<()> {
        self.lead(publish.iter().map(|publish| (*publish, None)).collect())
    }

    /// Several at once: all or none.
    ///
    /// # Errors
    /// As [`publish_reserved`](Self::publish_reserved).
    pub fn publish_all(&self, reservations: &[Reservation]) -> Result<()> {
        self.lead(reservations.iter().map(|reservation| (reservation.publish(), None)).collect())
    }

    fn lead(&self, ports: Vec<(Publish, Option<Reservation>)>) -> Result<()> {
        if self.bridge.internal && !ports.is_empty() {
            let what = format!("bridge {} is internal: nothing is published of it", self.bridge.name);
            return Err(Error::invalid(what));
        }
        let mut new = Vec::new();
        for (publish, reservation) in ports {
            let forwards = Forward::of(&publish, &self.guard.addresses)?;
            new.push(Published { publish, forwards, reservation });
        }
        let home = &self.bridge.home;
        self.bridge.forward()?;
        let forwards: Vec<_> = new.iter().flat_map(|published| published.forwards.clone()).collect();
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        match self.bridge.firewall.publish(home, &forwards) {
            // Somebody flushed all rules.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.bridge.repair()?;
                self.bridge.firewall.publish(home, &forwards)?;
            }
            result => result?,
        }
        published.extend(new);
        Ok(())
    }

    /// What is published of it.
    #[must_use]
    pub fn published(&self) -> Vec<Publish> {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.iter().map(|published| published.publish).collect()
    }

    /// Takes back what [`publish`](Self::publish) returned, and gives the host port up. Connections that are open go on.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it was not published by this port.
    pub fn unpublish(&self, publish: impl Into<Publish>) -> Result<()> {
        let publish = publish.into();
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let place = published.iter().position(|known| known.publish == publish);
        let place =
            place.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{publish} is not published")))?;
        self.bridge.firewall.unpublish(&self.bridge.home, &published[place].forwards)?;
        published.remove(place);
        Ok(())
    }

    /// Knows what somebody else published of it, for [`check`](Self::check), [`repair`](Self::repair) and
    /// [`unpublish`](Self::unpublish). Changes nothing.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for what cannot have been published.
    pub fn knows(&self, publish: impl Into<Publish>) -> Result<()> {
        let publish = publish.into();
        let forwards = Forward::of(&publish, &self.guard.addresses)?;
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.push(Published { publish, forwards, reservation: None });
        Ok(())
    }

    /// What of its rules, of the bridge's and of what is published somebody took away, and which chain of another program is in the way.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn check(&self) -> Result<Vec<Problem>> {
        let (bridge, guard) = (&self.bridge, std::slice::from_ref(&self.guard));
        bridge.firewall.check(&bridge.home, &bridge.rules(), guard, &self.forwards())
    }

    /// Writes the rules of what is published again, its own and the bridge's, after somebody flushed them.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn repair(&self) -> Result<()> {
        let (bridge, guard) = (&self.bridge, std::slice::from_ref(&self.guard));
        bridge.firewall.repair(&bridge.home, &bridge.rules(), guard, &self.forwards())
    }

    fn forwards(&self) -> Vec<Forward> {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.iter().flat_map(|published| published.forwards.clone()).collect()
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

    /// Takes back what was published, and cuts the connection at once; the pair is deleted by a thread made for it, while the caller goes
    /// on. If the process ends before, the pair is left without a connection, and goes with its namespace.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn disconnect(mut self) -> Result<()> {
        self.kept = true;
        let down = match self.bridge.home.route().apply(vec![route::down(self.interface())]) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        };
        let rules = self.take_back();
        thread::Builder::new()
            .name("isolate-netns".into())
            .spawn(move || self.delete().ok())
            .map_err(|error| Error::io("a thread to delete a pair of links with", &error))?;
        match (down, rules) {
            (Err(down), Err(rules)) => Err(down.and(rules)),
            (down, rules) => down.and(rules),
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
        published.drain(..).filter_map(|published| published.reservation).collect()
    }

    fn take_back(&self) -> Result<()> {
        let (bridge, forwards) = (&self.bridge, self.forwards());
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let published = match forwards.is_empty() {
            true => Ok(()),
            false => bridge.firewall.unpublish(&bridge.home, &forwards),
        };
        let limited = match self.bandwidth().get_up() {
            Some(_) => traffic::remove_holder(&bridge.home, self.interface()),
            None => Ok(()),
        };
        let guarded = bridge.firewall.unguard(&bridge.home, &self.guard);
        let errors = [published, limited, guarded].into_iter().filter_map(Result::err);
        errors.reduce(Error::and).map_or(Ok(()), Err)
    }

    fn delete(&self) -> Result<()> {
        match self.bridge.home.route().apply(vec![delete_link(self.interface())]) {
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
