//! Which processors and memory nodes a group uses.

use std::collections::BTreeSet;

use super::Limits;

/// What a group wants of the cpuset controller.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub(crate) struct Cpuset {
    pub(crate) cpus: Option<BTreeSet<u32>>,
    pub(crate) nodes: Option<BTreeSet<u32>>,
    pub(crate) partition: Option<Partition>,
}

/// Whether a group's processors are its own: `cpuset.cpus.partition`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Partition {
    /// They are shared with the group above.
    Member,
    /// They are taken from the group above, with a scheduling domain of their own.
    Root,
    /// As [`Root`](Self::Root), and the scheduler balances nothing between them. Linux 6.1.
    Isolated,
}

impl Partition {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Root => "root",
            Self::Isolated => "isolated",
        }
    }
}

impl Limits {
    /// The processors that the group runs on, by number. `cpuset.cpus`.
    ///
    /// ```
    /// use isolate_cgroups::Limits;
    ///
    /// Limits::new().cpuset(0..2).validate()?;
    /// # Ok::<(), isolate_cgroups::Error>(())
    /// ```
    pub fn cpuset(mut self, processors: impl IntoIterator<Item = u32>) -> Self {
        self.cpuset.cpus = Some(processors.into_iter().collect());
        self
    }

    /// The memory nodes that the group uses, by number. `cpuset.mems`.
    pub fn memory_nodes(mut self, nodes: impl IntoIterator<Item = u32>) -> Self {
        self.cpuset.nodes = Some(nodes.into_iter().collect());
        self
    }

    /// Whether the processors of [`cpuset`](Self::cpuset) are taken away from the group above. `cpuset.cpus.partition`.
    pub fn cpuset_partition(mut self, partition: Partition) -> Self {
        self.cpuset.partition = Some(partition);
        self
    }
}

/// As the kernel prints a set: `0-2,5`.
pub(crate) fn list(numbers: &BTreeSet<u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let text = |(first, last): (u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    runs.into_iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_written_in_runs() {
        for (numbers, text) in [(&[][..], ""), (&[3], "3"), (&[2, 0, 1], "0-2"), (&[0, 2, 3, 7], "0,2-3,7")] {
            assert_eq!(list(&numbers.iter().copied().collect()), text);
        }
        assert_eq!(list(&BTreeSet::from([u32::MAX - 1, u32::MAX])), "4294967294-4294967295");
    }
}
