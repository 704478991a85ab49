//! Which network a container is on.

use std::net::IpAddr;

/// A container's network, one of Docker's modes.
///
/// Default: [`none`](Self::none), or [`bridge`](Self::bridge) once a port is published.
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

    /// This address instead of the next free one, on a bridge.
    pub fn address(mut self, address: impl Into<IpAddr>) -> Self {
        self.address = Some(address.into());
        self
    }
}
