//! The addresses of a network: a lease is a symbolic link from an address to the container that has it, which only one can make.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use isolate_netns::Cidr;

use crate::error::{Error, ErrorKind, Result};
use crate::network::record::{NetworkRecord, Subnet};
use crate::record::Record;
use crate::store::make_directory;

/// Leases of one network.
#[derive(Debug, Clone)]
pub(crate) struct Leases(PathBuf);

impl Leases {
    pub(crate) fn of(network: &Path) -> Self {
        Self(network.join("leases"))
    }

    /// An address of each of the network's subnets for the container, those that are `wanted` or the next that are free.
    pub(crate) fn take(
        &self,
        network: &NetworkRecord,
        container: &str,
        wanted: &[IpAddr],
    ) -> Result<Vec<IpAddr>> {
        make_directory(&self.0)?;
        if let Some(foreign) = wanted.iter().find(|address| network.subnet(address.is_ipv6()).is_none()) {
            let version = if foreign.is_ipv6() { "IPv6" } else { "IPv4" };
            let what = format!("address {foreign}: network `{}` has no {version}", network.name);
            return Err(Error::new(ErrorKind::InvalidConfig, what));
        }
        let mut taken = Vec::new();
        for subnet in &network.subnets {
            let wish = wanted.iter().find(|address| address.is_ipv6() == subnet.network.is_ipv6());
            let got = match wish {
                Some(address) => self.claim_wanted(subnet, *address, container),
                None => self.claim_next(network, subnet, container),
            };
            match got {
                Ok(address) => taken.push(address),
                Err(e) => {
                    self.give_back(&taken).ok();
                    return Err(e);
                }
            }
        }
        Ok(taken)
    }

    /// Those that are gone already are no error.
    pub(crate) fn give_back(&self, addresses: &[IpAddr]) -> Result<()> {
        let removed = addresses.iter().map(|address| match fs::remove_file(self.file(*address)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(self.file(*address).display(), &e))
            }
            _ => Ok(()),
        });
        Error::all(removed.filter_map(Result::err).collect())
    }

    /// Every lease: address and container.
    pub(crate) fn all(&self) -> Result<Vec<(IpAddr, String)>> {
        let entries = match fs::read_dir(&self.0) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|e| Error::io(self.0.display(), &e))?,
        };
        let lease = |entry: io::Result<fs::DirEntry>| match entry {
            Ok(entry) => {
                let address = entry.file_name().to_str()?.parse().ok()?;
                Some(Ok((address, self.holder(address)?)))
            }
            Err(e) => Some(Err(Error::io(self.0.display(), &e))),
        };
        entries.filter_map(lease).collect()
    }

    /// Whether nobody has an address.
    pub(crate) fn none(&self) -> Result<bool> {
        match fs::read_dir(&self.0) {
            Ok(mut entries) => match entries.next() {
                Some(Err(e)) => Err(Error::io(self.0.display(), &e)),
                first => Ok(first.is_none()),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(e) => Err(Error::io(self.0.display(), &e)),
        }
    }

    pub(crate) fn holder(&self, address: IpAddr) -> Option<String> {
        Some(fs::read_link(self.file(address)).ok()?.to_string_lossy().into_owned())
    }

    /// What users know a holder by.
    pub(crate) fn called(&self, holder: String) -> String {
        // Of networks/NAME/leases.
        let state = self.0.ancestors().nth(3).map(|root| root.join("containers").join(&holder));
        let record = state.and_then(|state| Record::read(&state).ok().flatten());
        record.map_or(holder, |record| record.called().to_owned())
    }

    fn file(&self, address: IpAddr) -> PathBuf {
        self.0.join(address.to_string())
    }

    /// Whether it was free.
    fn claim(&self, address: IpAddr, container: &str) -> Result<bool> {
        match symlink(container, self.file(address)) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(Error::io(self.0.display(), &e)),
        }
    }

    fn claim_wanted(&self, subnet: &Subnet, address: IpAddr, container: &str) -> Result<IpAddr> {
        if address == subnet.gateway || subnet.network.host_number(address).is_none() {
            let what = format!("address {address}: not a free one of {}", subnet.network);
            return Err(Error::new(ErrorKind::InvalidConfig, what));
        }
        if self.claim(address, container)? {
            return Ok(address);
        }
        let holder = self.called(self.holder(address).unwrap_or_default());
        Err(Error::new(ErrorKind::InUse, format!("address {address}: container `{holder}` has it")))
    }

    /// From a place that differs, so that an address is not used again at once: neighbours remember it for a while.
    fn claim_next(&self, network: &NetworkRecord, subnet: &Subnet, container: &str) -> Result<IpAddr> {
        let (whole, range) = (subnet.network, subnet.range);
        // The network's own address is no host's: one before the first.
        let first = whole.host_number(range.address()).map_or(-1, u128::cast_signed);
        let count = size(range);
        let start = u128::from(u64::from_str_radix(&crate::name::random(), 16).unwrap_or(0)) % count;
        let mut tried = 0;
        for n in (0..count).map(|n| (start + n) % count) {
            let number = u128::try_from(first.saturating_add(n.cast_signed())).ok();
            let Some(address) = number.and_then(|number| whole.host(number)) else { continue };
            if address == subnet.gateway {
                continue;
            }
            tried += 1;
            if self.claim(address, container)? {
                return Ok(address);
            }
        }
        let holders = self.holders(subnet)?;
        let what =
            format!("network `{}`: all {tried} addresses of {range} are taken: {holders}", network.name);
        Err(Error::new(ErrorKind::InUse, what))
    }

    /// Who has the addresses of a subnet, in a sentence of bounded length.
    fn holders(&self, subnet: &Subnet) -> Result<String> {
        const NAMED: usize = 5;
        let mut names: Vec<_> = self
            .all()?
            .into_iter()
            .filter(|(address, _)| subnet.network.contains(*address))
            .map(|(_, holder)| self.called(holder))
            .collect();
        names.sort();
        names.dedup();
        let more = names.len().saturating_sub(NAMED);
        let named: Vec<_> = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Ok(format!("containers {}{more}", named.join(", ")))
    }
}

