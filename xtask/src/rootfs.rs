//! Root file systems out of Debian's packages.

use std::path::{Path, PathBuf};

use crate::shell::{Result, run};
use crate::{cache, packages};

/// Makes it unless it is there, and prints where.
pub(crate) fn print(name: &str) -> Result<bool> {
    println!("{}", make(name)?.display());
    Ok(true)
}

pub(crate) fn make(name: &str) -> Result<PathBuf> {
    let include = match name {
        "base" => "procps",
        "python" => "python3-minimal,procps",
        "tomcat" => "tomcat10,default-jre-headless,procps",
        _ => return Err(format!("{name}: `base`, `python` or `tomcat`").into()),
    };
    cache::entry(&format!("rootfs/{name}"), |aside| {
        packages::install(&packages::ROOTFS)?;
        debian(aside, include)
    })
}

/// The machine's own release, from the machine's own sources.
fn debian(directory: &Path, include: &str) -> Result<()> {
    let release = std::fs::read_to_string("/etc/os-release")?;
    let suite = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .ok_or("no VERSION_CODENAME")?;
    let mirror = mirror()?;
    run(&[
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--skip=cleanup/apt",
        &format!("--include={include}"),
        suite,
        &directory.to_string_lossy(),
        &mirror,
    ])
}

/// Where this machine's apt gets Debian from.
pub(crate) fn mirror() -> Result<String> {
    let targets =
        crate::shell::output(&["apt-get", "indextargets", "--format", "$(SITE) $(ORIGIN) $(LABEL)"])?;
    let site = targets
        .lines()
        .find_map(|line| line.strip_suffix(" Debian Debian"))
        .ok_or("no Debian among apt's sources")?;
    Ok(site.trim_end_matches('/').to_owned())
}
