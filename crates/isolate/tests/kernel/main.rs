//! Containers on a real kernel: each test in a world of its own, and nothing is left of it.
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at the kernel through other eyes, and are owners to be killed"
)]

mod common;
mod errors;
mod frozen;
mod leftovers;
mod limits;
mod memory;
mod network;
mod roots;
mod threads;
mod view;
