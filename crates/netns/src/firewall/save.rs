//! The rules of iptables as text: what `iptables-save` shows of ours, and what `iptables-restore` is to make.
//!
//! Each of our chains is written anew from what it stands for. That is read from comments, whose fields are separated by commas: a
//! bridge is `isolate:bridge,NAME,NETWORK,NETWORK6,FLAGS`, a published port `isolate:port,PROTOCOL,HOST,PORT,CONTAINER,PORT`. IPv6 has
//! programs and tables of its own.

use std::fmt::Write;

use super::{BridgeRules, Forward, Version};
use crate::Cidr;

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
}

/// The jumps to our chains that are there: table, from, to; and our chains, each with the number of its rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Kept {
    jumps: Vec<(String, String, String)>,
    rules: Vec<(String, usize)>,
}

impl Model {
    /// Adds what the output of `iptables-save` or `ip6tables-save` says; what is not ours is skipped.
    pub(super) fn parse(&mut self, saved: &str) -> Kept {
        let (mut kept, mut table) = (Kept::default(), "");
        for line in saved.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name.trim();
            }
            let Some(rule) = line.strip_prefix("-A ") else { continue };
            let mut words = rule.split_whitespace();
            let chain = words.next().unwrap_or_default();
            if chain.starts_with("ISOLATE-") {
                match kept.rules.iter_mut().find(|(known, _)| known == chain) {
                    Some((_, count)) => *count += 1,
                    None => kept.rules.push((chain.into(), 1)),
                }
            }
            if let Some(target) = rule.split(" -j ").nth(1).filter(|target| target.starts_with("ISOLATE-")) {
                kept.jumps.push((table.into(), chain.into(), target.trim().into()));
            }
            let Some(tag) = words.find_map(|word| word.trim_matches('"').strip_prefix("isolate:")) else {
                continue;
            };
            self.bridges.extend(bridge(tag).filter(|bridge| !self.bridges.contains(bridge)));
            self.forwards.extend(forward(tag));
        }
        kept
    }

    /// Whether there is anything to be said of this version.
    pub(super) fn has(&self, version: Version) -> bool {
        self.bridges.iter().any(|bridge| network(bridge, version).is_some())
    }

    /// What of the chains and jumps is not there.
    pub(super) fn missing(&self, version: Version, kept: &Kept) -> Vec<String> {
        let own = Self { bridges: self.of(version), forwards: self.forwards.clone() };
        let mut wanted = Self::default().parse(&own.restore(version, &Kept::default()));
        wanted.rules.retain(|pair| !kept.rules.contains(pair));
        let rules = wanted.rules.into_iter().map(|(chain, _)| format!("rules of the iptables chain {chain}"));
        let jump = |(table, chain, hook, _): &(&str, &str, &str, &str)| {
            let there = kept.has_jump(table, hook, chain);
            (!there).then(|| format!("the jump from the iptables chain {hook} of {table} to {chain}"))
        };
        rules.chain(CHAINS.iter().filter_map(jump)).collect()
    }

    /// The input of `iptables-restore --noflush` that makes our chains what this model says, or takes them away.
    pub(super) fn restore(&self, version: Version, kept: &Kept) -> String {
        let own = Self { bridges: self.of(version), forwards: self.forwards.clone() };
        let mut text = String::new();
        for table in ["raw", "nat", "filter"] {
            let chains = CHAINS.iter().filter(|(of, ..)| *of == table);
            let mut names: Vec<_> = chains.clone().map(|(_, chain, ..)| *chain).collect();
            names.dedup();
            writeln!(text, "*{table}").ok();
            // Naming a chain of one's own makes or empties it.
            names.iter().for_each(|chain| _ = writeln!(text, ":{chain} - [0:0]"));
            for (_, chain, hook, condition) in chains {
                match (own.bridges.is_empty(), kept.has_jump(table, hook, chain)) {
                    (false, false) => _ = writeln!(text, "-I {hook} {condition}-j {chain}"),
                    (true, true) => _ = writeln!(text, "-D {hook} {condition}-j {chain}"),
                    _ => {}
                }
            }
            match own.bridges.is_empty() {
                true => names.iter().for_each(|chain| _ = writeln!(text, "-X {chain}")),
                false => text.push_str(&own.rules(table, version)),
            }
            text.push_str("COMMIT\n");
        }
        text
    }

    /// Its bridges with a network of that version.
    fn of(&self, version: Version) -> Vec<BridgeRules> {
        self.bridges.iter().filter(|bridge| network(bridge, version).is_some()).cloned().collect()
    }

    fn rules(&self, table: &str, version: Version) -> String {
        match table {
            "raw" => self.raw(version),
            "nat" => self.published(version) + &self.postrouting(version),
            _ => self.forwarding() + &self.input(version),
        }
    }

    fn raw(&self, version: Version) -> String {
        const CHAIN: &str = "-A ISOLATE-RAW";
        let loopback = loopback(version);
        let mut text =
            format!("{CHAIN} ! -i lo -d {loopback} -j DROP\n{CHAIN} ! -i lo -s {loopback} -j DROP\n");
        for bridge in &self.bridges {
            let (name, network) = (&bridge.name, own(bridge, version));
            if version == Version::Six {
                // Who has no address yet (RFC 4862).
                writeln!(text, "{CHAIN} -i {name} -s ::/128 -j RETURN").ok();
            }
            writeln!(text, "{CHAIN} -i {name} ! -s {network} -j DROP").ok();
        }
        text
    }

    fn published(&self, version: Version) -> String {
        // A single address goes before all addresses.
        let six = version == Version::Six;
        let mut forwards: Vec<_> =
            self.forwards.iter().filter(|forward| forward.host.is_ipv6() == six).collect();
        forwards.sort_by_key(|forward| (forward.host.is_unspecified(), **forward));
        let rules = forwards.into_iter().map(|forward| {
            let Forward { protocol, host, host_port, container, container_port } = forward;
            let on = if host.is_unspecified() { String::new() } else { format!("-d {host} ") };
            let to = std::net::SocketAddr::new(*container, *container_port);
            format!(
                "-A ISOLATE-PUBLISHED {on}-p {protocol} --dport {host_port} -m comment --comment \
                 isolate:port,{protocol},{host},{host_port},{container},{container_port} \
                 -j DNAT --to-destination {to}\n"
            )
        });
        rules.collect()
    }

    fn postrouting(&self, version: Version) -> String {
        const CHAIN: &str = "-A ISOLATE-POSTROUTING";
        let mut text = String::new();
        for bridge in &self.bridges {
            let (name, network) = (&bridge.name, own(bridge, version));
            let comment = format!("-m comment --comment {}", tag(bridge));
            writeln!(text, "{CHAIN} -s {} -o {name} {comment} -j MASQUERADE", loopback(version)).ok();
            writeln!(text, "{CHAIN} -s {network} -o {name} -m conntrack --ctstate DNAT -j MASQUERADE").ok();
        }
        for BridgeRules { name, .. } in &self.bridges {
            writeln!(text, "{CHAIN} -o {name} -j RETURN").ok();
        }
        for bridge in self.bridges.iter().filter(|bridge| bridge.outgoing) {
            writeln!(text, "{CHAIN} -s {} -j MASQUERADE", own(bridge, version)).ok();
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

    fn input(&self, version: Version) -> String {
        const CHAIN: &str = "-A ISOLATE-INPUT";
        let icmp = match version {
            Version::Four => vec!["icmp".to_owned()],
            // Echo requests, and who has which address: no word of routers.
            Version::Six => [128, 135, 136].map(|kind| format!("ipv6-icmp --icmpv6-type {kind}")).into(),
        };
        let mut text = String::new();
        for BridgeRules { name, host, names, .. } in &self.bridges {
            writeln!(text, "{CHAIN} -i {name} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT").ok();
            for kind in &icmp {
                writeln!(text, "{CHAIN} -i {name} -p {kind} -j ACCEPT").ok();
            }
            if version == Version::Six {
                writeln!(text, "{CHAIN} -i {name} -p ipv6-icmp -j DROP").ok();
            }
            for protocol in ["udp", "tcp"].iter().filter(|_| *names) {
                writeln!(text, "{CHAIN} -i {name} -p {protocol} --dport 53 -j ACCEPT").ok();
            }
            if !host {
                writeln!(text, "{CHAIN} -i {name} -j DROP").ok();
            }
        }
        text
    }
}

impl Kept {
    fn has_jump(&self, table: &str, hook: &str, chain: &str) -> bool {
        self.jumps.iter().any(|(of, from, to)| of == table && from == hook && to == chain)
    }
}

fn loopback(version: Version) -> &'static str {
    match version {
        Version::Four => "127.0.0.0/8",
        Version::Six => "::1/128",
    }
}

