//! Sets of capabilities.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

bitflags::bitflags! {
    /// A set of capabilities (capabilities(7)): the rights that root is made of, one bit each.
    ///
    /// Which bits there are is the kernel's: one that it does not know has no effect. All 41 here are known since Linux
    /// 5.9.
    ///
    /// ```
    /// use isolate_namespaces::Capabilities;
    /// let rights = Capabilities::DEFAULT - Capabilities::KILL | "net_admin".parse()?;
    /// assert!(rights.contains(Capabilities::NET_ADMIN));
    /// assert_eq!(Capabilities::KILL.union(Capabilities::CHOWN).to_string(), "CHOWN,KILL");
    /// # Ok::<(), isolate_namespaces::Error>(())
    /// ```
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct Capabilities: u64 {
        /// Give files to other users and groups.
        const CHOWN = 1 << 0;
        /// Read and write any file and directory, whatever the mode says; execute what anybody may execute.
        const DAC_OVERRIDE = 1 << 1;
        /// Read any file and search any directory; open_by_handle_at(2), which leads out of any root.
        const DAC_READ_SEARCH = 1 << 2;
        /// Do to a file what its owner may: chmod(2), utime(2), access control lists, removal from sticky directories.
        const FOWNER = 1 << 3;
        /// Keep set-user-id and set-group-id bits when a file is changed; set the latter for a group of others.
        const FSETID = 1 << 4;
        /// Send signals to processes of other users.
        const KILL = 1 << 5;
        /// Change group ids and the list of supplementary groups.
        const SETGID = 1 << 6;
        /// Change user ids.
        const SETUID = 1 << 7;
        /// Drop capabilities from the bounding set, add some of that to the inheritable set, change securebits.
        const SETPCAP = 1 << 8;
        /// Set the immutable and append-only flags of files.
        const LINUX_IMMUTABLE = 1 << 9;
        /// Bind ports below 1024 (`net.ipv4.ip_unprivileged_port_start`).
        const NET_BIND_SERVICE = 1 << 10;
        /// Not used by the kernel.
        const NET_BROADCAST = 1 << 11;
        /// Configure interfaces, routes and firewalls of the network namespace.
        const NET_ADMIN = 1 << 12;
        /// Raw and packet sockets: forged addresses, other hosts' packets of the same link.
        const NET_RAW = 1 << 13;
        /// Lock memory beyond `RLIMIT_MEMLOCK`.
        const IPC_LOCK = 1 << 14;
        /// Use System V IPC objects of any user.
        const IPC_OWNER = 1 << 15;
        /// Load and unload kernel modules.
        const SYS_MODULE = 1 << 16;
        /// Raw access to devices, ports and kernel memory.
        const SYS_RAWIO = 1 << 17;
        /// chroot(2); entering other mount namespaces.
        const SYS_CHROOT = 1 << 18;
        /// Trace, and read and write the memory of, any process that can be seen.
        const SYS_PTRACE = 1 << 19;
        /// Process accounting (acct(2)).
        const SYS_PACCT = 1 << 20;
        /// Mounts, namespaces, quotas and what else had no other place: close to all of root.
        const SYS_ADMIN = 1 << 21;
        /// reboot(2) and kexec_load(2).
        const SYS_BOOT = 1 << 22;
        /// Raise priorities; scheduling policies, affinity and I/O classes of any process.
        const SYS_NICE = 1 << 23;
        /// Beyond resource limits, quotas and reserved space.
        const SYS_RESOURCE = 1 << 24;
        /// Set the clocks.
        const SYS_TIME = 1 << 25;
        /// vhangup(2) and privileged settings of virtual terminals.
        const SYS_TTY_CONFIG = 1 << 26;
        /// Make device nodes. Has no effect outside the initial user namespace.
        const MKNOD = 1 << 27;
        /// Leases on files of any user.
        const LEASE = 1 << 28;
        /// Write records to the kernel's audit log.
        const AUDIT_WRITE = 1 << 29;
        /// Configure the audit system.
        const AUDIT_CONTROL = 1 << 30;
        /// Give capabilities to files.
        const SETFCAP = 1 << 31;
        /// Override mandatory access control (Smack).
        const MAC_OVERRIDE = 1 << 32;
        /// Configure mandatory access control.
        const MAC_ADMIN = 1 << 33;
        /// The kernel's log and the addresses in it.
        const SYSLOG = 1 << 34;
        /// Timers that wake the system.
        const WAKE_ALARM = 1 << 35;
        /// Keep the system from suspending.
        const BLOCK_SUSPEND = 1 << 36;
        /// Read the audit log by multicast.
        const AUDIT_READ = 1 << 37;
        /// Performance monitoring (Linux 5.8; before that `SYS_ADMIN`).
        const PERFMON = 1 << 38;
        /// Privileged BPF (Linux 5.8; before that `SYS_ADMIN`).
        const BPF = 1 << 39;
        /// Checkpoint and restore: choose process numbers, read `/proc/PID/map_files` (Linux 5.9; before that `SYS_ADMIN`).
        const CHECKPOINT_RESTORE = 1 << 40;
    }
}

impl Capabilities {
    /// What a container's root needs for what root is for inside: installing files for others, becoming another user,
    /// binding port 80, ending its processes. Eight capabilities, none of which reaches beyond the files and
    /// processes that it sees.
    pub const DEFAULT: Self = Self::CHOWN
        .union(Self::DAC_OVERRIDE)
        .union(Self::FOWNER)
        .union(Self::FSETID)
        .union(Self::KILL)
        .union(Self::NET_BIND_SERVICE)
        .union(Self::SETGID)
        .union(Self::SETUID);

