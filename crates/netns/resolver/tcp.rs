//! Queries by TCP (RFC 7766): a process for each connection, so that nobody waits for a client that is slow.

use crate::forward::{Upstreams, is_refusal, socket};
use crate::message::{self, flag, rcode};
use crate::reply::{self, Turns, Verdict, Way};
use crate::sys::{self, Address};
use crate::watch::Watch;

/// Most connections at a time, and of one client.
const MOST: usize = 32;
const OF_ONE: usize = 8;
/// Connections that are taken before the other sockets are looked at.
const AT_ONCE: usize = 8;
/// Milliseconds that a client has for a message, coming or going, and for all of its messages.
const MESSAGE: u64 = 5000;
const CONNECTION: u64 = 60_000;
/// Milliseconds that an upstream has, to connect and to answer.
const PATIENCE: u64 = 4000;
/// A message and its length.
pub(crate) const LARGEST: usize = 2 + u16::MAX as usize;
/// What a connection keeps of the descriptors: the table's directory, and itself in the place after it.
const CONNECTED: i32 = 4;

/// The processes that serve connections: pid, 0 for none, and client.
#[derive(Debug)]
pub(crate) struct Connections([(i32, Address); MOST]);

/// What a connection's process works with.
#[derive(Debug)]
pub(crate) struct Tools<'a> {
    pub(crate) watch: &'a mut Watch,
    pub(crate) turns: &'a mut Turns,
    pub(crate) own: &'a [Address],
    pub(crate) query: &'a mut [u8; LARGEST],
    pub(crate) out: &'a mut [u8; LARGEST],
}

impl Connections {
    pub(crate) const NEW: Self = Self([(0, Address::NONE); MOST]);

    pub(crate) fn are_none(&self) -> bool {
        self.0.iter().all(|(pid, _)| *pid == 0)
    }

    /// Forgets those that have ended.
    pub(crate) fn reap(&mut self) {
        while !self.are_none() {
            let ended = sys::ended_child();
            if ended == 0 {
                return;
            }
            for (pid, _) in self.0.iter_mut().filter(|(pid, _)| *pid == ended) {
                *pid = 0;
            }
        }
    }

    /// Takes new connections and starts their processes. One too many is closed at once.
    pub(crate) fn accept(&mut self, listener: i32, tools: &mut Tools<'_>) {
        self.reap();
        for _ in 0..AT_ONCE {
            let mut client = Address::NONE;
            let fd = sys::accept(listener, &mut client);
            if fd < 0 {
                return;
            }
            let of_client =
                self.0.iter().filter(|(pid, other)| *pid != 0 && other.same_host(&client)).count();
            if let Some(place) = self.0.iter_mut().find(|(pid, _)| *pid == 0)
                && of_client < OF_ONE
            {
                // It counts turns for itself, so they are made to begin elsewhere.
                tools.turns.all = tools.turns.all.wrapping_add(1);
                let pid = sys::fork();
                if pid == 0 {
                    serve(fd as i32, tools);
                }
                if pid > 0 {
                    *place = (pid as i32, client);
                }
            }
            sys::close(fd as i32);
        }
    }
}

/// In the connection's own process.
fn serve(fd: i32, tools: &mut Tools<'_>) -> ! {
    sys::numbers(sys::nr::PRCTL, [sys::PR_SET_PDEATHSIG, 9 /* SIGKILL */, 0]);
    sys::numbers(sys::nr::DUP3, [fd as usize, CONNECTED as usize, 0]);
    sys::close_from(CONNECTED + 1);
    let end = sys::now() + CONNECTION;
    while let Some(()) = one(tools, end) {}
    sys::exit(0)
}

/// One query and its answer. `None` ends the connection.
fn one(tools: &mut Tools<'_>, end: u64) -> Option<()> {
    let length = read(CONNECTED, tools.query, end.min(sys::now() + MESSAGE))?;
    if !tools.watch.look(sys::now()) {
        return None;
    }
    let table = tools.watch.table();
    let (query, reply) = (tools.query.get(2..2 + length)?, tools.out.get_mut(2..)?);
    let answered = match reply::answer(&table, query, Way::Stream, tools.turns, reply) {
        Verdict::Silence => return None,
        Verdict::Answer(length) => length,
        Verdict::Forward => forward(&Upstreams { table, own: tools.own }, tools.query, length, tools.out)?,
    };
    write(CONNECTED, tools.out, answered, end.min(sys::now() + MESSAGE))
}

