//! Containers on a real kernel: each test in a world of its own, and nothing is left of it.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "tests see through other programs, and kill an owner")]

#[cfg(feature = "tokio")]
mod asynchronous;
mod attacks;
mod bandwidth;
mod changes;
mod common;
mod copies;
mod crowd;
mod cycles;
mod detached;
mod elsewhere;
mod errors;
mod exec;
#[cfg(target_arch = "x86_64")]
mod faults;
mod frozen;
mod full;
#[cfg(feature = "images")]
mod images;
mod info;
mod init;
mod leftovers;
mod limits;
mod macvlan;
mod memory;
mod names;
mod network;
mod networks;
mod origins;
mod outcome;
mod owner;
mod plan;
mod pods;
mod rights;
mod rootless;
mod roots;
mod shared_networks;
mod state;
mod storage;
mod sweep;
mod terminal;
mod threads;
mod users;
mod view;
mod volumes;
mod warm;
