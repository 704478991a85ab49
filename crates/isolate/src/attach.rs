//! Which network a container is on.

use std::net::IpAddr;

/// A container's network, one of Docker's modes.
///
/// Default: [`none`](Self::none), or, once a port is published, [`bridge`](Self::bridge), for an ordinary user
/// [`pasta`](Self::pasta).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a description does nothing until a container is started with it"]
pub struct Attach {
    pub(crate) mode: Mode,
    pub(crate) address: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    None,
    Host,
    Bridge,
    Pasta,
    /// Another container's, or one by path or descriptor.
    Shared,
}

impl Attach {
    /// A network namespace of its own with nothing but the loopback device.
    pub fn none() -> Self {
        Self { mode: Mode::None, address: None }
    }

    /// The host's own network, ports and abstract Unix sockets: **no isolation**.
    pub fn host() -> Self {
        Self { mode: Mode::Host, address: None }
    }

    /// The default bridge, `isolate0`, with an address of its own and NAT to the outside.
    pub fn bridge() -> Self {
        Self { mode: Mode::Bridge, address: None }
    }

    /// For an ordinary user: pasta(1), a program that connects the container with no more rights than that user has. Inside there is
    /// `eth0` with the addresses of the host's own interface; what leaves the container leaves as the user's own connections; published
    /// ports are bound on the host by pasta. The host's loopback is not reached from inside.
    ///
    /// Needs no privilege but that pasta is installed (Debian: `passt`), a route to the outside, and `/dev/net/tun`. A start fails with
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for root, who has bridges, and for a published host port of 0; without pasta,
    /// with [`Unsupported`](crate::ErrorKind::Unsupported). Such a container [cannot be detached](crate::Container::detach): nobody
    /// would end its pasta.
    ///
    /// ```no_run
    /// use isolate::{Attach, Container};
    /// # fn main() -> isolate::Result<()> {
    /// let server = Container::builder()
    ///     .network(Attach::pasta())
    ///     .publish((9000, 8080))
    ///     .command(["busybox", "httpd", "-f", "-p", "8080"])
    ///     .start()?;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "slirp")]
    #[doc(alias = "rootless")]
    pub fn pasta() -> Self {
        Self { mode: Mode::Pasta, address: None }
    }

    /// This address instead of the next free one, on a bridge.
    pub fn address(mut self, address: impl Into<IpAddr>) -> Self {
        self.address = Some(address.into());
        self
    }
}
