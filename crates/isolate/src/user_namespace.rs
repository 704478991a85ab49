//! Whether a container has ids of its own, and which.

use std::fs;
use std::path::Path;

use isolate_namespaces::{Command, IdMap, id_mappable};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::ids::{COUNT, subids};

/// Whether a container has a user namespace of its own (user_namespaces(7)), in which root inside is nobody in particular outside.
///
/// Started by root it has a range of 65,536 ids that no other container has; files of the root and of volumes keep their owners on
/// both sides by id-mapped mounts (mount_setattr(2)). Started by an ordinary user it always has one: root inside is that user, and
/// where newuidmap(1) and newgidmap(1) are installed and subuid(5) lists a range for them, that range is the ids from 1 on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UserNamespace {
    /// One of its own wherever everything that it mounts can be id-mapped; the [plan](crate::Plan) says why it is not.
    #[default]
    Auto,
    /// One of its own, or an error that says what stands against it.
    Required,
    /// That of the caller: root inside is root outside, with the capabilities it keeps.
    Host,
}

/// What is decided for one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The caller's, and why, unless that was asked for.
    Host(Option<String>),
    /// A range, still to be leased.
    Range,
    /// Those of a user without privileges.
    Own,
}

impl Decision {
    /// Whether root inside is another user outside, or none.
    pub(crate) fn is_own(&self) -> bool {
        !matches!(self, Self::Host(_))
    }

    /// Whether mounts are to be id-mapped.
    pub(crate) fn is_mapped(&self) -> bool {
        *self == Self::Range
    }

    /// For a plan.
    pub(crate) fn words(&self) -> Option<String> {
        match self {
            Self::Host(None) => Some("no user namespace: root inside is root outside".into()),
            Self::Host(Some(why)) => Some(format!("no user namespace: {why}")),
            Self::Range => Some(format!("lease {COUNT} ids for a user namespace")),
            Self::Own => None,
        }
    }
}

/// `paths` are what is to be mounted, `shares` the host's namespaces that exclude a user namespace of one's own.
pub(crate) fn decide(
    wanted: UserNamespace,
    privileged: bool,
    paths: &[&Path],
    shares: Option<&str>,
) -> Result<Decision> {
    if !privileged {
        return match wanted {
            UserNamespace::Host => Err(Error::new(
                ErrorKind::PermissionDenied,
                "the host's user namespace: an ordinary user has no rights for a container there",
            )
            .with_hint("run as root, or leave it to UserNamespace::Auto")),
            _ => Ok(Decision::Own),
        };
    }
    if wanted == UserNamespace::Host {
        return Ok(Decision::Host(None));
    }
    let why = match shares {
        Some(shares) => Some(format!("it shares the host's {shares} namespace")),
        None => obstacle(paths)?,
    };
    match (why, wanted) {
        (None, _) => Ok(Decision::Range),
        (Some(why), UserNamespace::Required) => {
            Err(Error::new(ErrorKind::Unsupported, format!("no user namespace: {why}"))
                .with_hint("UserNamespace::Auto does without, and says so in the plan"))
        }
        (Some(why), _) => Ok(Decision::Host(Some(why))),
    }
}

/// That of a pod, for a container that mounts these paths.
pub(crate) fn joined(pod: &str, paths: &[&Path]) -> Result<Decision> {
    match obstacle(paths)? {
        None => Ok(Decision::Range),
        Some(why) => {
            let what = format!("pod `{pod}` has a user namespace of its own, and {why}");
            Err(Error::new(ErrorKind::Unsupported, what).with_hint("make the pod with UserNamespace::Host"))
        }
    }
}

