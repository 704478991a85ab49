#![doc = include_str!("../README.md")]
#![cfg(target_os = "linux")]

mod bridge;
mod cidr;
mod detect;
mod error;
mod firewall;
mod home;
mod leftovers;
mod listener;
mod namespace;
mod netlink;
mod port;
mod publish;
mod reservation;
mod route;

pub use bridge::{Bridge, BridgeBuilder};
pub use cidr::Cidr;
pub use detect::{Capabilities, detect};
pub use error::{Error, ErrorKind, Result};
pub use firewall::Firewall;
pub use leftovers::{delete_link, remove_bridge, remove_published};
pub use namespace::NetworkNamespace;
pub use port::Port;
pub use publish::{Protocol, Publish};
pub use reservation::Reservation;
