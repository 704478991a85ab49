//! What this machine has of what this crate needs.

use std::fs;
use std::path::PathBuf;

use crate::firewall::{forward_dropped_by, iptables_restore, nf_tables_available};
use crate::home::Home;
use crate::route::{Route, create_bridge, create_pair};
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
    /// A chain of another program that drops what is forwarded and not known to it, as Docker's `ip filter FORWARD`.
    /// Only what is written by nf_tables is seen, which `iptables` is on most machines.
    pub forward_dropped_by: Option<String>,
    /// Docker's chain for others' rules, `DOCKER-USER`, is in the same table.
    pub docker_user: bool,
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
        docker_user: dropped.as_ref().is_some_and(|(_, docker)| *docker),
        forward_dropped_by: dropped.map(|(chain, _)| chain),
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
        if let Some(chain) = &self.forward_dropped_by {
            remedies.push(dropped(chain, self.docker_user));
        }
        remedies
    }
}

/// An accept in one table does not undo a drop in another, so only that table's owner can let packets through.
fn dropped(chain: &str, docker_user: bool) -> String {
    let own = if docker_user { "DOCKER-USER" } else { "FORWARD" };
    format!(
        "containers and other hosts: {chain} drops what it does not know; for each bridge: \
         iptables -I {own} -i BRIDGE -j ACCEPT; iptables -I {own} -o BRIDGE -j ACCEPT"
    )
}

/// Whether bridges and veth pairs can be made; `None` if that is not permitted here.
fn try_links() -> Option<(bool, bool)> {
    let (one, other) = (NetworkNamespace::new().ok()?, NetworkNamespace::new().ok()?);
    let made = one.run(|| {
        let mut route = Route::open()?;
        let bridge = route.apply(vec![create_bridge("try0", [10, 0, 0, 1].into())]).is_ok();
        let master = route.index("try0")?.unwrap_or_default();
        let pair =
            create_pair("try1", master, "try2", std::os::fd::AsFd::as_fd(&other), [10, 0, 0, 2].into());
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
            docker_user: true,
        };
        let remedies = nothing.remedies();
        assert_eq!(remedies.len(), 4);
        assert!(remedies[3].contains("iptables -I DOCKER-USER -o BRIDGE -j ACCEPT"));
    }
}
