//! Containers as a library: a process in its own namespaces, on an overlay root, under limits, on its own network; no daemon.
