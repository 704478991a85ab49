//! `inspect`: all that is known of containers.

use clap::Args;
use isolate::{Container, ContainerInfo, ErrorKind};

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
        inspect_each(&self.containers, find)
    }
}

/// By its name, or by the beginning of its id if it is one that lasts.
pub(crate) fn find(name: &str) -> Result<ContainerInfo> {
    match Container::open(name) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Container::find(name)?),
        container => Ok(container?.inspect()?),
    }
}
