//! Pods that nobody owns.

use std::time::Duration;

use isolate_cgroups::{Limits, Stats};

use super::{Pod, PodInfo, member, members, said};
use crate::detached::{self, Detached, DetachedRecord};
use crate::error::{Error, Result};
use crate::info::ContainerInfo;
use crate::name;
use crate::store::Store;

/// A pod that nobody owns, as those of `podman pod create`: it is written down, and any process of the same user can start it, stop it,
/// ask for it and remove it. Made by [`PodBuilder::create`](crate::PodBuilder::create), found by [`Pod::open`].
///
/// Its containers are those that were [created](crate::ContainerBuilder::create) with its name. They stay from one start to the next; the
/// pod is started with the first of them. One that somebody [starts](crate::ContainerBuilder::start) as his own can be in it, too, as
/// long as it runs.
///
/// **Dropping one does nothing.** While it runs it has a keeper, as a [`Detached`] container; when that is killed, so are its containers, at
/// the next use of this library.
///
/// ```no_run
/// use std::time::Duration;
/// use isolate::{Container, Pod};
/// # fn main() -> isolate::Result<()> {
/// let shop = Pod::builder().name("shop").publish((9000, 8080)).create()?;
/// Container::builder().pod("shop").name("db").rootfs("/srv/postgres").command(["postgres"]).create()?;
/// shop.start()?; // and its containers
///
/// // Another program:
/// let shop = Pod::open("shop")?;
/// Container::builder().pod(&shop).name("web").rootfs("/srv/shop").command(["shop"]).create()?.start()?;
/// shop.stop(Duration::from_secs(10))?;
/// shop.remove_by_force()?; // with both containers
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct DetachedPod(Detached);

impl Pod {
    /// One that is [detached](DetachedPod), by its name.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound), also for a pod that somebody owns.
    pub fn open(name: impl AsRef<str>) -> Result<DetachedPod> {
        let name = name.as_ref();
        name::check(name)?;
        match detached::find(name)?.filter(DetachedRecord::is_pod) {
            Some(record) => DetachedPod::of(&record),
            None => Err(member::none(name)),
        }
    }
}

impl DetachedPod {
    pub(super) fn of_holder(holder: Detached) -> Self {
        Self(holder)
    }

    pub(super) fn of(record: &DetachedRecord) -> Result<Self> {
        Detached::of(record).map(Self)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Twelve hexadecimal digits that no other pod and no container has, and that stay.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.id()
    }

    /// Starts it and all its containers. Nothing happens to those that run.
    ///
    /// # Errors
    /// As of [`Detached::start`]. Of a container that could not be started nothing is left; the pod and the others run.
    pub fn start(&self) -> Result<()> {
        self.hold()?;
        let started = members::lasting(self.name())?.into_iter().map(|container| container.start());
        self.said(Error::all(started.filter_map(Result::err).collect()))
    }

    /// Starts it without its containers. Those of before, of a pod that was killed, are no containers of this one.
    pub(super) fn hold(&self) -> Result<()> {
        self.said(self.0.hold(|| {
            let store = Store::open()?;
            Error::all(members::stop(&store, self.name(), None))
        }))
    }

    /// Asks all its containers to end, at the same time, each by its [stop signal](crate::ContainerBuilder::stop_signal); kills those that
    /// have not ended after `grace`; and ends the pod.
    ///
    /// # Errors
    /// Goes on after an error, and reports all of them.
    pub fn stop(&self, grace: Duration) -> Result<()> {
        self.end(Some(grace))
    }

    /// Kills all its containers, at once, and ends the pod.
    ///
    /// # Errors
    /// As of [`stop`](Self::stop).
    pub fn kill(&self) -> Result<()> {
        self.end(None)
    }

    fn end(&self, grace: Option<Duration>) -> Result<()> {
        let store = Store::open()?;
        let mut errors = members::stop(&store, self.name(), grace);
        errors.extend(self.0.end().err());
        self.said(Error::all(errors))
    }

    /// Lets the processes of all its containers stand still, and returns when they do.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if it does not run.
    pub fn pause(&self) -> Result<()> {
        self.said(self.0.group_of_run().and_then(|group| Ok(group.freeze()?)))
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// As of [`pause`](Self::pause).
    #[doc(alias = "unpause")]
    pub fn resume(&self) -> Result<()> {
        self.said(self.0.group_of_run().and_then(|group| Ok(group.thaw()?)))
    }

    /// What all its containers have used since it was started.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if it does not run.
    pub fn stats(&self) -> Result<Stats> {
        self.said(self.0.group_of_run().and_then(|group| Ok(group.stats()?)))
    }

    /// Changes its limits, now and for the starts that follow: as [`Pod::update`].
    ///
    /// # Errors
    /// As there.
    pub fn update(&self, limits: &Limits) -> Result<()> {
        self.said(
            self.0.limit_group(limits, |group| members::limit(&Store::open()?, self.name(), group, limits)),
        )
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
    /// [`NotFound`](crate::ErrorKind::NotFound): it was removed.
    pub fn inspect(&self) -> Result<PodInfo> {
        Pod::find(self.name())
    }

    /// Removes it.
    ///
    /// # Errors
    /// [`InUse`](crate::ErrorKind::InUse) as long as it has containers, which are named, or runs.
    pub fn remove(self) -> Result<()> {
        self.said(self.0.remove_holder(false))
    }

    /// Kills and removes all its containers, also those that somebody owns, and the pod: as `podman pod rm -f`.
    ///
    /// # Errors
    /// Goes on after an error, and reports all of them; the pod stays then.
    pub fn remove_by_force(self) -> Result<()> {
        let removed = members::lasting(self.name())?.into_iter().map(Detached::remove_by_force);
        let errors = removed.filter_map(Result::err).collect();
        self.said(Error::all(errors).and_then(|()| self.0.remove_holder(true)))
    }

    fn said<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| e.of(said(self.name())))
    }
}

/// Its name, for [`ContainerBuilder::pod`](crate::ContainerBuilder::pod).
impl AsRef<str> for DetachedPod {
    fn as_ref(&self) -> &str {
        self.name()
    }
}
