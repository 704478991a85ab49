//! What a container has of its pod: namespaces, host name, group.

use std::borrow::Cow;
use std::os::fd::OwnedFd;

use isolate_cgroups::Cgroup;
use isolate_namespaces::Namespace;

use super::DetachedPod;
use crate::builder::ContainerBuilder;
use crate::detached::{self, DetachedRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::origin::{From, Origin};
use crate::record::Record;
use crate::store::Store;
use crate::user_namespace::UserNamespace;

/// A pod as one of its containers sees it.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// As it is written now; of a pod that does not run, as it will be.
    pub pod: Record,
    /// Its first process, if it runs.
    pid: Option<u32>,
    /// What the container has of it.
    pub shares: Vec<Namespace>,
}

/// To be started: its pod runs, once a lasting one is started if need be.
pub(crate) fn starting(builder: &ContainerBuilder) -> Result<Cow<'_, ContainerBuilder>> {
    if let Some(pod) = &builder.pod
        && let Some(record) = detached::find(pod)?.filter(DetachedRecord::is_pod)
    {
        DetachedPod::of(&record)?.hold()?;
    }
    described(builder, true)
}

/// To be looked at, whether its pod runs or not.
pub(crate) fn seen(builder: &ContainerBuilder) -> Result<Cow<'_, ContainerBuilder>> {
    described(builder, false)
}

/// The description with what comes from its pod, if it has one.
fn described(builder: &ContainerBuilder, runs: bool) -> Result<Cow<'_, ContainerBuilder>> {
    let Some(name) = &builder.pod else { return Ok(Cow::Borrowed(builder)) };
    let (pod, user) = find(name)?;
    let said = |e: Error| e.of(format!("pod `{name}`"));
    let pid = super::first_process(&pod);
    if runs && pid.is_none() {
        return Err(said(Error::new(ErrorKind::NotFound, "it does not run")));
    }
    if runs && Cgroup::open(&pod.cgroup)?.watch_state()?.read()?.frozen {
        let what = "it is paused: what is started in it would not run";
        return Err(said(Error::new(ErrorKind::InUse, what).with_hint("Pod::resume lets it go on")));
    }
    let mut builder = builder.clone();
    let shares = shared(&builder, &pod).map_err(said)?;
    for kind in &shares {
        let origin = match kind {
            // Who is in the pod's user namespace has no right to join that.
            Namespace::Net if pod.on_host => From::Host,
            _ => From::Container { pid: pid.unwrap_or(0), user },
        };
        builder.namespaces.insert(*kind, Origin(origin));
    }
    if shares.contains(&Namespace::Uts) {
        builder.hostname = Some(pod.hostname.clone());
    }
    builder.member = Some(Member { pod, pid, shares });
    Ok(Cow::Owned(builder))
}

/// A pod and what root is in its user namespace, if it has one of its own.
fn find(name: &str) -> Result<(Record, Option<[u32; 2]>)> {
    crate::name::check(name)?;
    let store = Store::open()?;
    let path = store.container(&super::key(name)?);
    let run = Record::read(&path).map_err(|e| Error::io(path.display(), &e))?;
    let lasting = detached::find(name)?;
    let base = lasting.as_ref().and_then(|pod| pod.base).or(run.as_ref().and_then(|run| run.base));
    let pod = run.or_else(|| lasting.map(|pod| pod.as_run())).filter(|pod| pod.is_pod);
    pod.map(|pod| (pod, base.map(|base| [base, base]))).ok_or_else(|| none(name))
}

pub(crate) fn none(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("pod `{name}`: there is none of that name"))
        .with_hint("Pod::list tells which there are")
}

/// What it has of the pod: all that it does not say otherwise.
fn shared(builder: &ContainerBuilder, pod: &Record) -> Result<Vec<Namespace>> {
    let own = |kind: &Namespace| builder.namespaces.contains_key(kind);
    let shares: Vec<_> = pod.shares.iter().copied().filter(|kind| !own(kind)).collect();
    let refused = |what: &str, hint: &str| {
        Err(Error::new(ErrorKind::InvalidConfig, what.to_owned()).with_hint(hint.to_owned()))
    };
    if shares.contains(&Namespace::Net) && !(builder.networks.is_empty() && builder.publish.is_empty()) {
        let what =
            "its containers have its network: they have no networks and no published ports of their own";
        return refused(what, "say them of the pod, or Origin::new() of the container's network namespace");
    }
    if shares.contains(&Namespace::Uts) && builder.hostname.is_some() {
        let what = "its containers have its host name, and none of their own";
        return refused(what, "say it of the pod, or Origin::new() of the container's uts namespace");
    }
    if !shares.is_empty() && builder.user_namespace != UserNamespace::Auto {
        let what = "its containers are in its user namespace, which they say nothing of";
        return refused(what, "say it of the pod");
    }
    Ok(shares)
}

impl Member {
    /// Whether it is on networks with the pod.
    pub(crate) fn is_on_network(&self) -> bool {
        self.shares.contains(&Namespace::Net) && !self.pod.on_host
    }

    /// Where the memory is that it shares (shm_open(3)): a mount of the pod's own. `None`: it shares none, or the pod does not run.
    pub(crate) fn memory(&self) -> Result<Option<OwnedFd>> {
        match self.pid.filter(|_| self.shares.contains(&Namespace::Ipc)) {
            Some(pid) => From::Container { pid, user: None }.open(Namespace::Mount),
            None => Ok(None),
        }
    }

    /// The same pod is there still.
    pub(crate) fn check(&self, store: &Store) -> Result<()> {
        let name = &self.pod.name;
        let path = store.container(name);
        let now = Record::read(&path).map_err(|e| Error::io(path.display(), &e))?;
        let same = |now: Record| now.cgroup == self.pod.cgroup && super::first_process(&now) == self.pid;
        match now.is_some_and(same) && store.is_owned(name) {
            true => Ok(()),
            false => {
                Err(Error::new(ErrorKind::NotFound, format!("pod `{}`: it has ended", self.pod.called())))
            }
        }
    }
}
