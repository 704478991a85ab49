//! Linux overlay file systems: layers, a writable upper directory, detached mounts.
