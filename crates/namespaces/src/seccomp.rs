//! Filters of system calls.

mod action;
mod assemble;
mod condition;
mod numbers;
mod profile;
mod rules;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};
use rules::{Rules, X32};

pub use action::SeccompAction;
pub use condition::SeccompCondition;

/// The most instructions that the kernel takes (BPF_MAXINSNS in linux/bpf_common.h).
const MOST: usize = 4096;

/// Which system calls a program may make: a filter for seccomp(2), ready to be loaded. Cheap to clone.
///
/// A program under it cannot take it off, and what it starts has it too. Calls by another entry than that of the native
/// architecture (32-bit ones, x32) fail with ENOSYS under every filter, since they have numbers of their own.
///
/// ```
/// use isolate_namespaces::{Seccomp, SeccompAction};
/// # fn main() -> isolate_namespaces::Result<()> {
/// let usual = Seccomp::default_profile();
/// let for_debuggers = Seccomp::default_profile_with().allow("ptrace").build()?;
/// let without_bpf = Seccomp::builder(SeccompAction::Allow).deny("bpf", libc::EPERM).build()?;
/// # Ok(()) }
/// ```
///
/// It cannot look at what a pointer points to: at names of files, at addresses of sockets, at the flags of clone3(2).
#[derive(Clone, PartialEq, Eq)]
#[must_use = "a filter does nothing until a program is started with it"]
pub struct Seccomp {
    /// An array of sock_filter.
    program: Arc<[u8]>,
}

impl Seccomp {
    /// The filter for a program that is not trusted: an allow-list of some 300 calls, in the shape of Docker's.
    ///
    /// - What is not on it fails with EPERM; what Linux 6.18 has not got, and clone3(2), with ENOSYS.
    /// - No new namespaces, mounts, kernel modules, BPF, io_uring, keyrings or performance counters; nothing that reaches
    ///   into another process, as ptrace(2); no chroot(2), nor files by handles. Capabilities do not change that.
    /// - socket(2) makes those of AF_UNIX, AF_INET, AF_INET6 and of netlink's NETLINK_ROUTE; another protocol of netlink is
    ///   EPROTONOSUPPORT, another family EPERM.
    /// - ioctl(2) with TIOCSTI, TIOCLINUX or TIOCSETD, which type into a terminal or change its driver, is EPERM.
    /// - personality(2) takes PER_LINUX and PER_LINUX32.
    ///
    /// It is made once a process.
    pub fn default_profile() -> Self {
        static PROFILE: OnceLock<Seccomp> = OnceLock::new();
        PROFILE.get_or_init(|| Self::assemble(&profile::rules())).clone()
    }

    /// The [default profile](Self::default_profile), to be changed.
    ///
    /// ```
    /// use isolate_namespaces::{Seccomp, SeccompAction, SeccompCondition};
    /// # fn main() -> isolate_namespaces::Result<()> {
    /// let vsock = SeccompCondition::equals(0, libc::AF_VSOCK as u32);
    /// let filter = Seccomp::default_profile_with()
    ///     .allow("userfaultfd")
    ///     .deny("mknodat", libc::EPERM)
    ///     .rule_if("socket", [vsock], SeccompAction::Allow)
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    pub fn default_profile_with() -> SeccompBuilder {
        SeccompBuilder { base: profile::rules(), default: None, added: Vec::new() }
    }

    /// A filter from nothing: calls without a rule come to `default`. Those that Linux 6.18 has not got do so only if
    /// that lets them through; else they fail with ENOSYS, after which C libraries try an older one.
    ///
    /// The program is started under the filter, so it must allow at least write(2), execve(2) and exit_group(2).
    ///
    /// ```
    /// use isolate_namespaces::{Seccomp, SeccompAction};
    /// # fn main() -> isolate_namespaces::Result<()> {
    /// let filter = Seccomp::builder(SeccompAction::Kill)
    ///     .allow_each(["read", "write", "execve", "exit_group", "brk", "mmap", "munmap"])
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    pub fn builder(default: SeccompAction) -> SeccompBuilder {
        SeccompBuilder { base: Rules::new(default), default: Some(default), added: Vec::new() }
    }

    /// The array of sock_filter for sock_fprog (seccomp(2)), as the kernel reads it.
    #[must_use]
    pub fn program(&self) -> &[u8] {
        &self.program
    }

    /// How many instructions it has: 4096 at most.
    pub(crate) fn len(&self) -> usize {
        self.program.len() / size_of::<libc::sock_filter>()
    }

    /// From what [`program`](Self::program) gives; none where it cannot be one for its length.
    #[cfg(feature = "serde")]
    pub(crate) fn of_program(bytes: &[u8]) -> Option<Self> {
        const INSTRUCTION: usize = size_of::<libc::sock_filter>();
        let fits =
            !bytes.is_empty() && bytes.len().is_multiple_of(INSTRUCTION) && bytes.len() / INSTRUCTION <= MOST;
        fits.then(|| Self { program: bytes.into() })
    }

