//! From a description to the numbers that setuid(2), setgid(2) and setgroups(2) take.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::passwd::{accounts, groups};
use super::{Group, Resolved, User, Who};
use crate::error::{Error, ErrorKind, Result};

/// NGROUPS_MAX (setgroups(2), since Linux 2.6.4).
const MOST_GROUPS: usize = 65_536;

impl User {
    /// The numbers, by the contents of the root's `/etc/passwd` and `/etc/group`. In one pass over each, whatever they hold.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`]: what [`check`](Self::check) refuses, and more than 65,536 groups.
    /// [`ErrorKind::NotFound`]: a name that is not there.
    pub(crate) fn resolve(&self, passwd: &[u8], group: &[u8]) -> Result<Resolved> {
        self.check()?;
        let account = match &self.user {
            Who::Id(uid) => accounts(passwd).find(|account| account.uid == *uid),
            Who::Name(name) => {
                let found = accounts(passwd).find(|account| account.name == name.as_bytes());
                Some(found.ok_or_else(|| missing("user", name, "/etc/passwd"))?)
            }
        };
        let listed = account.map_or((0, 0), |account| (account.uid, account.gid));
        let uid = if let Who::Id(uid) = self.user { uid } else { listed.0 };
        let numbers = Numbers::of(self, group)?;
        let gid = match &self.group {
            Some(given) => numbers.get(given)?,
            None => listed.1,
        };
        let supplementary = match (&self.groups, &self.group, account) {
            (Some(exact), _, _) => {
                exact.iter().map(|given| numbers.get(given)).collect::<Result<Vec<_>>>()?
            }
            // As initgroups(3): its own group stays a supplementary one when a set-group-id program changes the first.
            (None, None, Some(account)) => {
                let member = groups(group).filter(|entry| entry.has(account.name)).map(|entry| entry.gid);
                [gid].into_iter().chain(member).collect()
            }
            (None, _, _) => vec![gid],
        };
        Ok(Resolved {
            uid,
            gid,
            groups: distinct(supplementary)?,
            home: Path::new(OsStr::from_bytes(account.map_or(b"/", |account| account.home))).to_owned(),
            name: account.map(|account| OsStr::from_bytes(account.name).to_owned()),
        })
    }
}

/// The numbers of the groups that are given by name, looked up together: a long list costs one pass, too.
struct Numbers<'a>(HashMap<&'a [u8], u32>);

impl<'a> Numbers<'a> {
    fn of(user: &'a User, text: &[u8]) -> Result<Self> {
        let given = user.group.iter().chain(user.groups.iter().flatten());
        let names: HashSet<&[u8]> = given
            .filter_map(|group| if let Who::Name(name) = &group.0 { Some(name.as_bytes()) } else { None })
            .collect();
        let mut numbers = HashMap::new();
        if !names.is_empty() {
            for entry in groups(text) {
                if let Some(name) = names.get(entry.name) {
                    numbers.entry(*name).or_insert(entry.gid);
                }
            }
        }
        Ok(Self(numbers))
    }

    fn get(&self, group: &Group) -> Result<u32> {
        match &group.0 {
            Who::Id(gid) => Ok(*gid),
            Who::Name(name) => {
                let found = self.0.get(name.as_bytes()).copied();
                found.ok_or_else(|| missing("group", name, "/etc/group"))
            }
        }
    }
}

/// Each once, in their order.
fn distinct(mut groups: Vec<u32>) -> Result<Vec<u32>> {
    let mut seen = HashSet::new();
    groups.retain(|gid| seen.insert(*gid));
    if groups.len() > MOST_GROUPS {
        let why = format!("{} supplementary groups: the kernel takes {MOST_GROUPS}", groups.len());
        return Err(Error::new(ErrorKind::InvalidConfig, why));
    }
    Ok(groups)
}

