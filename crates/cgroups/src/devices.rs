//! Which device nodes a group may use: rules, and the program that the kernel asks (cgroup-v2.rst, "Device controller").

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use crate::{Error, ErrorKind, Result, bpf};

/// A kind of device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    /// A block device.
    Block,
    /// A character device.
    Character,
}

/// What may be done with some devices; everything that no rule allows is refused with `EPERM`.
///
/// It is read and written as in Docker's `--device-cgroup-rule` and the kernel's `devices.allow`.
///
/// ```
/// use isolate_cgroups::DeviceRule;
///
/// let null: DeviceRule = "c 1:3 rwm".parse()?;
/// assert_eq!(null, DeviceRule::character(1, 3));
/// assert_eq!(DeviceRule::block(8, None).read_only().to_string(), "b 8:* r");
/// # Ok::<(), isolate_cgroups::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceRule {
    kind: DeviceKind,
    major: Option<u32>,
    minor: Option<u32>,
    access: u32,
}

/// Access as the kernel counts it: include/uapi/linux/bpf.h, `BPF_DEVCG_ACC_*`.
const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const ALL: u32 = MKNOD | READ | WRITE;

/// Loads the program of these rules and attaches it to a group, instead of the one that was `attached`.
pub(crate) fn allow(
    group: BorrowedFd<'_>,
    rules: &[DeviceRule],
    attached: &Mutex<Option<OwnedFd>>,
) -> Result<()> {
    /// The kernel takes 4096 instructions of everybody (`BPF_MAXINSNS`).
    const MOST: usize = 400;
    if rules.len() > MOST {
        return Err(Error::invalid(format!("{} rules, the most is {MOST}", rules.len())));
    }
    let program = bpf::load(&program(rules)).map_err(refused)?;
    let mut attached = attached.lock().unwrap_or_else(PoisonError::into_inner);
    bpf::attach(group, &program, attached.as_ref()).map_err(refused)?;
    *attached = Some(program);
    Ok(())
}

/// What bpf(2) means by an error.
fn refused(errno: Errno) -> Error {
    let error = Error::os("bpf(2)", errno);
    match errno {
        Errno::INVAL | Errno::NOSYS => Error::new(ErrorKind::Unsupported, error.to_string())
            .with_hint("use a kernel with CONFIG_CGROUP_BPF"),
        Errno::PERM => error.with_hint(
            "bpf(2) wants CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, and no seccomp filter in its way",
        ),
        _ => error,
    }
}

impl DeviceRule {
    /// Character devices: `None` stands for all numbers. They may be read, written and made.
    #[must_use]
    pub fn character(major: impl Into<Option<u32>>, minor: impl Into<Option<u32>>) -> Self {
        Self { kind: DeviceKind::Character, major: major.into(), minor: minor.into(), access: ALL }
    }

    /// Block devices, in the same way.
    #[must_use]
    pub fn block(major: impl Into<Option<u32>>, minor: impl Into<Option<u32>>) -> Self {
        Self { kind: DeviceKind::Block, ..Self::character(major, minor) }
    }

    /// Whether this process may limit the devices of a group: it loads a program, and closes it again.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::allow_devices`](crate::Cgroup::allow_devices).
    pub fn supported() -> Result<()> {
        bpf::load(&program(&[])).map(drop).map_err(refused)
    }

