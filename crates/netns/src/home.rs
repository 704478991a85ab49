//! The namespace that a bridge lives in, with the sockets that reach it from any thread.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::namespace::{id, run_in};
use crate::netlink::Socket;
use crate::route::Route;
use crate::{Error, NetworkNamespace, Result};

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
    forwards: AtomicBool,
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
        let home = Arc::new(Self { namespace, id, route, netfilter, forwards: AtomicBool::new(false) });
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

    /// Lets the namespace forward packets between its links (`net.ipv4.ip_forward`), if it does not already.
    pub(crate) fn forward(&self) -> Result<()> {
        if !self.forwards.load(Ordering::Relaxed) {
            self.inside(ip_forward)??;
            self.forwards.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn ip_forward() -> Result<()> {
    const SETTING: &str = "/proc/sys/net/ipv4/ip_forward";
    if fs::read(SETTING).is_ok_and(|value| value.starts_with(b"1")) {
        return Ok(());
    }
    fs::write(SETTING, "1").map_err(|error| {
        Error::io(format!("forwarding between links ({SETTING})"), &error)
            .with_hint("as root, where /proc/sys is writable: sysctl -w net.ipv4.ip_forward=1")
    })
}
