//! Which process has a port: `/proc/…/net/tcp` gives the socket's inode, `/proc/PID/fd` who holds it (proc(5)).

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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
pub(crate) fn holder(protocol: Protocol, address: SocketAddr) -> Holder {
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
fn inode(table: &str, protocol: Protocol, address: SocketAddr) -> Option<u64> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (host, port) = local.split_once(':')?;
        let taken =
            u16::from_str_radix(port, 16).ok()? == address.port() && collide(bound(host)?, address.ip());
        (taken && (protocol == Protocol::Udp || *state == LISTEN)).then(|| inode.parse().ok())?
    })
}

/// An address of these tables: words of 32 bits, each as this machine stores it. One of IPv4 in IPv6 is one of IPv4.
fn bound(hex: &str) -> Option<IpAddr> {
    let word = |n: usize| u32::from_str_radix(hex.get(8 * n..8 * n + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            let address = Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?);
            Some(address.to_ipv4_mapped().map_or(address.into(), IpAddr::V4))
        }
        _ => None,
    }
}

/// Whether a socket bound to `one` is in the way of one on the other. An IPv6 socket on all addresses has the IPv4 ones too, unless it
/// was told not to, which these tables do not show.
fn collide(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V6(one), IpAddr::V4(_)) => one.is_unspecified(),
        (IpAddr::V4(_), IpAddr::V6(_)) => false,
        _ => one == other || one.is_unspecified() || other.is_unspecified(),
    }
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

    #[cfg(target_endian = "little")]
    #[test]
    fn addresses_of_ipv6_are_words_as_the_machine_stores_them() {
        assert_eq!(bound("00000000000000000000000001000000"), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(bound("0000000000000000FFFF00000100007F"), Some(Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn a_listener_on_all_of_ipv6_has_ipv4_too() {
        let all = bound("00000000000000000000000000000000").unwrap();
        assert_eq!(all, Ipv6Addr::UNSPECIFIED);
        assert!(collide(all, Ipv4Addr::LOCALHOST.into()) && collide(all, Ipv6Addr::LOCALHOST.into()));
        assert!(!collide(Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into()));
        assert_eq!(bound(""), None);
    }
}
