//! A blocking netlink socket: several requests in one send, every acknowledgement read (netlink(7)).
//!
//! The kernel handles a request within the send, so what is received afterwards is there already: nothing here
//! waits for anybody. Messages are taken apart here, with every length checked, and not by `netlink-sys`, whose
//! `recv_from_full` asserts on what it reads.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable};
use netlink_sys::SocketAddr;
use rustix::net::{RecvFlags, recv};

pub(crate) const NLM_F_REQUEST: u16 = 1;
pub(crate) const NLM_F_ACK: u16 = 4;
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;
const HEADER: usize = 16;
/// More than the kernel puts into one datagram of a dump (`NLMSG_GOODSIZE`, 32 KiB at most).
const DATAGRAM: usize = 64 << 10;

/// One request, ready to send but for its sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// Flags are added to `NLM_F_REQUEST`.
    pub(crate) fn new<T: NetlinkSerializable>(message: T, flags: u16) -> Self {
        let mut message =
            NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message));
        message.header.flags = NLM_F_REQUEST | flags;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len().next_multiple_of(4)];
        message.serialize(&mut bytes);
        Self { bytes }
    }

    pub(crate) fn with_flags(mut self, flags: u16) -> Self {
        let set = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | flags;
        self.bytes[6..8].copy_from_slice(&set.to_ne_bytes());
        self
    }

    fn with_sequence(mut self, sequence: u32) -> Self {
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// What the kernel said no to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The request's place among those that were sent together; past the last for the batch as a whole.
    pub(crate) request: usize,
    pub(crate) errno: i32,
    /// The kernel's own words, where it has some.
    pub(crate) text: Option<String>,
}

impl Refusal {
    fn of_the_socket(error: &io::Error) -> Self {
        Self { request: 0, errno: error.raw_os_error().unwrap_or(libc::EIO), text: None }
    }
}

