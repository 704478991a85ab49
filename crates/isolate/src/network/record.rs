//! What is known of a network: a file in its directory.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::{fs, io};

use isolate_netns::{Bridge, Cidr, ErrorKind as NetErrorKind, Firewall};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::network::macvlan::Parent;

/// The format of the file.
const VERSION: u32 = 1;

/// A network's record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NetworkRecord {
    pub version: u32,
    pub name: String,
    /// The name of its bridge. Empty on a macvlan network, which has none.
    pub link: String,
    pub subnets: Vec<Subnet>,
    pub internal: bool,
    /// Its containers reach the host's services.
    pub host_services: bool,
    pub mtu: Option<u32>,
    /// Asked for, not what it came to.
    pub iptables: Option<bool>,
    pub labels: BTreeMap<String, String>,
    /// Seconds since 1970.
    pub created: u64,
    /// It is the default network: made by its first container, and gone with the last.
    pub implicit: bool,
    /// It stays when who made it has ended.
    pub kept: bool,
    /// What a macvlan network is over.
    #[serde(default)]
    pub parent: Option<Parent>,
}

/// A network's addresses of one version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// All of them, the gateway's included.
    pub(crate) network: Cidr,
    pub(crate) gateway: IpAddr,
    /// Those that are handed out.
    pub(crate) range: Cidr,
}

impl Subnet {
    /// The whole network.
    #[must_use]
    pub fn network(&self) -> Cidr {
        self.network
    }

    /// The bridge's own address in it; on a macvlan network its router's.
    #[must_use]
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// The part of it that addresses are handed out from; one that a container asks for may lie outside.
    #[must_use]
    pub fn range(&self) -> Cidr {
        self.range
    }

    /// Checked: all in one another. The gateway is the first address unless it is said.
    pub(crate) fn new(network: Cidr, gateway: Option<IpAddr>, range: Option<Cidr>) -> Result<Self> {
        let refused = |what: String| Error::new(ErrorKind::InvalidConfig, what);
        let (whole, range) = (network.network(), range.unwrap_or(network).network());
        let gateway = match gateway.or_else(|| whole.host(0)) {
            Some(gateway) if whole.host_number(gateway).is_some() => gateway,
            gateway => {
                let gateway = gateway.map_or(String::new(), |gateway| gateway.to_string());
                return Err(refused(format!("gateway {gateway}: not a host's address of subnet {whole}")));
            }
        };
        if range.prefix() < whole.prefix() || !whole.contains(range.address()) {
            return Err(refused(format!("ip range {range}: not a part of subnet {whole}")));
        }
        Ok(Self { network: whole, gateway, range })
    }

    /// The gateway with the network's prefix.
    pub(crate) fn gateway_cidr(&self) -> Result<Cidr> {
        Ok(Cidr::new(self.gateway, self.network.prefix())?)
    }
}

impl NetworkRecord {
    pub(crate) fn new(name: &str, link: String, subnets: Vec<Subnet>) -> Self {
        let created = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        Self {
            version: VERSION,
            name: name.to_owned(),
            link,
            subnets,
            internal: false,
            host_services: false,
            mtu: None,
            iptables: None,
            labels: BTreeMap::new(),
            created,
            implicit: false,
            kept: false,
            parent: None,
        }
    }

    /// Names are resolved on it: on all but the default network, as on Docker's.
    pub(crate) fn has_names(&self) -> bool {
        !self.implicit
    }

    /// By a server at the gateways' addresses, which are a bridge's.
    pub(crate) fn has_name_server(&self) -> bool {
        self.has_names() && self.parent.is_none()
    }

    pub(crate) fn subnet(&self, ipv6: bool) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.network.is_ipv6() == ipv6)
    }

    /// Its bridge, made and completed if need be.
    pub(crate) fn ensure(&self) -> Result<Bridge> {
        let four = self.subnet(false).ok_or_else(|| {
            Error::new(ErrorKind::InvalidConfig, format!("network `{}`: no IPv4 subnet", self.name))
        })?;
        let firewall = match self.iptables {
            None => Firewall::Auto,
            Some(true) => Firewall::Iptables,
            Some(false) => Firewall::NfTables,
        };
        let mut builder = Bridge::builder(&self.link, four.gateway_cidr()?)
            .firewall(firewall)
            .host_services(self.host_services)
            .name_server(self.has_names())
            .internal(self.internal);
        if let Some(six) = self.subnet(true) {
            builder = builder.ipv6(six.gateway_cidr()?);
        }
        if let Some(mtu) = self.mtu {
            builder = builder.mtu(mtu);
        }
        let bridge = match builder.clone().ensure() {
            // Its owner was killed before it had an address.
            Err(e) if e.kind() == NetErrorKind::Conflict && unfinished(&self.link) => {
                isolate_netns::remove_bridge(&self.link)?;
                builder.ensure()?
            }
            other => other?,
        };
        if !self.internal {
            bridge.masquerade()?;
        }
        Ok(bridge)
    }

    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        let (path, aside) = (directory.join("record"), directory.join("record.new"));
        let written = serde_json::to_vec_pretty(self)
            .map_err(io::Error::from)
            .and_then(|text| fs::write(&aside, text))
            .and_then(|()| fs::rename(&aside, &path));
        written.map_err(|e| Error::io(path.display(), &e))
    }

    /// `None` if there is none, or not yet.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join("record");
        let failed = |e: io::Error| Error::io(path.display(), &e);
        let text = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        let record: Self = serde_json::from_slice(&text).map_err(|e| failed(e.into()))?;
        match record.version {
            VERSION => Ok(Some(record)),
            other => Err(failed(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("version {other} of the record"),
            ))),
        }
    }
}