/// Asks each upstream once. A reply is in `out`; its length.
fn forward(
    upstreams: &Upstreams<'_>,
    query: &mut [u8; LARGEST],
    length: usize,
    out: &mut [u8; LARGEST],
) -> Option<usize> {
    let (client_id, _) = message::head(query.get(2..)?)?;
    for n in 0..upstreams.count() {
        let Some(upstream) = upstreams.get(n) else { continue };
        let answered = ask(&upstream, query, length, out);
        message::renumber(query.get_mut(2..)?, client_id);
        let Some((answered, flags)) = answered else { continue };
        if is_refusal(flags) && n + 1 < upstreams.count() {
            continue;
        }
        message::renumber(out.get_mut(2..)?, client_id);
        return Some(answered);
    }
    Some(reply::failed(query.get(2..2 + length)?, rcode::FAILED, false, out.get_mut(2..)?))
}

fn ask(
    upstream: &Address,
    query: &mut [u8; LARGEST],
    length: usize,
    out: &mut [u8; LARGEST],
) -> Option<(usize, u16)> {
    let fd = socket(upstream.family(), sys::STREAM)?;
    let answered = ask_by(fd, upstream, query, length, out);
    sys::close(fd);
    answered
}

fn ask_by(
    fd: i32,
    upstream: &Address,
    query: &mut [u8; LARGEST],
    length: usize,
    out: &mut [u8; LARGEST],
) -> Option<(usize, u16)> {
    let deadline = sys::now() + PATIENCE;
    let begun = sys::connect(fd, upstream);
    if begun < 0 && begun != -sys::EINPROGRESS {
        return None;
    }
    let id = sys::random()?;
    message::renumber(query.get_mut(2..)?, id);
    // A connection that fails makes the first write fail.
    if !sys::ready(fd, sys::OUT, deadline.saturating_sub(sys::now())) {
        return None;
    }
    write(fd, query, length, deadline)?;
    let answered = read(fd, out, deadline)?;
    let reply = out.get(2..2 + answered)?;
    let asked = message::question(query.get(2..2 + length)?)?;
    let (_, flags) = message::head(reply)?;
    // By TCP nothing is truncated.
    (message::answers(reply, id, asked) && flags & flag::TRUNCATED == 0).then_some((answered, flags))
}

/// A message behind its length.
fn read(fd: i32, into: &mut [u8; LARGEST], deadline: u64) -> Option<usize> {
    fill(fd, into.get_mut(..2)?, deadline)?;
    let length = u16::from_be_bytes(*into.first_chunk()?) as usize;
    fill(fd, into.get_mut(2..2 + length)?, deadline)?;
    Some(length)
}

fn fill(fd: i32, mut into: &mut [u8], deadline: u64) -> Option<()> {
    while !into.is_empty() {
        let got = sys::receive(fd, into);
        if got == -sys::EAGAIN || got == -sys::EINTR {
            wait(fd, sys::IN, deadline)?;
            continue;
        }
        let got = usize::try_from(got).ok().filter(|got| *got > 0)?;
        into = into.get_mut(got..)?;
    }
    Some(())
}

/// The message that lies behind the place for its length.
fn write(fd: i32, message: &mut [u8; LARGEST], length: usize, deadline: u64) -> Option<()> {
    *message.first_chunk_mut()? = u16::try_from(length).ok()?.to_be_bytes();
    let mut rest = message.get(..2 + length)?;
    while !rest.is_empty() {
        let sent = sys::send(fd, rest);
        if sent == -sys::EAGAIN || sent == -sys::EINTR {
            wait(fd, sys::OUT, deadline)?;
            continue;
        }
        rest = rest.get(usize::try_from(sent).ok()?..)?;
    }
    Some(())
}

/// `None` when the time is over.
fn wait(fd: i32, events: u16, deadline: u64) -> Option<()> {
    let left = deadline.checked_sub(sys::now()).filter(|left| *left > 0)?;
    sys::ready(fd, events, left);
    Some(())
}
