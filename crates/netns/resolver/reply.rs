//! From a query to what is done with it: pure, for any table and any bytes.

use super::message::{Bad, EDNS, PLAIN, Query, Reply, Text, class, flag, head, kind, rcode};
use super::table::{Address, INTERNAL, Table, ipv4, mapped};

/// What is done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is sent.
    Silence,
    /// The reply has this many bytes.
    Answer(usize),
    /// It is an upstream's to answer.
    Forward,
}

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Datagram,
    Stream,
}

/// Which of several addresses comes first: counted by name and type, so that the two queries that most clients make for each
/// name do not always get the same.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    counts: [u8; TURNS],
    /// Added to all.
    pub(crate) all: u8,
}

const TURNS: usize = 256;

impl Turns {
    pub(crate) const fn new() -> Self {
        Self { counts: [0; TURNS], all: 0 }
    }

    fn next(&mut self, name: &[u8], kind: u16) -> usize {
        // FNV-1a: names that share a count are served a little less evenly, no more.
        let hash = name
            .iter()
            .chain(&kind.to_be_bytes())
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        let Some(count) = self.counts.get_mut((hash ^ hash >> 16) as usize % TURNS) else { return 0 };
        *count = count.wrapping_add(1);
        count.wrapping_add(self.all) as usize
    }
}

/// What the table says to a message. A reply is in `out`, as short as the client and the way want it.
pub(crate) fn answer(
    table: &Table<'_>,
    message: &[u8],
    way: Way,
    turns: &mut Turns,
    out: &mut [u8],
) -> Verdict {
    let query = match Query::parse(message) {
        Ok(query) => query,
        Err(Bad::Silent) => return Verdict::Silence,
        Err(Bad::Code(code)) => return unread(message, code, out),
    };
    let out =
        cut(out, if way == Way::Stream { usize::MAX } else { query.room().min(EDNS as usize).max(PLAIN) });
    if query.edns.is_some_and(|edns| edns.version != 0) {
        return coded(&query, 0, rcode::BAD_VERSION, out);
    }
    if (kind::IXFR..=kind::MAILA).contains(&query.kind) {
        return coded(&query, 0, rcode::REFUSED, out);
    }
    let text = Text::of(query.name);
    let text = text.as_ref().map(Text::bytes).unwrap_or_default();
    if let Some(addresses) = table.find(text) {
        return of_name(&query, text, addresses, turns, out);
    }
    if let Some(address) = reverse(text) {
        match table.owner(&address) {
            Some(name) => return of_address(&query, name, out),
            // Nobody else knows of the network's addresses.
            None if table.covers(&address) => return coded(&query, flag::OURS, rcode::NO_NAME, out),
            None => {}
        }
    }
    if table.has(INTERNAL) {
        return coded(&query, 0, rcode::NO_NAME, out);
    }
    if table.upstreams() == 0 {
        return coded(&query, 0, rcode::FAILED, out);
    }
    Verdict::Forward
}

/// A reply without records to a message that was forwarded in vain. With `truncated`, the client asks again by TCP.
pub(crate) fn failed(message: &[u8], code: u16, truncated: bool, out: &mut [u8]) -> usize {
    let flags = if truncated { flag::TRUNCATED } else { 0 };
    Query::parse(message).map_or(0, |query| Reply::to(&query, flags, out).finish(code, query.edns))
}

/// Bytes of a reply by UDP that the client of this query can take.
pub(crate) fn room(message: &[u8]) -> usize {
    Query::parse(message).map_or(PLAIN, |query| query.room())
}

fn is_in(query: &Query<'_>) -> bool {
    matches!(query.class, class::IN | class::ANY)
}

fn of_name(
    query: &Query<'_>,
    name: &[u8],
    addresses: &[Address],
    turns: &mut Turns,
    out: &mut [u8],
) -> Verdict {
    let mut reply = Reply::to(query, flag::OURS, out);
    let wanted = |address: &&Address| match (query.kind, ipv4(address)) {
        (kind::ANY, _) | (kind::A, Some(_)) | (kind::AAAA, None) => is_in(query),
        _ => false,
    };
    let count = addresses.iter().filter(wanted).count();
    let first = if count > 1 { turns.next(name, query.kind).checked_rem(count).unwrap_or(0) } else { 0 };
    for address in addresses.iter().filter(wanted).cycle().skip(first).take(count) {
        let fits = match ipv4(address) {
            Some(short) => reply.address(&short),
            None => reply.address(address),
        };
        if !fits {
            break;
        }
    }
    done(reply.finish(rcode::GOOD, query.edns))
}

fn of_address(query: &Query<'_>, name: &[u8], out: &mut [u8]) -> Verdict {
    let mut reply = Reply::to(query, flag::OURS, out);
    if is_in(query) && matches!(query.kind, kind::PTR | kind::ANY) {
        reply.name(name);
    }
    done(reply.finish(rcode::GOOD, query.edns))
}

fn coded(query: &Query<'_>, flags: u16, code: u16, out: &mut [u8]) -> Verdict {
    // Without OPT there is no code over 15; who asks for a version has sent one.
    done(Reply::to(query, flags, out).finish(code, query.edns))
}

fn unread(message: &[u8], code: u16, out: &mut [u8]) -> Verdict {
    let Some((id, flags)) = head(message) else { return Verdict::Silence };
    done(Reply::without_question(id, flags, 0, out).finish(code, None))
}

fn done(length: usize) -> Verdict {
    if length == 0 { Verdict::Silence } else { Verdict::Answer(length) }
}

fn cut(out: &mut [u8], most: usize) -> &mut [u8] {
    let length = out.len().min(most);
    out.get_mut(..length).unwrap_or_default()
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for (RFC 1035, 3.5; RFC 3596, 2.5).
pub(crate) fn reverse(name: &[u8]) -> Option<Address> {
    if let Some(numbers) = name.strip_suffix(b".in-addr.arpa") {
        let mut address = [0u8; 4];
        let mut parts = numbers.split(|&byte| byte == b'.');
        for place in address.iter_mut().rev() {
            *place = octet(parts.next()?)?;
        }
        return parts.next().is_none().then(|| mapped(address));
    }
    let digits = name.strip_suffix(b".ip6.arpa")?;
    let mut address = [0u8; 16];
    let mut parts = digits.split(|&byte| byte == b'.');
    for place in address.iter_mut().rev() {
        let (low, high) = (nibble(parts.next()?)?, nibble(parts.next()?)?);
        *place = high << 4 | low;
    }
    parts.next().is_none().then_some(address)
}

fn octet(digits: &[u8]) -> Option<u8> {
    if digits.is_empty() || digits.len() > 1 && digits.first() == Some(&b'0') {
        return None;
    }
    digits.iter().try_fold(0u8, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

fn nibble(digit: &[u8]) -> Option<u8> {
    match digit {
        [digit @ b'0'..=b'9'] => Some(digit - b'0'),
        [digit @ b'a'..=b'f'] => Some(digit - b'a' + 10),
        _ => None,
    }
}
