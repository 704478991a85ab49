//! The default network: a bridge that exists while a container is on it, and its addresses.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use isolate_netns::{Bridge, Cidr, ErrorKind as NetErrorKind, remove_bridge, remove_published};

use crate::error::{Error, ErrorKind, Result};
use crate::store::{Guard, Store, make_directory};

/// The default bridge, as docker0 is Docker's.
pub(crate) const DEFAULT: &str = "isolate0";

/// Subnets for it, the first that no route of the host overlaps. Its first address is the gateway.
const SUBNETS: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::new(10, 213, 0, 1), 16),
    (Ipv4Addr::new(172, 29, 0, 1), 16),
    (Ipv4Addr::new(192, 168, 213, 1), 24),
    (Ipv4Addr::new(10, 99, 213, 1), 24),
];

/// An address on a bridge, and the right to it.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) bridge: Bridge,
    pub(crate) address: Ipv4Addr,
    file: PathBuf,
}

/// Takes an address for the container `name`; makes the bridge if it is not there.
pub(crate) fn lease(store: &Store, guard: &Guard, name: &str, wanted: Option<IpAddr>) -> Result<Lease> {
    let leases = store.network(DEFAULT);
    make_directory(&leases)?;
    let bridge = match unused(&leases).and_then(bridge) {
        Ok(bridge) => bridge,
        Err(e) => {
            fs::remove_dir(&leases).ok(); // unless somebody has an address in it
            return Err(e);
        }
    };
    match take(&leases, bridge.gateway(), name, wanted) {
        Ok(address) => Ok(Lease { file: leases.join(address.to_string()), bridge, address }),
        Err(e) => {
            remove_if_unused(guard, DEFAULT, &leases).ok();
            Err(e)
        }
    }
}

impl Lease {
    /// Gives the address back; the last one takes the bridge with it.
    pub(crate) fn give_back(self, guard: &Guard) -> Result<()> {
        let given = match fs::remove_file(&self.file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(self.file.display(), &e)),
            _ => Ok(()),
        };
        let leases = self.file.parent().unwrap_or(Path::new("/"));
        given.and(remove_if_unused(guard, self.bridge.name(), leases))
    }
}

/// Undoes what a dead container had on a bridge: rules, link, address.
pub(crate) fn sweep(store: &Store, guard: &Guard, name: &str, bridge: &str, address: IpAddr) -> Result<()> {
    let file = store.network(bridge).join(address.to_string());
    if fs::read_link(&file).is_ok_and(|holder| holder != Path::new(name)) {
        return Ok(());
    }
    if let IpAddr::V4(address) = address {
        remove_published(address)?;
    }
    // The link went with the container's network namespace.
    fs::remove_file(&file).ok();
    remove_if_unused(guard, bridge, &store.network(bridge))
}

/// The default bridge in words, for a plan.
pub(crate) fn words() -> String {
    format!("make bridge {DEFAULT} unless it is there, with NAT to the outside")
}

/// Opens it or makes it. An unused one is there only if somebody was killed who made it, or who removed it: it is completed.
fn bridge(unused: bool) -> Result<Bridge> {
    match Bridge::open(DEFAULT) {
        Err(e) if e.kind() == NetErrorKind::NotFound => {}
        // Without an address.
        Err(e) if e.kind() == NetErrorKind::Conflict && unused => drop(remove_bridge(DEFAULT)?),
        Ok(bridge) if unused => {
            let bridge = Bridge::ensure(DEFAULT, bridge.gateway())?;
            bridge.masquerade()?;
            return Ok(bridge);
        }
        opened => return Ok(opened?),
    }
    let mut conflict = None;
    for (gateway, prefix) in SUBNETS {
        match Bridge::create(DEFAULT, Cidr::new(gateway, prefix)?) {
            Ok(bridge) => {
                bridge.masquerade()?;
                return Ok(bridge.keep());
            }
            Err(e) if e.kind() == NetErrorKind::Conflict => conflict = Some(e),
            Err(e) => return Err(e.into()),
        }
    }
    let last = conflict.map(|e| format!(": {e}")).unwrap_or_default();
    Err(Error::new(ErrorKind::InUse, format!("bridge {DEFAULT}: no subnet is free{last}")))
}

/// A lease is a symbolic link, which only one can make.
fn take(leases: &Path, subnet: Cidr, name: &str, wanted: Option<IpAddr>) -> Result<Ipv4Addr> {
    let claim = |address: Ipv4Addr| symlink(name, leases.join(address.to_string()));
    let failed = |e: io::Error| Error::io(leases.display(), &e);
    if let Some(wanted) = wanted {
        let IpAddr::V4(address) = wanted else {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("address {wanted}: {DEFAULT} has IPv4 only"),
            ));
        };
        let taken = [subnet.address(), subnet.network().address(), subnet.broadcast()];
        if !subnet.contains(address) || taken.contains(&address) {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("address {address}: not a free one of {subnet}"),
            ));
        }
        return match claim(address) {
            Ok(()) => Ok(address),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let holder = fs::read_link(leases.join(address.to_string())).unwrap_or_default();
                let what = format!("address {address}: container `{}` has it", holder.display());
                Err(Error::new(ErrorKind::InUse, what))
            }
            Err(e) => Err(failed(e)),
        };
    }
    // From a place that differs, so that an address is not used again at once: neighbours remember it for a while.
    let hosts = subnet.hosts().filter(|address| *address != subnet.address());
    let many = hosts.clone().count().max(1);
    let start = usize::from_str_radix(&crate::name::random(), 16).unwrap_or(0) % many;
    for address in hosts.clone().skip(start).chain(hosts.take(start)) {
        match claim(address) {
            Ok(()) => return Ok(address),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(failed(e)),
        }
    }
    Err(Error::new(ErrorKind::InUse, format!("bridge {DEFAULT}: all {many} addresses of {subnet} are taken")))
}

/// Without a lease nobody is on the bridge. Its directory goes last: as long as that is there, a sweep looks for the bridge.
pub(crate) fn remove_if_unused(_: &Guard, bridge: &str, leases: &Path) -> Result<()> {
    if !unused(leases)? {
        return Ok(());
    }
    remove_bridge(bridge)?;
    fs::remove_dir(leases).map_err(|e| Error::io(leases.display(), &e))
}

/// Whether the directory of leases is there and empty.
fn unused(leases: &Path) -> Result<bool> {
    match fs::read_dir(leases) {
        Ok(mut leases) => Ok(leases.next().is_none()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io(leases.display(), &e)),
    }
}
