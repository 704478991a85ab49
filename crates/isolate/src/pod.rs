//! Several containers that share namespaces, and a control group above their own.
//!
//! A pod is a container that executes no program: its one process holds the namespaces, in a group of its own below the pod's. So a pod
//! has all that a container has (a record, a place on networks, ids, an owner or a keeper), and is made, undone and swept as one.

mod builder;
mod info;
mod lasting;
mod member;
pub(crate) mod members;

use std::net::IpAddr;
use std::time::Duration;

use isolate_cgroups::{Cgroup, Limits, Stats};
use isolate_netns::Publish;

pub use builder::PodBuilder;
pub use info::PodInfo;
pub(crate) use info::is_a_pod;
pub use lasting::DetachedPod;
pub(crate) use member::{Member, none, seen, starting};

use crate::container::Container;
use crate::detached;
use crate::error::{Error, Result};
use crate::info::ContainerInfo;
use crate::record::Record;

/// The group of the process that holds a pod together, below the pod's: who hands controllers down has no process itself.
const HOLDER: &str = "holder";

/// A started pod: containers that share their network, System V and POSIX IPC with `/dev/shm`, host name, or
/// [what is said](PodBuilder::share), and a control group, whose limits hold for all together. What podman and Kubernetes call so.
///
/// A container joins it by [`ContainerBuilder::pod`](crate::ContainerBuilder::pod) when it starts. Its root, its mounts, its rights and
/// limits below those of the pod are its own. Networks and published ports are the pod's.
///
/// **Dropping it kills and removes all its containers, and the pod**; [`remove`](Self::remove) does the same and reports what went wrong.
/// The same happens, at the next use of this library, to what an owner left that was killed itself. One that nobody owns is a
/// [`DetachedPod`].
///
/// Needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN): an ordinary user's containers are each in a user namespace of its own, which the others
/// belong to.
///
/// ```no_run
/// use isolate::{Bytes, Container, Limits, Pod};
/// # fn main() -> isolate::Result<()> {
/// let pod = Pod::builder().name("shop").publish((9000, 8080)).limits(Limits::new().memory(Bytes::gib(1))).start()?;
/// let db = Container::builder().pod(&pod).rootfs("/srv/postgres").command(["postgres"]).start()?;
/// let web = Container::builder()
///     .pod(&pod)
///     .rootfs("/srv/shop")
///     .env("DATABASE", "127.0.0.1") // one network is one loopback
///     .command(["shop", "--port", "8080"])
///     .start()?;
/// println!("{} containers use {:?}", pod.containers()?.len(), pod.stats()?.memory.current);
/// pod.remove()?; // and both containers
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropping a Pod kills and removes all its containers"]
pub struct Pod(Container);

impl Pod {
    /// Describes a pod.
    pub fn builder() -> PodBuilder {
        PodBuilder::new()
    }

    fn of(holder: Container) -> Self {
        Self(holder)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Its first address, if it is on a bridge: as [`Container::address`].
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.0.address()
    }

    /// Its addresses: as [`Container::addresses`].
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        self.0.addresses()
    }

    /// Its published ports, each with the host port that the kernel picked where that was left to it.
    #[must_use]
    pub fn published(&self) -> &[Publish] {
        self.0.published()
    }

    /// The control group that those of its containers are in.
    #[must_use]
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.0.cgroup()
    }

    /// Its containers, as any process sees them, by name.
    ///
    /// # Errors
    /// What the state directory cannot be read for.
    pub fn containers(&self) -> Result<Vec<ContainerInfo>> {
        members::list(self.name())
    }

    /// What it is, as any process sees it.
    ///
    /// # Errors
    /// What its record cannot be read for.
    pub fn inspect(&self) -> Result<PodInfo> {
        Self::find(self.name())
    }

    /// What all its containers have used so far.
    ///
    /// # Errors
    /// When the kernel refuses a file.
    pub fn stats(&self) -> Result<Stats> {
        self.group()?.stats().map_err(|e| self.said(e))
    }

    /// Changes its limits, now: as [`Container::update`], for all its containers together.
    ///
    /// # Errors
    /// As of [`Cgroup::apply`]; the limits are those of before then.
    pub fn update(&self, limits: &Limits) -> Result<()> {
        let limited = members::limit(&self.0.undo().store, self.name(), self.group()?, limits);
        limited.map_err(|e| self.said(e))
    }

    /// Lets the processes of all its containers stand still, and returns when they do.
    ///
    /// # Errors
    /// As of [`Cgroup::freeze`].
    #[doc(alias = "freeze")]
    pub fn pause(&self) -> Result<()> {
        self.group()?.freeze().map_err(|e| self.said(e))
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// As of [`Cgroup::thaw`].
    #[doc(alias = "unpause")]
    pub fn resume(&self) -> Result<()> {
        self.group()?.thaw().map_err(|e| self.said(e))
    }

    /// Asks all its containers to end, each by its [stop signal](crate::ContainerBuilder::stop_signal), and kills those that have not ended
    /// after `grace`. The pod stays: its namespaces, addresses and ports are there for others.
    ///
    /// # Errors
    /// Goes on after an error, and reports all of them.
    pub fn stop(&self, grace: Duration) -> Result<()> {
        Error::all(members::stop(&self.0.undo().store, self.name(), Some(grace))).map_err(|e| self.said(e))
    }

    /// Kills all its containers, at once. The pod stays.
    ///
    /// # Errors
    /// As of [`stop`](Self::stop).
    pub fn kill(&self) -> Result<()> {
        Error::all(members::stop(&self.0.undo().store, self.name(), None)).map_err(|e| self.said(e))
    }

    /// Kills all its containers, and removes them and the pod. Goes on after an error, and reports all of them. A [`Container`] of it that
    /// somebody has still is one that was killed, and leaves nothing.
    pub fn remove(self) -> Result<()> {
        let said = said(self.name());
        self.0.end().map_err(|e| e.of(said))
    }

    fn group(&self) -> Result<&Cgroup> {
        self.0.group()
    }

    fn said(&self, error: impl Into<Error>) -> Error {
        error.into().of(said(self.name()))
    }
}

/// Its name, for [`ContainerBuilder::pod`](crate::ContainerBuilder::pod).
impl AsRef<str> for Pod {
    fn as_ref(&self) -> &str {
        self.name()
    }
}

fn said(name: &str) -> String {
    format!("pod `{name}`")
}

/// What a pod's run is written down by.
fn key(pod: &str) -> Result<String> {
    Ok(detached::find(pod)?.map_or_else(|| pod.to_owned(), |record| record.id))
}

/// The group of what holds a pod together, in which it is started.
pub(crate) fn holder_group(pod: &str) -> Result<Cgroup> {
    Ok(Cgroup::create(format!("{pod}/{HOLDER}"))?)
}

/// The number of the process that holds a pod together.
fn first_process(pod: &Record) -> Option<u32> {
    let group = Cgroup::open(format!("{}/{HOLDER}", pod.cgroup)).ok()?;
    group.pids().ok()?.first().copied()
}
