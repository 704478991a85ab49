//! Queries on their way to an upstream by UDP: each by a socket of its own, which has a random port and sees one upstream
//! alone, and under a random number (RFC 5452).

use crate::message::{self, flag, rcode};
use crate::reply;
use crate::sys::{self, Address, Poll};
use crate::table::{self, Table};

/// Most queries on their way; with more, an old one is given up.
pub(crate) const FLIGHTS: usize = 128;
/// Most of one client, so that one that asks for the impossible does not take the others' places.
const OF_ONE: usize = 64;
/// Milliseconds that an upstream has.
const PATIENCE: u64 = 2000;
/// How often each upstream is asked.
const ROUNDS: usize = 2;
/// Bytes of a query that has a place of its own. Most have less than 64.
const SMALL: usize = 128;
/// Bytes of one that needs one of the large places. By UDP there is none longer that a resolver sends.
const LARGE: usize = 512;
const LARGES: usize = 32;
/// Datagrams that one socket may hand over at a time: who does not know the number sends many.
const AT_ONCE: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Flight {
    /// When the upstream has had its time, 0 for a place that is free.
    deadline: u64,
    /// Its place in the order of all queries.
    order: u64,
    client: Address,
    /// The socket that the client asked.
    listener: i32,
    socket: i32,
    id: u16,
    client_id: u16,
    length: u16,
    tries: u16,
    /// One more than the number of its large place, 0 for the small one.
    large: u8,
    small: [u8; SMALL],
}

const FREE: Flight = Flight {
    deadline: 0,
    order: 0,
    client: Address::NONE,
    listener: 0,
    socket: 0,
    id: 0,
    client_id: 0,
    length: 0,
    tries: 0,
    large: 0,
    small: [0; SMALL],
};

/// All that is on its way. In memory that is never touched before it is needed.
#[derive(Debug)]
pub(crate) struct Flights {
    list: [Flight; FLIGHTS],
    large: [[u8; LARGE]; LARGES],
    taken: [bool; LARGES],
    /// Places from here on have not been used yet.
    used: usize,
    /// Queries so far.
    count: u64,
}

/// Whom to ask: the upstreams of a table, less ourselves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upstreams<'a> {
    pub(crate) table: Table<'a>,
    /// What this server is bound to.
    pub(crate) own: &'a [Address],
}

impl Upstreams<'_> {
    pub(crate) fn count(&self) -> usize {
        self.table.upstreams()
    }

    /// The nth, counted round; `None` for one that would be a circle.
    pub(crate) fn get(&self, n: usize) -> Option<Address> {
        let upstream = self.table.upstream(n.checked_rem(self.count())?)?;
        let address = match table::ipv4(&upstream.address) {
            Some(short) => Address::new(&short, upstream.port, 0),
            None => Address::new(&upstream.address, upstream.port, upstream.scope),
        };
        (!self.own.contains(&address)).then_some(address)
    }
}

/// Whether an upstream says by this that another one may know more.
pub(crate) fn is_refusal(flags: u16) -> bool {
    matches!(flags & flag::RCODE, rcode::FAILED | rcode::NOT_IMPLEMENTED | rcode::REFUSED)
}

impl Flights {
    pub(crate) const NEW: Self = Self {
        list: [FREE; FLIGHTS],
        large: [[0; LARGE]; LARGES],
        taken: [false; LARGES],
        used: 0,
        count: 0,
    };

    /// What to wait for, in the order of the places.
    pub(crate) fn polls(&self) -> impl Iterator<Item = Poll> {
        let used = self.list.iter().take(self.used);
        used.map(|flight| Poll {
            fd: if flight.deadline == 0 { -1 } else { flight.socket },
            events: sys::IN,
            revents: 0,
        })
    }

