//! Who the child is in a new user namespace: id maps, and root inside.

use crate::command::Command;
use crate::error::{Error, Result};
use crate::id_helpers;
use crate::id_map::IdMap;
use crate::plan::{Arg, Section};
use crate::steps::Steps;
use crate::wire::CHILD_SLOT;

/// Where an open file is kept between the calls on it.
pub(crate) const FILE: u8 = 7;

/// The maps of a child.
pub(crate) struct Maps {
    pub uids: IdMap,
    pub gids: IdMap,
    own: [u32; 2],
    /// The caller may write any map.
    privileged: bool,
}

impl Maps {
    pub(crate) fn of(command: &Command) -> Self {
        let default = IdMap::root_is_caller;
        Self {
            uids: command.uid_map.clone().unwrap_or_else(default),
            gids: command.gid_map.clone().unwrap_or_else(default),
            own: [rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()],
            privileged: is_privileged(),
        }
    }

    /// What root inside is outside, user and group.
    pub(crate) fn root(&self) -> Option<[u32; 2]> {
        Some([self.uids.root(self.own[0])?, self.gids.root(self.own[1])?])
    }

    /// Arguments of the helpers that an ordinary user needs for more than one id of its own.
    pub(crate) fn helpers(&self) -> Option<[Vec<String>; 2]> {
        let [uid, gid] = self.own;
        let own = self.uids.is_own_id(uid) && self.gids.is_own_id(gid);
        (!self.privileged && !own).then(|| [self.uids.arguments(uid), self.gids.arguments(gid)])
    }

    /// The maps are written by the launcher while the child waits, unless helpers do; then the child becomes root in its user namespace.
    pub(crate) fn steps(&self, steps: &mut Steps) -> Result<()> {
        let [uid, gid] = self.own;
        let own = self.gids.is_own_id(gid);
        if self.helpers().is_none() {
            if own {
                // user_namespaces(7): else a member could drop a group that a file's mode denies something to.
                write(steps, "setgroups", "deny");
            }
            write(steps, "uid_map", &self.uids.text(uid));
            write(steps, "gid_map", &self.gids.text(gid));
        } else if let Some(missing) = id_helpers::missing() {
            let why = format!("id maps beyond one's own id: {missing} is not installed");
            return Err(Error::invalid(why)
                .with_hint("install it (Debian: uidmap), or map one id alone: IdMap::root_is_caller"));
        }
        let child = Section::Child;
        let zero = || vec![Arg::Number(0), Arg::Number(0), Arg::Number(0)];
        if self.gids.has_root() {
            if !own {
                steps.call(child, "drop the supplementary groups", libc::SYS_setgroups, zero());
            }
            steps.call(child, "become group 0", libc::SYS_setresgid, zero());
        }
        if self.uids.has_root() {
            steps.call(child, "become user 0", libc::SYS_setresuid, zero());
        }
        Ok(())
    }
}

/// Into a file of the child's in /proc, by the launcher. One write: the kernel takes a map in one piece.
pub(crate) fn write(steps: &mut Steps, file: &str, content: &str) {
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
