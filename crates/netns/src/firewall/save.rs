//! The rules of iptables as text: what `iptables-save` shows of ours, and what `iptables-restore` is to make.
//!
//! Each of our chains is written anew from what it stands for. That is read from comments: a bridge is
//! `isolate:bridge:NAME:NETWORK:FLAGS`, a published port `isolate:port:PROTOCOL:HOST:PORT:CONTAINER:PORT`.

use std::fmt::Write;

use super::{BridgeRules, Forward};

/// Table, our chain, the chain that leads to it, and on which condition.
const CHAINS: [(&str, &str, &str, &str); 6] = [
    ("raw", "ISOLATE-RAW", "PREROUTING", ""),
    ("nat", "ISOLATE-PUBLISHED", "PREROUTING", "-m addrtype --dst-type LOCAL "),
    ("nat", "ISOLATE-PUBLISHED", "OUTPUT", "-m addrtype --dst-type LOCAL "),
    ("nat", "ISOLATE-POSTROUTING", "POSTROUTING", ""),
    ("filter", "ISOLATE-FORWARD", "FORWARD", ""),
    ("filter", "ISOLATE-INPUT", "INPUT", ""),
];

/// What our chains stand for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) bridges: Vec<BridgeRules>,
    pub(super) forwards: Vec<Forward>,
    /// The jumps to our chains that are there: table, from, to.
    jumps: Vec<(String, String, String)>,
}

impl Model {
    /// Reads the output of `iptables-save`; what is not ours is skipped.
    pub(super) fn parse(saved: &str) -> Self {
        let (mut model, mut table) = (Self::default(), "");
        for line in saved.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name.trim();
            }
            let Some(rule) = line.strip_prefix("-A ") else { continue };
            let mut words = rule.split_whitespace();
            let chain = words.next().unwrap_or_default();
            if let Some(target) = rule.split(" -j ").nth(1).filter(|target| target.starts_with("ISOLATE-")) {
                model.jumps.push((table.into(), chain.into(), target.trim().into()));
            }
            let Some(tag) = words.find_map(|word| word.trim_matches('"').strip_prefix("isolate:")) else {
                continue;
            };
            model.bridges.extend(bridge(tag).filter(|bridge| !model.bridges.contains(bridge)));
            model.forwards.extend(forward(tag));
        }
        model
    }

    /// The input of `iptables-restore --noflush` that makes our chains what this model says, or takes them away.
    pub(super) fn restore(&self) -> String {
        let mut text = String::new();
        for table in ["raw", "nat", "filter"] {
            let own = CHAINS.iter().filter(|(of, ..)| *of == table);
            let mut chains: Vec<_> = own.clone().map(|(_, chain, ..)| *chain).collect();
            chains.dedup();
            writeln!(text, "*{table}").ok();
            // Naming a chain of one's own makes or empties it.
            chains.iter().for_each(|chain| _ = writeln!(text, ":{chain} - [0:0]"));
            for (_, chain, hook, condition) in own {
                let there =
                    self.jumps.iter().any(|(of, from, to)| of == table && from == hook && to == chain);
                match (self.bridges.is_empty(), there) {
                    (false, false) => _ = writeln!(text, "-I {hook} {condition}-j {chain}"),
                    (true, true) => _ = writeln!(text, "-D {hook} {condition}-j {chain}"),
                    _ => {}
                }
            }
            match self.bridges.is_empty() {
                true => chains.iter().for_each(|chain| _ = writeln!(text, "-X {chain}")),
                false => text.push_str(&self.rules(table)),
            }
            text.push_str("COMMIT\n");
        }
        text
    }

    fn rules(&self, table: &str) -> String {
        match table {
            "raw" => self.raw(),
            "nat" => self.published() + &self.postrouting(),
            _ => self.forwarding() + &self.input(),
        }
    }

    fn raw(&self) -> String {
        let mut text = String::from(
            "-A ISOLATE-RAW ! -i lo -d 127.0.0.0/8 -j DROP\n-A ISOLATE-RAW ! -i lo -s 127.0.0.0/8 -j DROP\n",
        );
        for BridgeRules { name, network, .. } in &self.bridges {
            writeln!(text, "-A ISOLATE-RAW -i {name} ! -s {} -j DROP", network.network()).ok();
        }
        text
    }

    fn published(&self) -> String {
        // A single address goes before all addresses.
        let mut forwards: Vec<_> = self.forwards.iter().collect();
        forwards.sort_by_key(|forward| (forward.host.is_unspecified(), **forward));
        let rules = forwards.into_iter().map(|forward| {
            let Forward { protocol, host, host_port, container, container_port } = forward;
            let on = if host.is_unspecified() { String::new() } else { format!("-d {host} ") };
            format!(
                "-A ISOLATE-PUBLISHED {on}-p {protocol} --dport {host_port} -m comment --comment \
                 isolate:port:{protocol}:{host}:{host_port}:{container}:{container_port} \
                 -j DNAT --to-destination {container}:{container_port}\n"
            )
        });
        rules.collect()
    }

    fn postrouting(&self) -> String {
        const CHAIN: &str = "-A ISOLATE-POSTROUTING";
        let mut text = String::new();
        for bridge @ BridgeRules { name, network, .. } in &self.bridges {
            let network = network.network();
            let comment = format!("-m comment --comment {}", tag(bridge));
            writeln!(text, "{CHAIN} -s 127.0.0.0/8 -o {name} {comment} -j MASQUERADE").ok();
            writeln!(text, "{CHAIN} -s {network} -o {name} -m conntrack --ctstate DNAT -j MASQUERADE").ok();
        }
        for BridgeRules { name, .. } in &self.bridges {
            writeln!(text, "{CHAIN} -o {name} -j RETURN").ok();
        }
        for BridgeRules { network, .. } in self.bridges.iter().filter(|bridge| bridge.outgoing) {
            writeln!(text, "{CHAIN} -s {} -j MASQUERADE", network.network()).ok();
        }
        text
    }

    fn forwarding(&self) -> String {
        const CHAIN: &str = "-A ISOLATE-FORWARD";
        let mut text = String::new();
        for BridgeRules { name, .. } in &self.bridges {
            writeln!(text, "{CHAIN} -o {name} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT").ok();
            writeln!(text, "{CHAIN} -i {name} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT").ok();
            writeln!(text, "{CHAIN} -o {name} -m conntrack --ctstate DNAT -j ACCEPT").ok();
            writeln!(text, "{CHAIN} -i {name} -o {name} -j ACCEPT").ok();
        }
        for BridgeRules { name, .. } in &self.bridges {
            writeln!(text, "{CHAIN} -o {name} -j DROP").ok();
        }
        for BridgeRules { name, outgoing, .. } in &self.bridges {
            writeln!(text, "{CHAIN} -i {name} -j {}", if *outgoing { "ACCEPT" } else { "DROP" }).ok();
        }
        text
    }

    fn input(&self) -> String {
        const CHAIN: &str = "-A ISOLATE-INPUT";
        let mut text = String::new();
        for BridgeRules { name, host, .. } in &self.bridges {
            writeln!(text, "{CHAIN} -i {name} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT").ok();
            writeln!(text, "{CHAIN} -i {name} -p icmp -j ACCEPT").ok();
            if !host {
                writeln!(text, "{CHAIN} -i {name} -j DROP").ok();
            }
        }
        text
    }
}

