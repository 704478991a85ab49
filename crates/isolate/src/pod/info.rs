//! What pods there are, seen from any process.

use std::collections::BTreeMap;

use isolate_cgroups::Limits;
use isolate_namespaces::Namespace;
use isolate_netns::Publish;
use serde::Serialize;

use super::{Pod, members, none};
use crate::error::{Error, Result};
use crate::info::{self, ContainerInfo, PlaceInfo, State};
use crate::name;

/// A pod, as any process of its user sees it.
///
/// With [serde](https://docs.rs/serde) it can be written, as JSON for one.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PodInfo {
    /// Its name.
    pub name: String,
    /// Twelve hexadecimal digits that no other pod and no container has.
    pub id: String,
    /// What it is doing: [`Running`](State::Running) as long as its namespaces are there, whether a container of it runs or not.
    pub state: State,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// Whether it is a [`DetachedPod`](crate::DetachedPod).
    pub detached: bool,
    /// The host name of its containers.
    pub hostname: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The namespaces that its containers share.
    pub shares: Vec<Namespace>,
    /// Its places on networks, by the network's name.
    pub networks: BTreeMap<String, PlaceInfo>,
    /// Its published ports.
    pub published: Vec<Publish>,
    /// Its limits, as they were said.
    pub limits: Limits,
    /// Its control group, below the mount points of their file systems; of a detached one only while it runs.
    pub cgroup: Option<String>,
    /// The names of its containers, and what each is doing.
    pub containers: BTreeMap<String, State>,
}

impl Pod {
    /// All pods of this user, whoever started them, by name: as `podman pod ps`.
    ///
    /// # Errors
    /// What the state directory cannot be read for.
    pub fn list() -> Result<Vec<PodInfo>> {
        let (pods, containers): (Vec<_>, Vec<_>) =
            info::all()?.into_iter().partition(|(_, shares)| shares.is_some());
        let all = pods.into_iter().filter_map(|(holder, shares)| {
            let own = containers.iter().filter(|(container, _)| container.pod.as_ref() == Some(&holder.name));
            let own = own.map(|(container, _)| (container.name.clone(), container.state)).collect();
            Some(PodInfo::of(holder, shares?, own))
        });
        Ok(all.collect())
    }

    /// One pod of this user by its name, whoever started it: as `podman pod inspect`.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound).
    pub fn find(name: impl AsRef<str>) -> Result<PodInfo> {
        let name = name.as_ref();
        name::check(name)?;
        match info::one(name)? {
            Some((holder, Some(shares))) => {
                let own = members::list(name)?.into_iter().map(|container| (container.name, container.state));
                Ok(PodInfo::of(holder, shares, own.collect()))
            }
            _ => Err(none(name)),
        }
    }
}

impl PodInfo {
    fn of(holder: ContainerInfo, shares: Vec<Namespace>, containers: BTreeMap<String, State>) -> Self {
        Self {
            name: holder.name,
            id: holder.id,
            state: holder.state,
            created: holder.created,
            detached: holder.detached.is_some(),
            hostname: holder.hostname,
            labels: holder.labels,
            shares,
            networks: holder.networks,
            published: holder.published,
            limits: holder.limits,
            cgroup: holder.cgroup,
            containers,
        }
    }
}

/// An error of a container's that is asked for and is a pod.
pub(crate) fn is_a_pod(name: &str) -> Error {
    Error::new(crate::error::ErrorKind::NotFound, format!("container `{name}`: it is a pod"))
        .with_hint("Pod::open opens it")
}
