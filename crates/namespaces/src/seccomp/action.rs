//! What becomes of a system call.

use libc::{
    SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_LOG, SECCOMP_RET_TRAP,
};

/// What becomes of a system call (seccomp(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SeccompAction {
    /// It is made.
    Allow,
    /// It is not made, and fails with this errno, 0 to 4095. With 0 it seems to succeed.
    Errno(i32),
    /// It is not made, and the thread gets SIGSYS, which a handler may take.
    Trap,
    /// It is made, and written to the audit log if `log` is in `/proc/sys/kernel/seccomp/actions_logged`.
    Log,
    /// The process ends as by SIGSYS, whatever it handles.
    Kill,
}

impl SeccompAction {
    /// What a filter returns for it.
    pub(super) fn word(self) -> u32 {
        match self {
            Self::Allow => SECCOMP_RET_ALLOW,
            Self::Errno(errno) => SECCOMP_RET_ERRNO | errno.unsigned_abs(),
            Self::Trap => SECCOMP_RET_TRAP,
            Self::Log => SECCOMP_RET_LOG,
            Self::Kill => SECCOMP_RET_KILL_PROCESS,
        }
    }

    pub(super) fn lets_through(self) -> bool {
        matches!(self, Self::Allow | Self::Log)
    }

    /// Why it cannot be, if so. The kernel would make a greater number to 4095.
    pub(super) fn fault(self) -> Option<String> {
        match self {
            Self::Errno(errno) if !(0..=4095).contains(&errno) => {
                Some(format!("errno {errno}: not from 0 to 4095"))
            }
            _ => None,
        }
    }
}
