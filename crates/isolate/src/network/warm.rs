//! Places that are ready before a container needs them.
//!
//! A network namespace belongs to the user namespace it was made in, and a container has one of its own. So a slot is both, made by a
//! child that ends at once, with a range of ids that is leased to this process until a container takes it: links belong to the
//! namespace's root as the ids are when the links are made. Descriptors alone hold them. Who is killed leaves nothing but two files,
//! which the sweep finds by a lock.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use isolate_namespaces::{Command, Namespace};
use isolate_netns::{Bridge, NetworkNamespace, Prepared};

use crate::compile::INTERFACE;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{self, IdRange, pool::Holder};
use crate::network::link::Link;
use crate::network::{self, Network, NetworkRecord, PlaceRecord};
use crate::store::{Guard, Store};
use crate::user_namespace::map_range;

/// Who has taken a slot is starting a container, and wants the processors: for so long none is made.
const PAUSE: Duration = Duration::from_millis(10);
/// After a failure.
const LONG_PAUSE: Duration = Duration::from_secs(1);

/// The pools of this process, by the network's directory.
static POOLS: Mutex<BTreeMap<PathBuf, Arc<Shared>>> = Mutex::new(BTreeMap::new());

/// A user namespace with its ids, a network namespace of it, and a pair of links from there to a bridge.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) user: OwnedFd,
    /// Until a container has them.
    pub(crate) ids: Option<IdRange>,
    pub(crate) prepared: Prepared,
}

/// A network's slots, and the thread that makes them. Dropping it ends both.
#[derive(Debug)]
pub(super) struct Pool {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    network: String,
    holder: Holder,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    wanted: usize,
    slots: VecDeque<Slot>,
    /// For good.
    ended: bool,
}

impl Network {
    /// Keeps `n` places on this network ready, so that a start takes one instead of making it: a network namespace with its link to the
    /// bridge, in a user namespace with a range of ids. The call makes them all; each that was taken is made anew in the background, by
    /// a thread of this library. They are there until this value is dropped, until the network is removed, or until `warm(0)`.
    ///
    /// Every container that this process starts on the network, by handle or by name, takes one while there is one, if it has
    ///
    /// - this network as its first or only one,
    /// - a user namespace of its own ([`UserNamespace`](crate::UserNamespace)), with any range of ids: not that of a root with an
    ///   [owned upper layer](crate::Rootfs), and not another container's,
    /// - no [`oom_score_adj`](crate::ContainerBuilder::oom_score_adj).
    ///
    /// All others start as they do without, and so does every one while no place is ready. Inside it makes no difference, but for
    /// parameters below `/proc/sys/net` that the kernel copies from the host when a namespace is made: it was made earlier. On the host
    /// the container's monitor is in its user namespace. No place is used twice.
    ///
    /// A place takes some 300 KiB of the kernel's memory, a port of the bridge (of 1023), a range of ids (of 4094) and three descriptors
    /// of this process; it has no address. It takes one CPU about a millisecond to make.
    ///
    /// ```no_run
    /// use isolate::{Container, Network};
    /// # fn main() -> isolate::Result<()> {
    /// let jobs = Network::create("jobs")?;
    /// jobs.warm(4)?;
    /// for n in 0..100 {
    ///     Container::builder().network(&jobs).command(["echo", &n.to_string()]).status()?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What a start on this network could fail for: [`PermissionDenied`](ErrorKind::PermissionDenied) without `CAP_SYS_ADMIN` and
    /// `CAP_NET_ADMIN`, [`NotFound`](ErrorKind::NotFound) if it was removed, [`InUse`](ErrorKind::InUse) without a free range of ids, a
    /// limit on namespaces or descriptors; [`Unsupported`](ErrorKind::Unsupported) for a macvlan network. No place is kept ready then. What fails in the background is tried again.
    #[doc(alias = "pool")]
    #[doc(alias = "prewarm")]
    pub fn warm(&self, n: usize) -> Result<()> {
        let mut own = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        if n == 0 {
            drop(own.take());
            // Another handle's. The lock of the state directory always comes first.
            let guard = self.store.lock()?;
            let other = pools().get(&self.store.network(self.name())).cloned();
            other.inspect(|shared| shared.end(&guard));
            return Ok(());
        }
        let warmed = match &*own {
            Some(pool) if pool.shared.resize(n) => pool.shared.fill(),
            _ => {
                *own = None;
                Pool::new(&self.store, self.name(), n).map(|pool| *own = Some(pool))
            }
        };
        warmed.map_err(|e| {
            *own = None;
            self.said(e)
        })
    }

