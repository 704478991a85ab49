//! `network`: what connects containers.

mod connect;
mod create;

use clap::{Args, Subcommand};
use isolate::{Container, NetworkDriver, NetworkInfo};
use serde_json::{Value, json};

use crate::exit::Result;
use crate::table::{Format, Table};
use crate::times;
use crate::verbs::{confirmed, each, inspect_each, print_each};

/// The default network, by its own name and by Docker's.
const DEFAULT: [&str; 2] = ["isolate0", "bridge"];

/// What is done to networks.
#[derive(Subcommand, Debug)]
pub(crate) enum Network {
    /// Make a network
    Create(create::Create),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(List),
    /// Show all that is known of networks, as JSON
    Inspect {
        /// Names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Remove networks
    #[command(visible_alias = "remove")]
    Rm {
        /// Names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Connect a running container to a network
    Connect(connect::Connect),
    /// Take a running container off a network
    Disconnect {
        /// The network
        network: String,
        /// A name, or the beginning of an id
        container: String,
    },
    /// Remove the networks that no container is on
    Prune {
        /// Do not ask
        #[arg(short, long)]
        force: bool,
    },
}

/// Flags of `network ls`.
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Print names alone
    #[arg(short, long)]
    quiet: bool,
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Network {
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Self::Create(create) => create.run(),
            Self::Ls(list) => list.run(),
            Self::Inspect { names } => inspect_each(&names, |name| Ok(written(&open(name)?.inspect()?))),
            Self::Rm { names } => each(names, |name| Ok(open(&name)?.remove().map(|()| name)?)),
            Self::Connect(connect) => connect.run(),
            Self::Disconnect { network, container } => {
                Ok(Container::open(container)?.disconnect(own_name(&network))?)
            }
            Self::Prune { force } => {
                match confirmed(force, "Every network that no container is on is removed.")? {
                    true => prune(),
                    false => Ok(()),
                }
            }
        }
    }
}

impl List {
    fn run(&self) -> Result<()> {
        let columns = [
            ("NAME", "Name"),
            ("DRIVER", "Driver"),
            ("SUBNET", "Subnet"),
            ("CONTAINERS", "Containers"),
            ("", "Internal"),
            ("", "CreatedAt"),
        ];
        let mut table = Table::new(columns);
        for network in isolate::Network::list()? {
            let info = network.inspect()?;
            let subnets: Vec<_> = info.subnets.iter().map(|subnet| subnet.network().to_string()).collect();
            table.push([
                info.name,
                driver(&info.driver).to_owned(),
                subnets.join(","),
                info.containers.len().to_string(),
                info.internal.to_string(),
                times::rfc3339(times::at(info.created)),
            ]);
        }
        // The two that need nothing made are there at any time.
        for (name, driver) in [("host", "host"), ("none", "null")] {
            table.push([name, driver, "", "", "", ""].map(str::to_owned));
        }
        if self.quiet { print_each(table.first_column()) } else { table.show(self.format) }
    }
}

fn open(name: &str) -> Result<isolate::Network> {
    Ok(isolate::Network::open(own_name(name))?)
}

/// Of the default one Docker's name is known, too.
fn own_name(name: &str) -> &str {
    let [own, dockers] = DEFAULT;
    if name == dockers { own } else { name }
}

/// Removes those that no container is on.
pub(crate) fn prune() -> Result<()> {
    let unused = isolate::Network::list()?.into_iter().filter(|network| {
        let empty = network.inspect().is_ok_and(|info| info.containers.is_empty());
        empty && network.name() != DEFAULT[0]
    });
    each(unused, |network| {
        let name = network.name().to_owned();
        network.remove()?;
        Ok(name)
    })
}

fn driver(driver: &NetworkDriver) -> &'static str {
    match driver {
        NetworkDriver::Macvlan { .. } => "macvlan",
        _ => "bridge",
    }
}

fn written(info: &NetworkInfo) -> Value {
    let parent = match &info.driver {
        NetworkDriver::Macvlan { parent, mode, .. } => json!({ "link": parent, "mode": mode.to_string() }),
        _ => Value::Null,
    };
    json!({
        "name": info.name, "driver": driver(&info.driver), "parent": parent, "bridge": info.bridge,
        "subnets": info.subnets, "internal": info.internal, "mtu": info.mtu, "labels": info.labels,
        "created": info.created, "containers": info.containers,
    })
}
