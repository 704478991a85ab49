//! `inspect`: all that is known of containers.

use clap::Args;
use isolate::Container;

use crate::exit::Result;
use crate::verbs::inspect_each;

/// Flags of `inspect`.
#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// Names
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Inspect {
    pub(crate) fn run(&self) -> Result<()> {
        inspect_each(&self.containers, |name| Ok(Container::find(name)?))
    }
}
