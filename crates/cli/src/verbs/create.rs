//! `create`: a container that is to be started later.

use clap::Args;
use isolate::{ContainerBuilder, WindowSize};

use crate::exit::{Failure, Result};
use crate::options::ContainerOptions;
use crate::verbs::{print, run};

/// Flags of `create` and `run`.
#[derive(Args, Debug)]
pub(crate) struct Create {
    /// Keep its standard input open: what is typed here is typed there
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Remove it when it has ended
    #[arg(long)]
    pub rm: bool,
    #[command(flatten)]
    pub container: ContainerOptions,
}

impl Create {
    pub(crate) fn run(&self) -> Result<()> {
        print(self.lasting(run::describe(&self.container, false)?)?.create()?.id())
    }

    /// As one that is written down.
    pub(crate) fn lasting(&self, builder: ContainerBuilder) -> Result<ContainerBuilder> {
        if self.rm && self.container.lasting.restarts() {
            return Err(Failure::new("--rm removes what --restart would start again"));
        }
        if self.container.networks.shares() {
            // By the number of a process, which may be another's at the next start.
            let what = "a container that lasts cannot share the network of one that does not";
            return Err(Failure::new(what).hint("run --rm does"));
        }
        let builder = match self.tty {
            true => builder.terminal(WindowSize::of_stdin().unwrap_or_default()),
            false => builder.open_stdin(self.interactive),
        };
        Ok(builder.remove_at_end(self.rm))
    }
}
