//! What the benches share: figures, and the parts that they start.

pub mod figure;
pub mod tiny;
