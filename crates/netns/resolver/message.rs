//! DNS messages (RFC 1035, 4): queries are read and replies composed, in the caller's memory, whatever the bytes are.

/// Bytes of a message's header.
pub(crate) const HEADER: usize = 12;
/// The longest name as text: 255 bytes as labels, less the first length and the root.
pub(crate) const MOST_TEXT: usize = 253;
/// Bytes of a reply by UDP to who says nothing of EDNS (RFC 1035, 4.2.1).
pub(crate) const PLAIN: usize = 512;
/// What our own replies by UDP fit into, on any link without fragments; told in our OPT record.
pub(crate) const EDNS: u16 = 1232;
/// Seconds that an answer of ours may be kept.
pub(crate) const TTL: u32 = 1;

pub(crate) mod flag {
    /// It is a response.
    pub(crate) const RESPONSE: u16 = 0x8000;
    pub(crate) const OPCODE: u16 = 0x7800;
    /// Authoritative.
    pub(crate) const OURS: u16 = 0x0400;
    pub(crate) const TRUNCATED: u16 = 0x0200;
    /// Recursion desired.
    pub(crate) const WANTED: u16 = 0x0100;
    /// Recursion available.
    pub(crate) const AVAILABLE: u16 = 0x0080;
    /// Checking disabled (RFC 4035, 3.2.2).
    pub(crate) const UNCHECKED: u16 = 0x0010;
    pub(crate) const RCODE: u16 = 0x000f;
}

/// Response codes (RFC 1035, 4.1.1; RFC 6891, 9).
pub(crate) mod rcode {
    pub(crate) const GOOD: u16 = 0;
    pub(crate) const MALFORMED: u16 = 1;
    pub(crate) const FAILED: u16 = 2;
    pub(crate) const NO_NAME: u16 = 3;
    pub(crate) const NOT_IMPLEMENTED: u16 = 4;
    pub(crate) const REFUSED: u16 = 5;
    pub(crate) const BAD_VERSION: u16 = 16;
}

/// Types of records and of questions.
pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const OPT: u16 = 41;
    /// From here to [`MAILA`]: transfers of zones, and what went out of use. ANY comes after them.
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const MAILA: u16 = 254;
    pub(crate) const ANY: u16 = 255;
}

/// Classes.
pub(crate) mod class {
    pub(crate) const IN: u16 = 1;
    pub(crate) const ANY: u16 = 255;
}

/// What the OPT record of a query says (RFC 6891, 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    /// Bytes of a reply that the client can take by UDP.
    pub(crate) size: u16,
    pub(crate) version: u8,
    /// The client knows DNSSEC (the bit DO, in its place).
    pub(crate) dnssec: u16,
}

/// A query of one question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a> {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    /// Name, type and class as they lie in the message.
    pub(crate) question: &'a [u8],
    /// The name alone: labels up to the root.
    pub(crate) name: &'a [u8],
    pub(crate) kind: u16,
    pub(crate) class: u16,
    pub(crate) edns: Option<Edns>,
}

/// Why a message is no query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// Nobody waits for an answer: a response, or less than a header.
    Silent,
    /// The response code of the answer.
    Code(u16),
}

impl<'a> Query<'a> {
    /// Reads all of it: a record that does not end where it says makes it malformed.
    pub(crate) fn parse(message: &'a [u8]) -> Result<Self, Bad> {
        let (id, flags) = head(message).ok_or(Bad::Silent)?;
        if flags & flag::RESPONSE != 0 {
            return Err(Bad::Silent);
        }
        if flags & flag::OPCODE != 0 {
            return Err(Bad::Code(rcode::NOT_IMPLEMENTED));
        }
        body(message, id, flags).ok_or(Bad::Code(rcode::MALFORMED))
    }

    /// Bytes of a reply by UDP that the client can take.
    pub(crate) fn room(&self) -> usize {
        self.edns.map_or(PLAIN, |edns| PLAIN.max(edns.size as usize))
    }
}

/// Identifier and flags, of a message that has a whole header.
pub(crate) fn head(message: &[u8]) -> Option<(u16, u16)> {
    message.get(..HEADER)?;
    Some((half(message, 0)?, half(message, 2)?))
}