    /// Opened for reading alone.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.access = READ;
        self
    }

    /// Opened for reading and writing, but not made by mknod(2).
    #[must_use]
    pub fn without_mknod(mut self) -> Self {
        self.access &= !MKNOD;
        self
    }

    /// What a container has of its own: null, zero, full, random, urandom, tty, its console and its terminals. They may be made, too: what makes
    /// its /dev is in the group already.
    #[must_use]
    pub fn container() -> [Self; 9] {
        const NODES: [(u32, Option<u32>); 9] = [
            (1, Some(3)),
            (1, Some(5)),
            (1, Some(7)),
            (1, Some(8)),
            (1, Some(9)),
            (5, Some(0)),
            (5, Some(1)),
            (5, Some(2)),
            (136, None),
        ];
        NODES.map(|(major, minor)| Self::character(major, minor))
    }

    /// Allows what the rule is for; goes on after it otherwise.
    fn instructions(self) -> Vec<u64> {
        let kind = if self.kind == DeviceKind::Block { 1 } else { 2 };
        let mut steps = vec![Step::Unless(KIND, kind)];
        if self.access != ALL {
            // What is wanted beyond the rule's access.
            steps.push(Step::Always(instruction(MOVE, REST, ACCESS, 0)));
            steps.push(Step::Always(instruction(AND, REST, 0, !self.access)));
            steps.push(Step::Unless(REST, 0));
        }
        steps.extend(self.major.map(|major| Step::Unless(MAJOR, major)));
        steps.extend(self.minor.map(|minor| Step::Unless(MINOR, minor)));
        steps.extend(verdict(1).map(Step::Always));
        let count = steps.len();
        let code = |(n, step)| match step {
            Step::Always(instruction) => instruction,
            Step::Unless(register, value) => {
                instruction(JUMP_UNLESS, register, 0, value) | ((count - 1 - n) as u64) << 16
            }
        };
        steps.into_iter().enumerate().map(code).collect()
    }
}

enum Step {
    Always(u64),
    /// Past the rule, unless the register holds the value.
    Unless(u64, u32),
}

/// Registers: r0 is the verdict, r1 the question (struct bpf_cgroup_dev_ctx: access and kind, major, minor).
const QUESTION: u64 = 1;
const KIND: u64 = 2;
const ACCESS: u64 = 3;
const MAJOR: u64 = 4;
const MINOR: u64 = 5;
const REST: u64 = 6;
/// Codes of instructions: include/uapi/linux/bpf.h, Documentation/bpf/standardization/instruction-set.rst.
const LOAD: u64 = 0x61;
const MOVE: u64 = 0xbc;
const SET: u64 = 0xb4;
const AND: u64 = 0x54;
const SHIFT_RIGHT: u64 = 0x74;
const JUMP_UNLESS: u64 = 0x55;
const EXIT: u64 = 0x95;

/// struct bpf_insn: code, two registers of four bits, offset of 16, value of 32.
const fn instruction(code: u64, destination: u64, source: u64, value: u32) -> u64 {
    code | destination << 8 | source << 12 | (value as u64) << 32
}

const fn load(register: u64, offset: u64) -> u64 {
    instruction(LOAD, register, QUESTION, 0) | offset << 16
}

const fn verdict(allowed: u32) -> [u64; 2] {
    [instruction(SET, 0, 0, allowed), instruction(EXIT, 0, 0, 0)]
}

/// What the kernel asks at each open and mknod of a device node.
pub(crate) fn program(rules: &[DeviceRule]) -> Vec<u64> {
    let mut all = vec![
        load(KIND, 0),
        instruction(MOVE, ACCESS, KIND, 0),
        instruction(SHIFT_RIGHT, ACCESS, 0, 16),
        instruction(AND, KIND, 0, 0xffff),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    all.extend(rules.iter().flat_map(|rule| rule.instructions()));
    all.extend(verdict(0));
    all
}

impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.kind == DeviceKind::Block { 'b' } else { 'c' };
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        write!(f, "{kind} {}:{} ", number(self.major), number(self.minor))?;
        let letters = [(READ, "r"), (WRITE, "w"), (MKNOD, "m")];
        letters
            .iter()
            .filter(|(bit, _)| self.access & bit != 0)
            .try_for_each(|(_, letter)| f.write_str(letter))
    }
}