fn unfinished(link: &str) -> bool {
    Bridge::open(link).is_err_and(|e| e.kind() == NetErrorKind::Conflict)
}

/// The first of these networks that overlaps none of `others` and no route of the host.
pub(crate) fn first_free(
    candidates: impl IntoIterator<Item = Cidr>,
    others: &[Cidr],
) -> Result<Option<Cidr>> {
    let routes = isolate_netns::routes()?;
    let free = |cidr: &Cidr| !routes.iter().chain(others).any(|other| other.overlaps(cidr));
    Ok(candidates.into_iter().find(free))
}

/// Subnets of 254 addresses for networks that have none of their own, from the same block as the default network's.
pub(crate) fn pool() -> impl Iterator<Item = Cidr> {
    let ten =
        (214..=219_u8).flat_map(|second| (0..=255_u8).map(move |third| Ipv4Addr::new(10, second, third, 0)));
    let other = (0..=255_u8).map(|third| Ipv4Addr::new(172, 28, third, 0));
    ten.chain(other).filter_map(|address| Cidr::new(address, 24).ok())
}

/// A network of unique local addresses (RFC 4193) that nobody has.
pub(crate) fn unique_local() -> Result<Cidr> {
    let random = crate::name::random();
    let bits = u64::from_str_radix(&random, 16).unwrap_or_default();
    let group = |shift: u32| u16::try_from(bits >> shift & 0xffff).unwrap_or_default();
    let first = 0xfd00 | group(32) & 0xff;
    Ok(Cidr::new(std::net::Ipv6Addr::new(first, group(16), group(0), 0, 0, 0, 0, 0), 64)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_has_its_gateway_and_its_range_inside() {
        let cidr = |text: &str| text.parse::<Cidr>().unwrap();
        let subnet = Subnet::new(cidr("10.0.0.0/24"), None, Some(cidr("10.0.0.128/25"))).unwrap();
        assert_eq!(subnet.gateway, IpAddr::from([10, 0, 0, 1]));
        let six = Subnet::new(cidr("fd00::/64"), None, None).unwrap();
        assert_eq!(six.gateway, "fd00::1".parse::<IpAddr>().unwrap());
        for (gateway, range, why) in [
            (Some([10, 0, 1, 1].into()), None, "gateway 10.0.1.1"),
            (Some([10, 0, 0, 255].into()), None, "gateway 10.0.0.255"),
            (None, Some(cidr("10.0.0.0/23")), "ip range 10.0.0.0/23"),
            (None, Some(cidr("10.0.1.0/25")), "ip range 10.0.1.0/25"),
            (None, Some(cidr("fd00::/64")), "ip range fd00::/64"),
        ] {
            let error = Subnet::new(cidr("10.0.0.0/24"), gateway, range).unwrap_err();
            assert!(error.to_string().starts_with(why), "{error}");
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let directory = std::env::temp_dir().join(format!("network-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let subnet = Subnet::new("10.0.0.0/24".parse().unwrap(), None, None).unwrap();
        let mut record = NetworkRecord::new("web", "isb1".into(), vec![subnet]);
        record.write(&directory).unwrap();
        assert_eq!(NetworkRecord::read(&directory).unwrap(), Some(record.clone()));
        record.version += 1;
        record.write(&directory).unwrap();
        assert!(NetworkRecord::read(&directory).unwrap_err().to_string().contains("version 2"));
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(NetworkRecord::read(&directory).unwrap(), None);
    }

    #[test]
    fn networks_that_are_made_up_are_of_their_kind() {
        assert!(pool().count() > 1500 && pool().all(|cidr| cidr.prefix() == 24));
        let (one, two) = (unique_local().unwrap(), unique_local().unwrap());
        assert!(one != two && "fd00::/8".parse::<Cidr>().unwrap().overlaps(&one));
    }
}
