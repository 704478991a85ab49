//! What is kept between runs, outside the checkout.

use std::fs;
use std::path::{Path, PathBuf};

use crate::shell::Result;

/// `$ISOLATE_CACHE`, `$XDG_CACHE_HOME/isolate` or `/var/cache/isolate`.
pub(crate) fn directory() -> PathBuf {
    std::env::var_os("ISOLATE_CACHE")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("XDG_CACHE_HOME").map(|home| Path::new(&home).join("isolate")))
        .unwrap_or_else(|| PathBuf::from("/var/cache/isolate"))
}

/// The directory `name` of the cache; if it is not there, `make` fills it aside, and it is renamed.
pub(crate) fn entry(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let path = directory().join(name);
    if path.exists() {
        return Ok(path);
    }
    let aside = directory().join(format!("{name}.new-{}", std::process::id()));
    fs::create_dir_all(&aside).map_err(|e| format!("{}: {e}", aside.display()))?;
    if let Err(error) = make(&aside) {
        fs::remove_dir_all(&aside).ok();
        return Err(error);
    }
    match fs::rename(&aside, &path) {
        // Somebody else was faster.
        Err(_) if path.exists() => fs::remove_dir_all(&aside)?,
        other => other?,
    }
    Ok(path)
}
