//! User and group id maps of a user namespace.

use crate::error::{Error, Result};

/// Lines of `/proc/PID/uid_map` or `gid_map` (user_namespaces(7)).
///
/// ```
/// use isolate_namespaces::IdMap;
/// let map = IdMap::range(0, 100_000, 65_536); // root inside is 100000 outside
/// assert_eq!(map.to_string(), "0 100000 65536\n");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMap(Vec<Line>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    inside: u32,
    outside: Outside,
    count: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outside {
    Id(u32),
    Caller,
}

impl IdMap {
    /// Root inside is the caller outside; every other number has no meaning inside. What an ordinary user may do.
    #[must_use]
    pub fn root_is_caller() -> Self {
        Self(vec![Line { inside: 0, outside: Outside::Caller, count: 1 }])
    }

    /// `count` numbers from `inside` on are those from `outside` on. Wants CAP_SETUID (or CAP_SETGID) outside.
    #[must_use]
    pub fn range(inside: u32, outside: u32, count: u32) -> Self {
        Self(vec![Line { inside, outside: Outside::Id(outside), count }])
    }

    /// As [`root_is_caller`](Self::root_is_caller), and `count` numbers from 1 on are those from `outside` on: the range that subuid(5)
    /// gives an ordinary user. It is written by newuidmap(1) or newgidmap(1).
    #[must_use]
    pub fn root_is_caller_and(outside: u32, count: u32) -> Self {
        Self::root_is_caller().and(1, outside, count)
    }

    /// One more line.
    #[must_use]
    pub fn and(mut self, inside: u32, outside: u32, count: u32) -> Self {
        self.0.push(Line { inside, outside: Outside::Id(outside), count });
        self
    }

    /// The map as the kernel reads it, for a caller with this id.
    pub(crate) fn text(&self, caller: u32) -> String {
        self.0
            .iter()
            .map(|line| {
                let outside = match line.outside {
                    Outside::Id(id) => id,
                    Outside::Caller => caller,
                };
                format!("{} {} {}\n", line.inside, outside, line.count)
            })
            .collect()
    }

    /// Whether the writer needs no privilege: one id, its own.
    pub(crate) fn is_own_id(&self, caller: u32) -> bool {
        matches!(&self.0[..], [Line { outside, count: 1, .. }]
            if matches!(outside, Outside::Caller) || *outside == Outside::Id(caller))
    }

    /// What 0 inside is outside.
    pub(crate) fn root(&self, caller: u32) -> Option<u32> {
        self.0.iter().find(|line| line.inside == 0 && line.count > 0).map(|line| match line.outside {
            Outside::Id(id) => id,
            Outside::Caller => caller,
        })
    }

    /// Whether a number means something inside.
    pub(crate) fn has(&self, inside: u32) -> bool {
        self.0.iter().any(|line| inside.checked_sub(line.inside).is_some_and(|n| n < line.count))
    }

    /// Arguments of newuidmap(1) after the process number.
    pub(crate) fn arguments(&self, caller: u32) -> Vec<String> {
        self.text(caller).split_whitespace().map(str::to_owned).collect()
    }

    pub(crate) fn has_root(&self) -> bool {
        self.has(0)
    }
}

/// Lines as the kernel shows them, three numbers each; the caller's own id as `self`. No number may mean two.
impl std::str::FromStr for IdMap {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        /// UID_GID_MAP_MAX_EXTENTS of Linux.
        const MOST: usize = 340;
        let bad = |line: &str, why: &str| Error::invalid(format!("id map line {line:?}: {why}"));
        let mut lines: Vec<Line> = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let words: Vec<_> = line.split_whitespace().collect();
            let [inside, outside, count] = words[..] else { return Err(bad(line, "wanted three numbers")) };
            let number = |word: &str| word.parse::<u32>().map_err(|_| bad(line, "not a number below 2^32"));
            let outside = if outside == "self" { Outside::Caller } else { Outside::Id(number(outside)?) };
            let one = Line { inside: number(inside)?, outside, count: number(count)? };
            let first = match one.outside {
                Outside::Id(id) => id,
                Outside::Caller => 0,
            };
            if one.count == 0 || [one.inside, first].iter().any(|id| id.checked_add(one.count).is_none()) {
                return Err(bad(line, "a count that is 0 or leads beyond the last number"));
            }
            if lines.len() == MOST {
                return Err(bad(line, "more lines than the 340 that the kernel takes"));
            }
            lines.push(one);
        }
        lines.first().ok_or_else(|| Error::invalid("id map: no line"))?;
        let mut ranges: Vec<_> = lines.iter().map(|line| (line.inside, line.inside + line.count)).collect();
        ranges.sort_unstable();
        if ranges.windows(2).any(|pair| pair[0].1 > pair[1].0) {
            return Err(Error::invalid("id map: a number inside means two outside"));
        }
        Ok(Self(lines))
    }
}

/// The lines; the caller's own id as `self`.
impl std::fmt::Display for IdMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in &self.0 {
            match line.outside {
                Outside::Id(id) => writeln!(f, "{} {id} {}", line.inside, line.count)?,
                Outside::Caller => writeln!(f, "{} self {}", line.inside, line.count)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_again_and_nonsense_is_an_error() {
        for map in [IdMap::range(0, 100_000, 65_536), IdMap::root_is_caller_and(200_000, 65_535)] {
            assert_eq!(map.to_string().parse::<IdMap>().unwrap(), map);
        }
        for bad in ["", "0 1", "0 1 0", "0 4294967295 2", "a b c", "0 1 2 3", "0 1 5\n4 100 1"] {
            bad.parse::<IdMap>().unwrap_err();
        }
        let map = IdMap::range(0, 100_000, 10);
        assert!(map.has(9) && !map.has(10));
        assert_eq!(map.root(5), Some(100_000));
        assert_eq!(IdMap::root_is_caller().root(5), Some(5));
    }
}
