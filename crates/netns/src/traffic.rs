//! How much a port lets through: queueing disciplines (tc(8), tc-tbf(8)).

use netlink_packet_core::DefaultNla;
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionGeneric, TcActionMirror, TcActionMirrorOption, TcActionOption,
    TcActionType, TcAttribute, TcFilterU32, TcFilterU32Option, TcHandle, TcMessage, TcMirror,
    TcMirrorActionType, TcOption, TcU32Key, TcU32Selector, TcU32SelectorFlags,
};
use rtnetlink::LinkIfb;

use crate::home::Home;
use crate::netlink::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use crate::route::{Step, delete_link};
use crate::{Error, ErrorKind, Result};

/// How long a packet may wait, in milliseconds, before what comes after it is dropped.
const LATENCY: u64 = 50;
/// What may pass at once, at least: a packet as large as the kernel makes them, since larger ones are cut.
const BURST: u64 = 64 << 10;

/// How fast a container may send and receive, by one of its networks. Nothing said is no limit.
///
/// A token bucket each way (tc-tbf(8)): what is too much waits for up to 50 ms, and is dropped then, which senders of TCP take for a sign
/// to go slower. Headers of frames count.
///
/// ```
/// use isolate_netns::Bandwidth;
///
/// let home = Bandwidth::new().up(20_000_000).down(50_000_000); // bit/s
/// assert_eq!((home.get_up(), home.get_down()), (Some(20_000_000), Some(50_000_000)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[must_use = "a description does nothing until a port is limited with it"]
pub struct Bandwidth {
    up: Option<u64>,
    down: Option<u64>,
}

impl Bandwidth {
    /// No limit.
    pub const fn new() -> Self {
        Self { up: None, down: None }
    }

    /// What the container may send, in bits a second.
    #[doc(alias = "egress")]
    pub const fn up(self, bits: u64) -> Self {
        Self { up: Some(bits), ..self }
    }

    /// What it may receive, in bits a second.
    #[doc(alias = "ingress")]
    pub const fn down(self, bits: u64) -> Self {
        Self { down: Some(bits), ..self }
    }

    /// What it may send.
    #[must_use]
    pub const fn get_up(&self) -> Option<u64> {
        self.up
    }

    /// What it may receive.
    #[must_use]
    pub const fn get_down(&self) -> Option<u64> {
        self.down
    }

    fn check(&self) -> Result<()> {
        match [self.up, self.down].into_iter().flatten().find(|bits| *bits < 8000) {
            Some(bits) => Err(Error::invalid(format!("a bandwidth of {bits} bit/s: at least 8000"))),
            None => Ok(()),
        }
    }
}

/// The link that holds what comes from a port back: `isf` in the place of the port's `iso`, or a name made of its own.
pub(crate) fn holder(interface: &str) -> String {
    match interface.strip_prefix("iso") {
        Some(rest) => format!("isf{rest}"),
        None => {
            let length = interface.len().min(libc::IFNAMSIZ - 2);
            format!("{}~", interface.get(..length).unwrap_or("port"))
        }
    }
}

/// Limits the port whose host's end is `interface`, in place of what it had.
pub(crate) fn limit(home: &Home, interface: &str, bandwidth: &Bandwidth) -> Result<()> {
    bandwidth.check()?;
    let index =
        |name: &str| home.route().index(name)?.ok_or_else(|| Error::os(format!("link {name}"), libc::ENODEV));
    let port = index(interface)?;
    let down = match bandwidth.down {
        Some(bits) => bucket(port, bits, format!("{bits} bit/s to port {interface}")),
        None => without(port, TcHandle::ROOT, format!("no limit to port {interface}")),
    };
    home.route().apply(vec![down]).map_err(lacking)?;
    let ifb = holder(interface);
    match bandwidth.up {
        None => {
            let none = without(port, TcHandle::INGRESS, format!("no limit from port {interface}"));
            home.route().apply(vec![none])?;
            remove_holder(home, interface)
        }
        Some(bits) => {
            let made = LinkIfb::new(&ifb).build();
            let made = Step::new(format!("link {ifb}"), Message::NewLink(made), NLM_F_CREATE | NLM_F_EXCL);
            home.route()
                .apply(vec![made.tolerating(&[libc::EEXIST]), crate::route::up(&ifb)])
                .map_err(lacking)?;
            let holder = index(&ifb)?;
            let mut steps = vec![bucket(holder, bits, format!("{bits} bit/s from port {interface}"))];
            steps.push(ingress(port, interface));
            steps.push(redirect(port, holder, interface));
            home.route().apply(steps).map_err(lacking)
        }
    }
}

