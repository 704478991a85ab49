//! That each published crate builds from its package alone.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use crate::shell::{Result, cargo, run};

const PRIVATE: [&str; 4] = ["testkit", "xtask", "isolate-examples", "isolate-benches"];

/// Cargo unpacks each package, with its siblings as they would be published, and builds it.
pub(crate) fn all() -> Result<bool> {
    forget_siblings()?;
    let built = env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let built = std::path::absolute(built.join("packages"))?;
    remove_ours(&built.join("debug/.fingerprint"))?;
    let mut argv =
        vec![cargo(), "package".into(), "--workspace".into(), "--allow-dirty".into(), "--quiet".into()];
    argv.extend(["--target-dir".to_owned(), built.display().to_string()]);
    argv.extend(PRIVATE.iter().flat_map(|name| ["--exclude".to_owned(), (*name).to_owned()]));
    run(&argv)?;
    println!("every package builds from what is in it");
    Ok(true)
}

/// What an earlier run unpacked, and built, of this family: for Cargo a version is the same for ever, and it would take that.
fn forget_siblings() -> io::Result<()> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let Some(sources) = home.map(|home| home.join("registry/src")) else { return Ok(()) };
    for registry in fs::read_dir(sources).into_iter().flatten() {
        let registry = registry?;
        // One without a host: a directory's.
        if !registry.file_name().as_encoded_bytes().starts_with(b"-") {
            continue;
        }
        remove_ours(&registry.path())?;
    }
    Ok(())
}

fn remove_ours(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b"isolate") {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