    fn assemble(rules: &Rules) -> Self {
        let instructions = assemble::assemble(rules);
        let bytes = instructions.iter().flat_map(|instruction| {
            let ([c0, c1], [k0, k1, k2, k3]) = (instruction.code.to_ne_bytes(), instruction.k.to_ne_bytes());
            [c0, c1, instruction.jt, instruction.jf, k0, k1, k2, k3]
        });
        Self { program: bytes.collect() }
    }
}

/// How long it is.
impl fmt::Debug for Seccomp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seccomp({} instructions)", self.len())
    }
}

/// A filter to be: rules for system calls by name or number. Of the rules of one call the last one that holds decides,
/// so one without conditions undoes what was said before.
#[derive(Clone, Debug)]
#[must_use = "a description does nothing until it is built"]
pub struct SeccompBuilder {
    base: Rules,
    /// Of a filter from nothing, to be checked.
    default: Option<SeccompAction>,
    added: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    call: SystemCall,
    conditions: Vec<SeccompCondition>,
    action: SeccompAction,
}

impl SeccompBuilder {
    /// The call is made, whatever its arguments are.
    pub fn allow(self, call: impl Into<SystemCall>) -> Self {
        self.rule(call, SeccompAction::Allow)
    }

    /// As [`allow`](Self::allow), for several calls.
    pub fn allow_each(self, calls: impl IntoIterator<Item = impl Into<SystemCall>>) -> Self {
        calls.into_iter().fold(self, Self::allow)
    }

    /// The call is not made and fails with this errno, whatever its arguments are.
    pub fn deny(self, call: impl Into<SystemCall>, errno: i32) -> Self {
        self.rule(call, SeccompAction::Errno(errno))
    }

    /// What becomes of the call, whatever its arguments are.
    pub fn rule(self, call: impl Into<SystemCall>, action: SeccompAction) -> Self {
        self.rule_if(call, [], action)
    }

    /// What becomes of the call if all these conditions hold. Where they do not, the rules before it decide.
    pub fn rule_if(
        mut self,
        call: impl Into<SystemCall>,
        conditions: impl IntoIterator<Item = SeccompCondition>,
        action: SeccompAction,
    ) -> Self {
        self.added.push(Rule { call: call.into(), conditions: conditions.into_iter().collect(), action });
        self
    }

    /// The filter.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): a name that no call of this architecture has, up to Linux 6.18;
    /// a number, an errno or a condition that cannot be; or more rules than go into the 4096 instructions that the kernel
    /// takes, which is several hundred with a condition.
    pub fn build(self) -> Result<Seccomp> {
        if let Some(fault) = self.default.and_then(SeccompAction::fault) {
            return Err(Error::invalid(format!("system call filter: {fault}")));
        }
        let mut rules = self.base;
        for Rule { call, conditions, action } in &self.added {
            let fault = conditions.iter().find_map(SeccompCondition::fault).or_else(|| action.fault());
            if let Some(fault) = fault {
                return Err(Error::invalid(format!("system call {call}: {fault}")));
            }
            rules.add(call.number()?, conditions, *action);
        }
        let filter = Seccomp::assemble(&rules);
        if filter.len() > MOST {
            let what = format!("system call filter: {} instructions, more than {MOST}", filter.len());
            return Err(Error::invalid(what).with_hint("fewer rules with conditions"));
        }
        Ok(filter)
    }
}

/// A system call: `"openat"`, or its number on this architecture, for one that is newer than Linux 6.18.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemCall(Which);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    Name(String),
    Number(i64),
}

impl SystemCall {
    fn number(&self) -> Result<u32> {
        match &self.0 {
            Which::Name(name) => numbers::number(name).ok_or_else(|| {
                Error::invalid(format!("system call {name}: no such name on {}", std::env::consts::ARCH))
                    .with_hint("one that is newer than Linux 6.18 can be given by its number")
            }),
            Which::Number(number) => {
                u32::try_from(*number).ok().filter(|&number| number < X32).ok_or_else(|| {
                    Error::invalid(format!("system call {number}: not a number from 0 to {}", X32 - 1))
                })
            }
        }
    }
}

impl From<&str> for SystemCall {
    fn from(name: &str) -> Self {
        Self(Which::Name(name.to_owned()))
    }
}

impl From<String> for SystemCall {
    fn from(name: String) -> Self {
        Self(Which::Name(name))
    }
}

/// As the constants `SYS_*` of libc.
impl From<i64> for SystemCall {
    fn from(number: i64) -> Self {
        Self(Which::Number(number))
    }
}

impl fmt::Display for SystemCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Which::Name(name) => f.write_str(name),
            Which::Number(number) => write!(f, "{number}"),
        }
    }
}
