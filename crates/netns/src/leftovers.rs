//! Removing by name and address what its owner did not live to remove.

use std::net::Ipv4Addr;

use crate::bridge::check_name;
use crate::home::Home;
use crate::route;
use crate::{ErrorKind, Firewall, Result};

/// Takes back all that is published of the container with this address, in either firewall of the calling thread's
/// network namespace; how much it was.
///
/// # Errors
/// [`PermissionDenied`](ErrorKind::PermissionDenied) without `CAP_NET_ADMIN`.
pub fn remove_published(address: Ipv4Addr) -> Result<usize> {
    let home = Home::of_this_thread()?;
    let mut removed = 0;
    for firewall in [Firewall::NfTables, Firewall::Iptables] {
        let mut forwards = firewall.published(&home)?;
        forwards.retain(|forward| forward.container == address);
        if !forwards.is_empty() {
            firewall.unpublish(&home, &forwards)?;
            removed += forwards.len();
        }
    }
    Ok(removed)
}

/// Deletes the link of this name in the calling thread's network namespace, with its other end if it is a pair;
/// whether there was one. Waits 10 to 30 ms for the kernel.
///
/// # Errors
/// [`PermissionDenied`](ErrorKind::PermissionDenied) without `CAP_NET_ADMIN`.
pub fn delete_link(name: &str) -> Result<bool> {
    check_name(name)?;
    match Home::of_this_thread()?.route().apply(vec![route::delete_link(name)]) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        result => result.map(|()| true),
    }
}

/// Removes the bridge of this name and its rules from the calling thread's network namespace, whether or not there
/// still is such a link; whether there was anything.
///
/// # Errors
/// [`Conflict`](ErrorKind::Conflict) if the link is not a bridge.
pub fn remove_bridge(name: &str) -> Result<bool> {
    check_name(name)?;
    let home = Home::of_this_thread()?;
    let unfinished = is_unfinished(&home, name)?;
    if unfinished {
        delete_link(name)?;
    } else {
        match crate::Bridge::open(name) {
            Ok(bridge) => return bridge.remove().map(|()| true),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    match Firewall::that_knows(&home, name)? {
        Some(firewall) => firewall.remove(&home, name, None).map(|()| true),
        None => Ok(unfinished),
    }
}

/// Whether it is a bridge without an address: who made it was killed before it had one.
fn is_unfinished(home: &Home, name: &str) -> Result<bool> {
    let mut route = home.route();
    match route.index(name)? {
        Some(index) => Ok(route.is_bridge(name)? && route.addresses(index)?.is_empty()),
        None => Ok(false),
    }
}
