#![doc = include_str!("../README.md")]
#![cfg(target_os = "linux")]

mod cidr;
mod error;
mod namespace;
mod netlink;
mod publish;
mod route;

pub use cidr::Cidr;
pub use error::{Error, ErrorKind, Result};
pub use namespace::NetworkNamespace;
pub use publish::{Protocol, Publish};
