//! What a contained program gives up before it is executed, by bare system calls.

use isolate_namespaces::{Capabilities, Seccomp};

use crate::must;

/// The rights that `isolate` leaves to a program by default.
#[derive(Clone, Debug)]
pub struct Rights {
    filter: Vec<u8>,
}

impl Default for Rights {
    fn default() -> Self {
        Self { filter: Seccomp::default_profile().program().to_vec() }
    }
}

impl Rights {
    /// Session, keyring, limits, bounding set, ids, capabilities, no new privileges, descriptors, filter. For a child that is
    /// about to execute: it allocates nothing, and a failure ends the process.
    pub fn give_up(&self) {
        must!(libc::SYS_umask, 0o022);
        must!(libc::SYS_setsid);
        must!(libc::SYS_keyctl, 1, 0);
        for (resource, value) in [(libc::RLIMIT_CORE, 0u64), (libc::RLIMIT_MEMLOCK, 65_536)] {
            let pair = [value, value];
            must!(libc::SYS_prlimit64, 0, resource, pair.as_ptr(), 0);
        }
        let keep = Capabilities::DEFAULT.bits();
        for capability in (0..=40u64).filter(|n| keep >> n & 1 == 0) {
            must!(libc::SYS_prctl, libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
        }
        must!(libc::SYS_setgroups, 0, 0);
        must!(libc::SYS_setresgid, 0, 0, 0);
        must!(libc::SYS_setresuid, 0, 0, 0);
        let header = [0x2008_0522u32, 0];
        let sets = [keep as u32, keep as u32, 0, (keep >> 32) as u32, (keep >> 32) as u32, 0];
        must!(libc::SYS_capset, header.as_ptr(), sets.as_ptr());
        must!(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        must!(libc::SYS_close_range, 3, u32::MAX, 0);
        let program = [self.filter.len() / 8, self.filter.as_ptr() as usize];
        must!(libc::SYS_seccomp, 1, 0, program.as_ptr());
    }
}
