//! The project's tasks: `cargo xtask TASK`.
#![expect(clippy::disallowed_methods, reason = "tasks run programs and end with a status")]

mod cache;
mod fuzz;
mod guest;
mod image;
mod kernel;
mod lint;
mod package;
mod packages;
mod report;
mod rootfs;
mod shell;
mod tests;
mod vm;

use std::process::ExitCode;

use shell::Result;

const USAGE: &str = "\
cargo xtask test                     every test: here, and in virtual machines with Linux 6.1 and 6.12
cargo xtask test --here              only those here
cargo xtask vm 6.1|6.12 -- COMMAND   a command as root on that kernel with unified cgroup v2
cargo xtask rootfs base|python|tomcat       a root file system out of Debian's packages; prints its path
cargo xtask image base|python|tomcat        the same as an image of several layers, in a layout
cargo xtask lint                     formatting, lints, documentation, the arrows between the crates
cargo xtask fuzz [--seconds 60] [TARGET…]   parsers, with inputs that grow by what they reach
cargo xtask package                  that each published crate builds from its package alone";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<bool> {
    match args {
        ["test"] => tests::all(true),
        ["test", "--here"] => tests::all(false),
        ["vm", kernel, "--", command @ ..] if !command.is_empty() => vm::command_line(kernel, command),
        ["rootfs", name] => rootfs::print(name),
        ["image", name] => image::print(name),
        ["lint"] => lint::all(),
        ["fuzz", options @ ..] => fuzz::command_line(options),
        ["package"] => package::all(),
        _ => Err(USAGE.into()),
    }
}
