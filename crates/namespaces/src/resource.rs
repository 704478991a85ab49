//! What a process can be limited in.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// What a process can be limited in (getrlimit(2)). The limits are inherited by what it starts. They bind one process,
/// or one user, and not the container as a whole: that is what control groups are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Resource {
    /// The address space, in bytes.
    As,
    /// A core dump, in bytes; 0 for none.
    Core,
    /// Processor time, in seconds: SIGXCPU at the soft limit and each second from there, SIGKILL at the hard one.
    Cpu,
    /// Data segment, heap and private writable mappings, in bytes.
    Data,
    /// A file that is written, in bytes: SIGXFSZ beyond.
    Fsize,
    /// File locks, in number. Without effect since Linux 2.4.25.
    Locks,
    /// Locked memory, in bytes: of the process for mlock(2), of the user for shmctl(2).
    Memlock,
    /// POSIX message queues of the user, in bytes.
    Msgqueue,
    /// The ceiling of the nice value, as 20 minus that value: 1 to 40.
    Nice,
    /// File descriptors: one more than the highest number. At most `fs.nr_open`.
    Nofile,
    /// Tasks of the user. In the initial user namespace it binds neither user 0 nor who has CAP_SYS_ADMIN or
    /// CAP_SYS_RESOURCE.
    Nproc,
    /// Resident memory, in bytes. Without effect since Linux 2.4.30.
    Rss,
    /// The ceiling of the real-time priority: 0 to 99.
    Rtprio,
    /// Processor time under a real-time policy without a blocking system call, in microseconds: SIGXCPU, at last SIGKILL.
    Rttime,
    /// Queued signals of the user, in number.
    Sigpending,
    /// The stack of the main thread, in bytes; arguments and environment have a quarter of it at most (execve(2)).
    Stack,
}

impl Resource {
    /// In the order of the variants: a test holds it. The numbers are those of asm-generic/resource.h.
    const ALL: [(Self, &str, u32); 16] = [
        (Self::As, "as", 9),
        (Self::Core, "core", 4),
        (Self::Cpu, "cpu", 0),
        (Self::Data, "data", 2),
        (Self::Fsize, "fsize", 1),
        (Self::Locks, "locks", 10),
        (Self::Memlock, "memlock", 8),
        (Self::Msgqueue, "msgqueue", 12),
        (Self::Nice, "nice", 13),
        (Self::Nofile, "nofile", 7),
        (Self::Nproc, "nproc", 6),
        (Self::Rss, "rss", 5),
        (Self::Rtprio, "rtprio", 14),
        (Self::Rttime, "rttime", 15),
        (Self::Sigpending, "sigpending", 11),
        (Self::Stack, "stack", 3),
    ];

    /// The name of the constant without `RLIMIT_`, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// The number for prlimit64(2).
    pub(crate) fn number(self) -> u32 {
        Self::ALL[self as usize].2
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The name in either case, with or without `RLIMIT_`: `nofile`, `RLIMIT_NOFILE`.
///
/// # Errors
///
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a name that getrlimit(2) has not.
impl FromStr for Resource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let lower = text.trim().to_ascii_lowercase();
        let name = lower.strip_prefix("rlimit_").unwrap_or(&lower);
        let known = Self::ALL.iter().find(|(_, known, _)| *known == name);
        known.map(|(resource, ..)| *resource).ok_or_else(|| {
            Error::invalid(format!("resource `{text}`: there is none of that name"))
                .with_hint("the names are those of getrlimit(2), like nofile, nproc or memlock")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_has_one_name_and_one_number() {
        let mut numbers = Vec::new();
        for (place, (resource, name, number)) in Resource::ALL.into_iter().enumerate() {
            assert_eq!(resource as usize, place, "{name}");
            assert_eq!((resource.name(), resource.number()), (name, number));
            assert_eq!(name.parse::<Resource>().unwrap(), resource);
            assert_eq!(format!(" RLIMIT_{name}").parse::<Resource>().unwrap(), resource);
            assert_eq!(format!("{resource:?}").to_lowercase(), name);
            numbers.push(number);
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..16).collect::<Vec<_>>());
    }

    #[test]
    fn the_numbers_are_the_kernels() {
        // Unsigned in glibc and signed in musl, so by way of text.
        for (resource, number) in [
            (Resource::As, libc::RLIMIT_AS.to_string()),
            (Resource::Core, libc::RLIMIT_CORE.to_string()),
            (Resource::Cpu, libc::RLIMIT_CPU.to_string()),
            (Resource::Data, libc::RLIMIT_DATA.to_string()),
            (Resource::Fsize, libc::RLIMIT_FSIZE.to_string()),
            (Resource::Locks, libc::RLIMIT_LOCKS.to_string()),
            (Resource::Memlock, libc::RLIMIT_MEMLOCK.to_string()),
            (Resource::Msgqueue, libc::RLIMIT_MSGQUEUE.to_string()),
            (Resource::Nice, libc::RLIMIT_NICE.to_string()),
            (Resource::Nofile, libc::RLIMIT_NOFILE.to_string()),
            (Resource::Nproc, libc::RLIMIT_NPROC.to_string()),
            (Resource::Rss, libc::RLIMIT_RSS.to_string()),
            (Resource::Rtprio, libc::RLIMIT_RTPRIO.to_string()),
            (Resource::Rttime, libc::RLIMIT_RTTIME.to_string()),
            (Resource::Sigpending, libc::RLIMIT_SIGPENDING.to_string()),
            (Resource::Stack, libc::RLIMIT_STACK.to_string()),
        ] {
            assert_eq!(resource.number().to_string(), number, "{resource}");
        }
    }

    #[test]
    fn what_is_no_resource_is_refused_with_its_text() {
        for text in ["", "files", "rlimit_", "rlimit_rlimit_core", "RLIM_NLIMITS"] {
            let error = text.parse::<Resource>().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidInput, "{text}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