impl FromStr for DeviceRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid(format!("device rule `{text}`: cannot be read"))
                .with_hint("write it like `c 1:3 rwm` or `b 8:* r`")
        };
        let mut words = text.split_whitespace();
        let (Some(kind), Some(numbers), Some(letters), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(wrong());
        };
        let kind = match kind {
            "b" => DeviceKind::Block,
            "c" => DeviceKind::Character,
            _ => return Err(wrong()),
        };
        let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
        let number = |text: &str| match text {
            "*" => Ok(None),
            text if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().map(Some).map_err(|_| wrong())
            }
            _ => Err(wrong()),
        };
        let mut access = 0;
        for letter in letters.chars() {
            let bit = match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MKNOD,
                _ => return Err(wrong()),
            };
            if access & bit != 0 {
                return Err(wrong());
            }
            access |= bit;
        }
        Ok(Self { kind, major: number(major)?, minor: number(minor)?, access })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a program says, by an interpreter of the few instructions that it has.
    fn asked(rules: &[DeviceRule], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let code = program(rules);
        let question = [kind | access << 16, major, minor];
        let (mut registers, mut at) = ([0u32; 16], 0);
        loop {
            let word = code[at];
            let (code, to, from) = (word & 0xff, (word >> 8 & 0xf) as usize, (word >> 12 & 0xf) as usize);
            let (offset, value) = ((word >> 16 & 0xffff) as usize, (word >> 32) as u32);
            at += 1;
            match code {
                LOAD => registers[to] = question[offset / 4],
                MOVE => registers[to] = registers[from],
                SET => registers[to] = value,
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                JUMP_UNLESS if registers[to] != value => at += offset,
                JUMP_UNLESS => {}
                EXIT => return registers[0] == 1,
                other => panic!("instruction {other:x}"),
            }
        }
    }

    #[test]
    fn rules_are_read_and_written_as_dockers() {
        for text in ["c 1:3 rwm", "b 8:* r", "c *:* m", "c 4294967295:0 rw"] {
            assert_eq!(text.parse::<DeviceRule>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "a *:* rwm",
            "c 1 r",
            "c 1:3",
            "c 1:3 rx",
            "c 1:3 rr",
            "c +1:3 r",
            "c 1:3 r m",
            "c 4294967296:0 r",
        ] {
            let error = text.parse::<DeviceRule>().unwrap_err();
            assert!(error.to_string().contains(text) && error.hint().is_some(), "{error}");
        }
    }

    #[test]
    fn a_container_has_its_own_devices_and_no_others() {
        let rules = DeviceRule::container();
        for (major, minor) in [(1, 3), (1, 9), (5, 2), (136, 0), (136, 77)] {
            assert!(asked(&rules, 2, READ | WRITE, major, minor), "{major}:{minor}");
            assert!(!asked(&rules, 1, READ, major, minor), "block {major}:{minor}");
        }
        for (kind, major, minor) in [(1, 8, 0), (1, 1, 3), (2, 10, 200), (2, 10, 229), (2, 1, 1), (2, 1, 11)]
        {
            assert!(!asked(&rules, kind, READ, major, minor), "{kind} {major}:{minor}");
            assert!(!asked(&rules, kind, MKNOD, major, minor), "mknod {kind} {major}:{minor}");
        }
    }

    proptest! {
        #[test]
        fn the_program_says_what_the_rules_say(
            rules in proptest::collection::vec((any::<bool>(), proptest::option::of(0u32..4), proptest::option::of(0u32..4), 1u32..8), 0..6),
            kind in 1u32..3, access in 1u32..8, major in 0u32..4, minor in 0u32..4,
        ) {
            let rules: Vec<DeviceRule> = rules.into_iter().map(|(block, major, minor, access)| DeviceRule {
                kind: if block { DeviceKind::Block } else { DeviceKind::Character }, major, minor, access,
            }).collect();
            let expected = rules.iter().any(|rule| {
                (rule.kind == DeviceKind::Block) == (kind == 1)
                    && rule.major.is_none_or(|n| n == major)
                    && rule.minor.is_none_or(|n| n == minor)
                    && access & !rule.access == 0
            });
            prop_assert_eq!(asked(&rules, kind, access, major, minor), expected);
            for rule in rules {
                prop_assert_eq!(rule.to_string().parse::<DeviceRule>().unwrap(), rule);
            }
        }
    }
}
