//! How far a process may go with a resource.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::resource::Resource;

/// A limit of a [`Resource`], in its unit: the soft one binds, and the process may raise it up to the hard one. Raising
/// that wants CAP_SYS_RESOURCE in the initial user namespace.
///
/// ```
/// use isolate_namespaces::ResourceLimit;
/// assert_eq!(ResourceLimit::from(1024), "1024".parse()?);
/// assert_eq!(ResourceLimit::new(1024, ResourceLimit::INFINITY), "1024:unlimited".parse()?);
/// # Ok::<(), isolate_namespaces::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResourceLimit {
    soft: u64,
    hard: u64,
}

impl ResourceLimit {
    /// The number that stands for no limit, `RLIM_INFINITY`.
    pub const INFINITY: u64 = u64::MAX;
    /// No limit, neither soft nor hard.
    pub const UNLIMITED: Self = Self::new(Self::INFINITY, Self::INFINITY);

    /// A soft limit and a hard one. A soft limit above the hard one is an error where the limit is used.
    #[must_use]
    pub const fn new(soft: u64, hard: u64) -> Self {
        Self { soft, hard }
    }

    /// The one that binds.
    #[must_use]
    pub const fn soft(self) -> u64 {
        self.soft
    }

    /// The ceiling of the soft one.
    #[must_use]
    pub const fn hard(self) -> u64 {
        self.hard
    }

    /// What the kernel would answer with EINVAL.
    pub(crate) fn check(self) -> Result<()> {
        if self.soft <= self.hard {
            return Ok(());
        }
        let Self { soft, hard } = self;
        Err(Error::invalid(format!(
            "limit {self}: the soft limit {} is above the hard one {}",
            Number(soft),
            Number(hard)
        )))
    }
}

/// Soft and hard alike.
impl From<u64> for ResourceLimit {
    fn from(both: u64) -> Self {
        Self::new(both, both)
    }
}

/// `1024:2048`, soft and hard; `1024` if they are the same; `unlimited` for none.
impl fmt::Display for ResourceLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.soft == self.hard {
            write!(f, "{}", Number(self.soft))
        } else {
            write!(f, "{}:{}", Number(self.soft), Number(self.hard))
        }
    }
}

/// `1024:2048`, or one number for both; `unlimited` or `-1` for none.
///
/// # Errors
///
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for anything else, and for a soft limit above the hard one.
impl FromStr for ResourceLimit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        let number = |part: &str| Number::read(part.trim());
        let limit =
            number(soft).zip(number(hard)).map(|(soft, hard)| Self::new(soft, hard)).ok_or_else(|| {
                Error::invalid(format!("limit `{text}`: not a soft and a hard limit"))
                    .with_hint("write it like 1024, 1024:2048 or 1024:unlimited")
            })?;
        limit.check()?;
        Ok(limit)
    }
}

/// One of the two, in words.
struct Number(u64);

impl Number {
    fn read(text: &str) -> Option<u64> {
        if text == "-1" || text.eq_ignore_ascii_case("unlimited") {
            return Some(ResourceLimit::INFINITY);
        }
        // `u64` would read a plus sign as well.
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ResourceLimit::INFINITY => f.write_str("unlimited"),
            number => write!(f, "{number}"),
        }
    }
}

/// A resource with its limit, in the words of Docker's `--ulimit`.
///
/// ```
/// use isolate_namespaces::{Resource, ResourceLimit, Ulimit};
/// let ulimit: Ulimit = "nofile=1024:2048".parse()?;
/// assert_eq!(ulimit.resource, Resource::Nofile);
/// assert_eq!(ulimit.limit, ResourceLimit::new(1024, 2048));
/// # Ok::<(), isolate_namespaces::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ulimit {
    /// What is limited.
    pub resource: Resource,
    /// How far.
    pub limit: ResourceLimit,
}

impl From<Ulimit> for (Resource, ResourceLimit) {
    fn from(ulimit: Ulimit) -> Self {
        (ulimit.resource, ulimit.limit)
    }
}

/// `nofile=1024:2048`. Reading it gives the same, unless the soft limit is above the hard one.
impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.resource, self.limit)
    }
}

/// `nofile=1024:2048`, `core=0`, `memlock=-1:-1`. The numbers are the kernel's, in the unit of each resource.
///
/// # Errors
///
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) as for [`Resource`] and [`ResourceLimit`], or without `=`.
impl FromStr for Ulimit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (resource, limit) = text.split_once('=').ok_or_else(|| {
            Error::invalid(format!("limit `{text}`: not a resource and its limit"))
                .with_hint("write it like nofile=1024:2048")
        })?;
        Ok(Self { resource: resource.parse()?, limit: limit.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;

    #[test]
    fn limits_are_read_as_people_write_them() {
        let infinity = ResourceLimit::INFINITY;
        for (text, soft, hard) in [
            ("nofile=1024:2048", 1024, 2048),
            ("nofile=1024", 1024, 1024),
            ("NOFILE=0:0", 0, 0),
            ("rlimit_nofile = 5 : 6 ", 5, 6),
            ("nofile=-1", infinity, infinity),
            ("nofile=1:-1", 1, infinity),
            ("nofile=Unlimited", infinity, infinity),
        ] {
            let (resource, limit) = text.parse::<Ulimit>().unwrap().into();
            assert_eq!((resource, limit.soft(), limit.hard()), (Resource::Nofile, soft, hard), "{text}");
        }
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for text in [
            "",
            "nofile",
            "=1",
            "files=1",
            "nofile=",
            "nofile=1:",
            "nofile=:1",
            "nofile=1:2:3",
            "nofile=-2",
            "nofile=+1",
            "nofile=1k",
            "nofile=2:1",
            "nofile=-1:1",
            "nofile=99999999999999999999",
        ] {
            let error = text.parse::<Ulimit>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        }
    }

    #[test]
    fn a_soft_limit_above_the_hard_one_is_an_error_that_says_so() {
        let error = ResourceLimit::new(u64::MAX, 7).check().unwrap_err();
        assert_eq!(error.to_string(), "limit unlimited:7: the soft limit unlimited is above the hard one 7");
        assert!(ResourceLimit::new(7, 7).check().is_ok());
        assert!(ResourceLimit::UNLIMITED.check().is_ok());
    }

    proptest! {
        #[test]
        fn a_limit_survives_writing_and_reading(a: u64, b: u64) {
            let limit = ResourceLimit::new(a.min(b), a.max(b));
            let ulimit = Ulimit { resource: Resource::Nofile, limit };
            prop_assert_eq!(ulimit.to_string().parse::<Ulimit>().unwrap(), ulimit);
        }

        #[test]
        fn any_text_is_a_limit_or_an_error_and_never_a_panic(text in "(nofile=)?.{0,24}") {
            let _ = text.parse::<Ulimit>();
        }
    }
}
