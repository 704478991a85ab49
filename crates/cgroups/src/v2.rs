//! Limits on cgroup v2: Documentation/admin-guide/cgroup-v2.rst.

use std::ffi::OsString;

use rustix::io::Errno;

use crate::cpu::{PERIOD_US, quota_us};
use crate::directory::Directory;
use crate::{Bytes, Controller, Error, ErrorKind, Limits, Result, swap};

/// Whether this group has the controller.
pub(crate) fn has(group: &Directory, controller: Controller) -> Result<bool> {
    Ok(lists(&group.read("cgroup.controllers")?, controller))
}

/// Hands a controller down from the mount's root to the groups below the last of `parents`. `false` if the root
/// has not got it.
pub(crate) fn enable(root: &Directory, parents: &[OsString], controller: Controller) -> Result<bool> {
    if !enable_below(root, controller)? {
        return Ok(false);
    }
    let mut at = root.descend(&[])?;
    for name in parents {
        at = at.child(name)?;
        if !enable_below(&at, controller)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn enable_below(group: &Directory, controller: Controller) -> Result<bool> {
    const FILE: &str = "cgroup.subtree_control";
    if lists(&group.read(FILE)?, controller) {
        return Ok(true);
    }
    if !has(group, controller)? {
        return Ok(false);
    }
    // The kernel refuses memory here, but for cpu and pids it would turn the group into the root of a threaded
    // subtree, and what is below could hold no process (cgroup-v2.rst, "Threads"). The machine's own root may.
    let procs = if group.has("cgroup.type") { group.read_optional("cgroup.procs")? } else { None };
    if procs.is_some_and(|procs| !procs.is_empty()) {
        let path = group.path().display();
        return Err(Error::new(
            ErrorKind::Busy,
            format!("cannot write +{controller} to {path}/{FILE}: it holds processes"),
        )
        .with_hint(format!(
            "only a group without processes hands controllers down: move those of {path} below it"
        )));
    }
    match group.write(FILE, &format!("+{controller}")) {
        Ok(()) => Ok(true),
        Err(error)
            if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) && controller == Controller::Cpu =>
        {
            Err(error.with_hint(
                "a real-time process outside the root group keeps the cpu controller from being enabled",
            ))
        }
        Err(error) => Err(error),
    }
}

fn lists(names: &str, controller: Controller) -> bool {
    names.split_whitespace().any(|name| name == controller.name())
}

/// `memory.max`, `memory.swap.max` and `memory.oom.group`.
pub(crate) fn set_memory(group: &Directory, limits: &Limits) -> Result<()> {
    const SWAP: &str = "memory.swap.max";
    if let Some(whole) = limits.get_oom_group() {
        set(group, "memory.oom.group", &u8::from(whole).to_string(), Held::Exactly)?;
    }
    // Before memory: what is reclaimed for the new limit must not move to swap.
    match swap::wanted(limits) {
        Some(beyond) if group.has(SWAP) => set_bytes(group, SWAP, beyond)?,
        _ => swap::without_accounting(limits, SWAP)?,
    }
    match limits.get_memory() {
        Some(max) => set_bytes(group, "memory.max", max),
        None => Ok(()),
    }
}

/// `cpu.max` and `cpu.weight`.
pub(crate) fn set_cpu(group: &Directory, limits: &Limits) -> Result<()> {
    if let Some(weight) = limits.get_cpu_weight() {
        set(group, "cpu.weight", &weight.to_string(), Held::Exactly)?;
    }
    if let Some(cores) = limits.get_cpus() {
        let value = format!("{} {PERIOD_US}", quota_us(cores));
        set(group, "cpu.max", &value, Held::Exactly).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                error.with_hint("this kernel has no processor limits: CONFIG_CFS_BANDWIDTH")
            }
            _ => error,
        })?;
    }
    Ok(())
}

/// `pids.max`.
pub(crate) fn set_pids(group: &Directory, limits: &Limits) -> Result<()> {
    match limits.get_pids() {
        Some(max) => set(group, "pids.max", &max.to_string(), Held::Exactly),
        None => Ok(()),
    }
}

fn set_bytes(group: &Directory, file: &str, value: Bytes) -> Result<()> {
    set(group, file, &value.get().to_string(), Held::Bytes(value))
}

/// What the kernel must say it holds, after a write.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Held {
    /// What was written.
    Exactly,
    /// That, or less by less than a page.
    Bytes(Bytes),
}

/// Writes a value and reads it back: a limit that the kernel made weaker is an error.
fn set(group: &Directory, file: &str, value: &str, held: Held) -> Result<()> {
    group.write(file, value)?;
    verify(group, file, value, held)
}

pub(crate) fn verify(group: &Directory, file: &str, asked: &str, held: Held) -> Result<()> {
    let read = group.read(file)?;
    let read = read.trim();
    if holds(read, asked, held, rustix::param::page_size() as u64) {
        return Ok(());
    }
    let path = group.path().join(file);
    Err(Error::new(
        ErrorKind::NotApplied,
        format!("wrote {asked} to {}, which now holds {read}", path.display()),
    ))
}

fn holds(read: &str, asked: &str, held: Held, page: u64) -> bool {
    match held {
        Held::Exactly => read == asked,
        Held::Bytes(asked) => {
            read.parse::<u64>().is_ok_and(|read| read <= asked.get() && asked.get() - read < page)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_may_lose_part_of_a_page_and_gain_nothing() {
        let holds = |read: &str, asked: u64| holds(read, "", Held::Bytes(Bytes::new(asked)), 4096);
        assert!(holds("8192", 8192));
        assert!(holds("8192", 12287));
        assert!(!holds("8192", 12288), "a whole page less is another limit");
        assert!(!holds("8192", 8191), "more than was asked for");
        assert!(!holds("max", 8192));
        assert!(!holds("-1", 8192));
        assert!(!holds("", 8192));
    }

    #[test]
    fn other_values_are_held_as_written() {
        assert!(holds("50000 100000", "50000 100000", Held::Exactly, 4096));
        assert!(!holds("max 100000", "50000 100000", Held::Exactly, 4096));
    }

    #[test]
    fn controllers_are_found_by_their_whole_name() {
        assert!(lists("cpuset cpu io\n", Controller::Cpu));
        assert!(!lists("cpuset io", Controller::Cpu));
        assert!(!lists("", Controller::Memory));
    }
}
