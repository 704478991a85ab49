//! Parsers of what others write, fed with inputs that grow by what the last ones reached (libFuzzer, AddressSanitizer).

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::packages;
use crate::shell::{Result, cargo, check, command, is_root, output};

/// A package of its own: each file in `src/bin` is a target, each directory in `seeds` what one begins with.
const PACKAGE: &str = "fuzz";
/// Builds, corpora, logs, and inputs that broke something.
const OUT: &str = "target/fuzz";
const SECONDS: u32 = 60;
/// An input that takes longer is a failure, in seconds.
const SLOW: u32 = 5;
/// Targets that run at the same time.
const AT_ONCE: usize = 2;
/// Coverage counters as `cargo fuzz` sets them. Of these flags only the sanitizer is not a stable compiler's.
const FLAGS: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Zsanitizer=address",
    "-Ccodegen-units=1",
];

/// `[--seconds N] [TARGET…]`: those targets, or all. Whether nothing crashed and nothing was slow.
pub(crate) fn command_line(mut args: &[&str]) -> Result<bool> {
    let mut seconds = SECONDS;
    if let ["--seconds", number, rest @ ..] = args {
        seconds = number.parse().map_err(|e| format!("--seconds {number}: {e}"))?;
        args = rest;
    }
    let all = targets()?;
    if let Some(unknown) = args.iter().find(|&&name| !all.contains(name)) {
        return Err(format!("no target {unknown}: there are {all:?}").into());
    }
    let wanted: VecDeque<String> = if args.is_empty() {
        all.into_iter().collect()
    } else {
        args.iter().map(|&name| name.to_owned()).collect()
    };
    if is_root() {
        packages::install(&packages::FUZZ)?;
    }
    let programs = build(&wanted)?;
    run(&programs, wanted, seconds)
}

fn targets() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(Path::new(PACKAGE).join("src/bin"))? {
        names.extend(entry?.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    Ok(names)
}

/// Gives the directory of the programs.
fn build(targets: &VecDeque<String>) -> Result<PathBuf> {
    let version = output(&["rustc", "-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc names no host")?;
    // With a target named, the flags are for it alone: build scripts and macros run without counters.
    let mut build = command(&[
        &cargo(),
        "build",
        "--release",
        "--locked",
        "--quiet",
        "--manifest-path",
        &format!("{PACKAGE}/Cargo.toml"),
        "--target-dir",
        OUT,
        "--target",
        host,
    ]);
    for target in targets {
        build.args(["--bin", target]);
    }
    build.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    check(build.env("RUSTC_BOOTSTRAP", "1"))?;
    Ok(Path::new(OUT).join(host).join("release"))
}

fn run(programs: &Path, targets: VecDeque<String>, seconds: u32) -> Result<bool> {
    let queue = Mutex::new(targets);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || -> std::result::Result<bool, String> {
        let mut good = true;
        while let Some(target) = next() {
            good &= one(programs, &target, seconds).map_err(|e| format!("{target}: {e}"))?;
        }
        Ok(good)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        let mut good = true;
        for worker in workers {
            good &= worker.join().map_err(|_| "a worker ended early")??;
        }
        Ok(good)
    })
}

/// Its corpus is kept and grows from run to run; what broke it is kept beside its log.
fn one(programs: &Path, target: &str, seconds: u32) -> Result<bool> {
    let out = Path::new(OUT);
    let corpus = out.join("corpus").join(target);
    fs::create_dir_all(&corpus)?;
    let log = out.join(format!("{target}.log"));
    File::create(&log)?;
    let append = || File::options().append(true).open(&log);
    let mut fuzzer = command(&[&programs.join(target), &corpus]);
    let seeds = Path::new(PACKAGE).join("seeds").join(target);
    if seeds.is_dir() {
        fuzzer.arg(seeds);
    }
    fuzzer
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={SLOW}"))
        .arg(format!("-artifact_prefix={OUT}/{target}-"))
        .args(["-print_final_stats=1", "-detect_leaks=0"])
        // Looking for leaks wants ptrace(2), which containers refuse.
        .env("ASAN_OPTIONS", "detect_leaks=0")
        .stdout(append()?)
        .stderr(append()?);
    let status = fuzzer.status()?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    println!("fuzz {target:<12} {}", summary(&text));
    if !status.success() {
        println!("fuzz {target}: FAILED, {status}; all of it is in {}:", log.display());
        println!("{}", cause(&text));
    }
    Ok(status.success())
}

/// Out of libFuzzer's report: runs, their rate, and what they reached.
fn summary(log: &str) -> String {
    let stat = |name: &str| log.lines().rev().find_map(|line| line.strip_prefix(name)).unwrap_or("?").trim();
    let reached = log.lines().rev().find_map(|line| {
        let (_, rest) = line.split_once(" cov: ")?;
        rest.split_whitespace().next()
    });
    format!(
        "{:>10} runs {:>8} runs/s {:>6} edges",
        stat("stat::number_of_executed_units:"),
        stat("stat::average_exec_per_sec:"),
        reached.unwrap_or("?")
    )
}

/// What went wrong, where, and the input; without a known beginning, the end of the log.
fn cause(log: &str) -> String {
    let begins = |line: &&str| ["panicked at", "ERROR: ", "ALARM: "].iter().any(|word| line.contains(word));
    let lines: Vec<_> = log.lines().collect();
    let first = lines.iter().position(begins).unwrap_or(lines.len().saturating_sub(20));
    let input = lines.iter().filter(|line| line.contains("Test unit written to"));
    lines.iter().skip(first).take(20).chain(input).copied().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_from_its_end() {
        let log = "#2\tINITED cov: 3 ft: 4 corp: 1/1b\n#9\tDONE   cov: 37 ft: 72 corp: 2/8b exec/s: 7\n\
                   stat::number_of_executed_units: 9\nstat::average_exec_per_sec:     7\n";
        assert_eq!(summary(log), "         9 runs        7 runs/s     37 edges");
        assert!(cause("INFO: x\nthread panicked at y\nwhy\n").starts_with("thread panicked at y\nwhy"));
        assert_eq!(summary(""), "         ? runs        ? runs/s      ? edges");
    }
}
