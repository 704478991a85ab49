//! Who the program is, and what it may do: given up last, in the order in which each step still may.

use crate::capabilities::Capabilities;
use crate::command::Command;
use crate::error::{Error, Result};
use crate::identity::{self, Maps};
use crate::namespace::Namespace;
use crate::plan::{Arg, Section, Words};
use crate::resource::Resource;
use crate::resource_limit::ResourceLimit;
use crate::steps::Steps;
use crate::wire::{OP_BOUND, OP_FILTER};

const MAIN: Section = Section::Main;
/// -1, which the calls take for "leave as it is".
const NO_ID: u32 = u32::MAX;
/// NGROUPS_MAX of Linux.
const MOST_GROUPS: usize = 65_536;

/// What only the launcher may do, with the caller's rights.
pub(super) fn before(command: &Command, steps: &mut Steps) -> Result<()> {
    let rights = &command.rights;
    for (resource, limit) in &rights.limits {
        limit.check().map_err(|e| Error::invalid(format!("limit {resource}: {e}")))?;
        let own = crate::kernel::resource_limit(resource.number())
            .map_err(|e| Error::io(format!("limit {resource}"), &e))?;
        if limit.hard() > own.1 {
            // The child, in a user namespace of its own, may only go down from there.
            let words = format!("raise the hard limit {resource} to {}", limit.hard());
            set_limit(Section::Prepare, resource.number(), own.0, limit.hard(), words, steps);
        }
    }
    if let Some(value) = rights.oom_score_adj {
        if !(-1000..=1000).contains(&value) {
            return Err(Error::invalid(format!("oom_score_adj {value}: wanted -1000 to 1000")));
        }
        identity::write(steps, "oom_score_adj", &value.to_string());
    }
    Ok(())
}

pub(super) fn steps(command: &Command, maps: Option<&Maps>, steps: &mut Steps) -> Result<()> {
    priorities(command, steps)?;
    let rights = &command.rights;
    if rights.new_keyring {
        let join = [Arg::Number(1 /* KEYCTL_JOIN_SESSION_KEYRING */), Arg::Number(0)];
        steps.call(MAIN, "join a new session keyring", libc::SYS_keyctl, join.into()).ignore =
            [libc::ENOSYS as u16, 0, 0, 0];
    }
    for (resource, limit) in &rights.limits {
        let (resource, limit): (Resource, ResourceLimit) = (*resource, *limit);
        let words = Words::later(move || format!("limit {resource} to {limit}"));
        set_limit(MAIN, resource.number(), limit.soft(), limit.hard(), words, steps);
    }
    if !rights.no_new_privileges {
        // As long as there is CAP_SYS_ADMIN for it.
        restrict(command, steps)?;
        filter(command, steps);
    }
    if let Some(capabilities) = rights.capabilities {
        let keep = vec![Arg::Number(capabilities.bits())];
        steps.operation(MAIN, "drop other capabilities from the bounding set", OP_BOUND, keep);
    }
    ids(command, maps, steps)?;
    if let Some(capabilities) = rights.capabilities {
        sets(command, capabilities & available(command, maps), steps);
    }
    if rights.no_new_privileges {
        let set = [libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0].map(Arg::Number);
        steps.call(MAIN, "gain no rights by executing", libc::SYS_prctl, set.into());
        restrict(command, steps)?;
    }
    Ok(())
}

/// After the report, right before the program.
pub(super) fn last(command: &Command, steps: &mut Steps) {
    if command.rights.no_new_privileges {
        filter(command, steps);
    }
}

fn filter(command: &Command, steps: &mut Steps) {
    if let Some(filter) = &command.rights.seccomp {
        let length = filter.len();
        let words = Words::later(move || format!("filter system calls: {length} instructions"));
        let args =
            vec![Arg::Number(filter.len() as u64), Arg::Bytes(filter.program().to_vec()), Arg::Number(0)];
        steps.operation(MAIN, words, OP_FILTER, args);
    }
}

