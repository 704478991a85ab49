//! A macvlan that is there, in a container's namespace.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use crate::home::Home;
use crate::namespace::run_in;
use crate::route::{Counted, Route, delete_link_number};
use crate::{Error, ErrorKind, Problem, Result};

/// A namespace's macvlan: see [`Macvlan::attach`](crate::Macvlan::attach).
///
/// The link is the namespace's and goes with it: on the host there is nothing to remove, and dropping this does nothing. The kernel takes a
/// namespace down in the background: until then the MAC address is taken. A port does not hold the namespace, which would go on answering
/// on the LAN when all in it have ended; what looks inside is told which it is. A link that was moved out of that namespace, by who has
/// `CAP_NET_ADMIN` there, is not found any more.
#[derive(Debug)]
pub struct MacvlanPort {
    pub(super) home: Arc<Home>,
    pub(super) parent: String,
    pub(super) interface: String,
    /// In the namespace: names can be changed inside.
    pub(super) index: u32,
    pub(super) mac: [u8; 6],
    pub(super) addresses: Vec<IpAddr>,
}

impl MacvlanPort {
    /// The link's name inside, as it was made.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The parent's name on the host.
    #[must_use]
    pub fn parent(&self) -> &str {
        &self.parent
    }

    /// Its MAC address, as it was made: in mode `passthru` the parent's.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Its addresses: one of IPv4, and perhaps one of IPv6.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// What has passed it, as the container sees it: received, sent.
    ///
    /// ```no_run
    /// # use isolate_netns::{Endpoint, Macvlan, NetworkNamespace};
    /// # let namespace = NetworkNamespace::new()?;
    /// # let endpoint = Endpoint::new("eth0", [192, 168, 1, 40].into());
    /// # let port = Macvlan::new("enp1s0", "192.168.1.0/24".parse()?).attach(&namespace, &endpoint)?;
    /// let [received, sent] = port.counters(&namespace)?;
    /// # Ok::<(), isolate_netns::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it is gone; [`PermissionDenied`](ErrorKind::PermissionDenied) without `CAP_SYS_ADMIN`.
    pub fn counters(&self, namespace: &impl AsFd) -> Result<[Counted; 2]> {
        let inside = || {
            let mut route = Route::open()?;
            let name = route.name(self.index);
            route.counters(&name)
        };
        run_in(namespace.as_fd(), inside)?.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                error.saying(format!("link {} is gone from the namespace", self.interface))
            }
            _ => error,
        })
    }

    /// Whether it and its parent are there, and the parent up. Nothing in order is nothing to tell. The kernel deletes a macvlan with its
    /// parent; [`Macvlan::attach`](crate::Macvlan::attach) makes another.
    ///
    /// # Errors
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) without `CAP_SYS_ADMIN`; what the kernel refused.
    pub fn check(&self, namespace: &impl AsFd) -> Result<Vec<Problem>> {
        let mut problems = Vec::new();
        match super::parent(&self.home, &self.parent) {
            Ok(parent) if parent.up => {}
            Ok(_) => problems.push(Problem::Down(format!("link {}, the parent", self.parent))),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                problems.push(Problem::Missing(format!("link {}, the parent", self.parent)));
            }
            Err(error) => return Err(error),
        }
        if !self.is_there(namespace)? {
            let what = format!("link {} in the namespace, the macvlan of {}", self.interface, self.parent);
            problems.push(Problem::Missing(what));
        }
        Ok(problems)
    }

    /// Whether the namespace has it still, under whatever name.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn is_there(&self, namespace: &impl AsFd) -> Result<bool> {
        run_in(namespace.as_fd(), || {
            let route = Route::open()?;
            route.index(&route.name(self.index)).map(|index| index == Some(self.index))
        })?
    }

    /// Deletes it, inside. One that is gone is no error. Waits some 10 to 30 ms for the kernel.
    ///
    /// # Errors
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) without `CAP_SYS_ADMIN` and `CAP_NET_ADMIN` over the namespace.
    pub fn disconnect(self, namespace: &impl AsFd) -> Result<()> {
        let deleted =
            run_in(namespace.as_fd(), || Route::open()?.apply(vec![delete_link_number(self.index)]))?;
        match deleted {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map_err(|error: Error| error.saying(format!("link {} inside", self.interface))),
        }
    }
}
