//! An address with the length of its network prefix, as in `172.30.0.1/24`.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::{Error, Result};

/// An IPv4 address and the length of its network prefix (RFC 4632).
///
/// A bridge's gateway is given as one: the address is the bridge's own, the prefix is the network's.
///
/// ```
/// use isolate_netns::Cidr;
/// use std::net::Ipv4Addr;
///
/// let gateway: Cidr = "172.30.0.1/24".parse()?;
/// assert_eq!(gateway.network(), "172.30.0.0/24".parse()?);
/// assert!(gateway.contains(Ipv4Addr::new(172, 30, 0, 77)));
/// assert_eq!(gateway.hosts().count(), 254);
/// # Ok::<(), isolate_netns::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    address: Ipv4Addr,
    prefix: u8,
}

impl Cidr {
    /// `address` in a network of `prefix` bits.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if `prefix` is over 32.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Result<Self> {
        if prefix > 32 {
            return Err(Error::invalid(format!("{address}/{prefix}: a prefix has at most 32 bits")));
        }
        Ok(Self { address, prefix })
    }

    /// The address as it was given, host part included.
    #[must_use]
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The length of the network part, in bits (0 to 32).
    #[must_use]
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The network itself: the same prefix, the host part all zeros.
    #[must_use]
    pub fn network(&self) -> Self {
        Self { address: Ipv4Addr::from_bits(self.address.to_bits() & self.mask()), prefix: self.prefix }
    }

    /// The network's last address, which all its hosts listen to.
    #[must_use]
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !self.mask())
    }

    /// Whether `address` is in this network.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (address.to_bits() ^ self.address.to_bits()) & self.mask() == 0
    }

    /// Whether the two networks have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// The addresses a host of this network may have, lowest first: all but the first (the network) and the last
    /// (its broadcast address). A `/31` has two and a `/32` one (RFC 3021). The bridge's own is among them.
    pub fn hosts(&self) -> impl DoubleEndedIterator<Item = Ipv4Addr> + Clone + use<> {
        let (first, last) = (self.network().address.to_bits(), self.broadcast().to_bits());
        let hosts = if self.prefix >= 31 { first..=last } else { first + 1..=last - 1 };
        hosts.map(Ipv4Addr::from_bits)
    }

    /// Whether `address` may be a host's: inside, and neither the network's nor its broadcast address.
    pub(crate) fn is_host(&self, address: Ipv4Addr) -> bool {
        let edge = address == self.network().address || address == self.broadcast();
        self.contains(address) && (self.prefix >= 31 || !edge)
    }

    fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }
}

impl FromStr for Cidr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let digits = prefix.len() <= 2 && prefix.bytes().all(|byte| byte.is_ascii_digit());
            Some((address.parse().ok()?, prefix.parse().ok().filter(|_| digits)?))
        });
        let (address, prefix) = parsed.ok_or_else(|| {
            Error::invalid(format!("`{text}` is not an address and a prefix, as in 172.30.0.1/24"))
        })?;
        Self::new(address, prefix)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_has_its_hosts_between_its_edges() {
        let small = cidr("10.0.0.5/29");
        assert_eq!(small.network(), cidr("10.0.0.0/29"));
        assert_eq!(small.broadcast(), Ipv4Addr::new(10, 0, 0, 7));
        let hosts: Vec<_> = small.hosts().map(|host| host.octets()[3]).collect();
        assert_eq!(hosts, [1, 2, 3, 4, 5, 6]);
        assert!(!small.is_host(Ipv4Addr::new(10, 0, 0, 7)) && small.is_host(Ipv4Addr::new(10, 0, 0, 1)));
    }

    #[test]
    fn the_smallest_networks_have_one_and_two_hosts_and_the_largest_all_but_two() {
        assert_eq!(cidr("10.0.0.0/31").hosts().count(), 2);
        assert_eq!(cidr("10.0.0.9/32").hosts().collect::<Vec<_>>(), [Ipv4Addr::new(10, 0, 0, 9)]);
        assert_eq!(cidr("1.2.3.4/0").hosts().next_back(), Some(Ipv4Addr::new(255, 255, 255, 254)));
    }

    #[test]
    fn what_is_no_network_is_an_error_that_shows_it() {
        for text in
            ["", "10.0.0.1", "10.0.0.1/", "10.0.0.1/33", "10.0.0.1/+8", "10.0.0/8", "::1/64", "10.0.0.1/8/9"]
        {
            let error = text.parse::<Cidr>().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidInput, "{text}");
            assert!(error.to_string().contains(text));
        }
    }

    #[test]
    fn networks_overlap_when_one_holds_the_other() {
        assert!(cidr("10.0.0.0/8").overlaps(&cidr("10.77.0.1/24")));
        assert!(cidr("10.77.0.1/24").overlaps(&cidr("10.0.0.0/8")));
        assert!(!cidr("10.77.0.1/24").overlaps(&cidr("10.77.1.1/24")));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(bits: u32, prefix in 0u8..=32) {
            let cidr = Cidr::new(Ipv4Addr::from_bits(bits), prefix).unwrap();
            prop_assert_eq!(cidr.to_string().parse::<Cidr>().unwrap(), cidr);
            prop_assert!(cidr.contains(cidr.network().address()) && cidr.contains(cidr.broadcast()));
        }
    }
}
