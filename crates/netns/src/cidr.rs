//! An address with the length of its network prefix, as in `172.30.0.1/24` or `fd00:77::1/64`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::{Error, Result};

/// An address and the length of its network prefix (RFC 4632, RFC 4291), of IPv4 or IPv6.
///
/// A bridge's gateway is given as one: the address is the bridge's own, the prefix is the network's.
///
/// ```
/// use isolate_netns::Cidr;
/// use std::net::{IpAddr, Ipv4Addr};
///
/// let gateway: Cidr = "172.30.0.1/24".parse()?;
/// assert_eq!(gateway.network(), "172.30.0.0/24".parse()?);
/// assert!(gateway.contains(Ipv4Addr::new(172, 30, 0, 77)));
/// assert_eq!(gateway.host_count(), 254);
/// assert_eq!(gateway.host(0), Some(IpAddr::from([172, 30, 0, 1])));
///
/// let six: Cidr = "fd00:77::1/64".parse()?;
/// assert_eq!(six.host_count(), (1 << 64) - 1);
/// # Ok::<(), isolate_netns::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// `address` in a network of `prefix` bits.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if `prefix` is over 32, or over 128 for IPv6.
    pub fn new(address: impl Into<IpAddr>, prefix: u8) -> Result<Self> {
        let address = address.into();
        let cidr = Self { address, prefix };
        if u32::from(prefix) > cidr.width() {
            return Err(Error::invalid(format!("{cidr}: a prefix has at most {} bits", cidr.width())));
        }
        Ok(cidr)
    }

    /// The address as it was given, host part included.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// The length of the network part, in bits (0 to 32, or to 128 for IPv6).
    #[must_use]
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether it is of IPv6.
    #[must_use]
    pub const fn is_ipv6(&self) -> bool {
        self.address.is_ipv6()
    }

    /// The network itself: the same prefix, the host part all zeros.
    #[must_use]
    pub fn network(&self) -> Self {
        self.with(self.first())
    }

    /// The network's last address; of IPv4 the one that all its hosts listen to.
    #[must_use]
    #[doc(alias = "broadcast")]
    pub fn last(&self) -> IpAddr {
        self.with(self.first() | self.host_mask()).address
    }

    /// Whether `address` is in this network.
    #[must_use]
    pub fn contains(&self, address: impl Into<IpAddr>) -> bool {
        let address = address.into();
        address.is_ipv6() == self.is_ipv6() && (bits(address) ^ bits(self.address)) & !self.host_mask() == 0
    }

    /// Whether the two networks have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// How many addresses a host of this network may have: all but the first (the network, or the routers' anycast address of RFC
    /// 4291) and, of IPv4, the last (its broadcast address). A `/31` has two and a `/32` one (RFC 3021), a `/127` and a `/128` the same
    /// (RFC 6164).
    #[must_use]
    pub fn host_count(&self) -> u128 {
        let all = self.host_mask();
        match (self.width() - u32::from(self.prefix), self.is_ipv6()) {
            (0 | 1, _) => all + 1,
            (_, true) => all,
            (_, false) => all - 1,
        }
    }

    /// The `n`-th of them, lowest first, from 0 on.
    #[must_use]
    pub fn host(&self, n: u128) -> Option<IpAddr> {
        let skipped = u128::from(self.width() - u32::from(self.prefix) > 1);
        (n < self.host_count()).then(|| self.with(self.first() + skipped + n).address)
    }

    /// All of them, lowest first. The bridge's own is among them.
    pub fn hosts(&self) -> impl DoubleEndedIterator<Item = IpAddr> + Clone + use<> {
        let cidr = *self;
        (0..self.host_count()).filter_map(move |n| cidr.host(n))
    }

    /// Which of [`hosts`](Self::hosts) the address is, if it is one.
    #[must_use]
    pub fn host_number(&self, address: impl Into<IpAddr>) -> Option<u128> {
        let address = address.into();
        let skipped = u128::from(self.width() - u32::from(self.prefix) > 1);
        let number = bits(address).checked_sub(self.first() + skipped)?;
        (self.contains(address) && number < self.host_count()).then_some(number)
    }

    /// Whether `address` may be a host's: inside, and none of those that stand for more than one.
    pub(crate) fn is_host(&self, address: impl Into<IpAddr>) -> bool {
        self.host_number(address).is_some()
    }

    const fn width(&self) -> u32 {
        if self.is_ipv6() { 128 } else { 32 }
    }

    fn host_mask(&self) -> u128 {
        match self.width() - u32::from(self.prefix).min(self.width()) {
            128 => u128::MAX,
            bits => (1 << bits) - 1,
        }
    }

    fn first(&self) -> u128 {
        bits(self.address) & !self.host_mask()
    }

    fn with(&self, bits: u128) -> Self {
        let address = match self.address {
            IpAddr::V4(_) => {
                IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits & u128::from(u32::MAX)).unwrap_or(0)))
            }
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        };
        Self { address, ..*self }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl FromStr for Cidr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let digits = prefix.len() <= 3 && prefix.bytes().all(|byte| byte.is_ascii_digit());
            Some((address.parse::<IpAddr>().ok()?, prefix.parse().ok().filter(|_| digits)?))
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
        assert_eq!(small.last(), IpAddr::from([10, 0, 0, 7]));
        let hosts: Vec<_> = small.hosts().collect();
        assert_eq!(hosts, (1..=6).map(|n| IpAddr::from([10, 0, 0, n])).collect::<Vec<_>>());
        assert!(
            !small.is_host([10, 0, 0, 7]) && small.is_host([10, 0, 0, 1]) && !small.is_host([10, 0, 0, 8])
        );
        assert_eq!(small.host_number([10, 0, 0, 6]), Some(5));
    }

    #[test]
    fn the_smallest_networks_have_one_and_two_hosts_and_the_largest_all_but_two() {
        assert_eq!(cidr("10.0.0.0/31").hosts().count(), 2);
        assert_eq!(cidr("10.0.0.9/32").hosts().collect::<Vec<_>>(), [IpAddr::from([10, 0, 0, 9])]);
        assert_eq!(cidr("1.2.3.4/0").hosts().next_back(), Some([255, 255, 255, 254].into()));
        assert_eq!(cidr("fd00::/127").host_count(), 2);
        assert_eq!(cidr("::/0").host_count(), u128::MAX);
    }

    #[test]
    fn of_ipv6_the_last_address_is_a_hosts_and_the_first_is_the_routers() {
        let six = cidr("fd00:77::1/126");
        let hosts: Vec<_> = six.hosts().map(|host| host.to_string()).collect();
        assert_eq!(hosts, ["fd00:77::1", "fd00:77::2", "fd00:77::3"]);
        assert!(!six.contains([0, 0, 0, 1]), "an address of the other family");
        assert!(!cidr("0.0.0.0/0").overlaps(&cidr("::/0")));
    }

    #[test]
    fn what_is_no_network_is_an_error_that_shows_it() {
        for text in [
            "",
            "10.0.0.1",
            "10.0.0.1/",
            "10.0.0.1/33",
            "10.0.0.1/+8",
            "10.0.0/8",
            "::1/129",
            "::1",
            "fe80::1%eth0/64",
            "10.0.0.1/8/9",
        ] {
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
        assert!(cidr("fd00::/8").overlaps(&cidr("fd00:77::1/64")));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(bits: u128, six: bool, prefix in 0u8..=128) {
            let (address, prefix) = match six {
                true => (IpAddr::V6(Ipv6Addr::from_bits(bits)), prefix),
                false => (IpAddr::V4(Ipv4Addr::from_bits(bits as u32)), prefix % 33),
            };
            let cidr = Cidr::new(address, prefix).unwrap();
            prop_assert_eq!(cidr.to_string().parse::<Cidr>().unwrap(), cidr);
            prop_assert!(cidr.contains(cidr.network().address()) && cidr.contains(cidr.last()));
            let n = bits % cidr.host_count().max(1);
            let host = cidr.host(n).unwrap();
            prop_assert_eq!(cidr.host_number(host), Some(n));
        }
    }
}