    /// Podman's eleven: [`DEFAULT`](Self::DEFAULT), SETFCAP and SETPCAP for what package managers and privilege-dropping
    /// daemons do, SYS_CHROOT for what changes its root by itself. For images that are tested with Podman.
    ///
    /// The list of containers.conf(5) as of Podman 5. Podman 4.4 left out SYS_CHROOT and had ten; 4.5 took it back.
    pub const PODMAN: Self = Self::DEFAULT.union(Self::SETFCAP).union(Self::SETPCAP).union(Self::SYS_CHROOT);

    /// Docker's fourteen: [`PODMAN`](Self::PODMAN), AUDIT_WRITE, and MKNOD and NET_RAW, by which a container makes device
    /// nodes and forges packets where nothing else forbids it. For images that are tested with Docker alone.
    ///
    /// The list of `oci/caps/defaults.go` of Docker Engine.
    pub const DOCKER: Self = Self::PODMAN.union(Self::AUDIT_WRITE).union(Self::MKNOD).union(Self::NET_RAW);
}

/// [`DEFAULT`](Self::DEFAULT): the right that nobody has asked for is not given.
impl Default for Capabilities {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The names without `CAP_`, in the kernel's order, with commas: `CHOWN,KILL`. `NONE` and `ALL` for the empty and the
/// full set. Reading it gives the same set.
impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.pad("NONE");
        }
        if self.is_all() {
            return f.pad("ALL");
        }
        let mut names: Vec<_> = self.iter_names().map(|(name, _)| name.to_owned()).collect();
        let unknown = self.difference(Self::all()).bits();
        if unknown != 0 {
            names.push(format!("{unknown:#x}"));
        }
        f.pad(&names.join(","))
    }
}

/// One name or several with commas, in either case, with or without `CAP_`: `CAP_NET_ADMIN`, `net_admin`,
/// `chown,kill`. `ALL` is all 41 of this version, `NONE` the empty set.
///
/// # Errors
///
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a name that capabilities(7) has not.
impl FromStr for Capabilities {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.split(',').try_fold(Self::empty(), |set, name| Ok(set | one(name)?))
    }
}

fn one(text: &str) -> Result<Capabilities> {
    let upper = text.trim().to_ascii_uppercase();
    match upper.as_str() {
        "ALL" => Ok(Capabilities::all()),
        "NONE" => Ok(Capabilities::empty()),
        name => Capabilities::from_name(name.strip_prefix("CAP_").unwrap_or(name)).ok_or_else(|| {
            Error::invalid(format!("capability `{text}`: there is none of that name"))
                .with_hint("the names are those of capabilities(7), like CAP_NET_ADMIN or net_admin")
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_capability_has_the_kernels_number() {
        // linux/capability.h: some from each end and the middle; names and order are complete if the count is.
        for (set, number) in [
            (Capabilities::CHOWN, 0),
            (Capabilities::SETPCAP, 8),
            (Capabilities::NET_ADMIN, 12),
            (Capabilities::SYS_ADMIN, 21),
            (Capabilities::SETFCAP, 31),
            (Capabilities::SYSLOG, 34),
            (Capabilities::CHECKPOINT_RESTORE, 40),
        ] {
            assert_eq!(set.bits(), 1 << number, "{set}");
        }
        assert_eq!(Capabilities::all().bits(), (1 << 41) - 1);
        assert_eq!(Capabilities::all().iter_names().count(), 41);
    }

    /// What /proc/PID/status of a container of each engine shows.
    #[test]
    fn presets_are_those_of_their_engines() {
        assert_eq!(Capabilities::DEFAULT.bits().count_ones(), 8);
        assert_eq!(Capabilities::PODMAN.bits(), 0x8004_05fb);
        assert_eq!(Capabilities::DOCKER.bits(), 0xa804_25fb);
        assert_eq!(Capabilities::default(), Capabilities::DEFAULT);
    }

    #[test]
    fn names_are_read_as_people_write_them() {
        for text in ["CAP_NET_ADMIN", "cap_net_admin", "net_admin", "Net_Admin", " NET_ADMIN "] {
            assert_eq!(text.parse::<Capabilities>().unwrap(), Capabilities::NET_ADMIN, "{text}");
        }
        assert_eq!("all".parse::<Capabilities>().unwrap(), Capabilities::all());
        assert_eq!("none".parse::<Capabilities>().unwrap(), Capabilities::empty());
        let two = Capabilities::CHOWN | Capabilities::KILL;
        assert_eq!("kill, CAP_CHOWN".parse::<Capabilities>().unwrap(), two);
    }

    #[test]
    fn what_is_no_capability_is_refused_with_its_text() {
        for text in ["", "CAP_", "CAP_CAP_KILL", "kill,", "root", "NET-ADMIN", "41"] {
            let error = text.parse::<Capabilities>().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidInput, "{text}");
            assert!(error.to_string().starts_with("capability `"), "{error}");
        }
    }

    #[test]
    fn a_bit_without_a_name_is_shown() {
        let set = Capabilities::from_bits_retain(1 << 41) | Capabilities::KILL;
        assert_eq!(set.to_string(), "KILL,0x20000000000");
        assert_eq!(format!("[{:>6}]", Capabilities::KILL), "[  KILL]");
    }

    proptest! {
        #[test]
        fn a_set_survives_writing_and_reading(bits: u64) {
            let set = Capabilities::from_bits_truncate(bits);
            prop_assert_eq!(set.to_string().parse::<Capabilities>().unwrap(), set);
        }

        #[test]
        fn any_text_is_a_set_or_an_error_and_never_a_panic(text in ".{0,24}") {
            let _ = text.parse::<Capabilities>();
        }
    }
}
