//! What overlays do on a real kernel, by fsopen(2) and by mount(2). Each test runs in a world of its own, which is searched
//! for leftovers after it.

#![expect(clippy::unwrap_used, reason = "tests")]

mod attached;
mod changes;
mod detached;
mod layers;
mod names;
mod parameters;
mod refusals;
mod single;
mod support;
mod tree;
mod upper;
mod volatile;
mod ways;
