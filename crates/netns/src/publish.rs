//! A published port: which port of the host leads to which port of a container.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::{Error, Result};

/// A transport protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Streams (tcp(7)).
    Tcp,
    /// Datagrams (udp(7)).
    Udp,
}

impl Protocol {
    /// The number that the kernel knows it by (`/etc/protocols`).
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(Error::invalid(format!("`{text}` is not a protocol: tcp or udp"))),
        }
    }
}

/// One published port, or a range of them: host first, as in `docker run -p 9000:8080`.
///
/// A host port of 0 stands for one that the kernel picks; [`Publish::reserve`] tells which it was.
///
/// ```
/// use isolate_netns::Publish;
/// use std::net::Ipv4Addr;
///
/// let published = Publish::tcp(9000, 8080).on(Ipv4Addr::LOCALHOST);
/// assert_eq!(published, "127.0.0.1:9000:8080/tcp".parse()?);
/// assert_eq!(Publish::from((9000, 8080)), "9000:8080".parse()?);
/// assert_eq!(Publish::udp(9000, 8080).range(11), "9000-9010:8080-8090/udp".parse()?);
/// # Ok::<(), isolate_netns::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Publish {
    protocol: Protocol,
    /// `None` for every address of the host.
    address: Option<IpAddr>,
    host: u16,
    container: u16,
    count: u16,
}

impl Publish {
    /// TCP port `host` of every address of the host leads to port `container` of the container.
    pub const fn tcp(host: u16, container: u16) -> Self {
        Self { protocol: Protocol::Tcp, address: None, host, container, count: 1 }
    }

    /// The same for UDP.
    pub const fn udp(host: u16, container: u16) -> Self {
        Self { protocol: Protocol::Udp, address: None, host, container, count: 1 }
    }

    /// Only on this address of the host. `127.0.0.1` and `::1` are reached from the host alone; `0.0.0.0` is every IPv4 address the host
    /// has or will have, `::` every one of IPv6. The default is both, where the container has an address of both.
    #[must_use = "it returns the changed one"]
    pub fn on(self, address: impl Into<IpAddr>) -> Self {
        Self { address: Some(address.into()), ..self }
    }

    /// So many ports from both on, each to its own: `tcp(9000, 8080).range(11)` is `9000-9010:8080-8090`. With a host port of 0 the
    /// kernel picks each. A range that goes beyond 65535 is refused where it is used.
    #[must_use = "it returns the changed one"]
    pub const fn range(self, count: u16) -> Self {
        Self { count, ..self }
    }

    /// The ports one by one: itself, if it is no range.
    pub fn each(self) -> impl Iterator<Item = Self> {
        (0..self.count).map(move |n| Self {
            host: if self.host == 0 { 0 } else { self.host.saturating_add(n) },
            container: self.container.saturating_add(n),
            count: 1,
            ..self
        })
    }

    /// The transport protocol.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The host's address that it is published on; `None` for all.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// The host's port, of a range the first.
    #[must_use]
    pub const fn host_port(&self) -> u16 {
        self.host
    }

    /// The container's port, of a range the first.
    #[must_use]
    pub const fn container_port(&self) -> u16 {
        self.container
    }

