//! Networks of the driver macvlan: containers are machines of the LAN that a link of the host leads to.

use std::thread;
use std::time::{Duration, Instant};

use isolate_netns::{Bandwidth, ErrorKind as NetErrorKind, Firewall, Macvlan, MacvlanMode};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::network::record::NetworkRecord;

/// What a macvlan network is over, as its record has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parent {
    /// A link of the host.
    pub link: String,
    #[serde(with = "as_text")]
    pub mode: MacvlanMode,
}

impl Parent {
    /// What containers of this network are attached with.
    pub(crate) fn describe(&self, network: &NetworkRecord) -> Result<Macvlan> {
        let four = network.subnet(false).ok_or_else(|| refused("no IPv4 subnet"))?;
        let mut lan = Macvlan::new(&self.link, four.network()).mode(self.mode);
        if let Some(six) = network.subnet(true) {
            lan = lan.ipv6(six.network());
        }
        if !network.internal {
            lan = network.subnets.iter().fold(lan, |lan, subnet| lan.gateway(subnet.gateway()));
        }
        Ok(network.mtu.map_or(lan.clone(), |mtu| lan.mtu(mtu)))
    }
}

/// What cannot be said of a macvlan network, since its packets do not pass the host.
pub(super) fn check(host_services: bool, firewall: Firewall) -> Result<()> {
    let what = match (host_services, firewall) {
        (false, Firewall::Auto) => return Ok(()),
        (true, _) => {
            "the host's services on a macvlan network: the host and its macvlans do not reach one another"
        }
        _ => {
            "a firewall of a macvlan network: what its containers send and get does not pass the host's rules"
        }
    };
    Err(refused(what).with_hint("a bridge has that: leave `macvlan` out"))
}

/// A limit would be one of the container's own link, which it can take away.
pub(super) fn check_bandwidth(network: &str, bandwidth: Bandwidth) -> Result<()> {
    match bandwidth == Bandwidth::new() {
        true => Ok(()),
        false => {
            let what = format!(
                "a limit of the bandwidth on network `{network}`: a macvlan has no end on the host that could hold it"
            );
            let hint = "put the container on a bridge, or limit it at the switch";
            Err(Error::new(ErrorKind::Unsupported, what).with_hint(hint))
        }
    }
}

/// Two of one LAN would lease the same addresses.
pub(super) fn shares_addresses(one: &Parent, other: Option<&Parent>) -> bool {
    other.is_none_or(|other| other.link == one.link)
}

/// What had an address before may have its MAC address still, or the parent for itself: the kernel deletes a macvlan with its namespace,
/// in the background.
pub(super) fn patiently<T>(mut attempt: impl FnMut() -> isolate_netns::Result<T>) -> Result<T> {
    const MOMENT: Duration = Duration::from_secs(5);
    const TAKEN: [Errno; 2] = [Errno::ADDRINUSE, Errno::INVAL];
    let taken = |e: &isolate_netns::Error| {
        let errno = TAKEN.iter().any(|errno| e.raw_os_error() == Some(errno.raw_os_error()));
        errno && e.kind() == NetErrorKind::Conflict
    };
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(e) if taken(&e) && begun.elapsed() < MOMENT => thread::sleep(Duration::from_millis(5)),
            result => return Ok(result?),
        }
    }
}

fn refused(what: &str) -> Error {
    Error::new(ErrorKind::InvalidConfig, what)
}

/// A mode as people write it.
mod as_text {
    use isolate_netns::MacvlanMode;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(mode: &MacvlanMode, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(mode)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MacvlanMode, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Subnet;

    fn network() -> NetworkRecord {
        let subnet = Subnet::new("192.0.2.0/24".parse().unwrap(), None, None).unwrap();
        let mut record = NetworkRecord::new("lan", String::new(), vec![subnet]);
        record.parent = Some(Parent { link: "lan0".into(), mode: MacvlanMode::Vepa });
        record
    }

    #[test]
    fn a_network_is_described_with_its_routers_unless_it_is_internal() {
        let mut record = network();
        let lan = Macvlan::new("lan0", "192.0.2.0/24".parse().unwrap()).mode(MacvlanMode::Vepa);
        let described = |record: &NetworkRecord| record.parent.as_ref().unwrap().describe(record).unwrap();
        assert_eq!(described(&record), lan.clone().gateway([192, 0, 2, 1]));
        (record.internal, record.mtu) = (true, Some(1400));
        assert_eq!(described(&record), lan.mtu(1400));
    }

    #[test]
    fn a_record_has_its_parent_and_one_from_before_has_none() {
        let text = serde_json::to_string(&network()).unwrap();
        assert!(text.contains(r#""parent":{"link":"lan0","mode":"vepa"}"#), "{text}");
        assert_eq!(serde_json::from_str::<NetworkRecord>(&text).unwrap(), network());
        let before = text.replace(r#","parent":{"link":"lan0","mode":"vepa"}"#, "");
        assert_ne!(before, text);
        assert_eq!(serde_json::from_str::<NetworkRecord>(&before).unwrap().parent, None);
    }

    #[test]
    fn what_the_host_would_have_to_do_is_refused() {
        check(false, Firewall::Auto).unwrap();
        for (services, firewall) in [(true, Firewall::Auto), (false, Firewall::NfTables)] {
            assert_eq!(check(services, firewall).unwrap_err().kind(), ErrorKind::InvalidConfig);
        }
        check_bandwidth("lan", Bandwidth::new()).unwrap();
        let error = check_bandwidth("lan", Bandwidth::new().down(8000)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn a_subnet_is_one_networks_on_a_parent_and_no_bridges_besides() {
        let [one, other] =
            ["lan0", "lan1"].map(|link| Parent { link: link.into(), mode: MacvlanMode::Bridge });
        assert!(shares_addresses(&one, None) && shares_addresses(&one, Some(&one.clone())));
        assert!(!shares_addresses(&one, Some(&other)));
    }
}