/// How many addresses it has, edges included.
fn size(range: Cidr) -> u128 {
    let bits = if range.is_ipv6() { 128 } else { 32 } - u32::from(range.prefix());
    1_u128.checked_shl(bits).unwrap_or(u128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("leases-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn network(subnet: &str, range: Option<&str>) -> NetworkRecord {
        let range = range.map(|range| range.parse().unwrap());
        let subnet = Subnet::new(subnet.parse().unwrap(), None, range).unwrap();
        NetworkRecord::new("web", "isb1".into(), vec![subnet])
    }

    #[test]
    fn a_wholegives_exactly_its_addresses_and_says_who_has_them() {
        let directory = scratch("exact");
        for (subnet, range, count) in [
            ("10.0.0.0/28", None, 13),
            ("10.0.0.0/28", Some("10.0.0.8/29"), 7),
            ("10.0.0.0/28", Some("10.0.0.0/29"), 6),
            ("10.0.0.0/30", None, 1),
            ("fd00::/124", None, 14),
        ] {
            let (leases, network) = (Leases(directory.join("x")), network(subnet, range));
            let mut all: Vec<_> = (0..count)
                .flat_map(|n| leases.take(&network, &format!("c{}", n % 7), &[]).unwrap())
                .collect();
            all.sort();
            all.dedup();
            assert_eq!(all.len(), count, "{subnet} {range:?}");
            let error = leases.take(&network, "late", &[]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InUse);
            let said = error.to_string();
            let start = format!("network `web`: all {count} addresses of ");
            assert!(said.starts_with(&start) && said.contains("are taken: containers `c0`"), "{said}");
            leases.give_back(&all[..1]).unwrap();
            assert_eq!(leases.take(&network, "late", &[]).unwrap(), all[..1]);
            assert!(!leases.none().unwrap());
            leases.give_back(&all).unwrap();
            assert!(leases.none().unwrap());
        }
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_is_wanted_is_had_or_refused_with_why_and_nothing_is_left() {
        let directory = scratch("wanted");
        let leases = Leases(directory.join("x"));
        let six = Subnet::new("fd00::/64".parse().unwrap(), None, None).unwrap();
        let mut network = network("10.0.0.0/28", Some("10.0.0.8/29"));
        let [low, gateway, outside] = [[10, 0, 0, 2], [10, 0, 0, 1], [10, 0, 1, 2]].map(IpAddr::from);
        let some6: IpAddr = "fd00::7".parse().unwrap();
        assert_eq!(leases.take(&network, "a", &[low]).unwrap(), [low], "also outside of the range");
        for (wanted, why) in [
            (low, "address 10.0.0.2: container `a` has it"),
            (gateway, "address 10.0.0.1: not a free one of 10.0.0.0/28"),
            (outside, "address 10.0.1.2: not a free one of 10.0.0.0/28"),
            (some6, "address fd00::7: network `web` has no IPv6"),
        ] {
            assert_eq!(leases.take(&network, "b", &[wanted]).unwrap_err().to_string(), why);
        }
        network.subnets.push(six);
        assert_eq!(leases.take(&network, "b", &[some6]).unwrap()[1], some6);
        leases.take(&network, "c", &[some6]).unwrap_err();
        assert_eq!(leases.all().unwrap().iter().filter(|(_, name)| name == "c").count(), 0);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn threads_at_once_get_no_address_twice() {
        let directory = scratch("threads");
        let (leases, network) = (Leases(directory.join("x")), network("10.0.0.0/24", None));
        let taken: Vec<_> = std::thread::scope(|scope| {
            let take = || (0..3).flat_map(|_| leases.take(&network, "c", &[]).unwrap()).collect::<Vec<_>>();
            let threads: Vec<_> = (0..64).map(|_| scope.spawn(take)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let distinct: std::collections::BTreeSet<_> = taken.iter().collect();
        assert_eq!((taken.len(), distinct.len()), (192, 192));
        fs::remove_dir_all(directory).unwrap();
    }
}
