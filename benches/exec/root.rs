//! A root file system in which the host's own `true` runs.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use isolate_benches::tiny;

#[cfg(target_arch = "x86_64")]
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
#[cfg(target_arch = "aarch64")]
const LOADER: &str = "/lib/ld-linux-aarch64.so.1";
/// Where glibc is: with several architectures side by side, and without.
const LIBRARIES: [&str; 4] = [
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib/aarch64-linux-gnu/libc.so.6",
    "/lib64/libc.so.6",
    "/usr/lib/libc.so.6",
];

/// `/true` and `/pause`, tiny and static, and `/usr/bin/true` with its loader and its only library, at the host's paths.
pub(crate) fn make() -> Result<PathBuf, Box<dyn Error>> {
    let root = tiny::root("isolate-bench-exec")?;
    let library = LIBRARIES.into_iter().find(|path| Path::new(path).exists());
    for path in ["/usr/bin/true", LOADER, library.ok_or("no libc.so.6: this bench wants glibc")?] {
        let to = root.join(&path[1..]);
        fs::create_dir_all(to.parent().ok_or("no directory")?)?;
        fs::copy(path, &to).map_err(|e| format!("cannot copy {path}: {e}"))?;
    }
    Ok(root)
}
