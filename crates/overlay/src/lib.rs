#![doc = include_str!("../README.md")]
#![cfg(target_os = "linux")]

mod check;
mod classic;
mod error;
mod mount;
mod mounted;
mod overlay;
mod parameter;
mod single;
mod support;

pub use error::{Error, ErrorKind, Result};
pub use mount::DetachedMount;
pub use mounted::Mounted;
pub use overlay::Overlay;
pub use parameter::Parameter;
pub use support::{can_hold_upper, supported};