fn set_limit(
    section: Section,
    resource: u32,
    soft: u64,
    hard: u64,
    words: impl Into<Words>,
    steps: &mut Steps,
) {
    let limit = [soft, hard].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let args = vec![Arg::Number(0), Arg::Number(resource.into()), Arg::Bytes(limit), Arg::Number(0)];
    steps.call(section, words, libc::SYS_prlimit64, args);
}

fn priorities(command: &Command, steps: &mut Steps) -> Result<()> {
    let rights = &command.rights;
    if let Some(value) = rights.nice {
        if !(-20..=19).contains(&value) {
            return Err(Error::invalid(format!("nice value {value}: wanted -20 to 19")));
        }
        let args = [0 /* PRIO_PROCESS */, 0, value as u64].map(Arg::Number);
        steps.call(MAIN, format!("set the nice value {value}"), libc::SYS_setpriority, args.into());
    }
    if let Some(scheduler) = rights.scheduler {
        let (policy, priority) = scheduler.numbers()?;
        let parameter = Arg::Bytes(priority.to_ne_bytes().to_vec());
        let args = vec![Arg::Number(0), Arg::Number(policy as u64), parameter];
        steps.call(MAIN, format!("schedule as {scheduler}"), libc::SYS_sched_setscheduler, args);
    }
    if let Some(priority) = rights.io_priority {
        let args = [1 /* IOPRIO_WHO_PROCESS */, 0, u64::from(priority.value()?)].map(Arg::Number);
        steps.call(MAIN, format!("set the I/O priority {priority}"), libc::SYS_ioprio_set, args.into());
    }
    if let Some(processors) = &rights.affinity {
        let mask = processors.mask()?;
        let args = vec![Arg::Number(0), Arg::Number(mask.len() as u64), Arg::Bytes(mask)];
        steps.call(MAIN, format!("run on processors {processors}"), libc::SYS_sched_setaffinity, args);
    }
    Ok(())
}

/// Groups first: without user 0 they cannot be set any more.
fn ids(command: &Command, maps: Option<&Maps>, steps: &mut Steps) -> Result<()> {
    let rights = &command.rights;
    let all = rights.user.iter().chain(&rights.group).chain(rights.groups.iter().flatten());
    if all.clone().any(|id| *id == NO_ID) {
        return Err(Error::invalid(format!("user or group {NO_ID}: stands for none")));
    }
    let unknown = |what: &str, id: u32| {
        let why = format!("{what} {id}: the user namespace has none of that number");
        Error::invalid(why).with_hint("map it by uid_map and gid_map")
    };
    if let Some(maps) = maps {
        if let Some(id) = rights.user.filter(|id| !maps.uids.has(*id)) {
            return Err(unknown("user", id));
        }
        let mut groups = rights.group.iter().chain(rights.groups.iter().flatten());
        if let Some(id) = groups.find(|id| !maps.gids.has(**id)) {
            return Err(unknown("group", *id));
        }
    }
    if let Some(groups) = &rights.groups {
        if groups.len() > MOST_GROUPS {
            return Err(Error::invalid(format!("{} groups: the most is {MOST_GROUPS}", groups.len())));
        }
        let list = groups.iter().flat_map(|id| id.to_ne_bytes()).collect();
        let words = match groups.len() {
            0 => Words::from("drop the supplementary groups"),
            _ => format!("set the supplementary groups {groups:?}").into(),
        };
        let args = vec![Arg::Number(groups.len() as u64), Arg::Bytes(list)];
        steps.call(MAIN, words, libc::SYS_setgroups, args);
    }
    if let Some(id) = rights.group {
        let args = [id, id, id].map(|id| Arg::Number(id.into()));
        steps.call(
            MAIN,
            Words::later(move || format!("become group {id}")),
            libc::SYS_setresgid,
            args.into(),
        );
    }
    if let Some(id) = rights.user {
        let args = [id, id, id].map(|id| Arg::Number(id.into()));
        steps.call(MAIN, Words::later(move || format!("become user {id}")), libc::SYS_setresuid, args.into());
    }
    Ok(())
}

