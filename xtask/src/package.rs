//! That each published crate builds from its package alone.

use crate::shell::{Result, cargo, run};

const PRIVATE: [&str; 4] = ["testkit", "xtask", "isolate-examples", "isolate-benches"];

/// Cargo unpacks each package, with its siblings as they would be published, and builds it.
pub(crate) fn all() -> Result<bool> {
    let mut argv =
        vec![cargo(), "package".into(), "--workspace".into(), "--allow-dirty".into(), "--quiet".into()];
    argv.extend(PRIVATE.iter().flat_map(|name| ["--exclude".to_owned(), (*name).to_owned()]));
    run(&argv)?;
    println!("every package builds from what is in it");
    Ok(true)
}