    /// Ends what was kept ready for this value.
    pub(super) fn cool(&mut self) {
        drop(self.warm.get_mut().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Pool {
    fn new(store: &Store, network: &str, n: usize) -> Result<Self> {
        if !crate::host::is_root() {
            let what = "this user may not connect a container to a bridge";
            return Err(Error::new(ErrorKind::PermissionDenied, what)
                .with_hint("run as root (CAP_SYS_ADMIN, CAP_NET_ADMIN)"));
        }
        let guard = store.lock()?;
        let state = State { wanted: n, slots: VecDeque::new(), ended: false };
        let shared = Arc::new(Shared {
            store: store.clone(),
            network: network.to_owned(),
            holder: Holder::new(store, &guard)?,
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        // One that another handle has made.
        let other = pools().insert(store.network(network), Arc::clone(&shared));
        other.inspect(|other| other.end(&guard));
        drop(guard);
        let mut pool = Self { shared, thread: None };
        pool.shared.fill()?;
        let shared = Arc::clone(&pool.shared);
        let thread = thread::Builder::new().name("isolate-warm".into()).spawn(move || shared.keep_full());
        pool.thread = Some(thread.map_err(|e| Error::io("a thread that keeps places ready", &e))?);
        Ok(pool)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let key = self.shared.store.network(&self.shared.network);
        let mut known = pools();
        if known.get(&key).is_some_and(|shared| Arc::ptr_eq(shared, &self.shared)) {
            known.remove(&key);
        }
        drop(known);
        self.shared.state().ended = true;
        self.shared.changed.notify_all();
        // It may wait for the lock of the state directory, which is not held here.
        self.thread.take().map(JoinHandle::join);
        if let Ok(guard) = self.shared.store.lock() {
            self.shared.end(&guard);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it goes on, with so many.
    fn resize(&self, n: usize) -> bool {
        let mut state = self.state();
        state.wanted = n;
        let surplus = state.slots.len().saturating_sub(n);
        let surplus: Vec<_> = state.slots.drain(..surplus).collect();
        let goes_on = !state.ended;
        drop(state);
        if let (false, Ok(guard)) = (surplus.is_empty(), self.store.lock()) {
            surplus.into_iter().for_each(|slot| slot.discard(&guard));
        }
        goes_on
    }

    fn lacks(&self) -> bool {
        let state = self.state();
        !state.ended && state.slots.len() < state.wanted
    }

    fn fill(&self) -> Result<()> {
        while self.lacks() {
            let slot = self.make()?;
            let mut state = self.state();
            if state.ended || state.slots.len() >= state.wanted {
                drop(state);
                slot.discard(&self.store.lock()?);
                break;
            }
            state.slots.push_back(slot);
        }
        Ok(())
    }

    fn keep_full(&self) {
        let mut state = self.state();
        while !state.ended {
            if state.slots.len() >= state.wanted {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            // Notices of others who take one do not shorten it; its end does.
            let until = |state: MutexGuard<'_, State>, pause| {
                drop(self.changed.wait_timeout_while(state, pause, |state| !state.ended));
            };
            until(state, PAUSE);
            let filled = self.fill();
            state = self.state();
            if filled.is_err() {
                until(state, LONG_PAUSE);
                state = self.state();
            }
        }
    }

    fn make(&self) -> Result<Slot> {
        let store = &self.store;
        let guard = store.lock()?;
        let record = NetworkRecord::read(&store.network(&self.network))?;
        let record = record.ok_or_else(|| network::missing(store, &self.network))?;
        let Link::Bridge(bridge, _) = network::up(store, &guard, &record)? else {
            let what = "its containers are on a macvlan, of which nothing can be made ahead";
            return Err(Error::new(ErrorKind::Unsupported, what));
        };
        let ids = ids::take(store, &guard, self.holder.name(), None)?;
        drop(guard);
        match pair(&bridge, ids.base) {
            Ok((user, prepared)) => Ok(Slot { user, ids: Some(ids), prepared }),
            Err(e) => {
                ids.give_back(&store.lock()?)?;
                Err(e)
            }
        }
    }

    /// Throws away what is there.
    fn end(&self, guard: &Guard) {
        let mut state = self.state();
        state.ended = true;
        let slots = std::mem::take(&mut state.slots);
        drop(state);
        self.changed.notify_all();
        slots.into_iter().for_each(|slot| slot.discard(guard));
        self.holder.end(&self.store, guard);
    }
}

impl Slot {
    fn discard(self, guard: &Guard) {
        self.ids.map(|ids| ids.give_back(guard));
    }
}

/// The two namespaces, of a child that does nothing and is killed, and the pair.
fn pair(bridge: &Bridge, base: u32) -> Result<(OwnedFd, Prepared)> {
    let mut command = Command::new("/");
    command.unshare([Namespace::Net]).env_clear();
    map_range(&mut command, base);
    let held = command.spawn_held()?;
    let path = format!("/proc/{}/ns/user", held.id());
    let user = File::open(&path).map_err(|e| Error::io(path, &e))?;
    let network = NetworkNamespace::of_pid(held.id())?;
    drop(held);
    Ok((user.into(), bridge.prepare(network, INTERFACE)?))
}

fn pools() -> MutexGuard<'static, BTreeMap<PathBuf, Arc<Shared>>> {
    POOLS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One that is ready for this place, and is from here on the container's.
pub(super) fn take(
    store: &Store,
    guard: &Guard,
    network: &str,
    bridge: &Bridge,
    place: &PlaceRecord,
) -> Option<Slot> {
    let shared = pools().get(&store.network(network)).cloned()?;
    if place.interface != INTERFACE {
        return None;
    }
    loop {
        let slot = shared.state().slots.pop_front()?;
        shared.changed.notify_all();
        match slot.prepared.leads_to(bridge) {
            true => return Some(slot),
            false => slot.discard(guard),
        }
    }
}

/// Throws away what is ready for a network that is removed.
pub(super) fn forget(store: &Store, guard: &Guard, network: &str) {
    let shared = pools().remove(&store.network(network));
    if let Some(shared) = shared {
        shared.end(guard);
    }
}