    /// How many ports it is.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.count
    }

    pub(crate) const fn with_host_port(self, host: u16) -> Self {
        Self { host, ..self }
    }

    /// Whether the two cannot be published together: the same port of the host, on an address that both have.
    ///
    /// ```
    /// use isolate_netns::Publish;
    ///
    /// let everywhere = Publish::tcp(9000, 8080);
    /// assert!(everywhere.conflicts_with(&Publish::tcp(9000, 80).on([127, 0, 0, 1])));
    /// assert!(!everywhere.conflicts_with(&Publish::udp(9000, 8080)));
    /// ```
    #[must_use]
    pub fn conflicts_with(&self, other: &Self) -> bool {
        let ports =
            |publish: &Self| u32::from(publish.host)..u32::from(publish.host) + u32::from(publish.count);
        let (one, two) = (ports(self), ports(other));
        let ports = one.start < two.end && two.start < one.end && self.host != 0 && other.host != 0;
        let addresses = match (self.address, other.address) {
            (Some(one), Some(two)) if one.is_ipv4() != two.is_ipv4() => false,
            (Some(one), Some(two)) => one == two || one.is_unspecified() || two.is_unspecified(),
            _ => true,
        };
        self.protocol == other.protocol && ports && addresses
    }

    /// The host's side as a person writes it: `9000/tcp`, `127.0.0.1:9000/tcp` or `[::1]:9000-9010/udp`.
    #[must_use]
    pub fn host_side(&self) -> String {
        let ports = Ports(self.host, self.count);
        match self.address {
            Some(address) if !address.is_unspecified() => {
                format!("{}{ports}/{}", Host(address), self.protocol)
            }
            _ => format!("{ports}/{}", self.protocol),
        }
    }

    /// Refuses what cannot be published anywhere.
    pub(crate) fn check(&self) -> Result<()> {
        let refused = |why: &str| Err(Error::invalid(format!("{self}: {why}")));
        let last = |first: u16| u32::from(first) + u32::from(self.count) - 1;
        let alone = match self.address {
            Some(IpAddr::V4(address)) => !address.is_multicast() && !address.is_broadcast(),
            Some(IpAddr::V6(address)) => !address.is_multicast(),
            None => true,
        };
        match self {
            Self { count: 0, .. } => refused("no port at all"),
            Self { container: 0, .. } => refused("a container's port is 1 to 65535"),
            _ if last(self.host) > 65535 || last(self.container) > 65535 => refused("a range ends at 65535"),
            _ if !alone => refused("the host's address stands for more than one host"),
            _ => Ok(()),
        }
    }
}

/// A host's address before a port.
struct Host(IpAddr);

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}:"),
            IpAddr::V6(address) => write!(f, "[{address}]:"),
        }
    }
}

/// The first, and how many.
struct Ports(u16, u16);

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(0, _) | Self(_, 1) => write!(f, "{}", self.0),
            Self(first, count) => write!(f, "{first}-{}", u32::from(*first) + u32::from(*count).max(1) - 1),
        }
    }
}

/// `(host, container)`, TCP.
impl From<(u16, u16)> for Publish {
    fn from((host, container): (u16, u16)) -> Self {
        Self::tcp(host, container)
    }
}

impl From<&Self> for Publish {
    fn from(publish: &Self) -> Self {
        *publish
    }
}

/// As Docker writes it: `[[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]`, where both ports may be ranges of one length (`9000-9010:8080-8090`).
/// Without a host port the kernel picks one; an IPv6 address stands in brackets.
impl FromStr for Publish {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = |why: &str| Error::invalid(format!("`{text}` is not a published port: {why}"));
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = protocol.parse().map_err(|_| refused("the protocol is tcp or udp"))?;
        let (rest, container) =
            ports.rsplit_once(':').map_or((None, ports), |(rest, port)| (Some(rest), port));
        let container = port_range(container).filter(|(first, _)| *first != 0);
        let (container, count) = container.ok_or_else(|| refused("a container's port is 1 to 65535"))?;
        let (address, host) =
            match rest.map(|rest| rest.rsplit_once(':').map_or((None, rest), |(a, h)| (Some(a), h))) {
                None => (None, Some((0, count))),
                Some((address @ Some(_), "")) => (address, Some((0, count))),
                Some((address, host)) => (address, port_range(host)),
            };
        let (host, many) = host.ok_or_else(|| refused("a host's port is 0 to 65535"))?;
        if many != count && (host, many) != (0, 1) {
            return Err(refused("as many ports of the host as of the container"));
        }
        let address = match address {
            None => None,
            Some(address) => {
                Some(host_address(address).ok_or_else(|| refused("the host's address comes first"))?)
            }
        };
        Ok(Self { protocol, address, host, container, count })
    }
}

/// The first and how many of `8080` or `8080-8090`.
fn port_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    Some((first, last.checked_sub(first)?.checked_add(1)?))
}

fn port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn host_address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse().map(IpAddr::V6).ok(),
        None => text.parse().map(IpAddr::V4).ok(),
    }
}

