//! User and group id maps of a user namespace.

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

    pub(crate) fn has_root(&self) -> bool {
        self.0.iter().any(|line| line.inside == 0 && line.count > 0)
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
