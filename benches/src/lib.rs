//! What the benches share: figures, the parts that they start, and the bare system calls that they measure against.

pub mod clone;
pub mod figure;
pub mod raw;
pub mod rights;
pub mod tiny;