/// What stands against one.
fn obstacle(paths: &[&Path]) -> Result<Option<String>> {
    if let Some(own) = fs::read_to_string("/proc/thread-self/uid_map").ok().filter(|map| !is_whole(map)) {
        return Ok(Some(format!("the caller's own has not all ids ({})", own.trim())));
    }
    if let Some(hidden) = hidden_in_proc() {
        // mount_too_revealing() of Linux: a new /proc would show what is hidden in the caller's.
        return Ok(Some(format!("{hidden} of the caller is hidden, so the kernel makes no other /proc")));
    }
    // Trying wants the rights of a start; a plan without them takes the best for granted.
    let tried = if crate::host::has_sys_admin() { paths } else { &[] };
    for path in tried {
        match id_mappable(path) {
            Ok(()) => {}
            Err(e) if e.kind() == isolate_namespaces::ErrorKind::NotFound => {} // told better elsewhere
            // No answer: with less isolation than it could have nothing is started.
            Err(e) if e.kind() != isolate_namespaces::ErrorKind::Unsupported => return Err(e.into()),
            Err(e) => {
                let hint = e.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
                return Ok(Some(format!("{e}{hint}")));
            }
        }
    }
    Ok(None)
}

fn is_whole(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// The first place in /proc that something is mounted on, but for what the kernel itself mounts there.
fn hidden_in_proc() -> Option<String> {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?;
        let kind = right.split(' ').next()?;
        let below = point.starts_with("/proc/") && !matches!(kind, "autofs" | "binfmt_misc");
        below.then(|| point.to_owned())
    })
}

/// The maps of a range.
pub(crate) fn map_range(command: &mut Command, base: u32) {
    let map = || IdMap::range(0, base, COUNT);
    command.uid_map(map()).gid_map(map());
}

/// The maps of an ordinary user.
pub(crate) fn map_own(command: &mut Command) {
    let (uids, gids) = match subordinate() {
        Some([(uid, uids), (gid, gids)]) => {
            (IdMap::root_is_caller_and(uid, uids), IdMap::root_is_caller_and(gid, gids))
        }
        None => (IdMap::root_is_caller(), IdMap::root_is_caller()),
    };
    command.uid_map(uids).gid_map(gids);
}

/// Whether an ordinary user has more than its own ids.
pub(crate) fn has_subordinate_ids() -> bool {
    subordinate().is_some()
}

/// The ranges of user and group ids that the helpers would give this user: first id and how many.
fn subordinate() -> Option<[(u32, u32); 2]> {
    let installed = |name: &&str| {
        ["/usr/bin", "/bin", "/usr/local/bin"].iter().any(|place| Path::new(place).join(name).exists())
    };
    if !["newuidmap", "newgidmap"].iter().all(installed) {
        return None;
    }
    let uid = rustix::process::geteuid().as_raw();
    let name = user_name(uid).unwrap_or_default();
    let range = |file: &str| {
        let most =
            subids::subids(&fs::read(file).ok()?, &name, uid).into_iter().max_by_key(|(_, count)| *count)?;
        Some((most.0, most.1.min(COUNT - 1)))
    };
    Some([range("/etc/subuid")?, range("/etc/subgid")?])
}

/// By the host's `/etc/passwd`.
fn user_name(uid: u32) -> Option<String> {
    let text = fs::read("/etc/passwd").ok()?;
    let account = crate::user::passwd::accounts(&text).find(|account| account.uid == uid)?;
    String::from_utf8(account.name.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_ids_are_all_or_not() {
        assert!(is_whole("         0          0 4294967295\n"));
        assert!(!is_whole("         0     100000      65536\n"));
    }

    #[test]
    fn an_ordinary_user_always_has_one_and_never_the_hosts() {
        assert_eq!(decide(UserNamespace::Auto, false, &[], None).unwrap(), Decision::Own);
        assert_eq!(decide(UserNamespace::Required, false, &[], None).unwrap(), Decision::Own);
        assert_eq!(
            decide(UserNamespace::Host, false, &[], None).unwrap_err().kind(),
            ErrorKind::PermissionDenied
        );
    }

    #[test]
    fn sharing_the_hosts_processes_excludes_one() {
        let auto = decide(UserNamespace::Auto, true, &[], Some("pid")).unwrap();
        assert_eq!(auto, Decision::Host(Some("it shares the host's pid namespace".into())));
        decide(UserNamespace::Required, true, &[], Some("pid")).unwrap_err();
        assert_eq!(decide(UserNamespace::Host, true, &[], None).unwrap(), Decision::Host(None));
    }
}
