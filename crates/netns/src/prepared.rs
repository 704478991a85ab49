//! A place on a bridge that is made before somebody needs it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::bridge::{Shared, check_name};
use crate::endpoint::Endpoint;
use crate::namespace::{id, run_beside, run_in};
use crate::port::{Port, configure, explained, name, own_addresses, settle};
use crate::route::{self, Pair, Route, bridge_port, create_pair};
use crate::{Error, NetworkNamespace, Result};

/// A namespace with a pair of links that leads to a bridge, made ahead by [`Bridge::prepare`](crate::Bridge::prepare): without an address
/// and down inside, so that nothing passes it. [`attach`](Self::attach) makes a [`Port`] of it for less than making all at once takes.
///
/// It holds two descriptors. Dropping it leaves the pair to the end of the namespace, which deletes it in the background.
#[derive(Debug)]
#[must_use = "dropping it gives the namespace up"]
pub struct Prepared {
    bridge: Arc<Shared>,
    namespace: NetworkNamespace,
    host: String,
    interface: String,
    /// A socket inside: no thread must enter the namespace later.
    route: Route,
}

pub(crate) fn prepare(
    bridge: &Arc<Shared>,
    namespace: NetworkNamespace,
    interface: &str,
) -> Result<Prepared> {
    check_name(interface)?;
    if id(namespace.as_fd())? == bridge.home.id() {
        return Err(Error::invalid(format!(
            "bridge {} is in this namespace: connect another to it",
            bridge.name
        )));
    }
    let host = name();
    let pair = create_pair(&Pair {
        host: &host,
        bridge: bridge.index,
        inside: interface,
        namespace: namespace.as_fd(),
        mac: None,
        mtu: bridge.mtu,
    });
    let (pair, route) = run_beside(namespace.as_fd(), Route::open, || {
        bridge.home.route().apply(vec![pair, bridge_port(&host)])
    });
    pair.map_err(|error| explained(bridge, namespace.as_fd(), interface, error))?;
    let route = route??;
    Ok(Prepared { bridge: Arc::clone(bridge), namespace, host, interface: interface.to_owned(), route })
}

impl Prepared {
    /// The name of the pair's end on the host.
    #[must_use]
    pub fn host_interface(&self) -> &str {
        &self.host
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &NetworkNamespace {
        &self.namespace
    }

    /// Whether it leads to this bridge still: nobody has removed the bridge or made it anew, nor taken the pair off it or away.
    #[must_use]
    pub fn leads_to(&self, bridge: &crate::Bridge) -> bool {
        let (own, shared) = (&self.bridge, bridge.shared());
        let same = own.home.id() == shared.home.id() && own.index == shared.index && own.mtu == shared.mtu;
        same && matches!(own.home.route().controller(&self.host), Ok(Some(index)) if index == own.index)
            && matches!(self.route.index(&self.interface), Ok(Some(_)))
    }

    /// Gives it addresses, a MAC address and routes, and guards it: what [`Bridge::attach`](crate::Bridge::attach) makes, with this
    /// pair. A name of the host's end in `endpoint` is not used.
    ///
    /// # Errors
    /// As of [`Bridge::attach`](crate::Bridge::attach), and [`InvalidInput`](crate::ErrorKind::InvalidInput) where the interface has
    /// another name. The pair is deleted then.
    pub fn attach(mut self, endpoint: &Endpoint) -> Result<Port> {
        let (bridge, interface) = (Arc::clone(&self.bridge), endpoint.interface.clone());
        let mut port = Port::of(&bridge, self.host.clone(), endpoint);
        port.is_made();
        if interface != self.interface {
            return Err(Error::invalid(format!("the link is {}, not {interface}", self.interface)));
        }
        let own = own_addresses(&bridge, endpoint)?;
        bridge.firewall.guard(&bridge.home, port.guard())?;
        let inside = |route: &mut Route| {
            route.apply(vec![route::address_of(&interface, endpoint.mac())])?;
            configure(&bridge, endpoint, &own, route)
        };
        match own.len() {
            1 => inside(&mut self.route)?,
            // What a link says of IPv6 may have to be written below the `/proc/sys` of the namespace.
            _ => run_in(self.namespace.as_fd(), || inside(&mut Route::open()?))??,
        }
        settle(&bridge, &self.host)?;
        Ok(port)
    }
}

/// The namespace.
impl AsFd for Prepared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}
