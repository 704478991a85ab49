//! `--network`, `--publish` and their kin.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::Args;
use isolate::{Attach, Bandwidth, Container, ContainerBuilder, ErrorKind, Publish};

use crate::exit::{Failure, Result};
use crate::options::pairs::{list, read, wanted};
use crate::verbs::inspect::find;

/// Flags of networks.
#[derive(Args, Debug)]
pub(crate) struct NetworkOptions {
    /// `bridge`, `none`, `host`, `pasta`, `container:NAME`, or a network by name; also name=…,alias=…,ip=…,mac-address=…,gw-priority=…,up=BITS,down=BITS
    #[arg(long = "network", visible_alias = "net", value_name = "NETWORK", value_parser = network, help_heading = "Network")]
    networks: Vec<On>,
    /// One more name that it is found by on its first network
    #[arg(
        long = "network-alias",
        visible_alias = "net-alias",
        value_name = "NAME",
        help_heading = "Network"
    )]
    aliases: Vec<String>,
    /// Its address on its first network
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    ip: Option<Ipv4Addr>,
    /// Its address of IPv6 on its first network
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    ip6: Option<Ipv6Addr>,
    /// Its MAC address on its first network
    #[arg(long, value_name = "ADDRESS", value_parser = mac, help_heading = "Network")]
    mac_address: Option<[u8; 6]>,
    /// A port of the host that leads to one of its own
    #[arg(short, long, value_name = "[[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]", help_heading = "Network")]
    publish: Vec<Publish>,
}

/// What it is to be on.
#[derive(Clone, Debug)]
enum On {
    Network(Attach),
    /// The network of a container that runs, by its name.
    Container(String),
}

impl On {
    fn attach(&self) -> Result<Attach> {
        match self {
            Self::Network(attach) => Ok(attach.clone()),
            Self::Container(name) => match Container::open(name) {
                Ok(other) => Ok(Attach::container(&other)),
                Err(e) if e.kind() == ErrorKind::NotFound => of_owned(name),
                Err(e) => Err(e.into()),
            },
        }
    }
}

/// By the number of a process, which may be another's at a later start.
fn of_owned(name: &str) -> Result<Attach> {
    match find(name)?.pid {
        Some(pid) => Ok(Attach::path(format!("/proc/{pid}/ns/net"))),
        None => Err(Failure::new(format!("container `{name}`: it does not run"))),
    }
}

impl NetworkOptions {
    /// Whether it is on the network of a container that does not last.
    pub(crate) fn shares(&self) -> bool {
        self.networks.iter().any(|on| matches!(on, On::Container(name) if Container::open(name).is_err()))
    }

    /// Without a word root's containers are on the default bridge, as Docker's; for others the library decides.
    pub(super) fn apply(&self, mut builder: ContainerBuilder) -> Result<ContainerBuilder> {
        let is_root = rustix::process::geteuid().is_root();
        let mut networks = self.networks.iter().map(On::attach).collect::<Result<Vec<_>>>()?;
        if networks.is_empty() && (is_root || self.is_special()) {
            networks.push(Attach::bridge());
        }
        if let Some(first) = networks.first_mut() {
            *first = self.special(first.clone());
        }
        for attach in networks {
            builder = builder.network(attach);
        }
        Ok(self.publish.iter().fold(builder, ContainerBuilder::publish))
    }

    fn is_special(&self) -> bool {
        !self.aliases.is_empty() || self.ip.is_some() || self.ip6.is_some() || self.mac_address.is_some()
    }

    fn special(&self, first: Attach) -> Attach {
        let addresses = [self.ip.map(IpAddr::V4), self.ip6.map(IpAddr::V6)];
        let first = addresses.into_iter().flatten().fold(first, Attach::address);
        let first = self.aliases.iter().fold(first, Attach::alias);
        match self.mac_address {
            Some(mac) => first.mac(mac),
            None => first,
        }
    }
}

/// A mode of Docker's, a network's name, or `name=…,alias=…`.
fn network(text: &str) -> Result<On, String> {
    match text.strip_prefix("container:") {
        Some("") => Err("container:NAME wants the name".into()),
        Some(name) => Ok(On::Container(name.to_owned())),
        None => attached(text).map(On::Network),
    }
}

fn attached(text: &str) -> Result<Attach, String> {
    if !text.contains('=') {
        return named(text);
    }
    let name = list(text).find(|(key, _)| *key == "name").and_then(|(_, value)| value);
    list(text).try_fold(named(wanted("name", name)?)?, |attach, (key, value)| match key {
        "name" => Ok(attach),
        "alias" => wanted(key, value).map(|alias| attach.alias(alias)),
        "ip" | "ip6" => read::<IpAddr>(key, value).map(|address| attach.address(address)),
        "mac-address" => mac(wanted(key, value)?).map(|mac| attach.mac(mac)),
        "gw-priority" => read(key, value).map(|priority| attach.priority(priority)),
        // Both directions come as one value of the library's.
        "up" | "down" => bandwidth(text).map(|bandwidth| attach.bandwidth(bandwidth)),
        other => Err(format!("`{other}` is no key of a network: there are name, alias, ip, ip6, mac-address, gw-priority, up, down")),
    })
}