fn missing(what: &str, name: &str, file: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("{what} `{name}`: not in {file} of the container's root"))
        .with_hint("give its number instead, or a root that has it")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/var/www:\nwww:x:99:99::/evil:\ntwin:x:33:7::/twin:\n";
    const GROUP: &[u8] = b"adm:x:4:www,root\nwww:x:33:\naudio:x:29:other, www\nadm:x:5:\nagain:x:4:www\n";

    fn resolve(user: impl Into<User>) -> (u32, u32, Vec<u32>, String) {
        let resolved = user.into().resolve(PASSWD, GROUP).unwrap();
        (resolved.uid, resolved.gid, resolved.groups, resolved.home.display().to_string())
    }

    #[test]
    fn a_listed_user_has_its_group_its_home_and_its_groups_by_name_or_by_number() {
        let www = (33, 33, vec![33, 4, 29], "/var/www".to_owned());
        assert_eq!(resolve("www"), www);
        assert_eq!(resolve("33"), www);
        assert_eq!(User::id(33).resolve(PASSWD, GROUP).unwrap().name, Some("www".into()));
        assert_eq!(resolve("twin"), (33, 7, vec![7], "/twin".into()), "groups go by the name that was given");
    }

    #[test]
    fn a_number_that_is_not_listed_is_itself_with_group_0() {
        assert_eq!(resolve("1000"), (1000, 0, vec![0], "/".into()));
        assert_eq!(resolve("1000:1000"), (1000, 1000, vec![1000], "/".into()));
        assert_eq!(User::id(1000).resolve(b"", b"").unwrap().name, None);
    }

    #[test]
    fn a_group_that_is_given_is_the_only_one() {
        assert_eq!(resolve("www:adm"), (33, 4, vec![4], "/var/www".into()));
        assert_eq!(resolve("1000:audio"), (1000, 29, vec![29], "/".into()));
        assert_eq!(resolve("www:77"), (33, 77, vec![77], "/var/www".into()), "no such group: the number");
    }

    #[test]
    fn supplementary_groups_that_are_given_are_exactly_those() {
        let groups = |user: User| user.resolve(PASSWD, GROUP).unwrap().groups;
        assert_eq!(groups(User::named("www").groups(["audio", "7", "audio"])), [29, 7]);
        assert_eq!(groups(User::named("www").groups(Vec::<u32>::new())), [0u32; 0]);
        assert_eq!(groups(User::named("www").group("adm").groups([9])), [9]);
    }

    #[test]
    fn a_name_that_is_not_there_is_an_error_that_names_it() {
        for (user, said) in [
            (User::named("nobody"), "user `nobody`: not in /etc/passwd of the container's root"),
            (User::id(1).group("staff"), "group `staff`: not in /etc/group of the container's root"),
            (User::id(1).groups(["staff"]), "group `staff`: not in /etc/group of the container's root"),
        ] {
            let error = user.resolve(PASSWD, GROUP).unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::NotFound, said));
        }
    }

    #[test]
    fn more_groups_than_the_kernel_takes_are_an_error_and_not_fewer_groups() {
        let text = |count: u32| (1..=count).map(|gid| format!("g:x:{gid}:www\n")).collect::<String>();
        let most = User::named("www").resolve(PASSWD, text(MOST_GROUPS as u32).as_bytes()).unwrap();
        assert_eq!(most.groups.len(), MOST_GROUPS);
        let error = User::named("www").resolve(PASSWD, text(MOST_GROUPS as u32 + 1).as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    }

    #[test]
    fn a_mebibyte_of_anything_takes_no_time() {
        let start = std::time::Instant::now();
        for unit in [":", ",", "\n", "a:x:1:www,", "a:x:1:www\n", "www", "\0", "#"] {
            let text = unit.repeat((1 << 20) / unit.len());
            let names: Vec<String> = (0..1000).map(|n| format!("g{n}")).collect();
            User::named("www").resolve(text.as_bytes(), text.as_bytes()).err();
            User::id(1).groups(names).resolve(text.as_bytes(), text.as_bytes()).err();
        }
        // An unoptimised build on a busy machine; quadratic would be hours.
        assert!(start.elapsed().as_secs() < 30);
    }
}
