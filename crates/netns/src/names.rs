//! The names of a network's containers, and the server that answers for them.

mod check;
#[cfg(fuzzing)]
mod fuzz;
mod image;
mod lock;
#[cfg(any(test, fuzzing))]
#[path = "../resolver/message.rs"]
pub(crate) mod message;
#[cfg(any(test, fuzzing))]
#[path = "../resolver/reply.rs"]
pub(crate) mod reply;
mod server;
mod store;
#[cfg_attr(not(any(test, fuzzing)), expect(dead_code, reason = "the server's half of the format"))]
#[path = "../resolver/table.rs"]
pub(crate) mod table;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

#[cfg(fuzzing)]
pub(crate) use fuzz::answered as fuzz;
pub use server::{end, is_served, serve};

/// Most upstreams that a table has: those beyond are left out.
const MOST_UPSTREAMS: usize = 8;

/// What a network's name server knows: who has which names and addresses, which addresses are the network's own, and whom to
/// ask for everything else.
///
/// A value, and the file `names` of a directory ([`read`](Self::read), [`write`](Self::write)). The server ([`serve`]) answers the
/// next query out of what was written last. Who changes it from several processes reads, changes and writes under a lock of
/// their own; readers need none.
///
/// ```no_run
/// use isolate_netns::{Names, serve};
/// use std::net::{IpAddr, Ipv4Addr};
/// use std::path::Path;
///
/// let directory = Path::new("/run/demo/names");
/// let gateway = IpAddr::from([10, 77, 0, 1]);
/// let mut names = Names::new()
///     .forward_to(["192.0.2.53:53".parse()?])
///     .subnet(gateway, 24)
///     .host(["gateway"], [gateway]);
/// names.add("4f2a", ["db", "db.demo"], [Ipv4Addr::new(10, 77, 0, 2).into()]);
/// names.write(directory)?;
/// serve(directory, &[gateway], &[])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Names are letters, digits, `-` and `_` in labels of at most 63, with dots between them, 253 bytes in all; they are kept in
/// lower case and without a dot at the end. [`write`](Self::write) refuses others. Several hosts may share a name: it has the
/// addresses of all of them then, and each query gets another one first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    internal: bool,
    upstreams: Vec<SocketAddr>,
    subnets: Vec<(IpAddr, u8)>,
    hosts: Vec<Host>,
}

/// One host: a member of the network, or one that was told without an id.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    id: Option<String>,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl Host {
    fn new(
        id: Option<&str>,
        names: impl IntoIterator<Item = impl Into<String>>,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Self {
        Self {
            id: id.map(str::to_owned),
            names: names.into_iter().map(|name| usual(name.into())).collect(),
            addresses: addresses.into_iter().map(|address| address.to_canonical()).collect(),
        }
    }
}

/// Lower case, no dot at the end.
fn usual(mut name: String) -> String {
    name.make_ascii_lowercase();
    if name.len() > 1 && name.ends_with('.') {
        name.pop();
    }
    name
}

impl Names {
    /// No names, no subnets, nobody to ask: what is not known is `SERVFAIL`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks these servers, in this order, for what is not known here. Two seconds each, two rounds; the first eight count. One
    /// that is the name server itself is left out.
    #[must_use]
    pub fn forward_to(mut self, servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.upstreams = servers.into_iter().map(usual_server).take(MOST_UPSTREAMS).collect();
        self
    }

    /// Asks nobody: what is not known here is `NXDOMAIN`, whatever [`forward_to`](Self::forward_to) says.
    #[must_use]
    pub fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// Addresses of the network, by any address of it and the number of its bits: nobody else is asked for their names.
    #[must_use]
    pub fn subnet(mut self, address: IpAddr, prefix: u8) -> Self {
        let subnet = match (address.to_canonical(), prefix.checked_sub(96)) {
            // Of IPv4 in the clothes of IPv6.
            (canonical @ IpAddr::V4(_), Some(short)) if address.is_ipv6() => (canonical, short),
            (IpAddr::V4(_), None) if address.is_ipv6() => (address, prefix),
            (canonical, _) => (canonical, prefix),
        };
        self.subnets.push(subnet);
        self
    }

    /// A host that is no member: it has no id, and nothing takes it away again. The first name is the one that its addresses
    /// are given.
    #[must_use]
    pub fn host(
        mut self,
        names: impl IntoIterator<Item = impl Into<String>>,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Self {
        self.hosts.push(Host::new(None, names, addresses));
        self
    }

    /// A member, such as a container, by an id of the caller's; in the place of the one that had it. The first name is the one
    /// that its addresses are given.
    pub fn add(
        &mut self,
        id: &str,
        names: impl IntoIterator<Item = impl Into<String>>,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) {
        let host = Host::new(Some(id), names, addresses);
        match self.hosts.iter_mut().find(|other| other.id.as_deref() == Some(id)) {
            Some(other) => *other = host,
            None => self.hosts.push(host),
        }
    }

    /// Takes a member away. Whether it was there.
    pub fn remove(&mut self, id: &str) -> bool {
        let before = self.hosts.len();
        self.hosts.retain(|host| host.id.as_deref() != Some(id));
        self.hosts.len() < before
    }

    /// The ids of the members, in the order in which they came.
    pub fn members(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().filter_map(|host| host.id.as_deref())
    }

    /// What each of them has: id, names and addresses.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &[String], &[IpAddr])> {
        self.hosts.iter().filter_map(|host| Some((host.id.as_deref()?, &host.names[..], &host.addresses[..])))
    }

    /// Whether a host can have this name here.
    #[must_use]
    pub fn accepts(name: &str) -> bool {
        check::name(&usual(name.to_owned())).is_ok()
    }

    /// The addresses that the server answers for a name, without taking turns; none for a name that it does not know.
    #[must_use]
    pub fn resolve(&self, name: &str) -> Vec<IpAddr> {
        let name = usual(name.to_owned());
        let mut found = Vec::new();
        for host in self.hosts.iter().filter(|host| host.names.contains(&name)) {
            for address in &host.addresses {
                if !found.contains(address) {
                    found.push(*address);
                }
            }
        }
        found
    }
}

/// What a table keeps of it: no flow label.
fn usual_server(server: SocketAddr) -> SocketAddr {
    match (server.ip().to_canonical(), server) {
        (IpAddr::V6(ip), SocketAddr::V6(v6)) => SocketAddrV6::new(ip, v6.port(), 0, v6.scope_id()).into(),
        (ip, _) => SocketAddr::new(ip, server.port()),
    }
}
