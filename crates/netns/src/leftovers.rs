//! Removing by name and address what its owner did not live to remove.

use std::net::IpAddr;

use crate::bridge::check_name;
use crate::firewall::{nf_tables_available, remove_stale_guards, unguard_named};
use crate::home::Home;
use crate::route;
use crate::traffic;
use crate::{ErrorKind, Firewall, Result};

/// Takes back all that is published of the container with one of these addresses, in either firewall of the calling thread's
/// network namespace; how many rules it was.
///
/// # Errors
/// [`PermissionDenied`](ErrorKind::PermissionDenied) without `CAP_NET_ADMIN`.
pub fn remove_published(addresses: &[IpAddr]) -> Result<usize> {
    let home = Home::of_this_thread()?;
    let mut removed = 0;
    for firewall in [Firewall::NfTables, Firewall::Iptables] {
        let mut forwards = firewall.published(&home)?;
        forwards.retain(|forward| addresses.contains(&forward.container));
        if !forwards.is_empty() {
            firewall.unpublish(&home, &forwards)?;
            removed += forwards.len();
        }
    }
    Ok(removed)
}

/// Takes back what guards the port whose host's end has this name, if there is anything: that link may be gone.
///
/// # Errors
/// [`PermissionDenied`](ErrorKind::PermissionDenied) without `CAP_NET_ADMIN`.
pub fn remove_guard(interface: &str) -> Result<()> {
    let home = Home::of_this_thread()?;
    match nf_tables_available(&home)? {
        true => unguard_named(&home, interface),
        false => Ok(()),
    }
}

/// Takes back what limits the port whose host's end has this name: the link that holds its packets back, if there is one. Waits 10 to
/// 30 ms for the kernel.
///
/// # Errors
/// [`PermissionDenied`](ErrorKind::PermissionDenied) without `CAP_NET_ADMIN`.
pub fn remove_bandwidth(interface: &str) -> Result<()> {
    traffic::remove_holder(&*Home::of_this_thread()?, interface)
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
    let known = Firewall::that_knows(&home, name)?;
    if let Some(firewall) = known {
        firewall.remove(&home, name, &[])?;
    }
    // Its networks are not known any more.
    if nf_tables_available(&home)? {
        remove_stale_guards(&home)?;
    }
    Ok(unfinished || known.is_some())
}

/// Whether it is a bridge without an address: who made it was killed before it had one.
fn is_unfinished(home: &Home, name: &str) -> Result<bool> {
    let mut route = home.route();
    match route.index(name)? {
        Some(index) => Ok(route.is_bridge(name)? && route.addresses(index)?.is_empty()),
        None => Ok(false),
    }
}
