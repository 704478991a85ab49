//! `volume`: directories that outlive containers.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use isolate::Container;
use serde_json::json;

use crate::exit::Result;
use crate::table::{Format, Table};
use crate::verbs::{confirmed, each, inspect_each, print, print_each};

/// What is done to volumes.
#[derive(Subcommand, Debug)]
pub(crate) enum Volume {
    /// Make a volume
    Create {
        /// Its name
        name: String,
    },
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(List),
    /// Show all that is known of volumes, as JSON
    Inspect {
        /// Names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Remove volumes, with everything in them
    Rm {
        /// One that is not there is no error
        #[arg(short, long)]
        force: bool,
        /// Names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Remove the volumes that no container has
    Prune(Prune),
}

/// Flags of `volume ls`.
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Print names alone
    #[arg(short, long)]
    quiet: bool,
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Flags of `volume prune`.
#[derive(Args, Debug)]
pub(crate) struct Prune {
    /// Those with a name, too: others go with their containers
    #[arg(short, long, required = true)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Volume {
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Self::Create { name } => print(isolate::Volume::create(name)?.name()),
            Self::Ls(list) => list.run(),
            Self::Inspect { names } => inspect_each(&names, |name| {
                let volume = isolate::Volume::open(name)?;
                Ok(json!({ "name": volume.name(), "path": volume.path(), "containers": users(name)? }))
            }),
            Self::Rm { force, names } => each(names, |name| match isolate::Volume::open(&name) {
                Err(e) if force && e.kind() == isolate::ErrorKind::NotFound => Ok(name),
                volume => Ok(volume?.remove().map(|()| name)?),
            }),
            Self::Prune(prune) => prune.run(),
        }
    }
}

/// The containers that have it.
fn users(volume: &str) -> Result<Vec<String>> {
    let has = |container: &isolate::ContainerInfo| container.volumes.iter().any(|name| name == volume);
    Ok(Container::list()?.into_iter().filter(has).map(|container| container.name).collect())
}

impl List {
    fn run(&self) -> Result<()> {
        let volumes = isolate::Volume::list()?;
        if self.quiet {
            return print_each(volumes.iter().map(isolate::Volume::name));
        }
        let mut table = Table::new([("DRIVER", "Driver"), ("VOLUME NAME", "Name"), ("", "Mountpoint")]);
        for volume in &volumes {
            table.push(["local".to_owned(), volume.name().to_owned(), volume.path().display().to_string()]);
        }
        table.show(self.format)
    }
}

impl Prune {
    fn run(&self) -> Result<()> {
        match self.all
            && confirmed(self.force, "Every volume that no container has is removed, with what is in it.")?
        {
            true => prune(),
            false => Ok(()),
        }
    }
}

/// Removes those that no container has.
pub(crate) fn prune() -> Result<()> {
    let used: BTreeSet<_> = Container::list()?.into_iter().flat_map(|container| container.volumes).collect();
    let unused = isolate::Volume::list()?.into_iter().filter(|volume| !used.contains(volume.name()));
    each(unused, |volume| {
        let name = volume.name().to_owned();
        volume.remove()?;
        Ok(name)
    })
}
