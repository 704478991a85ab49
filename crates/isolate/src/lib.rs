#![doc = include_str!("../README.md")]
#![cfg(target_os = "linux")]

#[cfg(feature = "tokio")]
pub mod asynchronous;
mod attach;
mod builder;
mod changes;
mod compile;
mod confinement;
mod container;
mod copy;
mod detached;
mod devices;
mod error;
mod events;
mod exec;
mod files;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod host;
mod ids;
#[cfg(feature = "images")]
mod image;
mod info;
mod inside;
mod mount;
mod mount_points;
mod name;
mod network;
mod origin;
mod outcome;
mod parcel;
mod pasta;
mod plan;
mod ports;
mod processes;
mod record;
mod recorded;
mod rootfs;
mod samples;
mod start;
mod store;
mod sweep;
mod tree;
mod undo;
mod user;
mod user_namespace;
mod volume;

pub use attach::Attach;
pub use builder::ContainerBuilder;
pub use container::Container;
pub use detached::{Detached, LogLine, Logs, Stream};
pub use error::{Error, ErrorKind, Result};
pub use events::{Event, EventKind, Events};
pub use exec::{Exec, ExecChild};
pub use health::HealthCheck;
pub use host::{Finding, Host};
pub use info::{ContainerInfo, DetachedInfo, PlaceInfo, State};
pub use mount::{Mount, MountInfo, MountKind};
pub use network::{Network, NetworkBuilder, NetworkDriver, NetworkInfo, Subnet};
pub use origin::Origin;
pub use outcome::{Outcome, Run, Usage};
pub use plan::Plan;
pub use processes::Process;
pub use rootfs::Rootfs;
pub use samples::Samples;
pub use sweep::sweep;
pub use user::{Group, User};
pub use user_namespace::UserNamespace;
pub use volume::Volume;

pub use isolate_cgroups::{Bytes, Device, IoMax, Limits, Stats};
#[cfg(feature = "landlock")]
pub use isolate_namespaces::Landlock;
pub use isolate_namespaces::{
    Attachment, Capabilities, CpuSet, Health, IoPriority, Namespace, Propagation, Resource, ResourceLimit,
    Restart, Scheduler, Seccomp, SeccompAction, SeccompBuilder, SeccompCondition, Signal, Stdio, SystemCall,
    Terminal, Ulimit, WindowSize,
};
pub use isolate_netns::{Bandwidth, Cidr, Counted, Firewall, MacvlanMode, Problem, Publish};
pub use isolate_overlay::{Change, ChangeKind};

/// Control groups alone.
pub use isolate_cgroups as cgroups;
/// Images alone.
#[cfg(feature = "images")]
pub use isolate_images as images;
/// Programs in namespaces alone.
pub use isolate_namespaces as namespaces;
/// Networks alone.
pub use isolate_netns as netns;
/// Overlays alone.
pub use isolate_overlay as overlay;
