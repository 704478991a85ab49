//! What attaching and publishing cost in bare calls: messages put together by hand, sent by sockets that stay open.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
const EXCL: u16 = 0x200;
const NEWLINK: u16 = 16;
const SETLINK: u16 = 19;
const NEWADDR: u16 = 20;
const NEWROUTE: u16 = 24;
const NESTED: u16 = 0x8000;

/// A netlink socket in the calling thread's network namespace.
pub(crate) struct Socket(OwnedFd);

impl Socket {
    pub(crate) fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let kind = (AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC);
        Ok(Self(socket_with(kind.0, kind.1, kind.2, protocol)?))
    }

    /// Sends all at once; reads so many acknowledgements, each of which must be good.
    pub(crate) fn send(&self, messages: &[u8], answers: usize) -> io::Result<()> {
        send(&self.0, messages, SendFlags::empty())?;
        let (mut buffer, mut seen) = ([0_u8; 8192], 0);
        while seen < answers {
            let (_, got) = recv(&self.0, &mut buffer[..], RecvFlags::empty())?;
            let mut rest = &buffer[..got];
            while rest.len() >= 20 {
                let number = |at: usize| [rest[at], rest[at + 1], rest[at + 2], rest[at + 3]];
                let (length, errno) = (u32::from_ne_bytes(number(0)), i32::from_ne_bytes(number(16)));
                if errno != 0 {
                    return Err(io::Error::from_raw_os_error(-errno));
                }
                seen += 1;
                rest = rest.get(length.next_multiple_of(4) as usize..).unwrap_or_default();
            }
        }
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((REQUEST | flags).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn link(index: u32, up: bool, attributes: &[Vec<u8>]) -> Vec<u8> {
    let flags = u32::from(up);
    let mut bytes = vec![0; 4];
    bytes.extend(index.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(attributes.concat());
    bytes
}

/// A pair: `host` below the bridge and up, `eth0` in the namespace.
pub(crate) fn pair(host: &str, bridge: u32, namespace: BorrowedFd<'_>) -> Vec<u8> {
    const IFNAME: u16 = 3;
    const MASTER: u16 = 10;
    const LINKINFO: u16 = 18;
    const NET_NS_FD: u16 = 28;
    let name = |name: &str| attribute(IFNAME, &[name.as_bytes(), &[0]].concat());
    let peer = link(0, false, &[name("eth0"), attribute(NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes())]);
    let data = attribute(2 | NESTED, &attribute(1 | NESTED, &peer));
    let info = attribute(LINKINFO | NESTED, &[attribute(1, b"veth\0"), data].concat());
    let master = attribute(MASTER, &bridge.to_ne_bytes());
    message(NEWLINK, ACK | CREATE | EXCL, &link(0, true, &[name(host), master, info]))
}

/// Loopback up, an address, the link up, a default route: four messages.
pub(crate) fn inside(index: u32, address: Ipv4Addr, gateway: Ipv4Addr) -> Vec<u8> {
    let lo = message(SETLINK, ACK, &link(1, true, &[]));
    let mut own = vec![2, 24, 0, 0];
    own.extend(index.to_ne_bytes());
    own.extend([attribute(2, &address.octets()), attribute(1, &address.octets())].concat());
    let address = message(NEWADDR, ACK | CREATE | EXCL, &own);
    let up = message(SETLINK, ACK, &link(index, true, &[]));
    // AF_INET, main table, by boot, universe, unicast
    let mut way = vec![2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
    way.extend([attribute(5, &gateway.octets()), attribute(4, &index.to_ne_bytes())].concat());
    let route = message(NEWROUTE, ACK | CREATE | EXCL, &way);
    [lo, address, up, route].concat()
}

/// A published port as an element of the library's own map, in a batch.
pub(crate) fn publish(host_port: u16, address: Ipv4Addr, container_port: u16) -> Vec<u8> {
    const BEGIN: u16 = 16;
    const END: u16 = 17;
    const NEWSETELEM: u16 = 10 << 8 | 12;
    let frame = |kind: u16| message(kind, 0, &[0, 0, 0, 10]);
    let service = |port: u16| [&port.to_be_bytes()[..], &[0, 0]].concat();
    let key = [vec![6, 0, 0, 0], service(host_port)].concat();
    let data = [address.octets().to_vec(), service(container_port)].concat();
    let value = |kind: u16, value: &[u8]| attribute(kind | NESTED, &attribute(1, value));
    let element = attribute(1 | NESTED, &[value(1, &key), value(2, &data)].concat());
    let body = [
        vec![1, 0, 0, 0],
        attribute(1, b"isolate\0"),
        attribute(2, b"published_everywhere\0"),
        attribute(3 | NESTED, &element),
    ];
    [frame(BEGIN), message(NEWSETELEM, ACK | CREATE | EXCL, &body.concat()), frame(END)].concat()
}
