//! What the server gives up before it reads its first byte from a container.

use crate::sys::{self, nr};

/// nobody and nogroup, on every distribution.
const NOBODY: usize = 65534;
const EPERM: isize = 1;
const EINVAL: isize = 22;
const PR_SET_DUMPABLE: usize = 4;
const PR_CAPBSET_DROP: usize = 24;
const PR_SET_NO_NEW_PRIVS: usize = 38;

/// Joins control groups: each descriptor is a `cgroup.procs` (v2) or `tasks` (v1), and is closed.
pub(crate) fn join(groups: impl Iterator<Item = i32>) -> Result<(), isize> {
    for group in groups {
        let written = sys::write(group, b"0");
        sys::close(group);
        check(written)?;
    }
    Ok(())
}

/// Root becomes nobody in a root of its own, the working directory. In a user namespace that has no number for nobody it stays
/// root there, without capabilities.
pub(crate) fn drop_privileges() -> Result<(), isize> {
    if sys::numbers(nr::GETEUID, [0; 3]) == 0 {
        for capability in 0..64 {
            sys::numbers(nr::PRCTL, [PR_CAPBSET_DROP, capability, 0]);
        }
        // One more wall: neither this nor the filter is needed for the other.
        sys::chroot(c".");
        unless_unmapped(sys::numbers(nr::SETGROUPS, [0; 3]))?;
        unless_unmapped(sys::numbers(nr::SETRESGID, [NOBODY; 3]))?;
        unless_unmapped(sys::numbers(nr::SETRESUID, [NOBODY; 3]))?;
    }
    check(sys::drop_capabilities())?;
    check(sys::numbers(nr::PRCTL, [PR_SET_NO_NEW_PRIVS, 1, 0]))?;
    check(sys::numbers(nr::PRCTL, [PR_SET_DUMPABLE, 0, 0]))
}

fn check(done: isize) -> Result<(), isize> {
    if done < 0 { Err(-done) } else { Ok(()) }
}

fn unless_unmapped(done: isize) -> Result<(), isize> {
    if done == -EPERM || done == -EINVAL { Ok(()) } else { check(done) }
}

/// Calls that may be made with any arguments.
const ANY: [usize; 17] = [
    nr::PPOLL,
    nr::RECVFROM,
    nr::SENDTO,
    nr::CONNECT,
    nr::CLOSE,
    nr::CLOCK_GETTIME,
    nr::GETRANDOM,
    nr::NEWFSTATAT,
    nr::MUNMAP,
    nr::READ,
    nr::ACCEPT4,
    nr::WAITID,
    nr::DUP3,
    nr::CLOSE_RANGE,
    nr::EXIT_GROUP,
    nr::RESTART_SYSCALL,
    nr::RT_SIGRETURN,
];

/// Calls that may be made with one of these values as this argument, of which the lower half counts.
const SOME: [(usize, u32, &[usize]); 5] = [
    (nr::SOCKET, 0, &[sys::IPV4 as usize, sys::IPV6 as usize]),
    (nr::OPENAT, 2, &[sys::OPEN]),
    (nr::MMAP, 2, &[sys::PROT_READ]),
    (nr::CLONE, 0, &[sys::CLONE_FLAGS]),
    (nr::PRCTL, 0, &[sys::PR_SET_PDEATHSIG]),
];

const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0x8000_0000; // the process
#[cfg(target_arch = "x86_64")]
const MACHINE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const MACHINE: u32 = 0xc000_00b7;
/// Places in struct seccomp_data.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
/// BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ, BPF_RET.
const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// struct sock_filter: code, two jumps, operand.
const fn instruction(code: u16, yes: u8, no: u8, operand: u32) -> u64 {
    code as u64 | (yes as u64) << 16 | (no as u64) << 24 | (operand as u64) << 32
}

struct Program {
    code: [u64; 96],
    length: usize,
}

impl Program {
    fn push(&mut self, code: u16, yes: u8, no: u8, operand: u32) {
        if let Some(place) = self.code.get_mut(self.length) {
            *place = instruction(code, yes, no, operand);
            self.length += 1;
        }
    }
}

/// From here on every other call ends the process (seccomp(2)); so does the x32 half of x86_64, whose numbers are none of
/// these.
pub(crate) fn filter() -> Result<(), isize> {
    let mut program = Program { code: [0; 96], length: 0 };
    program.push(LOAD, 0, 0, ARCHITECTURE);
    program.push(EQUAL, 1, 0, MACHINE);
    program.push(RETURN, 0, 0, KILL);
    program.push(LOAD, 0, 0, NUMBER);
    for number in ANY {
        program.push(EQUAL, 0, 1, number as u32);
        program.push(RETURN, 0, 0, ALLOW);
    }
    for (number, argument, values) in SOME {
        // Over the load, two instructions a value, and the end.
        program.push(EQUAL, 0, 2 + 2 * values.len() as u8, number as u32);
        program.push(LOAD, 0, 0, ARGUMENTS + 8 * argument);
        for value in values {
            program.push(EQUAL, 0, 1, *value as u32);
            program.push(RETURN, 0, 0, ALLOW);
        }
        program.push(RETURN, 0, 0, KILL);
    }
    program.push(RETURN, 0, 0, KILL);
    check(sys::filter(program.code.get(..program.length).unwrap_or_default()))
}
