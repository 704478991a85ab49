//! Which controllers this machine has, and where (cgroups(7)).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Whether cgroup v2 has all these controllers.
pub(crate) fn v2_has(wanted: &[&str]) -> bool {
    mounts("cgroup2").first().is_some_and(|(path, _)| {
        let text = std::fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
        wanted.iter().all(|controller| text.split_whitespace().any(|word| word == *controller))
    })
}

/// Whether cgroup v1 has all these controllers.
pub(crate) fn v1_has(wanted: &[&str]) -> bool {
    let mounts = mounts("cgroup");
    wanted
        .iter()
        .all(|controller| mounts.iter().any(|(_, options)| options.split(',').any(|o| o == *controller)))
}

/// Groups at the top of any hierarchy whose names begin as those of these crates do.
pub(crate) fn groups() -> BTreeSet<PathBuf> {
    let tops = mounts("cgroup2").into_iter().chain(mounts("cgroup"));
    tops.flat_map(|(path, _)| std::fs::read_dir(path).into_iter().flatten().flatten())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("isolate"))
        .map(|entry| entry.path())
        .collect()
}

/// Whether no process is in the group.
pub(crate) fn is_empty(group: &Path) -> bool {
    std::fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|text| text.trim().is_empty())
}

fn mounts(kind: &str) -> Vec<(PathBuf, String)> {
    let text = std::fs::read_to_string("/proc/thread-self/mounts").unwrap_or_default();
    let of_kind = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        (words.get(2) == Some(&kind))
            .then(|| (PathBuf::from(words[1]), words.get(3).copied().unwrap_or("").to_owned()))
    };
    text.lines().filter_map(of_kind).collect()
}
