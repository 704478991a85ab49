//! How macvlans of one parent are to one another.

use std::fmt;
use std::str::FromStr;

use netlink_packet_route::link::MacVlanMode;

use crate::{Error, Result};

/// What becomes of packets between the macvlans of one parent (`macvlan` in ip-link(8)). `Display` and `FromStr` have the names that
/// iproute2 and Docker's `macvlan_mode` give them.
///
/// In none of them does the host reach them by the parent's own addresses, nor they the host.
///
/// ```
/// use isolate_netns::MacvlanMode;
///
/// assert_eq!("vepa".parse::<MacvlanMode>()?, MacvlanMode::Vepa);
/// assert_eq!(MacvlanMode::default().to_string(), "bridge");
/// # Ok::<(), isolate_netns::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum MacvlanMode {
    /// They reach one another, within the kernel.
    #[default]
    Bridge,
    /// They do not reach one another, not even by a switch that sends back. It binds who may not change its link: a container with
    /// `CAP_NET_ADMIN` in its user namespace can set another mode.
    Private,
    /// All that they send leaves by the parent; they reach one another by a switch that sends back to where a packet came from (802.1Qbg).
    Vepa,
    /// One alone has the parent, with the parent's MAC address: what comes in is the container's, and the host gets nothing by that link
    /// any more. The parent is not made promiscuous (`nopromisc`). Who has `CAP_NET_ADMIN` inside changes the parent's MAC address with its
    /// own.
    Passthru,
}

const ALL: [MacvlanMode; 4] =
    [MacvlanMode::Bridge, MacvlanMode::Private, MacvlanMode::Vepa, MacvlanMode::Passthru];

impl MacvlanMode {
    const fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Private => "private",
            Self::Vepa => "vepa",
            Self::Passthru => "passthru",
        }
    }

    pub(super) const fn to_kernel(self) -> MacVlanMode {
        match self {
            Self::Bridge => MacVlanMode::Bridge,
            Self::Private => MacVlanMode::Private,
            Self::Vepa => MacVlanMode::Vepa,
            Self::Passthru => MacVlanMode::Passthrough,
        }
    }
}

impl fmt::Display for MacvlanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for MacvlanMode {
    type Err = Error;

    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for any other name.
    fn from_str(name: &str) -> Result<Self> {
        ALL.into_iter().find(|mode| mode.name() == name).ok_or_else(|| {
            let what = format!("`{}` is no mode of a macvlan", name.escape_debug());
            Error::invalid(what).with_hint("there are bridge, private, vepa and passthru")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_is_read_as_it_is_written_and_nothing_else_is() {
        for mode in ALL {
            assert_eq!(mode.to_string().parse::<MacvlanMode>().unwrap(), mode);
            assert_eq!(mode.to_kernel().to_string(), mode.to_string());
        }
        for other in ["", "Bridge", "source", "passthrough", "bridge\n"] {
            let error = other.parse::<MacvlanMode>().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidInput, "{error}");
        }
    }
}
