#![doc = include_str!("../README.md")]
#![cfg(target_os = "linux")]

mod birth;
mod buffer;
mod capabilities;
mod child;
mod clone;
mod command;
mod compile;
mod cpu_set;
mod encode;
mod endpoint;
mod error;
mod filesystem;
mod foreign;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod held;
mod id_helpers;
mod id_map;
mod id_mappable;
mod identity;
mod image;
mod interact;
mod keeper;
mod kernel;
#[cfg(feature = "landlock")]
mod landlock;
mod monitor;
mod mount;
mod namespace;
mod orphans;
mod outside;
mod plan;
mod priority;
mod raw_mode;
mod resource;
mod resource_limit;
#[cfg(feature = "landlock")]
mod ruleset;
mod seccomp;
#[cfg(feature = "serde")]
mod serialized;
mod signal;
mod spawn;
mod stdio;
mod steps;
mod terminal;
mod usage;
mod winch;
mod window;
#[cfg_attr(not(any(test, fuzzing)), expect(dead_code, reason = "the launcher's half of the format"))]
mod wire;

#[path = "../keeper/config.rs"]
#[expect(dead_code, reason = "the keeper's half of the format")]
mod keeper_config;

// The keeper's own, for its tests.
#[cfg(test)]
#[path = "../keeper/calendar.rs"]
mod calendar;

// The launcher's half, as far as tests read plans.
#[cfg(any(test, fuzzing))]
#[expect(dead_code, reason = "tests read plans, the launcher carries them out")]
#[path = "../launcher/channel.rs"]
mod channel;
#[cfg(any(test, fuzzing))]
#[path = "../launcher/operation.rs"]
mod operation;
#[cfg(any(test, fuzzing))]
#[expect(dead_code, reason = "tests read plans, the launcher carries them out")]
#[path = "../launcher/run.rs"]
mod run;
#[path = "../launcher/sys.rs"]
#[expect(dead_code, reason = "the launcher makes more calls by number")]
mod sys;

pub use capabilities::Capabilities;
pub use child::Child;
pub use command::Command;
pub use cpu_set::CpuSet;
pub use error::{Error, ErrorKind, Result};
pub use filesystem::Filesystem;
pub use held::Held;
pub use id_map::IdMap;
pub use id_mappable::id_mappable;
pub use keeper::{
    Attachment, Health, HealthCheck, Keeper, Kept, KeptEnd, KeptState, KeptStatus, Output, Restart, Waiter,
};
#[cfg(feature = "landlock")]
pub use landlock::Landlock;
pub use mount::{Mount, Propagation, Root};
pub use namespace::Namespace;
pub use orphans::reap_orphans;
pub use plan::Plan;
pub use priority::{IoPriority, Scheduler};
pub use resource::Resource;
pub use resource_limit::{ResourceLimit, Ulimit};
pub use seccomp::{Seccomp, SeccompAction, SeccompBuilder, SeccompCondition, SystemCall};
pub use signal::Signal;
pub use stdio::Stdio;
pub use terminal::Terminal;
pub use usage::Usage;
pub use window::WindowSize;
