//! The description of a pod.

use std::collections::BTreeSet;

use isolate_cgroups::Limits;
use isolate_namespaces::{Capabilities, Namespace};
use isolate_netns::Publish;

use super::{DetachedPod, Pod};
use crate::attach::{Attach, Mode};
use crate::builder::ContainerBuilder;
use crate::detached;
use crate::error::{Error, ErrorKind, Result};
use crate::start;
use crate::user_namespace::UserNamespace;

/// What is shared unless something else is said: as podman's pods and Kubernetes' do.
const DEFAULT: [Namespace; 3] = [Namespace::Net, Namespace::Ipc, Namespace::Uts];
/// What can be.
const KINDS: [Namespace; 4] = [Namespace::Net, Namespace::Ipc, Namespace::Uts, Namespace::Pid];

/// Describes a [pod](Pod). Nothing happens, and nothing is checked, before [`start`](Self::start) or [`create`](Self::create).
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start` or `create`"]
pub struct PodBuilder {
    /// Of what holds it together.
    holder: ContainerBuilder,
    shares: BTreeSet<Namespace>,
}

impl PodBuilder {
    pub(super) fn new() -> Self {
        Self { holder: ContainerBuilder::new(), shares: DEFAULT.into() }
    }

    /// A name that no other pod and no container of this user has. Default: twelve random hexadecimal digits.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.holder = self.holder.name(name);
        self
    }

    /// The host name of its containers. Default: its name.
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.holder = self.holder.hostname(name);
        self
    }

    /// A network that its containers are on, together: as [`ContainerBuilder::network`], but none of another container's.
    pub fn network(mut self, attach: impl Into<Attach>) -> Self {
        self.holder = self.holder.network(attach);
        self
    }

    /// A port of the host that leads to one of its containers', whichever listens there: as [`ContainerBuilder::publish`].
    pub fn publish(mut self, publish: impl Into<Publish>) -> Self {
        self.holder = self.holder.publish(publish);
        self
    }

    /// What all its containers together may use. Each can have limits of its own below that.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.holder = self.holder.limits(limits);
        self
    }

    /// Which namespaces its containers share, in the place of all that was said before: of [`Net`](Namespace::Net), [`Ipc`](Namespace::Ipc),
    /// [`Uts`](Namespace::Uts) and [`Pid`](Namespace::Pid). Default: the first three. With `Ipc` they share `/dev/shm`, with `Pid` they see
    /// one another's processes; what one leaves when its command has ended goes on then until it is stopped or removed. Their user namespace is one, too, unless they share nothing.
    pub fn share(mut self, kinds: impl IntoIterator<Item = Namespace>) -> Self {
        self.shares = kinds.into_iter().collect();
        self
    }

    /// Whether root in its containers is another user outside: as [`ContainerBuilder::user_namespace`], for all of them. With
    /// [`Auto`](UserNamespace::Auto) it is where the host's own programs can be id-mapped; a container with a root that cannot be is
    /// refused then, as it is with [`Required`](UserNamespace::Required).
    pub fn user_namespace(mut self, wanted: UserNamespace) -> Self {
        self.holder = self.holder.user_namespace(wanted);
        self
    }

    /// A kernel parameter of its namespaces: as [`ContainerBuilder::sysctl`].
    pub fn sysctl(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.holder = self.holder.sysctl(name, value);
        self
    }

    /// A label, for whoever looks for it: [`Pod::list`] has them.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.holder = self.holder.label(key, value);
        self
    }

    /// Starts it, as the caller's own. Containers join it by [`ContainerBuilder::pod`].
    ///
    /// # Errors
    ///
    /// - [`AlreadyExists`](ErrorKind::AlreadyExists): a pod or a container has the name.
    /// - [`InvalidConfig`](ErrorKind::InvalidConfig): a kind of namespace that cannot be shared, or a network, a port or a host name of a
    ///   namespace that is not.
    /// - [`PermissionDenied`](ErrorKind::PermissionDenied) for an ordinary user.
    ///
    /// And as of [`ContainerBuilder::start`]. Nothing is left behind then.
    pub fn start(self) -> Result<Pod> {
        let (holder, name) = self.holder();
        let started = holder.and_then(|holder| start::start(&holder, &name));
        started.map(Pod::of).map_err(|error| error.of(super::said(&name)))
    }

    /// Writes it down, as `podman pod create`: [`DetachedPod::start`] starts it, or the first start of a container of it.
    ///
    /// # Errors
    /// As of [`start`](Self::start), as far as that can be seen now.
    pub fn create(self) -> Result<DetachedPod> {
        let (holder, name) = self.holder();
        let created = holder.and_then(|holder| detached::create(&holder, &name));
        created.map(DetachedPod::of_holder).map_err(|error| error.of(super::said(&name)))
    }

    fn holder(self) -> (Result<ContainerBuilder>, String) {
        let name = self.holder.given_name();
        (self.check(), name)
    }

    fn check(self) -> Result<ContainerBuilder> {
        let refused = |what: String| Err(Error::new(ErrorKind::InvalidConfig, what));
        if !start::is_privileged()? {
            let what =
                "an ordinary user's containers are each in a user namespace of its own, and share no others";
            return Err(Error::new(ErrorKind::PermissionDenied, what)
                .with_hint("run as root (CAP_SYS_ADMIN, CAP_NET_ADMIN)"));
        }
        if let Some(kind) = self.shares.iter().find(|kind| !KINDS.contains(kind)) {
            return refused(format!("the {kind} namespace is not one that containers share"));
        }
        let Self { mut holder, shares } = self;
        let alone = |kind: Namespace, said: bool| said && !shares.contains(&kind);
        if alone(Namespace::Net, !holder.networks.is_empty() || !holder.publish.is_empty()) {
            return refused("a network, and its containers do not share it".to_owned());
        }
        if holder.networks.iter().any(|attach| attach.mode == Mode::Shared) {
            return refused(
                "the network of something else: a pod has one of its own, or the host's".to_owned(),
            );
        }
        if alone(Namespace::Uts, holder.hostname.is_some()) {
            return refused("a host name, and its containers do not share it".to_owned());
        }
        holder = holder.capabilities(Capabilities::empty());
        holder.holds = Some(shares.into_iter().collect());
        Ok(holder)
    }
}