    /// When the first upstream has had its time.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let used = self.list.iter().take(self.used);
        used.map(|flight| flight.deadline).filter(|deadline| *deadline != 0).min()
    }

    /// Sends a query on its way.
    pub(crate) fn begin(
        &mut self,
        upstreams: &Upstreams<'_>,
        listener: i32,
        client: &Address,
        query: &[u8],
        now: u64,
        out: &mut [u8],
    ) {
        let (Some((client_id, _)), Some(question)) = (message::head(query), message::question(query)) else {
            return;
        };
        let mut same = self.list.iter().take(self.used).enumerate().filter(|(_, flight)| {
            flight.deadline != 0 && flight.client == *client && flight.client_id == client_id
        });
        // A client that is tired of waiting asks again; the first one's answer is good for it.
        if same.any(|(n, _)| self.query(n).and_then(message::question) == Some(question)) {
            return;
        }
        let n = self.place(client, out);
        let Some(large) = self.store(n, query) else {
            // By TCP there is room.
            let length = reply::failed(query, rcode::GOOD, true, out);
            answer(listener, client, out, length);
            return;
        };
        let order = self.count;
        self.count += 1;
        if let Some(flight) = self.list.get_mut(n) {
            flight.deadline = now + PATIENCE;
            flight.order = order;
            flight.client = *client;
            flight.listener = listener;
            flight.socket = -1;
            flight.client_id = client_id;
            flight.length = query.len() as u16;
            flight.tries = 0;
            flight.large = large;
        }
        self.used = self.used.max(n + 1);
        self.send(n, upstreams, now, out);
    }

    /// A place that is free, or the oldest's: of the same client, if that has many, else of all.
    fn place(&mut self, client: &Address, out: &mut [u8]) -> usize {
        let taken =
            || self.list.iter().take(self.used).enumerate().filter(|(_, flight)| flight.deadline != 0);
        let own = || taken().filter(|(_, flight)| flight.client.same_host(client));
        let oldest = if own().count() >= OF_ONE {
            own().min_by_key(|(_, flight)| flight.order)
        } else if let Some(n) = self.list.iter().position(|flight| flight.deadline == 0) {
            return n;
        } else {
            taken().min_by_key(|(_, flight)| flight.order)
        };
        let n = oldest.map_or(0, |(n, _)| n);
        self.fail(n, out);
        n
    }

    /// Keeps the query at this place; gives its large place plus one, or 0.
    fn store(&mut self, n: usize, query: &[u8]) -> Option<u8> {
        let (place, large) = if query.len() <= SMALL {
            (&mut self.list.get_mut(n)?.small[..], 0)
        } else {
            let free = self.taken.iter().position(|taken| !taken)?;
            let place = &mut self.large.get_mut(free)?[..];
            if query.len() > place.len() {
                return None;
            }
            *self.taken.get_mut(free)? = true;
            (place, free as u8 + 1)
        };
        for (to, from) in place.iter_mut().zip(query) {
            *to = *from;
        }
        Some(large)
    }

    fn query(&self, n: usize) -> Option<&[u8]> {
        let flight = self.list.get(n)?;
        let place = match flight.large.checked_sub(1) {
            Some(large) => &self.large.get(large as usize)?[..],
            None => &flight.small[..],
        };
        place.get(..flight.length as usize)
    }

    fn renumber(&mut self, n: usize, id: u16) {
        let Some(flight) = self.list.get_mut(n) else { return };
        match flight.large.checked_sub(1) {
            Some(large) => {
                if let Some(place) = self.large.get_mut(large as usize) {
                    message::renumber(place, id);
                }
            }
            None => message::renumber(&mut flight.small, id),
        }
    }

    /// To the next upstream that can be sent to; after the last one the client gets its failure.
    fn send(&mut self, n: usize, upstreams: &Upstreams<'_>, now: u64, out: &mut [u8]) {
        loop {
            let Some(flight) = self.list.get(n) else { return };
            if flight.tries as usize >= ROUNDS * upstreams.count() {
                return self.fail(n, out);
            }
            let sent = upstreams.get(flight.tries as usize).and_then(|upstream| self.send_to(n, &upstream));
            let Some(flight) = self.list.get_mut(n) else { return };
            if let Some((socket, id)) = sent {
                flight.socket = socket;
                flight.id = id;
                flight.deadline = now + PATIENCE;
                return;
            }
            flight.tries += 1;
        }
    }

    fn send_to(&mut self, n: usize, upstream: &Address) -> Option<(i32, u16)> {
        let id = sys::random()?;
        self.renumber(n, id);
        let socket = socket(upstream.family(), sys::DATAGRAM)?;
        if sys::connect(socket, upstream) == 0 && sys::send(socket, self.query(n)?) >= 0 {
            return Some((socket, id));
        }
        sys::close(socket);
        None
    }

    fn next(&mut self, n: usize, upstreams: &Upstreams<'_>, now: u64, out: &mut [u8]) {
        if let Some(flight) = self.list.get_mut(n) {
            sys::close(flight.socket);
            flight.socket = -1;
            flight.tries += 1;
            self.send(n, upstreams, now, out);
        }
    }

    /// Something came for this place, or its socket has an error: an answer goes to the client.
    pub(crate) fn receive(
        &mut self,
        n: usize,
        upstreams: &Upstreams<'_>,
        now: u64,
        buffer: &mut [u8],
        out: &mut [u8],
    ) {
        for _ in 0..AT_ONCE {
            let Some(flight) = self.list.get(n).filter(|flight| flight.deadline != 0) else { return };
            let mut from = Address::NONE;
            let got = sys::receive_datagram(flight.socket, buffer, &mut from);
            if got == -sys::EAGAIN || got == -sys::EINTR {
                return;
            }
            if got < 0 {
                // The upstream's host says that nobody listens there.
                return self.next(n, upstreams, now, out);
            }
            let length = got as usize;
            let room = buffer.len();
            let Some(answered) = buffer.get_mut(..length.min(room)) else { return };
            let asked = self.query(n).and_then(message::question).unwrap_or_default();
            let Some((_, flags)) = message::head(answered) else { continue };
            if !message::answers(answered, flight.id, asked) {
                continue;
            }
            if is_refusal(flags) && (flight.tries as usize) + 1 < upstreams.count() {
                return self.next(n, upstreams, now, out);
            }
            let (client, client_id, listener) = (flight.client, flight.client_id, flight.listener);
            message::renumber(answered, client_id);
            self.renumber(n, client_id);
            if length <= room.min(self.query(n).map_or(0, reply::room)) {
                answer(listener, &client, answered, length);
            } else {
                let code = flags & flag::RCODE;
                let short = self.query(n).map_or(0, |query| reply::failed(query, code, true, out));
                answer(listener, &client, out, short);
            }
            return self.free(n);
        }
    }

    /// Those whose upstream has had its time ask the next one.
    pub(crate) fn expire(&mut self, upstreams: &Upstreams<'_>, now: u64, out: &mut [u8]) {
        for n in 0..self.used {
            let due = self.list.get(n).is_some_and(|flight| flight.deadline != 0 && flight.deadline <= now);
            if due {
                self.next(n, upstreams, now, out);
            }
        }
        while let Some(last) = self.used.checked_sub(1)
            && self.list.get(last).is_some_and(|flight| flight.deadline == 0)
        {
            self.used = last;
        }
    }

    /// The client is told that nobody answers.
    fn fail(&mut self, n: usize, out: &mut [u8]) {
        let Some(flight) = self.list.get(n) else { return };
        let (listener, client, id) = (flight.listener, flight.client, flight.client_id);
        self.renumber(n, id);
        let length = self.query(n).map_or(0, |query| reply::failed(query, rcode::FAILED, false, out));
        answer(listener, &client, out, length);
        self.free(n);
    }

    fn free(&mut self, n: usize) {
        let Some(flight) = self.list.get_mut(n) else { return };
        if let Some(large) = flight.large.checked_sub(1)
            && let Some(taken) = self.taken.get_mut(large as usize)
        {
            *taken = false;
        }
        if flight.socket >= 0 {
            sys::close(flight.socket);
        }
        flight.deadline = 0;
    }
}

/// A new socket that does not block.
pub(crate) fn socket(family: u16, kind: usize) -> Option<i32> {
    let fd = sys::numbers(sys::nr::SOCKET, [family as usize, kind | sys::NEW_SOCKET, 0]);
    (fd >= 0).then_some(fd as i32)
}

/// The first `length` bytes, if there are any. What cannot be sent now is lost, as datagrams are.
pub(crate) fn answer(listener: i32, client: &Address, bytes: &[u8], length: usize) {
    if let Some(bytes @ [_, ..]) = bytes.get(..length) {
        sys::send_to(listener, bytes, client);
    }
}
