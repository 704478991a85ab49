//! Layers on a real file system.
#![expect(clippy::unwrap_used, reason = "tests")]

mod archive;
mod bombs;
mod hostile;
mod layers;
mod layouts;
mod loads;
mod pulls;
mod real;
mod registry;
mod server;
mod stores;
mod tree;
