//! Images out of Debian's packages, in several layers, made by `umoci`: for tests against what others write.

use std::fs;
use std::path::{Path, PathBuf};

use crate::shell::{Result, check, command, run};
use crate::{cache, packages, rootfs};

/// An image: what is installed above the base, and what is deleted on top.
struct Recipe {
    rootfs: &'static str,
    deleted: &'static [&'static str],
    config: &'static [&'static str],
}

const NAMES: [&str; 3] = ["tomcat", "python", "base"];

/// Makes it unless it is there, and prints where.
pub(crate) fn print(name: &str) -> Result<bool> {
    println!("{}", make(name)?.display());
    Ok(true)
}

/// All of them.
pub(crate) fn all() -> Result<()> {
    NAMES.iter().try_for_each(|name| make(name).map(drop))
}

fn recipe(name: &str) -> Result<Recipe> {
    Ok(match name {
        "tomcat" => Recipe {
            rootfs: "tomcat",
            deleted: &["usr/share/doc", "usr/share/man", "var/lib/tomcat10/webapps/ROOT/META-INF"],
            config: &[
                "--config.entrypoint=/usr/share/tomcat10/bin/catalina.sh",
                "--config.cmd=run",
                "--config.env=CATALINA_HOME=/usr/share/tomcat10",
                "--config.env=CATALINA_BASE=/var/lib/tomcat10",
                "--config.workingdir=/var/lib/tomcat10",
                "--config.user=tomcat",
                "--config.exposedports=8080/tcp",
                "--config.label=org.opencontainers.image.title=tomcat",
            ],
        },
        "python" => Recipe {
            rootfs: "python",
            deleted: &["usr/share/doc", "usr/share/locale"],
            config: &["--config.cmd=/usr/bin/python3"],
        },
        "base" => Recipe {
            rootfs: "base",
            deleted: &["usr/share/doc", "usr/share/zoneinfo", "etc/motd"],
            config: &["--config.cmd=/bin/bash"],
        },
        _ => return Err(format!("{name}: one of {}", NAMES.join(", ")).into()),
    })
}

/// An image layout whose only image is called `10`.
fn make(name: &str) -> Result<PathBuf> {
    let recipe = recipe(name)?;
    let (base, root) = (rootfs::make("base")?, rootfs::make(recipe.rootfs)?);
    cache::entry(&format!("images/{name}"), |aside| {
        packages::install(&packages::IMAGES)?;
        // umoci makes the directory itself.
        fs::remove_dir(aside)?;
        let (layout, bundle) = (aside.display().to_string(), aside.with_extension("bundle"));
        let (image, inside) = (format!("{layout}:10"), bundle.join("rootfs"));
        run(&["umoci", "init", "--layout", &layout])?;
        run(&["umoci", "new", "--image", &image])?;
        run(&["umoci", "unpack", "--image", &image, &bundle.display().to_string()])?;
        let layer = || {
            run(&["umoci", "repack", "--refresh-bundle", "--image", &image, &bundle.display().to_string()])
        };
        fill(&inside, &base)?;
        layer()?;
        if recipe.rootfs != "base" {
            fill(&inside, &root)?;
            layer()?;
        }
        for path in recipe.deleted {
            let path = inside.join(path);
            match path.is_dir() {
                true => fs::remove_dir_all(path)?,
                false if path.exists() => fs::remove_file(path)?,
                false => {}
            }
        }
        layer()?;
        // What was deleted is there again, with something else in it.
        fs::create_dir_all(inside.join("usr/share/doc/isolate"))?;
        fs::write(inside.join("usr/share/doc/isolate/README"), "For tests.\n")?;
        layer()?;
        fs::remove_dir_all(&bundle)?;
        let mut config = command(&["umoci", "config", "--image", &image]);
        check(config.args(recipe.config))?;
        run(&["umoci", "gc", "--layout", &layout])
    })
}

/// The directory becomes a copy of another one, times and owners included.
fn fill(directory: &Path, from: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    run(&["cp", "-a", &format!("{}/.", from.display()), &directory.display().to_string()])?;
    // What apt has fetched is larger than what it has installed.
    for fetched in ["var/lib/apt/lists", "var/cache/apt"] {
        fs::remove_dir_all(directory.join(fetched))?;
        fs::create_dir(directory.join(fetched))?;
    }
    Ok(())
}
