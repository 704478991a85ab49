//! The namespace that a bridge lives in, with the sockets that reach it from any thread.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::firewall::Version;
use crate::namespace::{id, run_in};
use crate::netlink::Socket;
use crate::route::Route;
use crate::{Cidr, Error, NetworkNamespace, Result};

/// By device and inode of the namespace. A namespace with an entry that can be upgraded is alive, so that its inode
/// is not another's.
static HOMES: Mutex<BTreeMap<(u64, u64), Weak<Home>>> = Mutex::new(BTreeMap::new());

/// One network namespace and a route and a netfilter socket in it, open for as long as a bridge or port needs them:
/// closing such a socket after a delete waits 10 to 16 ms for the kernel.
#[derive(Debug)]
pub(crate) struct Home {
    namespace: NetworkNamespace,
    id: (u64, u64),
    route: Mutex<Route>,
    netfilter: Mutex<Option<Socket>>,
    /// Whether the kernel filters what passes a bridge, once that is known.
    pub(crate) bridge_filter: OnceLock<bool>,
}

impl Home {
    /// That of the calling thread's namespace.
    pub(crate) fn of_this_thread() -> Result<Arc<Self>> {
        let namespace = NetworkNamespace::current()?;
        let id = id(namespace.as_fd())?;
        let mut homes = HOMES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(home) = homes.get(&id).and_then(Weak::upgrade) {
            return Ok(home);
        }
        homes.retain(|_, home| home.strong_count() > 0);
        let (route, netfilter) = (Mutex::new(Route::open()?), Mutex::new(None));
        let home = Arc::new(Self { namespace, id, route, netfilter, bridge_filter: OnceLock::new() });
        homes.insert(id, Arc::downgrade(&home));
        Ok(home)
    }

    pub(crate) fn id(&self) -> (u64, u64) {
        self.id
    }

    pub(crate) fn route(&self) -> MutexGuard<'_, Route> {
        self.route.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uses the netfilter socket, opened at the first use.
    pub(crate) fn netfilter<T>(&self, f: impl FnOnce(&mut Socket) -> T) -> Result<T> {
        let mut socket = self.netfilter.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = match &mut *socket {
            Some(socket) => socket,
            none => {
                let opened = self.inside(|| Socket::open(NETLINK_NETFILTER))?;
                none.insert(opened.map_err(|error| Error::io("a netfilter netlink socket", &error))?)
            }
        };
        Ok(f(socket))
    }

    /// Runs `f` in the namespace: here if the calling thread is in it, else on a thread of its own.
    pub(crate) fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        match id(NetworkNamespace::current()?.as_fd())? == self.id {
            true => Ok(f()),
            false => run_in(self.namespace.as_fd(), f),
        }
    }

    /// Lets the namespace forward packets between its links, if it does not already.
    pub(crate) fn forward(&self, version: Version) -> Result<()> {
        self.inside(|| switch_on(forwarding(version)))?
    }
}

/// Whether the calling thread's network namespace forwards packets between its links, of IPv4 or IPv6.
///
/// # Errors
/// Where `/proc/sys` is not mounted, or the kernel has no IPv6.
pub fn is_forwarding(ipv6: bool) -> Result<bool> {
    let setting = forwarding(version(ipv6));
    let value = fs::read(setting).map_err(|error| Error::io(setting, &error))?;
    Ok(value.starts_with(b"1"))
}

/// Stops that, for who knows that it was off before and that nobody else wants it by now.
///
/// # Errors
/// [`PermissionDenied`](crate::ErrorKind::PermissionDenied), also where `/proc/sys` is read-only.
pub fn stop_forwarding(ipv6: bool) -> Result<()> {
    let setting = forwarding(version(ipv6));
    fs::write(setting, "0").map_err(|error| Error::io(setting, &error))
}

/// The networks that links of the calling thread's network namespace lead to, but for default routes.
///
/// # Errors
/// What the kernel refused.
pub fn routes() -> Result<Vec<Cidr>> {
    let home = Home::of_this_thread()?;
    let mut all = Vec::new();
    for ipv6 in [false, true] {
        all.extend(home.route().routes(ipv6)?.into_iter().map(|(network, _)| network));
    }
    Ok(all)
}

const fn version(ipv6: bool) -> Version {
    if ipv6 { Version::Six } else { Version::Four }
}

/// The parameter that lets packets be forwarded between links.
const fn forwarding(version: Version) -> &'static str {
    match version {
        Version::Four => "/proc/sys/net/ipv4/ip_forward",
        Version::Six => "/proc/sys/net/ipv6/conf/all/forwarding",
    }
}

fn switch_on(setting: &str) -> Result<()> {
    if fs::read(setting).is_ok_and(|value| value.starts_with(b"1")) {
        return Ok(());
    }
    fs::write(setting, "1").map_err(|error| {
        let name = setting.trim_start_matches("/proc/sys/").replace('/', ".");
        Error::io(format!("forwarding between links ({setting})"), &error)
            .with_hint(format!("as root, where /proc/sys is writable: sysctl -w {name}=1"))
    })
}
