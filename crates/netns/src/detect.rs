//! What this machine has of what this crate needs.

use std::fs;
use std::path::PathBuf;

use crate::firewall::{filters_bridges, forward_dropped_by, iptables_restore, nf_tables_available};
use crate::home::Home;
use crate::route::{Pair, Route, create_bridge, create_pair};
use crate::{NetworkNamespace, Result};

/// What the calling thread's network namespace and its kernel have: see [`detect`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// This thread may make network namespaces and links in them.
    pub permitted: bool,
    /// Bridges (`CONFIG_BRIDGE`); unknown, and `false`, if not permitted.
    pub bridge: bool,
    /// veth pairs (`CONFIG_VETH`); unknown, and `false`, if not permitted.
    pub veth: bool,
    /// nf_tables (`CONFIG_NF_TABLES`).
    pub nf_tables: bool,
    /// Where `iptables-restore` is installed.
    pub iptables_restore: Option<PathBuf>,
    /// `net.ipv4.ip_forward` is on. If not, publishing a port switches it on.
    pub ip_forward: bool,
    /// A chain of another program that drops what is forwarded and not known to it, as Docker's `ip filter FORWARD`: a bridge puts
    /// a rule of its own before all others there. Only what is written by nf_tables is seen, which `iptables` is on most machines.
    pub forward_dropped_by: Option<String>,
    /// nf_tables filters what passes a bridge (`CONFIG_NF_TABLES_BRIDGE`): what a container sends to its neighbours under another's
    /// address is dropped. Unknown, and `false`, if not permitted.
    pub bridge_filter: bool,
}

/// Looks at what there is. Changes nothing: bridges and pairs are tried out in a namespace of their own.
///
/// # Errors
/// Where `/proc` is not mounted or netlink is forbidden.
pub fn detect() -> Result<Capabilities> {
    let home = Home::of_this_thread()?;
    let tried = try_links();
    let (bridge, veth) = tried.unwrap_or_default();
    let nf_tables = nf_tables_available(&home)?;
    let dropped = if nf_tables { forward_dropped_by(&home).ok().flatten() } else { None };
    Ok(Capabilities {
        permitted: tried.is_some(),
        bridge,
        veth,
        nf_tables,
        iptables_restore: iptables_restore(),
        ip_forward: fs::read("/proc/sys/net/ipv4/ip_forward").is_ok_and(|value| value.starts_with(b"1")),
        forward_dropped_by: dropped,
        bridge_filter: nf_tables && tried.is_some() && filters_bridges(&home).unwrap_or(false),
    })
}

impl Capabilities {
    /// What is missing or in the way, each with the line that helps.
    #[must_use]
    pub fn remedies(&self) -> Vec<String> {
        let mut remedies = Vec::new();
        let mut unless = |fine: bool, remedy: &str| {
            if !fine {
                remedies.push(remedy.to_owned());
            }
        };
        unless(self.permitted, "network namespaces: needs CAP_SYS_ADMIN and CAP_NET_ADMIN: run as root");
        unless(self.bridge || !self.permitted, "bridges: modprobe bridge");
        unless(self.veth || !self.permitted, "veth pairs: modprobe veth");
        let firewall = self.nf_tables || self.iptables_restore.is_some();
        unless(firewall, "published ports and NAT: modprobe nf_tables, or install iptables");
        unless(
            self.bridge_filter || !self.permitted,
            "forged addresses between containers of one bridge: a kernel with CONFIG_NF_TABLES_BRIDGE",
        );
        remedies
    }
}

/// Whether bridges and veth pairs can be made; `None` if that is not permitted here.
fn try_links() -> Option<(bool, bool)> {
    let (one, other) = (NetworkNamespace::new().ok()?, NetworkNamespace::new().ok()?);
    let made = one.run(|| {
        let mut route = Route::open()?;
        let bridge = route.apply(vec![create_bridge("try0", [2, 0, 0, 0, 0, 1], None)]).is_ok();
        let master = route.index("try0")?.unwrap_or_default();
        let pair = create_pair(&Pair {
            host: "try1",
            bridge: master,
            inside: "try2",
            namespace: std::os::fd::AsFd::as_fd(&other),
            mac: Some([2, 0, 0, 0, 0, 2]),
            mtu: None,
        });
        Ok::<_, crate::Error>((bridge, route.apply(vec![pair]).is_ok()))
    });
    made.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_that_is_missing_has_a_remedy() {
        let nothing = Capabilities {
            permitted: true,
            bridge: false,
            veth: false,
            nf_tables: false,
            iptables_restore: None,
            ip_forward: false,
            forward_dropped_by: Some("ip filter FORWARD".into()),
            bridge_filter: false,
        };
        let remedies = nothing.remedies();
        assert_eq!(remedies.len(), 4);
        assert!(remedies[3].contains("CONFIG_NF_TABLES_BRIDGE"));
    }
}
