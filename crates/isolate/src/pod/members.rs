//! What is done to all containers of a pod.

use std::time::{Duration, Instant};

use isolate_cgroups::{Cgroup, Controller, ErrorKind as GroupErrorKind, Limits};
use isolate_namespaces::Signal;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::container::Container;
use crate::detached::{self, Detached};
use crate::error::{Error, ErrorKind, Result};
use crate::info::{self, ContainerInfo};
use crate::record::Record;
use crate::store::{Guard, Store};
use crate::sweep;
use crate::undo::remove_tree;

/// As any process sees them.
pub(crate) fn list(pod: &str) -> Result<Vec<ContainerInfo>> {
    let mut all = Container::list()?;
    all.retain(|container| container.pod.as_deref() == Some(pod));
    Ok(all)
}

/// Those that last.
pub(crate) fn lasting(pod: &str) -> Result<Vec<Detached>> {
    let all =
        detached::records()?.into_iter().filter(|record| record.description.pod.as_deref() == Some(pod));
    all.map(|record| Detached::of(&record)).collect()
}

/// Those that somebody owns, as they are written down.
fn owned(store: &Store, pod: &str) -> Vec<Record> {
    let mut all = store.records();
    all.retain(|record| record.pod.as_deref() == Some(pod) && record.called.is_none());
    all
}

/// Refused, as long as there are any.
pub(crate) fn check_none(store: &Store, pod: &str) -> Result<()> {
    let mut names: Vec<String> = lasting(pod)?.iter().map(|container| container.name().to_owned()).collect();
    names.extend(owned(store, pod).into_iter().map(|record| record.name));
    if names.is_empty() {
        return Ok(());
    }
    names.sort();
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    let what = format!("it has containers: {}", names.join(", "));
    Err(Error::new(ErrorKind::InUse, what)
        .with_hint("remove them before, or the pod by force with all of them"))
}

/// Asks all to end, and kills those that have not after `grace`, or at once. Goes on after an error, and gives them all.
pub(crate) fn stop(store: &Store, pod: &str, grace: Option<Duration>) -> Vec<Error> {
    let (lasting, mut errors) = match lasting(pod) {
        Ok(lasting) => (lasting, Vec::new()),
        Err(e) => (Vec::new(), vec![e]),
    };
    std::thread::scope(|scope| {
        let stop = |container: &Detached| match grace {
            Some(grace) => container.stop(grace).err(),
            None => container.kill().err(),
        };
        let stopping: Vec<_> = lasting.iter().map(|container| scope.spawn(move || stop(container))).collect();
        errors.extend(stop_owned(store, pod, grace));
        let ended = stopping.into_iter().filter_map(|stopping| stopping.join().ok().flatten());
        // That nobody knows how it ended is no reason for it to be there.
        errors.extend(ended.filter(|e| e.kind() != ErrorKind::Lost));
    });
    errors
}

fn stop_owned(store: &Store, pod: &str, grace: Option<Duration>) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut groups = Vec::new();
    for record in owned(store, pod) {
        match Cgroup::open(&record.cgroup) {
            Ok(group) => groups.push((record, group)),
            Err(e) if e.kind() == GroupErrorKind::NotFound => {}
            Err(e) => errors.push(said(&record, e.into())),
        }
    }
    if let Some(grace) = grace {
        for (record, group) in &groups {
            errors.extend(ask(record, group).err().map(|e| said(record, e)));
        }
        let end = Instant::now() + grace;
        for (record, group) in &groups {
            let left = end.saturating_duration_since(Instant::now());
            errors.extend(group.wait_empty(left).err().map(|e| said(record, e.into())));
        }
    }
    for (record, group) in &groups {
        errors.extend(group.kill().err().map(|e| said(record, e.into())));
    }
    errors
}

fn said(record: &Record, error: Error) -> Error {
    error.of(format!("container `{}`", record.called()))
}

/// Its first process, by a descriptor that is its own as long as the number is in the group.
fn ask(record: &Record, group: &Cgroup) -> Result<()> {
    let Some(number) = info::first_process(group) else { return Ok(()) };
    let Some(pid) = Pid::from_raw(number.cast_signed()) else { return Ok(()) };
    let signal = record.stop_signal.unwrap_or(Signal::TERM);
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(()),
        opened => opened.map_err(|e| Error::io("its first process", &e.into()))?,
    };
    match group.pids()?.contains(&number) {
        true => Ok(signal.send(process)?),
        false => Ok(()),
    }
}

/// Once nothing of the pod runs any more: what those have that somebody owns.
pub(crate) fn take_back(store: &Store, guard: &Guard, pod: &str) -> Vec<Error> {
    let mut errors = Vec::new();
    for record in owned(store, pod) {
        let mut left = sweep::remains(store, guard, None, &record);
        if left.is_empty() {
            left.extend(remove_tree(&store.container(&record.name)).err());
        }
        errors.extend(left.into_iter().map(|e| said(&record, e)));
    }
    errors
}

/// Whether a keeper still has what ran in a pod that is gone. What somebody else owns is left to him.
pub(crate) fn are_ending(store: &Store) -> bool {
    let gone = |pod: &String| super::key(pod).is_ok_and(|key| store.is_gone(&key));
    store.records().iter().any(|record| record.called.is_some() && record.pod.as_ref().is_some_and(gone))
}

/// Their keepers start none of them again: what they would be started in is gone.
pub(crate) fn give_up(pod: &str) {
    for container in lasting(pod).unwrap_or_default() {
        container.give_up();
    }
}

/// Limits of the pod, and of what is executed in its containers from now on: cgroup v1 has some in hierarchies that a group is in once it
/// is limited there.
pub(crate) fn limit(store: &Store, pod: &str, group: &Cgroup, limits: &Limits) -> Result<()> {
    group.apply(limits)?;
    for record in store.records().into_iter().filter(|record| record.pod.as_deref() == Some(pod)) {
        match Cgroup::open(&record.cgroup) {
            Ok(member) if member.hierarchies() < group.hierarchies() => {
                for controller in [Controller::Cpuset, Controller::Io] {
                    match member.enable(&[controller]) {
                        // The pod is not limited in that one.
                        Err(e) if e.kind() == GroupErrorKind::NotFound => {}
                        done => done.map_err(|e| said(&record, e.into()))?,
                    }
                }
            }
            Err(e) if e.kind() != GroupErrorKind::NotFound => return Err(said(&record, e.into())),
            _ => {}
        }
    }
    Ok(())
}
