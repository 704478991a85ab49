//! Who the child is: id maps, and root inside.

use crate::command::Command;
use crate::error::{Error, Result};
use crate::id_map::IdMap;
use crate::plan::{Arg, Section};
use crate::steps::Steps;
use crate::wire::CHILD_SLOT;

/// Where an open map file is kept between the calls on it.
const FILE: u8 = 7;

/// The maps are written by the launcher while the child waits; then the child becomes root in its user namespace.
pub(crate) fn steps(command: &Command, user: bool, steps: &mut Steps) -> Result<()> {
    if !user {
        return Ok(());
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let default = IdMap::root_is_caller();
    let uids = command.uid_map.as_ref().unwrap_or(&default);
    let gids = command.gid_map.as_ref().unwrap_or(&default);
    let own = gids.is_own_id(gid);
    if !own && !is_privileged() {
        let why =
            format!("gid map {}: an ordinary user may map its own group only", gids.to_string().trim_end());
        return Err(Error::invalid(why));
    }
    if own {
        // user_namespaces(7): else a member could drop a group that a file's mode denies something to.
        write(steps, "setgroups", "deny");
    }
    write(steps, "uid_map", &uids.text(uid));
    write(steps, "gid_map", &gids.text(gid));
    let child = Section::Child;
    if gids.has_root() {
        let zero = || vec![Arg::Number(0), Arg::Number(0), Arg::Number(0)];
        if !own {
            steps.call(child, "drop the supplementary groups", libc::SYS_setgroups, zero());
        }
        steps.call(child, "become group 0", libc::SYS_setresgid, zero());
    }
    if uids.has_root() {
        let zero = vec![Arg::Number(0), Arg::Number(0), Arg::Number(0)];
        steps.call(child, "become user 0", libc::SYS_setresuid, zero);
    }
    Ok(())
}

/// One write: the kernel takes a map in one piece.
fn write(steps: &mut Steps, file: &str, content: &str) {
    let words = format!("write {} to {file}", content.trim_end().replace('\n', ", "));
    let name = Arg::Bytes([file.as_bytes(), b"\0"].concat());
    let open = vec![Arg::Slot(CHILD_SLOT), name, Arg::Number((libc::O_WRONLY | libc::O_CLOEXEC) as u64)];
    steps.call(Section::Maps, words.clone(), libc::SYS_openat, open).save = Some(FILE);
    let bytes = vec![Arg::Slot(FILE), Arg::Bytes(content.into()), Arg::Number(content.len() as u64)];
    steps.call(Section::Maps, words, libc::SYS_write, bytes);
}

/// Whether the calling thread may copy and move mounts in its own namespaces.
pub(crate) fn is_privileged() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}
