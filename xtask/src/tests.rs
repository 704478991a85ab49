//! Every test, here and in virtual machines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::report::{self, Place};
use crate::shell::{Result, cargo, command, is_root};
use crate::{cache, image, packages, vm};

/// What root has on every machine that tests are to run on.
const HERE: &str = "root,overlay,nf_tables,iptables,veth,userns,program:busybox,program:ip,program:nft,\
                    loop,program:docker-registry,program:skopeo,program:umoci,image:base,image:python,image:tomcat";
/// And in a virtual machine.
const THERE: &str =
    "prjquota,root,overlay,nf_tables,veth,userns,cgroup2,program:busybox,program:ip,program:nft";
const KERNELS: [&str; 2] = ["6.1", "6.12"];
/// For all tests in one virtual machine.
const LIMIT: Duration = Duration::from_secs(3000);

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
                .map(|kernel| scope.spawn(|| there(kernel, &programs).map_err(|e| e.to_string())))
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

/// Before and after the part of the report of one program, and with its status at its end.
const REPORT: &str = "== report";
const END: &str = "== ended ";

/// In a virtual machine. One whose kernel breaks down, which the emulation has been seen to bring about, is not the end of it: what had
/// not ended runs once more in another, and that is told.
fn there(kernel: &str, programs: &[PathBuf]) -> Result<Place> {
    let start = Instant::now();
    let first = vm::run(kernel, &job(programs)?, LIMIT, false)?;
    let (mut report, ended) = ended(&first.output);
    let mut good = first.status == Some(0);
    if first.status.is_some() || first.late || ended == programs.len() {
        if !good {
            println!("\n==== Linux {kernel} ====\n{}", first.output);
        }
    } else {
        let left = &programs[ended..];
        let broken = left.first().map(|program| short(program)).unwrap_or_default();
        println!("\n==== Linux {kernel}: the machine broke down in {broken}: again from there ====");
        println!(
            "{}",
            first
                .output
                .lines()
                .rev()
                .take(80)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect::<Vec<_>>()
                .join("\n")
        );
        let second = vm::run(kernel, &job(left)?, LIMIT, false)?;
        good = second.status == Some(0) && !first.output.contains(&format!("{END}1"));
        if !good {
            println!("\n==== Linux {kernel} ====\n{}{}", first.output, second.output);
        }
        report += &self::ended(&second.output).0;
    }
    Ok(Place::read(&format!("virtual machine, Linux {kernel}"), &report, start.elapsed().as_secs(), good))
}

/// What runs these programs one after another and ends with 1 if one of them has failed.
fn job(programs: &[PathBuf]) -> Result<String> {
    let mut job = format!(
        "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root ISOLATE_VM=1\n\
         export ISOLATE_TESTS_REPORT=/run/report ISOLATE_TESTS_REQUIRE={THERE} RUST_BACKTRACE=0 TMPDIR=/run/tmp\n\
         mkdir /run/tmp; good=0; cd '{}'\n",
        std::env::current_dir()?.display()
    );
    if let Some(cache) = cache::directory().to_str() {
        job += &format!("export ISOLATE_CACHE='{cache}'\n");
    }
    for program in programs {
        let (name, path) = (short(program), program.display());
        job += &format!(
            "echo '== {name}'; : >/run/report; status=0\n'{path}' --test-threads=2 || status=1 good=1\n"
        );
        job += &format!("echo '{REPORT}'; cat /run/report; echo \"{END}$status\"\n");
    }
    Ok(job + "exit $good\n")
}

/// The reports in what such a job printed, and how many programs came to their end.
fn ended(output: &str) -> (String, usize) {
    let (mut report, mut count) = (String::new(), 0);
    let (mut part, mut inside) = (String::new(), false);
    for line in output.lines() {
        if line == REPORT {
            inside = true;
        } else if line.starts_with(END) {
            report += &std::mem::take(&mut part);
            (inside, count) = (false, count + 1);
        } else if inside {
            part += line;
            part.push('\n');
        }
    }
    (report, count)
}

fn short(program: &Path) -> String {
    program.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Compiles all tests; the programs of those that know the test kit's worlds, unit tests included.
fn build() -> Result<Vec<PathBuf>> {
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
        let from = message["manifest_path"].as_str().unwrap_or_default();
        if let (true, Some(program), true) =
            (is_test, message["executable"].as_str(), from.contains("/crates/"))
        {
            programs.push(program.into());
        }
    }
    Ok(programs)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn of_a_machine_that_broke_down_what_had_ended_counts() {
        let output = "== a\nx\n== report\nRAN: a\n== ended 0\n== b\n== report\nRAN: b\n== ended 1\n== c\n== report\nRAN: c\n";
        assert_eq!(ended(output), ("RAN: a\nRAN: b\n".to_owned(), 2));
        assert_eq!(ended(""), (String::new(), 0));
    }
}
