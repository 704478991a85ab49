//! What a group may be called.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::mountinfo::Mounts;
use crate::{Error, Result};

/// The longest file name of a Linux file system.
const COMPONENT_MAX: usize = 255;

/// The checked name of a group, relative to its hierarchy's root: one component or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(Vec<OsString>);

impl Name {
    pub(crate) fn parse(path: &Path) -> Result<Self> {
        let refuse = |why: &str| Err(Error::invalid(format!("cgroup name `{}`: {why}", path.display())));
        let bytes = path.as_os_str().as_bytes();
        if bytes.is_empty() {
            return refuse("empty");
        }
        if bytes.starts_with(b"/") {
            return refuse("not relative to the hierarchy's root");
        }
        // Path::components would drop `a//b`, `a/.` and a last slash in silence.
        for component in bytes.split(|byte| *byte == b'/') {
            match component {
                b"" => return refuse("a component is empty"),
                b"." | b".." => return refuse("`.` and `..` are not names"),
                _ if component.len() > COMPONENT_MAX => {
                    return refuse("a component is longer than 255 bytes");
                }
                _ if component.starts_with(b"cgroup.") => {
                    return refuse("`cgroup.` begins the kernel's own files");
                }
                // The kernel refuses it too: /proc/PID/cgroup could not be read.
                _ if component.iter().any(|byte| matches!(byte, b'\n' | 0)) => {
                    return refuse("contains a newline or NUL");
                }
                _ => {}
            }
        }
        Ok(Self(bytes.split(|byte| *byte == b'/').map(|part| OsStr::from_bytes(part).to_owned()).collect()))
    }

    /// The same, or of a group by its path in the hierarchy of cgroup v2.
    pub(crate) fn of(mounts: &Mounts, path: &Path) -> Result<Self> {
        let relative = mounts.v2().and_then(|mount| path.strip_prefix(&mount.point).ok());
        Self::parse(relative.unwrap_or(path))
    }

    /// The components above the last.
    pub(crate) fn parents(&self) -> &[OsString] {
        self.0.split_last().map_or(&[], |(_, parents)| parents)
    }

    pub(crate) fn components(&self) -> &[OsString] {
        &self.0
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;

    #[test]
    fn names_that_would_leave_the_hierarchy_or_shadow_its_files_are_refused() {
        let long = "x".repeat(256);
        for name in [
            "",
            "/",
            "/a",
            "..",
            "a/..",
            "../a",
            ".",
            "a/./b",
            "a//b",
            "a/",
            "cgroup.procs",
            "a/cgroup.x",
            "a\nb",
            "a\0",
            &long,
        ] {
            let error = Name::parse(Path::new(name)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
            assert!(error.to_string().starts_with("cgroup name `"), "{error}");
        }
    }

    #[test]
    fn plain_and_nested_names_are_taken_apart() {
        let name = Name::parse(Path::new("a/b.slice/c-1")).unwrap();
        assert_eq!(name.parents(), ["a", "b.slice"]);
        assert_eq!(name.components(), ["a", "b.slice", "c-1"]);
        assert_eq!(name.path(), Path::new("a/b.slice/c-1"));
        let plain = Name::parse(Path::new("..a")).unwrap();
        assert!(plain.parents().is_empty());
        assert!(Name::parse(Path::new(&"x".repeat(255))).is_ok());
    }

    proptest! {
        #[test]
        fn a_name_that_is_taken_stays_below_the_root(text in "[a./\n-]{0,12}") {
            if let Ok(name) = Name::parse(Path::new(&text)) {
                prop_assert_eq!(name.path(), Path::new(&text));
                prop_assert!(name.path().components().all(|part| matches!(part, std::path::Component::Normal(_))));
            }
        }
    }
}