fn network(bridge: &BridgeRules, version: Version) -> Option<&Cidr> {
    bridge.networks.iter().find(|network| network.is_ipv6() == (version == Version::Six))
}

/// The network of that version, of a bridge that has one.
fn own(bridge: &BridgeRules, version: Version) -> String {
    network(bridge, version).map(|network| network.network().to_string()).unwrap_or_default()
}

fn tag(bridge: &BridgeRules) -> String {
    let BridgeRules { name, outgoing, host, names, .. } = bridge;
    let flags = [(*outgoing, 'o'), (*host, 'h'), (*names, 'n')];
    let flags: String = flags.into_iter().filter_map(|(set, flag)| set.then_some(flag)).collect();
    let [four, six] =
        Version::BOTH.map(|version| network(bridge, version).map(Cidr::to_string).unwrap_or_default());
    format!("isolate:bridge,{name},{four},{six},{flags}")
}

fn bridge(tag: &str) -> Option<BridgeRules> {
    let [name, four, six, flags] = fields(tag.strip_prefix("bridge,")?)?;
    let networks = [four, six].into_iter().filter(|network| !network.is_empty());
    let networks = networks.map(str::parse).collect::<Result<_, _>>().ok()?;
    let has = |flag| flags.contains(flag);
    Some(BridgeRules { name: name.into(), networks, outgoing: has('o'), host: has('h'), names: has('n') })
}

