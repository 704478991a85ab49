#![doc = include_str!("../README.md")]
#![cfg(target_os = "linux")]

mod attach;
mod builder;
mod container;
mod error;
mod files;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod host;
#[cfg_attr(not(test), expect(dead_code, reason = "the start will use it"))]
mod ids;
mod mount;
mod name;
mod network;
mod parcel;
mod plan;
mod ports;
mod record;
mod rootfs;
mod start;
mod store;
mod sweep;
mod undo;
#[cfg_attr(not(test), expect(dead_code, reason = "the start will use it"))]
mod user;

pub use attach::Attach;
pub use builder::ContainerBuilder;
pub use container::Container;
pub use error::{Error, ErrorKind, Result};
pub use host::{Finding, Host};
pub use mount::Mount;
pub use plan::Plan;
pub use rootfs::Rootfs;
pub use sweep::sweep;
pub use user::{Group, User};

pub use isolate_cgroups::{Bytes, Limits, Stats};
pub use isolate_namespaces::Stdio;
pub use isolate_netns::{Cidr, Publish};

/// Control groups alone.
pub use isolate_cgroups as cgroups;
/// Programs in namespaces alone.
pub use isolate_namespaces as namespaces;
/// Networks alone.
pub use isolate_netns as netns;
/// Overlays alone.
pub use isolate_overlay as overlay;
