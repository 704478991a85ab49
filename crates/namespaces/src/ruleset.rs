//! What the kernel is told of a Landlock ruleset.

use std::path::{Path, PathBuf};

// Rights on files and directories (linux/landlock.h).
pub(crate) const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const MAKE_FIFO: u64 = 1 << 10;
const MAKE_SYM: u64 = 1 << 12;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;

/// Files read, directories listed.
pub(crate) const READ: u64 = READ_FILE | READ_DIR;
/// Everything but execution and the making of device nodes (bits 6 and 11).
pub(crate) const WRITE: u64 = READ
    | WRITE_FILE
    | REMOVE_DIR
    | REMOVE_FILE
    | MAKE_DIR
    | MAKE_REG
    | MAKE_SOCK
    | MAKE_FIFO
    | MAKE_SYM
    | REFER
    | TRUNCATE
    | IOCTL_DEV;
/// What a rule on anything but a directory may have; with more the kernel answers EINVAL.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

// Rights on TCP ports.
pub(crate) const BIND_TCP: u64 = 1 << 0;
pub(crate) const CONNECT_TCP: u64 = 1 << 1;

// What can be kept to the program and its like.
pub(crate) const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1 << 0;
pub(crate) const SCOPE_SIGNAL: u64 = 1 << 1;

/// The ABI that brought rules for TCP ports, and the one that brought scopes.
pub(crate) const ABI_NET: u32 = 4;
pub(crate) const ABI_SCOPE: u32 = 6;

/// The words for landlock_create_ruleset(2) and landlock_add_rule(2).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ruleset {
    /// struct landlock_ruleset_attr, as long as the ABI has it.
    pub(crate) attributes: Vec<u8>,
    pub(crate) paths: Vec<PathRule>,
    pub(crate) ports: Vec<PortRule>,
}

impl Ruleset {
    /// All rights on files that this ABI has are handled, and of `net` and `scoped` what it has. A rule is left with what
    /// the ruleset handles: the kernel refuses one with more (EINVAL), and one that allows nothing (ENOMSG).
    pub(crate) fn new<'a>(
        abi: u32,
        net: u64,
        scoped: u64,
        paths: impl Iterator<Item = (&'a Path, u64)>,
        ports: impl Iterator<Item = (u16, u64)>,
    ) -> Self {
        let files = files(abi);
        let net = if abi >= ABI_NET { net } else { 0 };
        let scoped = if abi >= ABI_SCOPE { scoped } else { 0 };
        let path = |(path, access): (&Path, u64)| {
            let directory = access & files;
            PathRule { path: path.to_owned(), directory, file: directory & OF_FILES }
        };
        let port = |(port, access)| PortRule { port, access: access & net };
        Self {
            attributes: attributes(abi, [files, net, scoped]),
            paths: paths.map(path).collect(),
            ports: ports.map(port).filter(|rule| rule.access != 0).collect(),
        }
    }
}

/// A rule of the type LANDLOCK_RULE_PATH_BENEATH. What the path is shows when it is opened inside the root.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PathRule {
    pub(crate) path: PathBuf,
    /// What is allowed if it is a directory.
    pub(crate) directory: u64,
    /// What is allowed if it is anything else.
    pub(crate) file: u64,
}

/// A rule of the type [`PortRule::TYPE`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PortRule {
    pub(crate) port: u16,
    pub(crate) access: u64,
}

impl PortRule {
    /// LANDLOCK_RULE_NET_PORT.
    pub(crate) const TYPE: u32 = 2;

    /// struct landlock_net_port_attr. The port is in the machine's order.
    pub(crate) fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.access.to_ne_bytes());
        bytes[8..].copy_from_slice(&u64::from(self.port).to_ne_bytes());
        bytes
    }
}

/// All rights on files that an ABI has.
fn files(abi: u32) -> u64 {
    let highest = match abi {
        0 | 1 => REFER >> 1,
        2 => REFER,
        3 | 4 => TRUNCATE,
        _ => IOCTL_DEV,
    };
    (highest << 1) - 1
}

/// The struct grew with the ABI: files alone, then ports, then scopes.
fn attributes(abi: u32, words: [u64; 3]) -> Vec<u8> {
    let count = match abi {
        0..ABI_NET => 1,
        ABI_NET..ABI_SCOPE => 2,
        _ => 3,
    };
    words[..count].iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use std::iter::empty;

    use super::*;

    fn words(bytes: &[u8]) -> Vec<u64> {
        bytes.chunks(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect()
    }

    #[test]
    fn each_abi_is_told_the_rights_that_it_has() {
        for (abi, told) in [
            (1, vec![(1 << 13) - 1]),
            (2, vec![(1 << 14) - 1]),
            (3, vec![(1 << 15) - 1]),
            (4, vec![(1 << 15) - 1, 3]),
            (5, vec![(1 << 16) - 1, 3]),
            (6, vec![(1 << 16) - 1, 3, 2]),
            (9, vec![(1 << 16) - 1, 3, 2]),
        ] {
            let ruleset = Ruleset::new(abi, BIND_TCP | CONNECT_TCP, SCOPE_SIGNAL, empty(), empty());
            assert_eq!(words(&ruleset.attributes), told, "ABI {abi}");
        }
    }

    #[test]
    fn a_rule_has_no_right_that_the_ruleset_does_not_handle() {
        for abi in 1..8 {
            let paths = [(Path::new("/a"), WRITE), (Path::new("/b"), READ | EXECUTE)].into_iter();
            let ruleset =
                Ruleset::new(abi, BIND_TCP, 0, paths, [(80, BIND_TCP), (81, CONNECT_TCP)].into_iter());
            let handled = words(&ruleset.attributes);
            for rule in &ruleset.paths {
                assert_eq!(rule.directory & !handled[0], 0, "ABI {abi}");
                assert_eq!(rule.file & !(rule.directory & OF_FILES), 0, "ABI {abi}");
                assert_ne!(rule.file, 0, "ABI {abi}");
            }
            assert_eq!(ruleset.ports.len(), usize::from(abi >= ABI_NET), "ABI {abi}");
        }
    }
}
