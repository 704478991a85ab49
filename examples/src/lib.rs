//! The examples' package: see the files next to this folder, `cargo run --example NAME`.