fn body(message: &[u8], id: u16, flags: u16) -> Option<Query<'_>> {
    if half(message, 4)? != 1 {
        return None;
    }
    let question = question(message)?;
    let (name, rest) = question.split_at_checked(question.len().checked_sub(4)?)?;
    let (kind, class) = (half(rest, 0)?, half(rest, 2)?);
    let mut edns = None;
    let mut at = HEADER + question.len();
    let before = half(message, 6)? as usize + half(message, 8)? as usize;
    for n in 0..before + half(message, 10)? as usize {
        let record = Record::at(message, at)?;
        at = record.end;
        if record.kind == kind::OPT {
            // At the root, in the last section, and once (RFC 6891, 6.1.1).
            if n < before || edns.is_some() || !record.of_root {
                return None;
            }
            let dnssec = record.ttl as u16 & 0x8000;
            edns = Some(Edns { size: record.class, version: (record.ttl >> 16) as u8, dnssec });
        }
    }
    // A query of a single question has nothing after its records.
    (at == message.len()).then_some(Query { id, flags, question, name, kind, class, edns })
}

/// The bytes of a message's only question. Its name has nothing before it to point to.
pub(crate) fn question(message: &[u8]) -> Option<&[u8]> {
    let mut at = HEADER;
    loop {
        let length = *message.get(at)?;
        at += 1;
        match length {
            0 => break,
            1..=63 => at += length as usize,
            _ => return None,
        }
        // 255 bytes with the root's (RFC 1035, 2.3.4).
        if at > HEADER + 254 {
            return None;
        }
    }
    message.get(HEADER..at + 4)
}

/// One record, without what it says.
struct Record {
    of_root: bool,
    kind: u16,
    class: u16,
    ttl: u32,
    end: usize,
}

impl Record {
    fn at(message: &[u8], start: usize) -> Option<Self> {
        let of_root = *message.get(start)? == 0;
        let at = after_name(message, start)?;
        let rest = message.get(at..)?;
        let end = at + 10 + half(rest, 8)? as usize;
        message.get(..end)?;
        let ttl = u32::from(half(rest, 4)?) << 16 | u32::from(half(rest, 6)?);
        Some(Self { of_root, kind: half(rest, 0)?, class: half(rest, 2)?, ttl, end })
    }
}

/// Where what follows a name begins. A pointer ends it, and is not followed.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *message.get(at)?;
        at += 1;
        match length {
            0 => return Some(at),
            1..=63 => at += length as usize,
            0xc0.. => return Some(at + 1),
            _ => return None,
        }
    }
}

/// Whether it answers the question, asked under this number. Letters may have changed their case.
pub(crate) fn answers(reply: &[u8], id: u16, asked: &[u8]) -> bool {
    let Some((got, flags)) = head(reply) else { return false };
    got == id
        && flags & (flag::RESPONSE | flag::OPCODE) == flag::RESPONSE
        && half(reply, 4) == Some(1)
        && question(reply).is_some_and(|question| question.eq_ignore_ascii_case(asked))
}

/// Gives a message another number.
pub(crate) fn renumber(message: &mut [u8], id: u16) {
    if let Some(place) = message.first_chunk_mut() {
        *place = id.to_be_bytes();
    }
}

/// A name as text in lower case, without the last dot.
#[derive(Debug)]
pub(crate) struct Text {
    bytes: [u8; MOST_TEXT],
    length: usize,
}

