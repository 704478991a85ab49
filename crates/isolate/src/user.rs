//! Whom a container's program runs as: users and groups by number or by name.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

pub(crate) mod layers;
pub(crate) mod passwd;
mod resolve;

/// The id that setuid(2) and chown(2) take for "leave it as it is": nobody's.
const INVALID: u32 = u32::MAX;
/// LOGIN_NAME_MAX without its NUL (limits.h; sysconf(3)).
const LONGEST: usize = 255;

/// Whom a program runs as inside: a user, a group, and supplementary groups. Numbers are those that the container sees.
///
/// Names are looked up in `/etc/passwd` and `/etc/group` **of the container's root**, without any name service. Nothing is
/// checked before the start, but by [`str::parse`].
///
/// - **Group:** unless it is given, the one that `/etc/passwd` lists for the user; 0 where the user is a number that is
///   not listed.
/// - **Supplementary groups:** unless [`groups`](Self::groups) gives them, or a group is given, those that `/etc/group` lists
///   the user in; and the user's own group, as initgroups(3) has it.
///
/// ```
/// use isolate::User;
///
/// let by_number = User::id_and_group(1000, 1000);
/// let by_name = User::named("www-data").groups(["adm", "ssl-cert"]);
/// // Docker's forms: `1000`, `1000:1000`, `www-data`, `www-data:adm`, `1000:adm`.
/// assert_eq!("1000:1000".parse::<User>()?, by_number);
/// assert_eq!(User::from("www-data").groups(["adm", "ssl-cert"]), by_name);
/// // -1 is no id: the kernel's calls take it for "leave it as it is".
/// assert!("4294967295".parse::<User>().is_err());
/// # Ok::<(), isolate::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use = "a description of a user changes nothing"]
pub struct User {
    user: Who,
    #[serde(default)]
    group: Option<Group>,
    #[serde(default)]
    groups: Option<Vec<Group>>,
}

/// A group inside, by number or by name (of the container's `/etc/group`): what [`User::group`] and [`User::groups`] take.
///
/// ```
/// use isolate::{Group, User};
/// let mixed = User::id(1000).groups([Group::from(44), Group::from("audio")]);
/// # let _ = mixed;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Group(Who);

/// A number or a text, as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Who {
    Id(u32),
    Name(String),
}

/// What the numbers are in one root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub uid: u32,
    pub gid: u32,
    /// For setgroups(2), without repetition.
    pub groups: Vec<u32>,
    /// Absolute; `/` where none is listed.
    pub home: PathBuf,
    /// The first name that `/etc/passwd` has for the user.
    pub name: Option<OsString>,
}

impl Resolved {
    /// User 0, whatever the root says of it.
    pub(crate) fn root() -> Self {
        Self { uid: 0, gid: 0, groups: Vec::new(), home: PathBuf::from("/root"), name: None }
    }
}

impl User {
    /// By number. Group and home are those that `/etc/passwd` lists for it, else group 0 and `/`.
    pub fn id(uid: u32) -> Self {
        Self { user: Who::Id(uid), group: None, groups: None }
    }

    /// User and group by number: no name is looked up.
    pub fn id_and_group(uid: u32, gid: u32) -> Self {
        Self::id(uid).group(gid)
    }

    /// By a name in `/etc/passwd`. One that is not there is an error of the start.
    pub fn named(name: impl Into<String>) -> Self {
        Self { user: Who::Name(name.into()), group: None, groups: None }
    }

    /// The group, instead of the one that `/etc/passwd` lists. Without [`groups`](Self::groups) it is the only one (as in
    /// Docker's `user:group`).
    pub fn group(mut self, group: impl Into<Group>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Exactly these supplementary groups, instead of those of `/etc/group`; with an empty list none. At most 65,536.
    pub fn groups(mut self, groups: impl IntoIterator<Item = impl Into<Group>>) -> Self {
        self.groups = Some(groups.into_iter().map(Into::into).collect());
        self
    }

    /// Numbers that are ids, names that can be names.
    pub(crate) fn check(&self) -> Result<()> {
        self.user.check("user")?;
        self.group.iter().chain(self.groups.iter().flatten()).try_for_each(|group| group.0.check("group"))
    }
}

/// `user` or `user:group`, each a number or a name, as Docker's `--user`.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] for an empty part, a number beyond 4294967294, and a name longer than 255 bytes, with a
/// control character, white space or a colon in it, or with a `+`, `-` or `#` before it.
impl FromStr for User {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let user = Self::from(text);
        user.check().map(|()| user)
    }
}

/// As [`str::parse`], but what cannot be is an error of the start.
impl From<&str> for User {
    fn from(text: &str) -> Self {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        Self { user: Who::from(user), group: group.map(Group::from), groups: None }
    }
}

