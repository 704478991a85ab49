//! `network create`.

use std::net::IpAddr;

use clap::Args;
use clap::builder::PossibleValuesParser;
use isolate::{Cidr, NetworkBuilder};

use crate::exit::{Failure, Result};
use crate::options::{Pair, pair};
use crate::verbs::print;

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

impl Create {
    pub(super) fn run(&self) -> Result<()> {
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