fn named(name: &str) -> Result<Attach, String> {
    match name {
        "" => Err("a network's name is not empty".into()),
        "bridge" | "default" => Ok(Attach::bridge()),
        "none" => Ok(Attach::none()),
        "host" => Ok(Attach::host()),
        "pasta" => Ok(Attach::pasta()),
        name => match name.strip_prefix("ns:") {
            Some(path) => Ok(Attach::path(path)),
            None => Ok(Attach::named(name)),
        },
    }
}

fn bandwidth(text: &str) -> Result<Bandwidth, String> {
    list(text).try_fold(Bandwidth::new(), |all, (key, value)| match key {
        "up" => Ok(all.up(bits(wanted(key, value)?)?)),
        "down" => Ok(all.down(bits(wanted(key, value)?)?)),
        _ => Ok(all),
    })
}

/// Bits a second, in units of 1000.
fn bits(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = match unit.to_ascii_lowercase().as_str() {
        "" => Some(1),
        "k" | "kbit" => Some(1_000),
        "m" | "mbit" => Some(1_000_000),
        "g" | "gbit" => Some(1_000_000_000),
        _ => None,
    };
    let product = number.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    product.ok_or_else(|| {
        format!("`{text}` is no bandwidth: write it like 20mbit or 20000000, in bits a second")
    })
}

fn mac(text: &str) -> Result<[u8; 6], String> {
    let read = |part: &str| (part.len() == 2).then(|| u8::from_str_radix(part, 16).ok()).flatten();
    let parts: Option<Vec<u8>> = text.split(':').map(read).collect();
    parts.and_then(|parts| parts.try_into().ok()).ok_or_else(|| format!("`{text}` is no MAC address"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::options::tests::{refused, with};

    fn same(text: &str, wanted: &Attach) {
        let written = |attach: &Attach| serde_json::to_value(attach).unwrap();
        assert_eq!(written(&attached(text).unwrap()), written(wanted), "{text}");
    }

    #[test]
    fn a_network_is_a_mode_or_a_name() {
        same("bridge", &Attach::bridge());
        same("none", &Attach::none());
        same("host", &Attach::host());
        same("bridge2", &Attach::named("bridge2"));
        same("ns:/run/netns/blue", &Attach::path("/run/netns/blue"));
        assert!(network("").is_err());
        assert!(matches!(network("container:db"), Ok(On::Container(name)) if name == "db"));
        assert!(network("container:").is_err());
    }

    #[test]
    fn a_network_has_words_of_its_own() {
        same(
            "name=web,alias=db,alias=sql,ip=10.1.0.7,gw-priority=-3,mac-address=02:42:0a:01:00:07",
            &Attach::named("web")
                .alias("db")
                .alias("sql")
                .address(Ipv4Addr::new(10, 1, 0, 7))
                .priority(-3)
                .mac([2, 0x42, 10, 1, 0, 7]),
        );
        let both = Bandwidth::new().up(20_000_000).down(500_000);
        same("name=bridge,down=500k,up=20mbit", &Attach::bridge().bandwidth(both));
        for text in
            ["alias=x", "name=web,colour=red", "name=web,up=fast", "name=web,ip=1", "name=web,mac-address=1"]
        {
            assert!(network(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ports_are_host_first_and_may_be_ranges() {
        let ports = |flags: &[&str]| with(flags)["publish"].clone();
        let written = |publish: &str| serde_json::to_value(publish.parse::<Publish>().unwrap()).unwrap();
        assert_eq!(ports(&["-p", "9000:8080"]), json!([written("9000:8080/tcp")]));
        let range = ports(&["-p", "127.0.0.1:9000-9010:8080-8090/udp"]);
        assert_eq!(range.as_array().unwrap().len(), 11);
        assert_eq!(range[10], written("127.0.0.1:9010:8090/udp"));
        assert_eq!(ports(&["--publish", "80", "-p", "[::1]:1:2"]).as_array().unwrap().len(), 2);
        assert!(refused(&["-p", "9000:0"]).contains("1 to 65535"));
        assert!(refused(&["-p", "1-2:1-3"]).contains("as many ports"));
    }

    #[test]
    fn names_and_addresses_are_those_of_the_first_network() {
        let said = with(&["--network", "a", "--net", "b", "--network-alias", "x", "--ip", "10.0.0.9"]);
        assert_eq!(said["networks"][0]["aliases"], json!(["x"]));
        assert_eq!(said["networks"][0]["addresses"], json!(["10.0.0.9"]));
        assert_eq!(
            (&said["networks"][1]["named"], &said["networks"][1]["aliases"]),
            (&json!("b"), &json!([]))
        );
        assert_eq!(with(&["--mac-address", "02:00:00:00:00:01"])["networks"][0]["mode"], "bridge");
        assert_eq!(with(&["--network", "none"])["networks"].as_array().map(Vec::len), Some(1));
        assert_ne!(with(&["--ip6", "fd00::7"])["networks"][0]["addresses"], Value::Null);
    }
}