/// What can be kept: in a user namespace of one's own everything, else what the caller has.
fn available(command: &Command, maps: Option<&Maps>) -> Capabilities {
    let process = command.process.as_ref().is_some_and(|(_, kinds)| kinds.contains(&Namespace::User));
    if maps.is_some() || process || command.user_namespace.is_some() || !command.join.is_empty() {
        return Capabilities::all();
    }
    let own = rustix::thread::capabilities(None).map_or(0, |sets| sets.permitted.bits());
    Capabilities::from_bits_retain(own)
}

/// capset(2), and the ambient set, which is empty once the inheritable one is.
fn sets(command: &Command, capabilities: Capabilities, steps: &mut Steps) {
    const VERSION: u32 = 0x2008_0522;
    let root = command.rights.user.is_none_or(|id| id == 0);
    let kept = if root { capabilities.bits() } else { 0 };
    let [low, high] = [kept as u32, (kept >> 32) as u32];
    let bytes = |words: &[u32]| Arg::Bytes(words.iter().flat_map(|word| word.to_ne_bytes()).collect());
    // Effective, permitted, inheritable; low words, then high.
    let args = vec![bytes(&[VERSION, 0]), bytes(&[low, low, 0, high, high, 0])];
    let words = Words::later(move || format!("keep the capabilities {}", Kept(kept)));
    steps.call(MAIN, words, libc::SYS_capset, args);
}

/// Capabilities in words.
struct Kept(u64);

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => f.write_str("none"),
            bits => Capabilities::from_bits_retain(bits).fmt(f),
        }
    }
}

#[cfg(not(feature = "landlock"))]
#[expect(clippy::unnecessary_wraps, reason = "with the feature it can fail")]
fn restrict(_: &Command, _: &mut Steps) -> Result<()> {
    Ok(())
}

/// landlock(7): a ruleset, a rule for each path and port, and the restriction.
#[cfg(feature = "landlock")]
fn restrict(command: &Command, steps: &mut Steps) -> Result<()> {
    use crate::landlock;
    use crate::ruleset::PortRule;
    use crate::steps::{CLOEXEC, MOUNT, O_PATH, ROOT, how, text};
    use crate::wire::OP_LANDLOCK;

    const RULESET: u8 = 13;
    let Some(rules) = &command.rights.landlock else { return Ok(()) };
    let abi = landlock::abi().map_err(|e| Error::io("cannot ask for Landlock", &e))?;
    let ruleset = rules.compile(abi)?;
    let length = Arg::Number(ruleset.attributes.len() as u64);
    let create = vec![Arg::Bytes(ruleset.attributes), length, Arg::Number(0)];
    steps.call(MAIN, "make a Landlock ruleset", libc::SYS_landlock_create_ruleset, create).save =
        Some(RULESET);
    for rule in ruleset.paths {
        let shown = rule.path.display().to_string();
        // Inside the root; a link is followed there.
        let open =
            vec![Arg::Slot(ROOT), text(&rule.path)?, how(O_PATH | CLOEXEC, 0, 0x10 | 0x2), Arg::Number(24)];
        steps.call(MAIN, format!("open {shown}"), libc::SYS_openat2, open).save = Some(MOUNT);
        let args =
            vec![Arg::Slot(RULESET), Arg::Slot(MOUNT), Arg::Number(rule.directory), Arg::Number(rule.file)];
        steps.operation(MAIN, format!("allow what Landlock should at {shown}"), OP_LANDLOCK, args);
    }
    for rule in ruleset.ports {
        let args = vec![
            Arg::Slot(RULESET),
            Arg::Number(PortRule::TYPE.into()),
            Arg::Bytes(rule.bytes().to_vec()),
            Arg::Number(0),
        ];
        steps.call(MAIN, format!("allow port {}", rule.port), libc::SYS_landlock_add_rule, args);
    }
    let enforce = vec![Arg::Slot(RULESET), Arg::Number(0)];
    steps.call(MAIN, "restrict itself by Landlock", libc::SYS_landlock_restrict_self, enforce);
    Ok(())
}
