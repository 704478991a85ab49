#![doc = include_str!("../README.md")]
#![cfg(target_os = "linux")]
#![deny(unsafe_code)]

mod apply;
#[expect(unsafe_code, reason = "bpf(2) has no safe wrapper")]
mod bpf;
mod bytes;
mod cgroup;
mod controllers;
mod cpu;
mod devices;
mod directory;
mod error;
mod events;
mod freeze;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod glance;
mod kill;
mod limits;
mod mountinfo;
mod name;
mod own;
mod reader;
mod remove;
mod setting;
mod settings;
mod stats;
mod swap;
#[cfg_attr(not(feature = "cgroup-v1"), path = "no_v1.rs")]
mod v1;
mod v2;
mod watch;

pub use bytes::Bytes;
pub use cgroup::Cgroup;
pub use controllers::{Availability, Controller, Controllers};
pub use devices::{DeviceKind, DeviceRule};
pub use error::{Error, ErrorKind, Result};
pub use glance::Glance;
pub use limits::{Device, IoMax, Limits, Partition};
pub use reader::StatsReader;
pub use stats::{CpuStats, Details, IoStats, MemoryStats, PidsStats, Pressure, PressureStats, Stall, Stats};
pub use watch::{GroupState, MemoryEvents, Resource, Share, WatchMemory, WatchPressure, WatchState};