/// As from `&str`.
impl From<String> for User {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

/// As [`User::id`].
impl From<u32> for User {
    fn from(uid: u32) -> Self {
        Self::id(uid)
    }
}

/// As [`User::id_and_group`].
impl From<(u32, u32)> for User {
    fn from((uid, gid): (u32, u32)) -> Self {
        Self::id_and_group(uid, gid)
    }
}

/// By number.
impl From<u32> for Group {
    fn from(gid: u32) -> Self {
        Self(Who::Id(gid))
    }
}

/// By number if it is one, else by name. What cannot be is an error of the start.
impl From<&str> for Group {
    fn from(text: &str) -> Self {
        Self(Who::from(text))
    }
}

/// As from `&str`.
impl From<String> for Group {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&str> for Who {
    fn from(text: &str) -> Self {
        // Digits only: `+1` is a number to `parse`, too. What is too big for one stays as it was written, for `check` to name.
        match text.parse() {
            Ok(id) if all_digits(text) => Self::Id(id),
            _ => Self::Name(text.to_owned()),
        }
    }
}

impl Who {
    fn check(&self, what: &str) -> Result<()> {
        let invalid = |why: String| Err(Error::new(ErrorKind::InvalidConfig, why));
        let name = match self {
            Self::Id(INVALID) => {
                return invalid(format!("{what} {INVALID}: that is -1, which is no id"));
            }
            Self::Id(_) => return Ok(()),
            Self::Name(name) => name,
        };
        if name.is_empty() {
            return invalid(format!("{what}: neither a number nor a name"));
        }
        if name.len() > LONGEST {
            let start: String = name.chars().take(16).collect();
            return invalid(format!("{what} {start:?}…: {} bytes, more than {LONGEST}", name.len()));
        }
        if all_digits(name) {
            return invalid(match name.parse::<u32>() {
                Ok(_) => format!("{what} {name:?}: a number is no name"),
                Err(_) => format!("{what} {name}: beyond {}, the last id", INVALID - 1),
            });
        }
        // What could end a line or a field of the files, the mark of a comment, and those of compat entries (nsswitch.conf(5)).
        let odd = |c: char| c.is_control() || c.is_whitespace() || c == ':' || c == ',';
        if name.starts_with(['+', '-', '#']) || name.contains(odd) {
            return invalid(format!("{what} {name:?}: neither a number nor a name"));
        }
        Ok(())
    }
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Option<ErrorKind> {
        text.parse::<User>().err().map(|e| e.kind())
    }

    #[test]
    fn dockers_forms_are_understood() {
        let name = |name: &str| Who::Name(name.into());
        for (text, user, group) in [
            ("1000", Who::Id(1000), None),
            ("1000:1001", Who::Id(1000), Some(Who::Id(1001))),
            ("www-data", name("www-data"), None),
            ("www-data:adm", name("www-data"), Some(name("adm"))),
            ("1000:adm", Who::Id(1000), Some(name("adm"))),
            ("007", Who::Id(7), None),
            ("4294967294", Who::Id(4_294_967_294), None),
            ("1x", name("1x"), None),
        ] {
            let wanted = User { user, group: group.map(Group), groups: None };
            assert_eq!(text.parse::<User>().unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_neither_a_number_nor_a_name_is_a_typed_error() {
        let (long, longest) = ("x".repeat(256), "x".repeat(255));
        for text in [
            "",
            ":",
            "1000:",
            ":1000",
            "a:b:c",
            "a\0",
            "a:b\0",
            "4294967295",
            "1:4294967295",
            "4294967296",
            "99999999999999999999",
            "1:99999999999",
            "-1",
            "+1",
            "1:-1",
            "a b",
            "a\nb",
            " 1",
            "a,b",
            "#10",
            &long,
        ] {
            assert_eq!(kind(text), Some(ErrorKind::InvalidConfig), "{text:?}");
            // The setter takes it; the start says the same.
            assert!(User::from(text).check().is_err(), "{text:?}");
        }
        assert_eq!(kind(&longest), None);
    }

    #[test]
    fn an_error_names_what_was_given_and_why() {
        let said = |text: &str| text.parse::<User>().unwrap_err().to_string();
        assert_eq!(said("1:4294967295"), "group 4294967295: that is -1, which is no id");
        assert_eq!(said("4294967296"), "user 4294967296: beyond 4294967294, the last id");
        assert!(said(&"y".repeat(5000)).len() < 100, "not the whole of it");
    }

    #[test]
    fn a_setter_takes_what_the_check_refuses() {
        for user in [
            User::id(u32::MAX),
            User::id_and_group(0, u32::MAX),
            User::named("1000"),
            User::named(""),
            User::id(0).groups([u32::MAX]),
            User::id(0).groups(["ok", "not\0ok"]),
        ] {
            assert_eq!(user.check().unwrap_err().kind(), ErrorKind::InvalidConfig, "{user:?}");
        }
        User::named("a").groups(Vec::<u32>::new()).check().unwrap();
    }
}
