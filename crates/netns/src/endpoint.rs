//! A container's end of a pair, or its macvlan.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::route;

/// What a container gets when it is attached to a [bridge](crate::Bridge::attach) or a [macvlan](crate::Macvlan::attach): a link's name,
/// addresses, routes.
///
/// ```
/// use isolate_netns::Endpoint;
/// use std::net::Ipv4Addr;
///
/// let endpoint = Endpoint::new("eth1", Ipv4Addr::new(10, 77, 0, 2)).metric(200);
/// assert_eq!(endpoint.mac(), [0x02, 0x42, 10, 77, 0, 2]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a description does nothing until something is attached with it"]
pub struct Endpoint {
    pub(crate) interface: String,
    pub(crate) host: Option<String>,
    pub(crate) address: Ipv4Addr,
    pub(crate) ipv6: Option<Ipv6Addr>,
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) metric: Option<u32>,
    pub(crate) default_route: bool,
}

impl Endpoint {
    /// A link of this name inside, with this address of the network.
    pub fn new(interface: impl Into<String>, address: Ipv4Addr) -> Self {
        let interface = interface.into();
        Self { interface, host: None, address, ipv6: None, mac: None, metric: None, default_route: true }
    }

    /// The name of the other end, on the host. By default one that nobody has. A macvlan has none.
    pub fn host_interface(self, name: impl Into<String>) -> Self {
        Self { host: Some(name.into()), ..self }
    }

    /// An address of the network's IPv6 part, too.
    pub fn ipv6(self, address: Ipv6Addr) -> Self {
        Self { ipv6: Some(address), ..self }
    }

    /// Its MAC address. By default `02:42` and the IPv4 address.
    pub fn with_mac(self, mac: [u8; 6]) -> Self {
        Self { mac: Some(mac), ..self }
    }

    /// The metric of its default routes: of several, the lowest is used. Without one, the first network that a namespace is connected to
    /// gives it its default route, and others do not.
    pub fn metric(self, metric: u32) -> Self {
        Self { metric: Some(metric), ..self }
    }

    /// Whether it gets default routes, by the bridge's addresses or a macvlan's [gateways](crate::Macvlan::gateway); an internal bridge
    /// gives none. By default it does.
    pub fn default_route(self, wanted: bool) -> Self {
        Self { default_route: wanted, ..self }
    }

    /// The link's name.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Its MAC address.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.mac.unwrap_or_else(|| route::mac(self.address))
    }

    /// Its addresses: one of IPv4, and perhaps one of IPv6.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        [IpAddr::V4(self.address)].into_iter().chain(self.ipv6.map(IpAddr::V6)).collect()
    }
}
