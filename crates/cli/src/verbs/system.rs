//! `system`: all that there is, and taking back what nobody needs.

use clap::{Args, Subcommand};

use isolate::images::Store;
use isolate::{Bytes, Container, ContainerInfo, State};

use crate::exit::Result;
use crate::verbs::{confirmed, each, network, print, volume};

/// What is done to everything.
#[derive(Subcommand, Debug)]
pub(crate) enum System {
    /// Remove what nobody needs: containers that do not run, networks, images without a name
    Prune(Prune),
}

/// Flags of `system prune`.
#[derive(Args, Debug)]
pub(crate) struct Prune {
    /// Volumes that no container has, too
    #[arg(long)]
    volumes: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl System {
    pub(crate) fn run(&self) -> Result<()> {
        match self {
            Self::Prune(prune) => prune.run(),
        }
    }
}

impl Prune {
    fn run(&self) -> Result<()> {
        let volumes = if self.volumes { ", every volume that no container has" } else { "" };
        let what = format!(
            "What ended containers have left, every network that no container is on{volumes}, and every image without a name is removed."
        );
        if !confirmed(self.force, &what)? {
            return Ok(());
        }
        isolate::sweep()?.into_iter().try_for_each(print)?;
        let idle = |info: &ContainerInfo| {
            info.detached.is_some() && matches!(info.state, State::Created | State::Exited)
        };
        each(Container::list()?.into_iter().filter(idle), |info| {
            Ok(Container::open(&info.name)?.remove().map(|()| info.name)?)
        })?;
        network::prune()?;
        if self.volumes {
            volume::prune()?;
        }
        let pruned = Store::of_user()?.prune()?;
        print(format_args!("Deleted: {} layers, {} of blobs", pruned.layers, Bytes::new(pruned.bytes)))
    }
}
