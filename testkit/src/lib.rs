//! Worlds for kernel tests.
