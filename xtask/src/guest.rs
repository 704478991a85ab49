//! Every test in a virtual machine.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::report::Place;
use crate::shell::Result;
use crate::{cache, vm};

/// What root has in one.
const HAS: &str =
    "prjquota,root,overlay,nf_tables,veth,userns,cgroup2,program:busybox,program:ip,program:nft";
/// For all tests in one machine.
const LIMIT: Duration = Duration::from_secs(3000);
/// Before each program's output, before the part of the report that is its own, and with its status at its end.
const BEGIN: &str = "== begun ";
const REPORT: &str = "== report";
const END: &str = "== ended ";

/// A program of tests that has come to its end.
#[derive(Debug, Default, PartialEq)]
struct Ended {
    report: String,
    good: bool,
    seconds: u64,
    /// As the program says.
    failed: Vec<String>,
}

/// The emulation has no steady clock, and has been seen to break a kernel down. So a machine that breaks down is not the end of it: what had
/// not ended runs once more in another. And a test that fails among the others runs once more, alone. Both are told.
pub(crate) fn tests(kernel: &str, programs: &[PathBuf]) -> Result<Place> {
    let start = Instant::now();
    let job = |lines: &[String]| -> Result<String> { Ok(prologue()? + &lines.concat()) };
    let all: Vec<_> = programs.iter().map(|program| whole(program)).collect();
    let first = vm::run(kernel, &job(&all)?, LIMIT, false)?;
    let mut output = first.output;
    let mut ended = read(&output);
    if first.status.is_none() && !first.late && ended.len() < programs.len() {
        let broken = short(&programs[ended.len()]);
        println!("\n==== Linux {kernel}: the machine broke down in {broken}: again from there ====");
        println!("{}", last_lines(&output));
        let second = vm::run(kernel, &job(&all[ended.len()..])?, LIMIT, false)?;
        ended.extend(read(&second.output));
        output += &second.output;
    }
    let complete = ended.len() == programs.len();
    let bad: Vec<_> = ended.iter().zip(programs).filter(|(ended, _)| !ended.good).collect();
    // What did not fail in a test is not asked again.
    let known = complete && bad.iter().all(|(ended, _)| !ended.failed.is_empty());
    let mut good = complete && bad.is_empty();
    let mut alone = Vec::new();
    if !good {
        println!("\n==== Linux {kernel} ====\n{output}");
    }
    if !good && known {
        let failed: Vec<_> = bad
            .iter()
            .flat_map(|(ended, program)| ended.failed.iter().map(|test| (test, program.as_path())))
            .collect();
        let lines: Vec<_> = failed.iter().map(|(test, program)| single(program, test)).collect();
        let again = vm::run(kernel, &job(&lines)?, LIMIT, false)?;
        println!("\n==== Linux {kernel}: what failed, alone ====\n{}", again.output);
        let ended = read(&again.output);
        let passed = failed.iter().zip(&ended).filter(|(_, ended)| ended.good);
        alone.extend(passed.map(|((test, _), _)| (*test).clone()));
        good = alone.len() == failed.len();
    }
    for (ended, program) in ended.iter().zip(programs) {
        println!("Linux {kernel}: {:>5} s  {}", ended.seconds, short(program));
    }
    let report: String = ended.iter().map(|ended| ended.report.as_str()).collect();
    let name = format!("virtual machine, Linux {kernel}");
    Ok(Place::read(&name, &report, start.elapsed().as_secs(), good).passed_alone(alone))
}

fn prologue() -> Result<String> {
    let mut lines = format!(
        "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root ISOLATE_VM=1\n\
         export ISOLATE_TESTS_REPORT=/run/report ISOLATE_TESTS_REQUIRE={HAS} RUST_BACKTRACE=0 TMPDIR=/run/tmp\n\
         mkdir /run/tmp; cd '{}'\n",
        std::env::current_dir()?.display()
    );
    if let Some(cache) = cache::directory().to_str() {
        lines += &format!("export ISOLATE_CACHE='{cache}'\n");
    }
    Ok(lines)
}

fn whole(program: &Path) -> String {
    framed(program, &format!("'{}' --test-threads=2", program.display()))
}

fn single(program: &Path, test: &str) -> String {
    framed(program, &format!("'{}' --test-threads=2 --exact '{test}'", program.display()))
}

fn framed(program: &Path, run: &str) -> String {
    format!(
        "echo '{BEGIN}{}'; : >/run/report; status=0; begun=$(date +%s)\n{run} || status=1\n\
         echo '{REPORT}'; cat /run/report; echo \"{END}$status after $(($(date +%s) - begun)) s\"\n",
        short(program)
    )
}

fn short(program: &Path) -> String {
    program.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn last_lines(output: &str) -> String {
    let lines: Vec<_> = output.lines().collect();
    lines[lines.len().saturating_sub(80)..].join("\n")
}

/// The programs that came to their end, in what such a job printed.
fn read(output: &str) -> Vec<Ended> {
    let (mut all, mut part, mut reports) = (Vec::new(), Ended::default(), false);
    for line in output.lines() {
        if line.starts_with(BEGIN) {
            (part, reports) = (Ended::default(), false);
        } else if line == REPORT {
            reports = true;
        } else if let Some(status) = line.strip_prefix(END) {
            part.good = status.starts_with('0');
            part.seconds = status.split(' ').nth(2).and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
            all.push(std::mem::take(&mut part));
        } else if reports {
            part.report += line;
            part.report.push('\n');
        } else if let Some(test) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            // What it printed in its world, where it failed first, has the line as well.
            part.failed.retain(|other| other != test);
            part.failed.push(test.to_owned());
        }
    }
    all
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn of_a_machine_that_broke_down_what_had_ended_counts() {
        let output = "== begun a\nx\n== report\nRAN: a\n== ended 0 after 1 s\n\
                      == begun b\ntest b::one ... FAILED\ntest b::one ... FAILED\ntest b::two ... ok\n== report\nRAN: b\n== ended 1 after 2 s\n\
                      == begun c\n== report\nRAN: c\n";
        let ended = |report: &str, good, seconds, failed: &[&str]| Ended {
            report: report.into(),
            good,
            seconds,
            failed: failed.iter().map(|&test| test.into()).collect(),
        };
        assert_eq!(read(output), [ended("RAN: a\n", true, 1, &[]), ended("RAN: b\n", false, 2, &["b::one"])]);
        assert_eq!(read(""), []);
    }
}
