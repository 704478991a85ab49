//! What groups do on a real kernel, hybrid or unified. Each test runs in a world of its own, which is searched for
//! leftovers after it.

#![expect(clippy::unwrap_used, reason = "tests")]

mod child;
mod devices;
mod effects;
mod failures;
mod lifecycle;
mod limits;
mod nested;
mod processes;
mod readings;
mod refusals;
mod unified;
mod watching;
