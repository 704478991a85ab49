//! What no compiler checks: the arrows between the crates, where unsafe code stands, how long a file is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::shell::{Result, cargo, check, command, output, run};

/// The only crate that may depend on its siblings,
const FACADE: &str = "isolate";
/// and the only one that may depend on it: on that alone, so that the facade is shown to suffice.
const COMMAND: &str = "isolate-cli";
/// Files with unsafe code; each block has its reason beside it.
const UNSAFE: [&str; 40] = [
    "benches/exec/limit.rs",
    "benches/exec/main.rs",
    "benches/limits/limit.rs",
    "benches/src/clone.rs",
    "benches/src/raw.rs",
    "benches/start/contained.rs",
    "benches/start/limit.rs",
    "benches/start/main.rs",
    "crates/cgroups/src/bpf.rs",
    "crates/isolate/tests/kernel/attacks/system_calls.rs",
    "crates/namespaces/keeper/call.rs",
    "crates/namespaces/keeper/main.rs",
    "crates/namespaces/launcher/channel.rs",
    "crates/namespaces/launcher/init.rs",
    "crates/namespaces/launcher/main.rs",
    "crates/namespaces/launcher/mem.rs",
    "crates/namespaces/launcher/monitor.rs",
    "crates/namespaces/launcher/operation.rs",
    "crates/namespaces/launcher/run.rs",
    "crates/namespaces/launcher/sys.rs",
    "crates/namespaces/src/clone.rs",
    "crates/namespaces/src/encode.rs",
    "crates/namespaces/src/fuzzing.rs",
    "crates/namespaces/src/kernel.rs",
    "crates/namespaces/src/raw_mode.rs",
    "crates/namespaces/src/seccomp/tests/kernel.rs",
    "crates/namespaces/src/winch.rs",
    "crates/namespaces/tests/robust.rs",
    "crates/namespaces/tests/terminal/winch.rs",
    "crates/netns/resolver/main.rs",
    "crates/netns/resolver/mem.rs",
    "crates/netns/resolver/sys.rs",
    "crates/overlay/src/classic.rs",
    "crates/overlay/src/limited.rs",
    "crates/overlay/src/project.rs",
    "crates/overlay/src/single.rs",
    "testkit/src/lack.rs",
    "testkit/src/ptrace.rs",
    "testkit/src/sys.rs",
    "xtask/src/lint.rs",
];
const MOST_LINES: usize = 500;

/// Everything; all that is wrong is printed.
pub(crate) fn all() -> Result<bool> {
    let cargo = cargo();
    let mut wrong = arrows(&cargo)?;
    wrong.extend(files()?);
    for line in &wrong {
        println!("lint: {line}");
    }
    run(&[&cargo, "fmt", "--all", "--check"])?;
    run(&[&cargo, "fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])?;
    run(&[
        &cargo,
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ])?;
    let mut doc = command(&[&cargo, "doc", "--workspace", "--no-deps", "--all-features", "--quiet"]);
    check(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(wrong.is_empty())
}

/// No crate below `crates/` depends on a sibling, but the facade on all and the command on the facade; and nothing published on what is not.
fn arrows(cargo: &str) -> Result<Vec<String>> {
    let metadata: serde_json::Value =
        serde_json::from_str(&output(&[cargo, "metadata", "--format-version=1", "--no-deps"])?)?;
    let packages = metadata["packages"].as_array().ok_or("no packages")?;
    let crates: Vec<_> = packages
        .iter()
        .filter(|package| package["manifest_path"].as_str().is_some_and(|path| path.contains("/crates/")))
        .collect();
    let names: BTreeSet<_> = crates.iter().filter_map(|package| package["name"].as_str()).collect();
    let private: BTreeSet<_> = packages
        .iter()
        .filter(|package| package["publish"] == serde_json::json!([]))
        .filter_map(|package| package["name"].as_str())
        .collect();
    let mut wrong = Vec::new();
    for package in crates {
        let name = package["name"].as_str().unwrap_or_default();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            let for_tests = dependency["kind"] == "dev";
            if names.contains(on) && name != FACADE && (name, on) != (COMMAND, FACADE) {
                wrong.push(format!("{name} depends on its sibling {on}"));
            }
            if private.contains(on) && !for_tests {
                wrong.push(format!("{name} depends on {on}, which is not published"));
            }
        }
    }
    for (name, foreign) in [
        ("isolate-cgroups", "netlink"),
        ("isolate-overlay", "netlink"),
        ("isolate-namespaces", "netlink"),
        ("isolate-cgroups", "sys-mount"),
    ] {
        let tree =
            output(&[cargo, "tree", "-p", name, "-e", "normal", "--all-features", "--prefix", "none"])?;
        if tree.lines().any(|line| line.contains(foreign)) {
            wrong.push(format!("{name} brings {foreign}"));
        }
    }
    Ok(wrong)
}

fn files() -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for path in sources(Path::new("."))? {
        let text = fs::read_to_string(&path)?;
        let name = path.display().to_string().trim_start_matches("./").to_owned();
        if text.lines().count() > MOST_LINES {
            wrong.push(format!("{name}: {} lines, more than {MOST_LINES}", text.lines().count()));
        }
        let code = |line: &&str| !line.trim_start().starts_with("//");
        let unsafe_code =
            text.lines().filter(code).any(|line| line.contains("unsafe {") || line.contains("unsafe fn"));
        match (unsafe_code, UNSAFE.contains(&name.as_str())) {
            (true, false) => wrong.push(format!("{name}: unsafe code, where none is expected")),
            (false, true) => wrong.push(format!("{name}: no unsafe code any more, take it off the list")),
            _ => {}
        }
    }
    Ok(wrong)
}

fn sources(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)?.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(sources(&path)?);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    Ok(found)
}
