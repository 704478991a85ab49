//! The end of all processes of a group.

use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::directory::Directory;
use crate::events::Events;
use crate::{Error, Result};

/// Kills everything in the group and below it, without a gap for a fork to escape through.
pub(crate) fn kill(group: &Directory) -> Result<()> {
    match group.try_write("cgroup.kill", "1") {
        // The group is gone, and with it everything in it.
        Ok(()) | Err(Errno::NODEV) => Ok(()),
        // Below Linux 5.14.
        Err(Errno::NOENT) => kill_each(group),
        Err(errno) => {
            Err(Error::os(format!("cannot write 1 to {}/cgroup.kill", group.path().display()), errno))
        }
    }
}

/// Freezes the group, so that none forks and no pid passes to another process, then signals each. A frozen
/// process of cgroup v2 dies of SIGKILL as it stands.
fn kill_each(group: &Directory) -> Result<()> {
    const ROUNDS: u32 = 100;
    if group.is_gone() {
        return Ok(());
    }
    let events = Events::open(group)?;
    let was_frozen = group.read("cgroup.freeze")?.trim() == "1";
    group.write("cgroup.freeze", "1")?;
    events.wait(Duration::from_secs(1), |state| state.frozen || !state.populated)?;
    for _ in 0..ROUNDS {
        for pid in pids(group)? {
            signal(pid)?;
        }
        if events.wait(Duration::from_millis(20), |state| !state.populated)? {
            break;
        }
    }
    match was_frozen {
        true => Ok(()),
        false => group.write("cgroup.freeze", "0"),
    }
}

/// SIGKILL to a process; gone already is killed.
pub(crate) fn signal(pid: u32) -> Result<()> {
    let Some(target) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let sent = pidfd_open(target, PidfdFlags::empty()).and_then(|fd| pidfd_send_signal(&fd, Signal::KILL));
    match sent {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(Error::os(format!("cannot kill process {pid}"), errno)),
    }
}

/// The processes of the group and of all below it.
pub(crate) fn pids(group: &Directory) -> Result<Vec<u32>> {
    let mut pids = Vec::new();
    collect(group, &mut pids)?;
    Ok(pids)
}

/// The processes of the group alone.
pub(crate) fn own_pids(group: &Directory) -> Result<Vec<u32>> {
    // A threaded group lists no processes; its domain above it does. One removed meanwhile has none.
    Ok(pids_of(&read_procs(group)?.unwrap_or_default()))
}

/// Those of `cgroup.procs`. 0 stands for a process that this pid namespace cannot see.
pub(crate) fn pids_of(text: &str) -> Vec<u32> {
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != 0).collect()
}

fn collect(group: &Directory, pids: &mut Vec<u32>) -> Result<()> {
    pids.extend(own_pids(group)?);
    match group.children() {
        Ok(children) => children.iter().try_for_each(|child| collect(child, pids)),
        Err(Errno::NOENT | Errno::NODEV) => Ok(()),
        Err(errno) => Err(Error::os(format!("cannot list {}", group.path().display()), errno)),
    }
}

fn read_procs(group: &Directory) -> Result<Option<String>> {
    match group.read_optional("cgroup.procs") {
        Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => Ok(None),
        text => text,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::process::{Command, Stdio};

    use testkit::{Need, kernel_test};

    use super::*;
    use crate::mountinfo::Mounts;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test's child")]
    fn a_kernel_without_cgroup_kill_kills_each_and_leaves_the_group_thawed() {
        kernel_test(&[Need::Root], || {
            let mounts = Mounts::read().unwrap();
            let make = |names: &[OsString]| Directory::make_below(mounts.unified().unwrap(), names).unwrap();
            let name = OsString::from(format!("isolate-test-kill-{}", std::process::id()));
            let names = [name, "inner".into()];
            let (group, inner) = (make(&names[..1]), make(&names));
            let mut children: Vec<_> = (0..5)
                .map(|_| {
                    Command::new("/bin/sh").args(["-c", "read go"]).stdin(Stdio::piped()).spawn().unwrap()
                })
                .collect();
            for (n, child) in children.iter().enumerate() {
                let group = if n % 2 == 0 { &group } else { &inner };
                group.write("cgroup.procs", &child.id().to_string()).unwrap();
            }
            assert_eq!(pids(&group).unwrap().len(), 5);
            kill_each(&group).unwrap();
            assert!(pids(&group).unwrap().is_empty());
            assert_eq!(group.read("cgroup.freeze").unwrap().trim(), "0");
            for child in &mut children {
                assert!(!child.wait().unwrap().success());
            }
            inner.remove().unwrap();
            group.remove().unwrap();
        });
    }
}