fn forward(tag: &str) -> Option<Forward> {
    let [protocol, host, host_port, container, container_port] = fields(tag.strip_prefix("port,")?)?;
    Some(Forward {
        protocol: protocol.parse().ok()?,
        host: host.parse().ok()?,
        host_port: host_port.parse().ok()?,
        container: container.parse().ok()?,
        container_port: container_port.parse().ok()?,
    })
}

fn fields<const N: usize>(text: &str) -> Option<[&str; N]> {
    text.split(',').collect::<Vec<_>>().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Publish;

    fn model() -> Model {
        let bridge = |name: &str, networks: &[&str], outgoing| BridgeRules {
            name: name.into(),
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
            outgoing,
            host: false,
            names: outgoing,
        };
        let forward = |publish: &str| {
            let publish: Publish = publish.parse().unwrap();
            Forward::of(&publish, &["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()]).unwrap()
        };
        Model {
            bridges: vec![
                bridge("a0", &["10.0.0.1/24", "fd00::1/64"], true),
                bridge("b0", &["10.0.1.1/24"], false),
            ],
            forwards: [forward("9000:80"), forward("127.0.0.1:9000:81")].concat(),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (mut read, model) = (Model::default(), model());
        let four = read.parse(&model.restore(Version::Four, &Kept::default()));
        assert_eq!(read.bridges, model.bridges);
        read.parse(&model.restore(Version::Six, &Kept::default()));
        assert_eq!(read.bridges, model.bridges);
        assert_eq!(read.forwards.len(), 3);
        assert!(model.forwards.iter().all(|forward| read.forwards.contains(forward)));
        let missing = model.missing(Version::Four, &four);
        assert!(missing.iter().all(|what| what.contains("the jump")) && missing.len() == 6, "{missing:?}");
        assert!(model.missing(Version::Four, &Kept::default()).len() > 6);
    }

    #[test]
    fn each_version_has_its_own_bridges_and_ports() {
        let six = model().restore(Version::Six, &Kept::default());
        assert!(six.contains("--to-destination [fd00::2]:80") && !six.contains("10.0.0.2:80"));
        assert!(six.contains("-i a0") && !six.contains("-i b0"));
        let four = model().restore(Version::Four, &Kept::default());
        assert!(four.contains("--to-destination 10.0.0.2:80") && four.contains("-i b0"));
    }

    #[test]
    fn a_single_address_goes_before_all_addresses() {
        let rules = model().published(Version::Four);
        assert!(
            rules.find("-d 127.0.0.1").unwrap()
                < rules.find("-p tcp --dport 9000 -m comment --comment isolate:port,tcp,0.0.0.0").unwrap()
        );
    }

    #[test]
    fn the_last_bridge_takes_the_chains_along() {
        let jumps = vec![("nat".into(), "OUTPUT".into(), "ISOLATE-PUBLISHED".into())];
        let text = Model::default().restore(Version::Four, &Kept { jumps, rules: vec![] });
        assert!(text.contains("-D OUTPUT -m addrtype --dst-type LOCAL -j ISOLATE-PUBLISHED\n"));
        assert!(
            text.contains("-X ISOLATE-FORWARD\n") && !text.contains("-A ") && !text.contains("-D PREROUTING")
        );
    }

    #[test]
    fn the_rules_of_others_are_not_ours() {
        let mut read = Model::default();
        let kept = read.parse(
            "*filter\n-A FORWARD -j DOCKER-USER\n-A INPUT -m comment --comment \"isolate:bridge\" -j DROP\nCOMMIT\n",
        );
        assert_eq!((read, kept), Default::default());
    }
}
