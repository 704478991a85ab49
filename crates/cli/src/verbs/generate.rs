//! `completions` and `man`: made from the command line's own description.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::exit::{Failure, Result};
use crate::verbs::print;

/// Flags of `completions`.
#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// Whose
    shell: Shell,
}

/// Flags of `man`.
#[derive(Args, Debug)]
pub(crate) struct Man {
    /// Where they are written, made if missing
    directory: PathBuf,
}

impl Completions {
    pub(crate) fn run(&self) -> Result<()> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "isolate", &mut text);
        print(String::from_utf8_lossy(&text).trim_end())
    }
}

impl Man {
    pub(crate) fn run(&self) -> Result<()> {
        let failed = |e| Failure::from(e).of(self.directory.display());
        std::fs::create_dir_all(&self.directory).map_err(failed)?;
        clap_mangen::generate_to(Arguments::command(), &self.directory).map_err(failed)
    }
}
