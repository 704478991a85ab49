#![doc = include_str!("../README.md")]
#![cfg(target_os = "linux")]

mod changes;
mod check;
mod classic;
mod diff;
mod error;
mod ext4;
mod limited;
mod mount;
mod mounted;
mod overlay;
mod parameter;
mod project;
mod single;
mod support;

pub use changes::{Change, ChangeKind, Changes};
pub use diff::Diff;
pub use error::{Error, ErrorKind, Result};
pub use limited::limited;
pub use mount::DetachedMount;
pub use mounted::Mounted;
pub use overlay::Overlay;
pub use parameter::Parameter;
pub use project::Project;
pub use support::{can_hold_upper, supported};