fn tag(bridge: &BridgeRules) -> String {
    let BridgeRules { name, network, outgoing, host } = bridge;
    let flags = [(*outgoing, 'o'), (*host, 'h')].into_iter().filter_map(|(set, flag)| set.then_some(flag));
    format!("isolate:bridge:{name}:{network}:{}", flags.collect::<String>())
}

fn bridge(tag: &str) -> Option<BridgeRules> {
    let [name, network, flags] = fields(tag.strip_prefix("bridge:")?)?;
    let (outgoing, host) = (flags.contains('o'), flags.contains('h'));
    Some(BridgeRules { name: name.into(), network: network.parse().ok()?, outgoing, host })
}

fn forward(tag: &str) -> Option<Forward> {
    let [protocol, host, host_port, container, container_port] = fields(tag.strip_prefix("port:")?)?;
    Some(Forward {
        protocol: protocol.parse().ok()?,
        host: host.parse().ok()?,
        host_port: host_port.parse().ok()?,
        container: container.parse().ok()?,
        container_port: container_port.parse().ok()?,
    })
}

fn fields<const N: usize>(text: &str) -> Option<[&str; N]> {
    text.split(':').collect::<Vec<_>>().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Publish;

    fn model() -> Model {
        let bridge = |name: &str, network: &str, outgoing| BridgeRules {
            name: name.into(),
            network: network.parse().unwrap(),
            outgoing,
            host: false,
        };
        let forward = |publish: &str| {
            let publish: Publish = publish.parse().unwrap();
            Forward::new(&publish, std::net::Ipv4Addr::new(10, 0, 0, 2)).unwrap()
        };
        Model {
            bridges: vec![bridge("a0", "10.0.0.1/24", true), bridge("b0", "10.0.1.1/24", false)],
            forwards: vec![forward("9000:80"), forward("127.0.0.1:9000:81")],
            jumps: vec![],
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let read = Model::parse(&model().restore());
        assert_eq!(read.bridges, model().bridges);
        assert_eq!(read.forwards.len(), 2);
        assert!(model().forwards.iter().all(|forward| read.forwards.contains(forward)));
    }

    #[test]
    fn a_single_address_goes_before_all_addresses() {
        let rules = model().published();
        assert!(
            rules.find("-d 127.0.0.1").unwrap()
                < rules.find("-p tcp --dport 9000 -m comment --comment isolate:port:tcp:0.0.0.0").unwrap()
        );
    }

    #[test]
    fn the_last_bridge_takes_the_chains_along() {
        let jumps = vec![("nat".into(), "OUTPUT".into(), "ISOLATE-PUBLISHED".into())];
        let text = Model { bridges: vec![], forwards: vec![], jumps }.restore();
        assert!(text.contains("-D OUTPUT -m addrtype --dst-type LOCAL -j ISOLATE-PUBLISHED\n"));
        assert!(
            text.contains("-X ISOLATE-FORWARD\n") && !text.contains("-A ") && !text.contains("-D PREROUTING")
        );
    }

    #[test]
    fn the_rules_of_others_are_not_ours() {
        let read = Model::parse(
            "*filter\n-A FORWARD -j DOCKER-USER\n-A INPUT -m comment --comment \"isolate:bridge\" -j DROP\nCOMMIT\n",
        );
        assert_eq!(read, Model::default());
    }
}
