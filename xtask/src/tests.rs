//! Every test, here and in virtual machines.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use crate::report::{self, Place};
use crate::shell::{Result, cargo, command, is_root};
use crate::{cache, guest, image, packages};

/// What root has on every machine that tests are to run on.
const HERE: &str = "root,overlay,nf_tables,iptables,veth,userns,program:busybox,program:ip,program:nft,\
                    loop,program:docker-registry,program:skopeo,program:umoci,image:base,image:python,image:tomcat";
/// Each in a machine, and the crates whose tests are not run there: what those use of the kernel is the same on the other, and on this
/// machine.
const KERNELS: [(&str, &[&str]); 2] = [("6.1", &["images", "cli"]), ("6.12", &["netns", "cli"])];

/// A program of tests.
struct Program {
    path: PathBuf,
    /// Its crate's directory.
    of: String,
}

/// Ends with what ran where and what could not.
pub(crate) fn all(machines: bool) -> Result<bool> {
    let root = is_root();
    if root {
        packages::install(&packages::TESTS)?;
        packages::install(&packages::IMAGES)?;
        image::all()?;
        if machines {
            packages::install(&packages::MACHINE)?;
        }
    }
    let programs = build()?;
    let mut places = vec![here(root)?];
    if machines && cfg!(target_arch = "x86_64") {
        let there: Vec<_> = std::thread::scope(|scope| {
            let runs: Vec<_> = KERNELS
                .iter()
                .map(|(kernel, without)| {
                    let there = programs.iter().filter(|program| !without.contains(&program.of.as_str()));
                    let there: Vec<_> = there.map(|program| program.path.clone()).collect();
                    scope.spawn(move || guest::tests(kernel, &there).map_err(|e| e.to_string()))
                })
                .collect();
            runs.into_iter()
                .map(|run| {
                    run.join().unwrap_or_else(|_| Err("a virtual machine's thread ended early".into()))
                })
                .collect()
        });
        for place in there {
            places.push(place?);
        }
    }
    let good = report::print(&places);
    if !root {
        println!("not root: what needs it was not run; `sudo cargo xtask test` runs everything");
    }
    Ok(good)
}

/// Unit tests, kernel tests, documentation tests, on this machine.
fn here(root: bool) -> Result<Place> {
    let report = cache::directory().join(format!("report-{}", std::process::id()));
    fs::create_dir_all(cache::directory())?;
    let start = Instant::now();
    let mut test = command(&[cargo().as_str(), "test", "--workspace", "--no-fail-fast"]);
    test.env("ISOLATE_TESTS_REPORT", &report).env("RUST_BACKTRACE", "0");
    if root {
        test.env("ISOLATE_TESTS_REQUIRE", HERE);
    }
    let mut good = test.status()?.success();
    // The other half of what the features of one crate decide.
    let mut lean = command(&[&cargo(), "test", "--package", "isolate-cgroups", "--no-default-features"]);
    lean.env("ISOLATE_TESTS_REPORT", &report).env("RUST_BACKTRACE", "0");
    good &= lean.status()?.success();
    let text = fs::read_to_string(&report).unwrap_or_default();
    fs::remove_file(&report).ok();
    Ok(Place::read("this machine", &text, start.elapsed().as_secs(), good))
}

/// Compiles all tests; the programs of those that know the test kit's worlds, unit tests included.
fn build() -> Result<Vec<Program>> {
    let argv = [
        cargo(),
        "test".into(),
        "--workspace".into(),
        "--no-run".into(),
        "--message-format=json-render-diagnostics".into(),
    ];
    let built = command(&argv).stderr(Stdio::inherit()).output()?;
    if !built.status.success() {
        return Err("the tests do not build".into());
    }
    let mut programs = Vec::new();
    for line in String::from_utf8(built.stdout)?.lines() {
        let message: serde_json::Value = serde_json::from_str(line)?;
        let is_test =
            message["profile"]["test"] == true && message["target"]["kind"] != serde_json::json!(["bench"]);
        let manifest = message["manifest_path"].as_str().unwrap_or_default();
        let of = manifest.rsplit_once("/crates/").and_then(|(_, rest)| rest.split_once('/'));
        if let (true, Some(program), Some((of, _))) = (is_test, message["executable"].as_str(), of) {
            programs.push(Program { path: program.into(), of: of.to_owned() });
        }
    }
    Ok(programs)
}
