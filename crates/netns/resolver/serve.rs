//! The loop: one poll(2) for everything, and nothing in it that blocks.

use crate::forward::{self, FLIGHTS, Flights, Upstreams};
use crate::reply::{self, Turns, Verdict, Way};
use crate::sys::{self, Address, Poll};
use crate::tcp::{Connections, LARGEST, Tools};
use crate::watch::Watch;

/// Most addresses that the network has, each with a socket for UDP and one for TCP.
pub(crate) const MOST: usize = 16;
/// The lock's descriptor, for as long as the program runs.
const LOCK: i32 = 4;
/// The first of the sockets: those for UDP, then those for TCP.
pub(crate) const FIRST: i32 = 5;
/// Bytes of a datagram, query or reply, that can be passed on.
const BUFFER: usize = 4096;
/// Queries of one socket before the others are looked at.
const AT_ONCE: usize = 32;
/// Milliseconds after which processes of connections that have ended are reaped.
const REAP: u64 = 1000;
/// The inotify descriptor, the sockets, the queries on their way.
const POLLS: usize = 1 + 2 * MOST + FLIGHTS;
const NOTHING: Poll = Poll { fd: -1, events: 0, revents: 0 };

/// All that the server knows. It lies in memory that the kernel gives when it is first touched.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) watch: Watch,
    /// How many sockets there are, for UDP and for TCP, and what those for UDP are bound to.
    pub(crate) udp: usize,
    pub(crate) tcp: usize,
    pub(crate) own: [Address; MOST],
    turns: Turns,
    flights: Flights,
    connections: Connections,
    query: [u8; BUFFER],
    out: [u8; BUFFER],
    large_query: [u8; LARGEST],
    large_out: [u8; LARGEST],
}

impl Server {
    pub(crate) const NEW: Self = Self {
        watch: Watch::NEW,
        udp: 0,
        tcp: 0,
        own: [Address::NONE; MOST],
        turns: Turns::new(),
        flights: Flights::NEW,
        connections: Connections::NEW,
        query: [0; BUFFER],
        out: [0; BUFFER],
        large_query: [0; LARGEST],
        large_out: [0; LARGEST],
    };

    /// Until the table says that it is over, or is gone.
    pub(crate) fn run(&mut self) {
        let mut polls = [NOTHING; POLLS];
        let sockets = self.udp + self.tcp;
        loop {
            let count = self.fill(&mut polls);
            let Some(polls) = polls.get_mut(..count) else { return };
            sys::poll(polls, self.pause());
            // What is told after this wakes the next poll.
            self.watch.heard(polls.first().is_some_and(|poll| poll.revents != 0));
            let mut now = sys::now();
            if !self.watch.look(now) {
                return;
            }
            let mut ready = polls.iter().enumerate().filter(|(_, poll)| poll.revents != 0);
            let went_on = ready.try_for_each(|(n, poll)| {
                match n.checked_sub(1) {
                    None => {}
                    Some(n) if n < self.udp => return self.datagrams(poll.fd, &mut now),
                    Some(n) if n < sockets => self.connection(poll.fd),
                    Some(n) => self.upstream(n - sockets, now),
                }
                Some(())
            });
            if went_on.is_none() {
                return;
            }
            self.connections.reap();
            if self.flights.deadline().is_some_and(|deadline| deadline <= now) {
                let upstreams = Upstreams { table: self.watch.table(), own: &self.own };
                self.flights.expire(&upstreams, now, &mut self.out);
            }
        }
    }

    /// Gives the port up, then the lock: who finds the one free finds the other free. The kernel may take its time with the
    /// rest.
    pub(crate) fn close(&self) {
        (FIRST..).take(self.udp + self.tcp).chain([LOCK]).for_each(sys::close);
    }

    /// What to wait for; how many.
    fn fill(&self, polls: &mut [Poll; POLLS]) -> usize {
        let first = Poll { fd: self.watch.descriptor(), events: sys::IN, revents: 0 };
        let sockets = (FIRST..).take(self.udp + self.tcp).map(|fd| Poll { fd, events: sys::IN, revents: 0 });
        let all = [first].into_iter().chain(sockets).chain(self.flights.polls());
        let mut count = 0;
        for (place, poll) in polls.iter_mut().zip(all) {
            *place = poll;
            count += 1;
        }
        count
    }

    fn pause(&self) -> u64 {
        let mut pause = self.watch.pause();
        if !self.connections.are_none() {
            pause = pause.min(REAP);
        }
        // One more than is left: the clock's milliseconds are cut off.
        self.flights
            .deadline()
            .map_or(pause, |deadline| pause.min(deadline.saturating_sub(sys::now()).saturating_add(1)))
    }

    /// Answers what has come. `None` when the server shall end.
    fn datagrams(&mut self, fd: i32, now: &mut u64) -> Option<()> {
        for _ in 0..AT_ONCE {
            let mut client = Address::NONE;
            let got = sys::receive_datagram(fd, &mut self.query, &mut client);
            let Ok(length) = usize::try_from(got) else { break };
            // One that is longer than there is room for is nothing that a client sends.
            let Some(query) = self.query.get(..length) else { continue };
            *now = sys::now();
            // Each query sees the table that was there when it came.
            if !self.watch.look(*now) {
                return None;
            }
            let table = self.watch.table();
            match reply::answer(&table, query, Way::Datagram, &mut self.turns, &mut self.out) {
                Verdict::Silence => {}
                Verdict::Answer(length) => forward::answer(fd, &client, &self.out, length),
                Verdict::Forward => {
                    let upstreams = Upstreams { table, own: &self.own };
                    self.flights.begin(&upstreams, fd, &client, query, *now, &mut self.out);
                }
            }
        }
        Some(())
    }

    fn connection(&mut self, fd: i32) {
        let mut tools = Tools {
            watch: &mut self.watch,
            turns: &mut self.turns,
            own: &self.own,
            query: &mut self.large_query,
            out: &mut self.large_out,
        };
        self.connections.accept(fd, &mut tools);
    }

    fn upstream(&mut self, n: usize, now: u64) {
        let upstreams = Upstreams { table: self.watch.table(), own: &self.own };
        self.flights.receive(n, &upstreams, now, &mut self.query, &mut self.out);
    }
}
