//! Compiles `launcher/` and `keeper/` (no std, no libc, static) with the rustc that builds this crate, for the same target,
//! and leaves them in OUT_DIR for `include_bytes!`.
//!
//! rustc is called directly, so what belongs to Cargo (RUSTFLAGS, profiles, wrappers) does not reach it.
#![expect(
    clippy::disallowed_methods,
    reason = "a build script runs the compiler and may end its own process"
)]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs, each a directory with a `main.rs`.
const PROGRAMS: [&str; 2] = ["launcher", "keeper"];
/// The biggest one we accept; also a guard against something foreign linked in.
const MAX_BYTES: usize = 64 << 10;
/// A user's own choice of linker driver.
const LINKER: &str = "ISOLATE_LAUNCHER_LINKER";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for program in PROGRAMS {
        println!("cargo::rerun-if-changed={program}");
    }
    println!("cargo::rerun-if-changed=src/wire.rs");
    println!("cargo::rerun-if-env-changed={LINKER}");

    for program in PROGRAMS {
        build(program);
    }
}

fn build(program: &str) {
    let out = PathBuf::from(var("OUT_DIR")).join(program);
    // Editors and documentation builds run this script on any system: an empty file there, lib.rs explains.
    if var("CARGO_CFG_TARGET_OS") != "linux" {
        if let Err(why) = std::fs::write(&out, b"") {
            fail(&format!("cannot write {}: {why}", out.display()));
        }
        return;
    }
    let machine = match var("CARGO_CFG_TARGET_ARCH").as_str() {
        "x86_64" => 62,
        "aarch64" => 183,
        other => fail(&format!("no {program} for {other}: x86_64 and aarch64 are supported")),
    };
    let mut tried = String::new();
    for linker in linkers() {
        match compile(program, &linker, &out).and_then(|()| check(&out, machine)) {
            Ok(()) => return,
            Err(why) => tried += &format!("\n- {linker:?}: {why}"),
        }
    }
    fail(&format!("the {program} could not be built; tried:{tried}"));
}

#[derive(Debug)]
enum Linker {
    /// The lld that comes with rustup: no C compiler needed, links for every architecture.
    Bundled,
    /// A C compiler driver, by name.
    Driver(String),
}

/// In order of preference: the user's word, the bundled lld, Cargo's choice for the target, `cc`.
fn linkers() -> Vec<Linker> {
    if let Ok(named) = env::var(LINKER) {
        return vec![Linker::Driver(named)];
    }
    let mut list = vec![Linker::Bundled];
    list.extend(env::var("RUSTC_LINKER").ok().map(Linker::Driver));
    list.push(Linker::Driver("cc".into()));
    list
}

fn compile(program: &str, linker: &Linker, out: &Path) -> Result<(), String> {
    let root = var("CARGO_MANIFEST_DIR");
    let mut rustc = Command::new(var("RUSTC"));
    for name in
        ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_LOG"]
    {
        rustc.env_remove(name);
    }
    rustc
        .current_dir(&root)
        .arg(format!("{program}/main.rs"))
        .arg(format!("--crate-name={program}"))
        .args(["--crate-type=bin", "--edition=2024", "--cap-lints=warn"])
        .arg(format!("--target={}", var("TARGET")))
        .arg(format!("--remap-path-prefix={root}=."))
        .args(["-Cpanic=abort", "-Copt-level=s", "-Cdebuginfo=0", "-Cstrip=symbols", "-Ccodegen-units=1"])
        .args(["-Coverflow-checks=off", "-Cdebug-assertions=off", "-Cforce-unwind-tables=no"])
        // Without a table of addresses there is no writable segment: a page less for each monitor.
        .args([
            "-Crelro-level=off",
            "-Crelocation-model=static",
            "-Ctarget-feature=+crt-static",
            "-Cdefault-linker-libraries=no",
        ])
        .arg("-o")
        .arg(out);
    if program == "keeper" {
        // A function is there once: its code is memory that each owner of keepers has of its own. A page less.
        rustc.arg("-Cllvm-args=-inline-threshold=5");
    }
    match linker {
        Linker::Bundled => {
            rustc.args(["-Clinker=rust-lld", "-Clinker-flavor=ld.lld", "-Clink-self-contained=no"]);
            for arg in [
                "-static",
                "--build-id=none",
                "--gc-sections",
                "-znoexecstack",
                "--no-eh-frame-hdr",
                "--no-rosegment",
            ] {
                rustc.arg(format!("-Clink-arg={arg}"));
            }
        }
        Linker::Driver(name) => {
            rustc.arg(format!("-Clinker={name}")).arg("-Clinker-flavor=gcc");
            // On musl this keeps rustc's own crt objects out; on gnu it would hide the lld that rustc asks for.
            if var("CARGO_CFG_TARGET_ENV") == "musl" {
                rustc.arg("-Clink-self-contained=no");
            }
            for arg in [
                "-nostdlib",
                "-nostartfiles",
                "-static",
                "-no-pie",
                "-Wl,--build-id=none",
                "-Wl,--gc-sections",
            ] {
                rustc.arg(format!("-Clink-arg={arg}"));
            }
        }
    }
    let run = rustc.output().map_err(|e| format!("{rustc:?}: {e}"))?;
    if run.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&run.stderr).into_owned()) }
}

/// A static, non-relocatable ELF for this machine without interpreter, dynamic section, TLS or W+X memory.
fn check(path: &Path, machine: u16) -> Result<(), String> {
    let elf = std::fs::read(path).map_err(|e| e.to_string())?;
    let half = |at: usize| elf.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
    let word = |at: usize| elf.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    if elf.len() < 64 || elf[..6] != *b"\x7fELF\x02\x01" {
        return Err("not a little-endian 64-bit ELF file".into());
    }
    if elf.len() > MAX_BYTES {
        return Err(format!("{} bytes: bigger than {MAX_BYTES}", elf.len()));
    }
    if half(16) != 2 || half(18) != machine {
        return Err(format!("ELF type {} machine {}, wanted 2 (EXEC) and {machine}", half(16), half(18)));
    }
    let (offset, size, count) = (word(32) as usize, half(54) as usize, half(56) as usize);
    for header in (0..count).map(|i| offset + i * size) {
        match (word(header), word(header + 4)) {
            (2, _) => return Err("has a dynamic section".into()),
            (3, _) => return Err("wants an interpreter".into()),
            (7, _) => return Err("has thread-local storage".into()),
            (1, flags) if flags & 3 == 3 => return Err("has memory both writable and executable".into()),
            _ => {}
        }
    }
    Ok(())
}

fn var(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("Cargo did not set {name}")))
}

fn fail(why: &str) -> ! {
    println!("cargo::error={}", why.replace('\n', " "));
    eprintln!("{why}");
    std::process::exit(1)
}
