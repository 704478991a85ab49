//! Linux control groups: typed limits, accounting, freeze and kill, on cgroup v2 by directory descriptors.
