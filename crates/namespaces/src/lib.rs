#![doc = include_str!("../README.md")]
#![cfg(target_os = "linux")]

mod child;
mod clone;
mod command;
mod compile;
mod encode;
mod error;
mod filesystem;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod held;
mod id_map;
mod identity;
mod image;
mod kernel;
mod monitor;
mod mount;
mod namespace;
mod plan;
mod spawn;
mod stdio;
mod steps;
mod usage;
#[cfg_attr(not(any(test, fuzzing)), expect(dead_code, reason = "the launcher's half of the format"))]
mod wire;

#[cfg(any(test, fuzzing))]
#[expect(dead_code, reason = "tests read plans, the launcher carries them out")]
#[path = "../launcher/run.rs"]
mod run;
#[path = "../launcher/sys.rs"]
#[expect(dead_code, reason = "the launcher makes more calls by number")]
mod sys;

pub use child::Child;
pub use command::Command;
pub use error::{Error, ErrorKind, Result};
pub use filesystem::Filesystem;
pub use held::Held;
pub use id_map::IdMap;
pub use mount::{Mount, Root};
pub use namespace::Namespace;
pub use plan::Plan;
pub use stdio::Stdio;
pub use usage::Usage;
