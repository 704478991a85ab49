//! As much netlink as the leak check needs: what nf_tables holds, and one link made (netlink(7)).

use std::io;
use std::os::fd::OwnedFd;

use crate::sys;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE_EXCL: u16 = 0x600;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const NFNL_SUBSYS_NFTABLES: u16 = 10 << 8;
const NFT_MSG_GETTABLE: u16 = 1;

/// The tables of the calling thread's network namespace, as `family name`.
pub(crate) fn tables() -> io::Result<Vec<String>> {
    Ok(dump(NFT_MSG_GETTABLE)?.iter().map(|object| format!("{} {}", object.family, object.name(1))).collect())
}

/// Adds a link of this kind (`dummy`, `veth`) with the name that the kernel picks.
pub(crate) fn add_link(kind: &str) -> io::Result<()> {
    let mut body = vec![0; 16]; // struct ifinfomsg, all of it unset
    let name = attribute(IFLA_INFO_KIND, kind.as_bytes());
    body.extend(attribute(IFLA_LINKINFO, &name));
    let socket = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    send(&socket, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE_EXCL, &body)?;
    receive(&socket, |_, _| ())
}

/// Whether the kernel knows links of this kind: of one that wants a parent, EINVAL says so.
pub(crate) fn knows_link(kind: &str) -> bool {
    add_link(kind).err().is_none_or(|error| error.raw_os_error() == Some(libc::EINVAL))
}

struct Object {
    family: &'static str,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Object {
    fn name(&self, kind: u16) -> String {
        let value = self.attributes.iter().find(|(known, _)| *known == kind);
        let bytes = value.map_or(&b"?"[..], |(_, bytes)| bytes);
        String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
    }
}

fn dump(message: u16) -> io::Result<Vec<Object>> {
    let socket = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER)?;
    // struct nfgenmsg: every family, version 0, resource 0
    send(&socket, NFNL_SUBSYS_NFTABLES | message, NLM_F_REQUEST | NLM_F_DUMP, &[0; 4])?;
    let mut objects = Vec::new();
    receive(&socket, |family, body| {
        objects.push(Object { family: family_name(family), attributes: parse(body) })
    })?;
    Ok(objects)
}

fn family_name(family: u8) -> &'static str {
    match family {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => "family?",
    }
}

fn send(socket: &OwnedFd, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(16 + body.len()).map_err(io::Error::other)?;
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]); // sequence and port
    message.extend(body);
    rustix::net::send(socket, &message, rustix::net::SendFlags::empty())?;
    Ok(())
}

/// Hands each message's family and attributes to `each` until the dump is done or the request acknowledged.
fn receive(socket: &OwnedFd, mut each: impl FnMut(u8, &[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (_, length) = rustix::net::recv(socket, &mut buffer[..], rustix::net::RecvFlags::empty())?;
        let mut rest = &buffer[..length.min(buffer.len())];
        while let Some((length, header)) = number(rest, 0).map(|length| (length as usize, rest)) {
            let message = header.get(16..length).ok_or(io::ErrorKind::InvalidData)?;
            match u16::from_ne_bytes([header[4], header[5]]) {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => return acknowledged(message),
                _ => each(message.first().copied().unwrap_or(0), message.get(4..).unwrap_or_default()),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

fn acknowledged(message: &[u8]) -> io::Result<()> {
    match number(message, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn parse(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut attributes = Vec::new();
    while let [l0, l1, k0, k1, ..] = *bytes {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(value) = bytes.get(4..length) else { break };
        // The two top bits say "nested" and "network byte order".
        attributes.push((u16::from_ne_bytes([k0, k1]) & 0x3fff, value.to_vec()));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let mut bytes = attribute(1, b"nat\0");
        bytes.extend(attribute(IFLA_LINKINFO, b"x"));
        assert_eq!(parse(&bytes), [(1, b"nat\0".to_vec()), (IFLA_LINKINFO, b"x".to_vec())]);
        assert_eq!(bytes.len(), 16, "padded to four bytes");
    }

    #[test]
    fn a_broken_attribute_ends_the_list() {
        assert_eq!(parse(&[200, 0, 1, 0, 5]), []);
        assert_eq!(parse(&[0, 0, 0, 0, 1, 2]), []);
    }
}
