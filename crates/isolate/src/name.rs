//! Names of containers.

use crate::error::{Error, ErrorKind, Result};

/// HOST_NAME_MAX: a name is the container's host name, too.
const LONGEST: usize = 64;

/// A name that is given, as Docker has them: letters, digits, `_`, `.` and `-`, the first a letter or a digit.
pub(crate) fn check(name: &str) -> Result<()> {
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if first && rest && name.len() <= LONGEST {
        return Ok(());
    }
    let what = format!(
        "name {name:?}: wanted 1 to {LONGEST} letters, digits, `_`, `.` or `-`, the first of them a letter or a digit"
    );
    Err(Error::new(ErrorKind::InvalidConfig, what))
}

/// Twelve hexadecimal digits that nobody has.
pub(crate) fn random() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // RandomState is seeded by getrandom(2) once a thread and counts on; process and time keep two processes apart.
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.write_u128(std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos()));
    format!("{:012x}", hasher.finish() & 0xffff_ffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_be_a_path_or_an_option_is_refused() {
        for bad in ["", ".", "..", "-x", "a/b", "a b", "é", &"x".repeat(65)] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        for good in ["tomcat5", "0", "a_b.c-d"] {
            check(good).unwrap();
        }
    }

    #[test]
    fn random_names_are_names_and_differ() {
        let (a, b) = (random(), random());
        check(&a).unwrap();
        assert_eq!(a.len(), 12);
        assert_ne!(a, b);
    }
}