impl Text {
    /// `None` for a name with other bytes than a host's may have: it is in no table.
    pub(crate) fn of(name: &[u8]) -> Option<Self> {
        let mut text = Self { bytes: [0; MOST_TEXT], length: 0 };
        let mut rest = name;
        loop {
            let (length, after) = rest.split_first()?;
            if *length == 0 {
                return Some(text);
            }
            let (label, after) = after.split_at_checked(*length as usize)?;
            if text.length > 0 {
                text.push(b'.')?;
            }
            for byte in label {
                match byte.to_ascii_lowercase() {
                    byte @ (b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_') => text.push(byte)?,
                    _ => return None,
                }
            }
            rest = after;
        }
    }

    fn push(&mut self, byte: u8) -> Option<()> {
        *self.bytes.get_mut(self.length)? = byte;
        self.length += 1;
        Some(())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// A reply while it is composed.
#[derive(Debug)]
pub(crate) struct Reply<'o> {
    out: &'o mut [u8],
    length: usize,
    /// What is kept free for the OPT record.
    reserved: usize,
    answers: u16,
    flags: u16,
}

/// Bytes of an OPT record without options.
const OPT: usize = 11;

impl<'o> Reply<'o> {
    /// With the query's question, in `out` and no longer than it.
    pub(crate) fn to(query: &Query<'_>, flags: u16, out: &'o mut [u8]) -> Self {
        let mut reply = Self::without_question(query.id, query.flags, flags, out);
        reply.reserved = if query.edns.is_some() { OPT } else { 0 };
        if reply.append(&[query.question]) {
            reply.put(4, &1u16.to_be_bytes());
        }
        reply
    }

    /// For a query whose question cannot be read.
    pub(crate) fn without_question(id: u16, asked: u16, flags: u16, out: &'o mut [u8]) -> Self {
        let kept = asked & (flag::OPCODE | flag::WANTED | flag::UNCHECKED);
        let mut reply = Self {
            out,
            length: 0,
            reserved: 0,
            answers: 0,
            flags: flag::RESPONSE | flag::AVAILABLE | kept | flags,
        };
        reply.append(&[&id.to_be_bytes(), &[0; HEADER - 2]]);
        reply
    }

    /// An address of the name that was asked for: A or AAAA. False if it is too long now; then it says that it is truncated.
    pub(crate) fn address(&mut self, address: &[u8]) -> bool {
        let kind = if address.len() == 4 { kind::A } else { kind::AAAA };
        self.record(kind, address.len() as u16, &[address])
    }

    /// The name of the address that was asked for, from text.
    pub(crate) fn name(&mut self, text: &[u8]) -> bool {
        // Each label has a length where the text has a dot; one more, and the root's.
        let mut labels = [0u8; MOST_TEXT + 2];
        let mut at = 0;
        for label in text.split(|&byte| byte == b'.') {
            let whole = [&[label.len() as u8], label];
            for byte in whole.into_iter().flatten() {
                let Some(place) = labels.get_mut(at) else { return false };
                *place = *byte;
                at += 1;
            }
        }
        // The root's length is there: all of it was zero.
        let Some(labels) = labels.get(..at + 1) else { return false };
        self.record(kind::PTR, labels.len() as u16, &[labels])
    }

    fn record(&mut self, kind: u16, length: u16, data: &[&[u8]]) -> bool {
        let ([k, l], [t, u, v, w], [m, n]) = (kind.to_be_bytes(), TTL.to_be_bytes(), length.to_be_bytes());
        // The owner is the question's name, which begins after the header.
        let head = [0xc0, HEADER as u8, k, l, 0, class::IN as u8, t, u, v, w, m, n];
        let fits = match data {
            [data] => self.append(&[&head, data]),
            _ => false,
        };
        match fits {
            true => self.answers += 1,
            false => self.flags |= flag::TRUNCATED,
        }
        fits
    }

    /// Completes it and gives its length; 0 if there was no room for a header. Codes over 15 need an OPT record.
    pub(crate) fn finish(mut self, code: u16, edns: Option<Edns>) -> usize {
        self.reserved = 0;
        if let Some(edns) = edns {
            let ([s, t], [d, e]) = (EDNS.to_be_bytes(), edns.dnssec.to_be_bytes());
            let opt = [0, 0, kind::OPT as u8, s, t, (code >> 4) as u8, 0, d, e, 0, 0];
            if self.append(&[&opt]) {
                self.put(10, &1u16.to_be_bytes());
            }
        }
        self.put(2, &(self.flags | code & flag::RCODE).to_be_bytes());
        self.put(6, &self.answers.to_be_bytes());
        self.length
    }

    /// All of the parts, or nothing.
    fn append(&mut self, parts: &[&[u8]]) -> bool {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        let end = self.length.saturating_add(length);
        if end.saturating_add(self.reserved) > self.out.len() {
            return false;
        }
        let places = self.out.iter_mut().skip(self.length);
        for (to, from) in places.zip(parts.iter().copied().flatten()) {
            *to = *from;
        }
        self.length = end;
        true
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.out.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
