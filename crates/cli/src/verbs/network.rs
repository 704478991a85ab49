//! `network`: what connects containers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use isolate::{Attach, Cidr, Container, NetworkBuilder, NetworkDriver, NetworkInfo};
use serde_json::{Value, json};

use crate::exit::{Failure, Result};
use crate::options::{Pair, pair};
use crate::table::{Format, Table};
use crate::times;
use crate::verbs::{confirmed, each, inspect_each, print, print_each};

/// The default network, by its own name and by Docker's.
const DEFAULT: [&str; 2] = ["isolate0", "bridge"];

/// What is done to networks.
#[derive(Subcommand, Debug)]
pub(crate) enum Network {
    /// Make a network
    Create(Create),
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
    Connect(Connect),
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

/// Flags of `network create`.
#[derive(Args, Debug)]
pub(crate) struct Create {
    /// What connects its containers
    #[arg(short, long, default_value = "bridge", value_parser = PossibleValuesParser::new(["bridge", "macvlan"]))]
    driver: String,
    /// parent=LINK, macvlan_mode=MODE, mtu=BYTES
    #[arg(short, long = "opt", value_name = "KEY=VALUE", value_parser = pair)]
    options: Vec<Pair>,
    /// Its addresses, once of each version of IP
    #[arg(long = "subnet", value_name = "CIDR")]
    subnets: Vec<Cidr>,
    /// The part of a subnet that addresses are handed out from
    #[arg(long = "ip-range", value_name = "CIDR")]
    ranges: Vec<Cidr>,
    /// The bridge's own address, or the router's
    #[arg(long = "gateway", value_name = "ADDRESS")]
    gateways: Vec<IpAddr>,
    /// Addresses of IPv6, too
    #[arg(long)]
    ipv6: bool,
    /// No way out, and none in
    #[arg(long)]
    internal: bool,
    /// Its containers reach the services of the host itself
    #[arg(long)]
    host_services: bool,
    /// A label, for whoever looks for it
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<Pair>,
    /// Its name
    name: String,
}

/// Flags of `network connect`.
#[derive(Args, Debug)]
pub(crate) struct Connect {
    /// One more name that it is found by there
    #[arg(long = "alias", value_name = "NAME")]
    aliases: Vec<String>,
    /// Its address there
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// Its address of IPv6 there
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
    /// Of all its networks that with the highest gives the default route
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    gw_priority: Option<i32>,
    /// The network
    network: String,
    /// A name, or the beginning of an id
    container: String,
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

impl Create {
    fn run(&self) -> Result<()> {
        print(self.builder()?.create()?.keep()?.name())
    }

    fn builder(&self) -> Result<NetworkBuilder> {
        let mut builder = isolate::Network::builder(&self.name);
        builder = self.subnets.iter().fold(builder, |builder, subnet| builder.subnet(*subnet));
        builder = self.ranges.iter().fold(builder, |builder, range| builder.ip_range(*range));
        builder = self.gateways.iter().fold(builder, |builder, gateway| builder.gateway(*gateway));
        builder = self.labels.iter().fold(builder, |builder, (key, value)| builder.label(key, value));
        if self.ipv6 {
            builder = builder.ipv6();
        }
        if self.internal {
            builder = builder.internal();
        }
        if self.host_services {
            builder = builder.host_services();
        }
        let mut parent = None;
        for (key, value) in &self.options {
            builder = match key.as_str() {
                "parent" => {
                    parent = Some(value);
                    builder
                }
                "macvlan_mode" => builder.macvlan_mode(value.parse().map_err(isolate::Error::from)?),
                "mtu" | "com.docker.network.driver.mtu" => {
                    let wrong = |_| Failure::new(format!("--opt {key}={value}: no number of bytes"));
                    builder.mtu(value.parse().map_err(wrong)?)
                }
                _ => {
                    let what = format!("--opt {key}={value}: there are parent, macvlan_mode and mtu");
                    return Err(Failure::new(what));
                }
            };
        }
        match (self.driver.as_str(), parent) {
            ("macvlan", Some(parent)) => Ok(builder.macvlan(parent)),
            ("macvlan", None) => {
                Err(Failure::new("a macvlan network without a parent").hint("--opt parent=LINK names it"))
            }
            (_, None) => Ok(builder),
            (_, Some(_)) => Err(Failure::new("a parent is a macvlan's").hint("--driver macvlan")),
        }
    }
}

impl Connect {
    fn run(&self) -> Result<()> {
        let addresses = [self.ip.map(IpAddr::V4), self.ip6.map(IpAddr::V6)];
        let attach =
            addresses.into_iter().flatten().fold(Attach::named(own_name(&self.network)), Attach::address);
        let attach = self.aliases.iter().fold(attach, Attach::alias);
        let attach = self.gw_priority.iter().fold(attach, |attach, priority| attach.priority(*priority));
        Container::open(&self.container)?.connect(attach)?;
        Ok(())
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    #[command(no_binary_name = true)]
    struct Line {
        #[command(flatten)]
        create: Create,
    }

    fn made(line: &[&str]) -> Result<String> {
        Ok(format!("{:?}", Line::try_parse_from(line)?.create.builder()?))
    }

    #[test]
    fn a_network_is_made_as_dockers_users_make_it() {
        // The walk's own line.
        let line = [
            "-d",
            "bridge",
            "--ip-range=192.168.1.0/24",
            "--gateway=192.168.1.1",
            "--subnet=192.168.1.0/24",
            "bridge2",
        ];
        let cidr: Cidr = "192.168.1.0/24".parse().unwrap();
        let wanted =
            isolate::Network::builder("bridge2").subnet(cidr).ip_range(cidr).gateway([192, 168, 1, 1]);
        assert_eq!(made(&line).unwrap(), format!("{wanted:?}"));
        let lan = made(&["-d", "macvlan", "-o", "parent=enp1s0", "-o", "macvlan_mode=vepa", "lan"]).unwrap();
        let wanted =
            isolate::Network::builder("lan").macvlan_mode(isolate::MacvlanMode::Vepa).macvlan("enp1s0");
        assert_eq!(lan, format!("{wanted:?}"));
    }

    #[test]
    fn what_a_driver_has_not_is_refused() {
        for (line, why) in [
            (&["-d", "macvlan", "lan"][..], "without a parent"),
            (&["-o", "parent=x", "lan"], "macvlan's"),
            (&["-o", "icc=false", "lan"], "icc"),
            (&["-o", "mtu=big", "lan"], "big"),
            (&["-d", "overlay", "lan"], "overlay"),
            (&["--subnet", "1.2.3", "lan"], "1.2.3"),
        ] {
            assert!(format!("{:?}", made(line).unwrap_err()).contains(why), "{line:?}");
        }
    }
}
