//! Known attacks, each with a positive control: with that one protection away it succeeds.

mod entry;
mod links;
mod rights;
mod strings;
mod system_calls;