/// As it is parsed: `9000:8080/tcp`, or with an address `127.0.0.1:9000:8080/tcp`.
impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.address {
            write!(f, "{}", Host(address))?;
        }
        let (host, container) = (Ports(self.host, self.count), Ports(self.container, self.count));
        write!(f, "{host}:{container}/{}", self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ports_are_read_as_docker_writes_them() {
        let read = |text: &str| text.parse::<Publish>().unwrap();
        assert_eq!(read("9000:8080"), Publish::tcp(9000, 8080));
        assert_eq!(read("9000:8080/udp"), Publish::udp(9000, 8080));
        assert_eq!(read("8080"), Publish::tcp(0, 8080));
        assert_eq!(read("127.0.0.1::8080"), Publish::tcp(0, 8080).on(Ipv4Addr::LOCALHOST));
        assert_eq!(read("127.0.0.1:9000:8080/tcp"), Publish::tcp(9000, 8080).on(Ipv4Addr::LOCALHOST));
        assert_eq!(read("[::1]:9000:8080"), Publish::tcp(9000, 8080).on(Ipv6Addr::LOCALHOST));
    }

    #[test]
    fn what_is_no_published_port_is_an_error_that_says_why() {
        for (text, why) in [
            ("", "1 to 65535"),
            ("9000:", "1 to 65535"),
            ("9000:0", "1 to 65535"),
            ("9000:65536", "1 to 65535"),
            ("65536:80", "0 to 65535"),
            (":80", "0 to 65535"),
            ("+1:80", "0 to 65535"),
            ("localhost:1:80", "address"),
            ("::1:1:80", "address"),
            ("1:2/sctp", "tcp or udp"),
            ("1-3:1-2", "as many"),
            ("3-1:3-1", "1 to 65535"),
        ] {
            let error = text.parse::<Publish>().expect_err(text);
            assert_eq!(error.kind(), crate::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn a_range_is_its_ports_one_by_one() {
        let range: Publish = "9000-9002:8080-8082/udp".parse().unwrap();
        assert_eq!(range, Publish::udp(9000, 8080).range(3));
        let each: Vec<_> = range.each().collect();
        assert_eq!(each, [(9000, 8080), (9001, 8081), (9002, 8082)].map(|(h, c)| Publish::udp(h, c)));
        let picked: Vec<_> = "8080-8081".parse::<Publish>().unwrap().each().collect();
        assert_eq!(picked, [Publish::tcp(0, 8080), Publish::tcp(0, 8081)]);
        assert!(Publish::tcp(8999, 1).range(2).conflicts_with(&Publish::tcp(9000, 1)));
        assert!(!Publish::tcp(8999, 1).range(2).conflicts_with(&Publish::tcp(9001, 1)));
        assert_eq!(range.on(Ipv6Addr::LOCALHOST).host_side(), "[::1]:9000-9002/udp");
    }

    #[test]
    fn what_can_be_written_and_not_be_published_is_refused() {
        for (publish, why) in [
            (Publish::tcp(1, 0), "1 to 65535"),
            (Publish::tcp(65535, 1).range(2), "65535"),
            (Publish::tcp(1, 2).range(0), "no port"),
            (Publish::tcp(1, 2).on(Ipv4Addr::BROADCAST), "more than one"),
            (Publish::tcp(1, 2).on([0xff02, 0, 0, 0, 0, 0, 0, 1]), "more than one"),
        ] {
            let error = publish.check().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(why), "{error}");
        }
        Publish::tcp(0, 65535).check().unwrap();
    }

    #[test]
    fn two_conflict_where_a_packet_could_be_for_both() {
        let one = Publish::tcp(9000, 80);
        let (here, there) = (one.on([127, 0, 0, 1]), one.on([10, 0, 0, 1]));
        assert!(one.conflicts_with(&one) && one.conflicts_with(&here) && here.conflicts_with(&one));
        assert!(!here.conflicts_with(&there));
        assert!(!one.conflicts_with(&Publish::tcp(9001, 80)) && !one.conflicts_with(&Publish::udp(9000, 80)));
        assert!(!Publish::tcp(0, 80).conflicts_with(&Publish::tcp(0, 80)), "the kernel picks two");
        let six = one.on(Ipv6Addr::UNSPECIFIED);
        assert!(
            six.conflicts_with(&one) && !six.conflicts_with(&here) && !six.conflicts_with(&one.on([0; 4]))
        );
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(
            udp: bool,
            address: Option<[u8; 4]>,
            six: Option<[u8; 16]>,
            host in 0u16..60000,
            container in 1u16..60000,
            count in 1u16..100,
        ) {
            let publish = if udp { Publish::udp(host, container) } else { Publish::tcp(host, container) };
            let publish = address.map_or(publish, |address| publish.on(address)).range(count);
            let publish = six.map_or(publish, |address| publish.on(address));
            prop_assert_eq!(publish.to_string().parse::<Publish>().unwrap(), publish);
        }
    }
}
