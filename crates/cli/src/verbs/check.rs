//! `check`: what this machine can do.

use clap::Args;
use isolate::Host;

use crate::colour::{Colour, painted};
use crate::exit::Result;
use crate::table::{Format, Table};
use crate::verbs::print;

/// Something is missing.
const MISSING: u8 = 1;

/// Flags of `check`.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Check {
    /// Exits with 1 where something is missing.
    pub(crate) fn run(&self) -> Result<u8> {
        let host = Host::check();
        match self.format {
            Format::Table => {
                for line in host.to_string().lines() {
                    print(coloured(line))?;
                }
            }
            Format::Json => {
                let mut table = Table::new([("", "What"), ("", "Found"), ("", "Remedy")]);
                for finding in host.findings() {
                    let remedy = finding.remedy().unwrap_or_default();
                    table.push([
                        finding.what().to_owned(),
                        finding.is_found().to_string(),
                        remedy.to_owned(),
                    ]);
                }
                table.show(Format::Json)?;
            }
        }
        Ok(if host.missing().next().is_some() { MISSING } else { 0 })
    }
}

/// Where the library writes `yes` or `no`: behind a name of 24 columns.
const FOUND: usize = 25;

/// The library's own words, with `yes` and `no` marked.
fn coloured(line: &str) -> String {
    let stdout = std::io::stdout();
    let Some((before, after)) = line.split_at_checked(FOUND) else { return line.to_owned() };
    for (word, colour) in [("yes", Colour::Green), ("no", Colour::Red)] {
        if let Some(rest) = after.strip_prefix(word).filter(|rest| rest.starts_with(' ')) {
            return format!("{before}{}{rest}", painted(&stdout, colour, word));
        }
    }
    line.to_owned()
}
