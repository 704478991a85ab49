//! Which process has a port: `/proc/…/net/tcp` gives the socket's inode, `/proc/PID/fd` who holds it (proc(5)).

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use crate::publish::Protocol;

/// Who is in the way.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Its pid, as this process sees it, and its name.
    Process(u32, String),
    /// Somebody of another pid namespace or user.
    Hidden,
    /// No live socket that the kernel lists: what is bound and does not listen is not listed.
    Nobody,
}

/// Who has `address`, in the calling thread's network namespace.
pub(crate) fn holder(protocol: Protocol, address: SocketAddrV4) -> Holder {
    let inodes = ["", "6"].into_iter().filter_map(|version| {
        let table = fs::read_to_string(format!("/proc/thread-self/net/{protocol}{version}")).ok()?;
        inode(&table, protocol, address)
    });
    match inodes.min() {
        None => Holder::Nobody,
        Some(inode) => process_with(&format!("socket:[{inode}]")).unwrap_or(Holder::Hidden),
    }
}

/// The inode of the socket that has `address`, in a table such as `/proc/net/tcp`.
fn inode(table: &str, protocol: Protocol, address: SocketAddrV4) -> Option<u64> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (host, port) = local.split_once(':')?;
        let taken =
            u16::from_str_radix(port, 16).ok()? == address.port() && collide(ipv4(host)?, *address.ip());
        (taken && (protocol == Protocol::Udp || *state == LISTEN)).then(|| inode.parse().ok())?
    })
}

/// An address of these tables: words of 32 bits, each as this machine stores it. An IPv6 socket on all addresses
/// has the IPv4 ones too.
fn ipv4(hex: &str) -> Option<Ipv4Addr> {
    let last = hex.get(hex.len().checked_sub(8)?..)?;
    let word = u32::from_str_radix(last, 16).ok()?;
    let mapped =
        || hex.starts_with("0000000000000000FFFF0000") || hex.starts_with("00000000000000000000FFFF");
    match hex.len() {
        8 => Some(Ipv4Addr::from(word.to_ne_bytes())),
        32 if hex.bytes().all(|digit| digit == b'0') => Some(Ipv4Addr::UNSPECIFIED),
        32 if mapped() => Some(Ipv4Addr::from(word.to_ne_bytes())),
        _ => None,
    }
}

/// Whether a socket bound to one address is in the way of one on the other.
fn collide(one: Ipv4Addr, other: Ipv4Addr) -> bool {
    one == other || one.is_unspecified() || other.is_unspecified()
}

fn process_with(socket: &str) -> Option<Holder> {
    let mut pids: Vec<u32> = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids.into_iter().find_map(|pid| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let mut targets = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.any(|target| target == Path::new(socket)).then(|| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            Holder::Process(pid, name.trim().to_owned())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2328 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:2329 0100007F:0050 06 00000000:00000000 03:00000176 00000000     0        0 0 3 0
   2: 00000000:232A 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
";

    #[cfg(target_endian = "little")]
    #[test]
    fn a_listener_is_found_by_its_address_and_its_port() {
        let find = |address: &str| inode(TCP, Protocol::Tcp, address.parse().unwrap());
        assert_eq!(find("127.0.0.1:9000"), Some(4711));
        assert_eq!(find("0.0.0.0:9000"), Some(4711));
        assert_eq!(find("10.0.0.1:9000"), None, "on another address");
        assert_eq!(find("127.0.0.1:9001"), None, "the connection is over");
        assert_eq!(find("10.0.0.1:9002"), Some(4712), "it listens on every address");
    }

    #[test]
    fn a_listener_on_all_of_ipv6_has_ipv4_too() {
        assert_eq!(ipv4("00000000000000000000000000000000"), Some(Ipv4Addr::UNSPECIFIED));
        assert_eq!(ipv4("00000000000000000000000001000000"), None, "::1");
        assert_eq!(ipv4(""), None);
    }
}
