//! Start a program in new Linux namespaces, on its own root, in its cgroup: std::process::Command with a few more methods.
