#![doc = include_str!("../README.md")]
#![cfg(target_os = "linux")]

mod bridge;
mod cidr;
mod detect;
mod endpoint;
mod error;
mod firewall;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod home;
mod leftovers;
mod listener;
mod macvlan;
mod names;
mod namespace;
mod netlink;
mod port;
mod prepared;
mod publish;
mod reservation;
mod route;
#[cfg(feature = "serde")]
mod serialized;
mod traffic;

pub use bridge::{Bridge, BridgeBuilder};
pub use cidr::Cidr;
pub use detect::{Capabilities, detect};
pub use endpoint::Endpoint;
pub use error::{Error, ErrorKind, Result};
pub use firewall::{Firewall, Problem};
pub use home::{is_forwarding, routes, stop_forwarding};
pub use leftovers::{delete_link, remove_bandwidth, remove_bridge, remove_guard, remove_published};
pub use macvlan::{Macvlan, MacvlanMode, MacvlanPort};
pub use names::{Names, end, is_served, serve};
pub use namespace::NetworkNamespace;
pub use port::Port;
pub use prepared::Prepared;
pub use publish::{Protocol, Publish};
pub use reservation::Reservation;
pub use route::Counted;
pub use traffic::Bandwidth;
