//! `network connect`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::Args;
use isolate::{Attach, Container};

use super::own_name;
use crate::exit::Result;

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

impl Connect {
    pub(super) fn run(&self) -> Result<()> {
        let addresses = [self.ip.map(IpAddr::V4), self.ip6.map(IpAddr::V6)];
        let attach =
            addresses.into_iter().flatten().fold(Attach::named(own_name(&self.network)), Attach::address);
        let attach = self.aliases.iter().fold(attach, Attach::alias);
        let attach = self.gw_priority.iter().fold(attach, |attach, priority| attach.priority(*priority));
        Container::open(&self.container)?.connect(attach)?;
        Ok(())
    }
}
