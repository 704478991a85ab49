#![doc = include_str!("../README.md")]
#![cfg(target_os = "linux")]

mod archive;
mod bounds;
mod commit;
mod config;
mod decompress;
mod digest;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod image;
mod layers;
mod layout;
mod load;
mod lock;
mod manifest;
mod moment;
mod platform;
#[cfg(feature = "registry")]
mod pull;
mod reference;
#[cfg(feature = "registry")]
mod registry;
mod source;
mod store;
mod unpack;

pub use bounds::Bounds;
pub use config::{Config, HealthCheck};
pub use digest::Digest;
pub use error::{Error, ErrorKind, Result};
pub use image::Image;
pub use layout::Layout;
pub use load::Loaded;
pub use platform::Platform;
#[cfg(feature = "registry")]
pub use pull::{Progress, Pull, Stage};
pub use reference::Reference;
#[cfg(feature = "registry")]
pub use registry::Credentials;
pub use source::Source;
pub use store::{Hold, Named, Pruned, Store};
pub use unpack::{Unpack, Unpacked};