#[derive(Debug)]
pub(crate) struct Socket {
    socket: netlink_sys::Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// A socket in the calling thread's network namespace, where it stays.
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = netlink_sys::Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; DATAGRAM] })
    }

    /// Sends all of `requests` at once. Each is carried out whatever became of those before it; every refusal is
    /// handed back.
    pub(crate) fn transact(&mut self, requests: Vec<Request>) -> Vec<Refusal> {
        let (count, first) = (requests.len(), self.sequence.wrapping_add(1));
        let requests = requests.into_iter().map(|request| request.with_flags(NLM_F_ACK)).collect();
        let mut refusals = Vec::new();
        if let Err(error) = self.send(requests) {
            return vec![Refusal::of_the_socket(&error)];
        }
        let mut answered = 0;
        while answered < count {
            let replies = match self.receive() {
                Ok(replies) => replies,
                Err(error) => return vec![Refusal::of_the_socket(&error)],
            };
            for reply in replies {
                let request = reply.sequence.wrapping_sub(first) as usize;
                let Some((errno, text)) = reply.acknowledgement().filter(|_| request < count) else {
                    continue;
                };
                answered += 1;
                if errno != 0 {
                    refusals.push(Refusal { request, errno, text });
                }
            }
        }
        refusals
    }

    /// Sends a batch of nfnetlink: `begin`, `requests`, `end`, which the kernel carries out as one or not at all.
    pub(crate) fn batch(
        &mut self,
        begin: Request,
        requests: Vec<Request>,
        end: Request,
    ) -> Result<(), Refusal> {
        let (count, first) = (requests.len(), self.sequence.wrapping_add(1));
        let mut all = vec![begin];
        all.extend(requests);
        // One acknowledgement, of the last request, comes after every refusal.
        all = all
            .into_iter()
            .enumerate()
            .map(|(i, r)| if i == count { r.with_flags(NLM_F_ACK) } else { r })
            .collect();
        all.push(end);
        self.send(all).map_err(|error| Refusal::of_the_socket(&error))?;
        let mut refusal = None;
        loop {
            for reply in self.receive().map_err(|error| Refusal::of_the_socket(&error))? {
                let place = reply.sequence.wrapping_sub(first) as usize;
                let Some((errno, text)) = reply.acknowledgement().filter(|_| place <= count + 1) else {
                    continue;
                };
                if place == 0 || place == count + 1 {
                    // An answer to the frame itself is about the whole batch, and the only one that comes.
                    return Err(refusal.unwrap_or(Refusal { request: count, errno, text }));
                }
                if errno != 0 && refusal.is_none() {
                    refusal = Some(Refusal { request: place - 1, errno, text });
                }
                if place == count {
                    return refusal.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Everything that the kernel lists for `request`, each message without its header. Asked again if something
    /// changed meanwhile.
    pub(crate) fn dump(&mut self, request: &Request) -> Result<Vec<Vec<u8>>, Refusal> {
        loop {
            if let Some(messages) = self.dump_once(request.clone().with_flags(NLM_F_DUMP))? {
                return Ok(messages);
            }
        }
    }

    fn dump_once(&mut self, request: Request) -> Result<Option<Vec<Vec<u8>>>, Refusal> {
        let sequence = self.sequence.wrapping_add(1);
        self.send(vec![request]).map_err(|error| Refusal::of_the_socket(&error))?;
        let (mut messages, mut interrupted) = (Vec::new(), false);
        loop {
            for reply in self.receive().map_err(|error| Refusal::of_the_socket(&error))? {
                if reply.sequence != sequence {
                    continue;
                }
                interrupted |= reply.flags & NLM_F_DUMP_INTR != 0;
                match (reply.kind, reply.acknowledgement()) {
                    (NLMSG_DONE, _) => return Ok((!interrupted).then_some(messages)),
                    // EINTR is nf_tables' way to say that the list changed.
                    (_, Some((libc::EINTR, _))) => return Ok(None),
                    (_, Some((errno, text))) => return Err(Refusal { request: 0, errno, text }),
                    _ => messages.push(reply.body),
                }
            }
        }
    }

    /// The one message that answers `request`.
    pub(crate) fn get(&mut self, request: Request) -> Result<Vec<u8>, Refusal> {
        let sequence = self.sequence.wrapping_add(1);
        self.send(vec![request]).map_err(|error| Refusal::of_the_socket(&error))?;
        loop {
            for reply in self.receive().map_err(|error| Refusal::of_the_socket(&error))? {
                match (reply.sequence == sequence, reply.acknowledgement()) {
                    (true, Some((errno, text))) => return Err(Refusal { request: 0, errno, text }),
                    (true, None) => return Ok(reply.body),
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, requests: Vec<Request>) -> io::Result<()> {
        let mut datagram = Vec::new();
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            datagram.extend(request.with_sequence(self.sequence).bytes);
        }
        self.socket.send(&datagram, 0).map(|_| ())
    }

    fn receive(&mut self) -> io::Result<Vec<Reply>> {
        loop {
            match recv(&self.socket, &mut self.buffer[..], RecvFlags::TRUNC) {
                Ok((_, length)) if length > self.buffer.len() => {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                Ok((_, length)) => return Ok(replies(&self.buffer[..length])),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Reply {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: Vec<u8>,
}

impl Reply {
    /// For an acknowledgement: the errno, 0 for success, and the kernel's words.
    fn acknowledgement(&self) -> Option<(i32, Option<String>)> {
        if self.kind != NLMSG_ERROR {
            return None;
        }
        let errno = number(&self.body, 0).map_or(libc::EIO, |code| code.cast_signed().saturating_neg());
        let request = match self.flags & NLM_F_CAPPED {
            0 => number(&self.body, 4).map_or(HEADER, |length| length as usize),
            _ => HEADER,
        };
        let extended = self.body.get(4 + request..).filter(|_| self.flags & NLM_F_ACK_TLVS != 0);
        let text = attributes(extended.unwrap_or_default()).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG);
        Some((errno, text.map(|(_, text)| string(text))))
    }
}

fn replies(mut datagram: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    while let Some(length) = number(datagram, 0).map(|length| length as usize) {
        let (Some(body), Some(sequence)) = (datagram.get(HEADER..length), number(datagram, 8)) else { break };
        let half = |at: usize| u16::from_ne_bytes([datagram[at], datagram[at + 1]]);
        replies.push(Reply { kind: half(4), flags: half(6), sequence, body: body.to_vec() });
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    replies
}

/// The attributes in `bytes`: kind and value. A broken one ends the list.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1, ..] = *bytes else { return None };
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The two top bits say "nested" and "network byte order".
        Some((u16::from_ne_bytes([k0, k1]) & 0x3fff, value))
    })
}

/// A string as the kernel writes it, up to its NUL.
pub(crate) fn string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(errno: i32, words: &str) -> Vec<u8> {
        let text = [words.as_bytes(), &[0]].concat();
        let mut body = [(-errno).to_ne_bytes().as_slice(), &[0; HEADER]].concat();
        body.extend(u16::try_from(4 + text.len()).unwrap().to_ne_bytes());
        body.extend(NLMSGERR_ATTR_MSG.to_ne_bytes());
        body.extend(text);
        let mut bytes = u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(NLMSG_ERROR.to_ne_bytes());
        bytes.extend((NLM_F_CAPPED | NLM_F_ACK_TLVS).to_ne_bytes());
        bytes.extend([7, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_refusal_is_read_with_the_words_of_the_kernel() {
        let replies = replies(&refusal(libc::EEXIST, "too many of them"));
        assert_eq!(replies.len(), 1);
        assert_eq!(replies[0].acknowledgement(), Some((libc::EEXIST, Some("too many of them".into()))));
    }

    proptest! {
        #[test]
        fn no_datagram_makes_it_panic_or_run_for_ever(bytes: Vec<u8>) {
            for reply in replies(&bytes) {
                reply.acknowledgement();
                attributes(&reply.body).count();
            }
        }
    }
}