/// Deletes the link that holds a port's packets back, if there is one. Waits 10 to 30 ms for the kernel.
pub(crate) fn remove_holder(home: &Home, interface: &str) -> Result<()> {
    match home.route().apply(vec![delete_link(&holder(interface))]) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn lacking(error: Error) -> Error {
    match error.raw_os_error() {
        // A queueing discipline, a filter or a kind of link that is not there.
        Some(libc::ENOENT | libc::EOPNOTSUPP) => error.with_kind(ErrorKind::Unsupported).with_hint(
            "the kernel lacks a part of traffic control: modprobe sch_tbf sch_ingress cls_u32 act_mirred ifb",
        ),
        _ => error,
    }
}

fn message(link: u32, parent: TcHandle, handle: TcHandle, kind: &str) -> TcMessage {
    let mut message = TcMessage::with_index(link.cast_signed());
    (message.header.parent, message.header.handle) = (parent, handle);
    message.attributes.push(TcAttribute::Kind(kind.into()));
    message
}

/// A token bucket at the root of a link (`struct tc_tbf_qopt` of linux/pkt_sched.h).
fn bucket(link: u32, bits: u64, what: String) -> Step {
    const PARMS: u16 = 1;
    const RATE64: u16 = 4;
    const BURST_BYTES: u16 = 6;
    const ETHERNET: u8 = 1;
    let rate = bits / 8;
    let burst = (rate / 100).max(BURST);
    let limit = rate * LATENCY / 1000 + burst;
    let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let mut parms = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    parms.extend(narrow(rate).to_ne_bytes());
    parms.extend([0; 12]); // no peak rate
    parms.extend(narrow(limit).to_ne_bytes());
    parms.extend([0; 8]); // the burst is said in bytes below
    let mut options = vec![(PARMS, parms), (BURST_BYTES, narrow(burst).to_ne_bytes().to_vec())];
    if rate > u64::from(u32::MAX) - 1 {
        options.push((RATE64, rate.to_ne_bytes().to_vec()));
    }
    let options = options.into_iter().map(|(kind, value)| TcOption::Other(DefaultNla::new(kind, value)));
    let mut message = message(link, TcHandle::ROOT, TcHandle { major: 1, minor: 0 }, "tbf");
    message.attributes.push(TcAttribute::Options(options.collect()));
    Step::new(what, Message::NewQueueDiscipline(message), NLM_F_CREATE | NLM_F_REPLACE)
}

/// None is no error.
fn without(link: u32, parent: TcHandle, what: String) -> Step {
    let mut message = TcMessage::with_index(link.cast_signed());
    message.header.parent = parent;
    // A root that the kernel chose cannot be deleted (ENOENT), nor one that is not there (EINVAL).
    Step::new(what, Message::DelQueueDiscipline(message), 0).tolerating(&[libc::ENOENT, libc::EINVAL])
}

/// A place for filters on what comes in by a link.
fn ingress(link: u32, name: &str) -> Step {
    let message = message(link, TcHandle::INGRESS, TcHandle { major: 0xffff, minor: 0 }, "ingress");
    Step::new(
        format!("ingress of port {name}"),
        Message::NewQueueDiscipline(message),
        NLM_F_CREATE | NLM_F_EXCL,
    )
    .tolerating(&[libc::EEXIST])
}

/// A filter there that leads everything to another link, from which it comes back when it may.
fn redirect(link: u32, to: u32, name: &str) -> Step {
    const ALL: u16 = 0x0003;
    let mut generic = TcActionGeneric::default();
    generic.action = TcActionType::Stolen;
    let mut mirror = TcMirror::default();
    (mirror.generic, mirror.eaction, mirror.ifindex) = (generic, TcMirrorActionType::EgressRedir, to);
    let mut action = TcAction::default();
    action.tab = 1;
    action.attributes = vec![
        TcActionAttribute::Kind(TcActionMirror::KIND.into()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror))]),
    ];
    let mut selector = TcU32Selector::default();
    (selector.flags, selector.nkeys) = (TcU32SelectorFlags::Terminal, 1);
    selector.keys = vec![TcU32Key::default()];
    let mut message = message(
        link,
        TcHandle { major: 0xffff, minor: 0 },
        TcHandle { major: 0x8000, minor: 0x800 },
        TcFilterU32::KIND,
    );
    // Priority and protocol: the first, and everything.
    message.header.info = 1 << 16 | u32::from(ALL.to_be());
    message.attributes.push(TcAttribute::Options(vec![
        TcOption::U32(TcFilterU32Option::Selector(selector)),
        TcOption::U32(TcFilterU32Option::Action(vec![action])),
    ]));
    Step::new(
        format!("filter of port {name}"),
        Message::NewTrafficFilter(message),
        NLM_F_CREATE | NLM_F_REPLACE,
    )
    .tolerating(&[libc::EEXIST])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_has_a_name_of_its_own_that_a_link_can_have() {
        assert_eq!(holder("iso0123456789ab"), "isf0123456789ab");
        for name in ["a", "fifteen-bytes-x"] {
            assert!(holder(name) != name && crate::bridge::check_name(&holder(name)).is_ok());
        }
    }

    #[test]
    fn a_bandwidth_of_nothing_is_refused() {
        assert!(Bandwidth::new().down(7999).check().unwrap_err().to_string().contains("7999 bit/s"));
        Bandwidth::new().up(8000).check().unwrap();
    }
}
