//! A published port: which port of the host leads to which port of a container.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
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

/// One published port: host first, as in `docker run -p 9000:8080`.
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
/// # Ok::<(), isolate_netns::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Publish {
    protocol: Protocol,
    address: IpAddr,
    host: u16,
    container: u16,
}

impl Publish {
    /// TCP port `host` of every address of the host leads to port `container` of the container.
    pub const fn tcp(host: u16, container: u16) -> Self {
        Self { protocol: Protocol::Tcp, address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), host, container }
    }

    /// The same for UDP.
    pub const fn udp(host: u16, container: u16) -> Self {
        Self { protocol: Protocol::Udp, address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), host, container }
    }

    /// Only on this address of the host. `127.0.0.1` is reached from the host alone; the default, `0.0.0.0`, is
    /// every IPv4 address the host has or will have. IPv6 addresses are refused when it is published.
    #[must_use = "it returns the changed one"]
    pub fn on(self, address: impl Into<IpAddr>) -> Self {
        Self { address: address.into(), ..self }
    }

    /// The transport protocol.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The host's address that it is published on; `0.0.0.0` for all.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// The host's port.
    #[must_use]
    pub const fn host_port(&self) -> u16 {
        self.host
    }

    /// The container's port.
    #[must_use]
    pub const fn container_port(&self) -> u16 {
        self.container
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
        let everywhere = self.address.is_unspecified() || other.address.is_unspecified();
        let port = self.protocol == other.protocol && self.host == other.host && self.host != 0;
        port && (everywhere || self.address == other.address)
    }

    /// The host's side as a person writes it: `9000/tcp` or `127.0.0.1:9000/tcp`.
    #[must_use]
    pub fn host_side(&self) -> String {
        match self.address.is_unspecified() {
            true => format!("{}/{}", self.host, self.protocol),
            false => format!("{}:{}/{}", self.address, self.host, self.protocol),
        }
    }

    /// The host's address, if this crate can publish there.
    pub(crate) fn host_address(&self) -> Result<Ipv4Addr> {
        match self.address {
            IpAddr::V4(address) if !address.is_multicast() && !address.is_broadcast() => Ok(address),
            _ => Err(Error::invalid(format!(
                "host port {}: {} is not an IPv4 address of a host",
                self.host_side(),
                self.address
            ))),
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

/// As Docker writes it: `[[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]`, without ranges. Without a host port the kernel
/// picks one; an IPv6 address stands in brackets.
impl FromStr for Publish {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = |why: &str| Error::invalid(format!("`{text}` is not a published port: {why}"));
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = protocol.parse().map_err(|_| refused("the protocol is tcp or udp"))?;
        let (rest, container) =
            ports.rsplit_once(':').map_or((None, ports), |(rest, port)| (Some(rest), port));
        let container = port(container).filter(|port| *port != 0);
        let container = container.ok_or_else(|| refused("a container's port is 1 to 65535"))?;
        let (address, host) =
            match rest.map(|rest| rest.rsplit_once(':').map_or((None, rest), |(a, h)| (Some(a), h))) {
                None => (None, Some(0)),
                Some((address @ Some(_), "")) => (address, Some(0)),
                Some((address, host)) => (address, port(host)),
            };
        let host = host.ok_or_else(|| refused("a host's port is 0 to 65535"))?;
        let address = match address {
            None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Some(address) => {
                host_address(address).ok_or_else(|| refused("the host's address comes first"))?
            }
        };
        Ok(Self { protocol, address, host, container })
    }
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

/// As it is parsed, in full: `0.0.0.0:9000:8080/tcp`.
impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(address) => write!(f, "{address}:")?,
            IpAddr::V6(address) => write!(f, "[{address}]:")?,
        }
        write!(f, "{}:{}/{}", self.host, self.container, self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

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
        ] {
            let error = text.parse::<Publish>().expect_err(text);
            assert_eq!(error.kind(), crate::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn an_ipv6_address_is_refused_where_it_would_be_published() {
        let error = Publish::tcp(1, 2).on(Ipv6Addr::LOCALHOST).host_address().unwrap_err();
        assert!(error.to_string().starts_with("host port ::1:1/tcp"), "{error}");
    }

    #[test]
    fn two_conflict_where_a_packet_could_be_for_both() {
        let one = Publish::tcp(9000, 80);
        let (here, there) = (one.on([127, 0, 0, 1]), one.on([10, 0, 0, 1]));
        assert!(one.conflicts_with(&one) && one.conflicts_with(&here) && here.conflicts_with(&one));
        assert!(!here.conflicts_with(&there));
        assert!(!one.conflicts_with(&Publish::tcp(9001, 80)) && !one.conflicts_with(&Publish::udp(9000, 80)));
        assert!(!Publish::tcp(0, 80).conflicts_with(&Publish::tcp(0, 80)), "the kernel picks two");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(udp: bool, address: [u8; 4], host: u16, container in 1u16..) {
            let publish = if udp { Publish::udp(host, container) } else { Publish::tcp(host, container) };
            let publish = publish.on(address);
            prop_assert_eq!(publish.to_string().parse::<Publish>().unwrap(), publish);
        }
    }
}
