//! Other processes: what they ask, and what they get. None of them holds anything up.

use crate::call::{self, MONOTONIC, POLLOUT, Part, Poll};
use crate::config::{
    ASK_ATTACH, ASK_HOLD, ASK_PIDFDS, ASK_POLICY, ASK_RESTART, ASK_STATE, ASK_STOP, ASK_WAIT, CLOSE_INPUT, ENDED, INPUT, LOST,
    MOST_CLIENTS, PIECE, REFUSED, RESIZE, STATE,
};
use crate::keep::Keeper;
use crate::record::Phase;
use crate::sys::{EAGAIN, EINTR};
use crate::text::{SECOND, Short};

pub(crate) struct Client {
    /// -1: nobody.
    pub fd: i32,
    attached: bool,
    /// The input does not take what it has sent.
    pub waits_for_room: bool,
    /// Of its next packet the input has taken so much.
    taken: usize,
    /// Bytes of output that it did not take.
    lost: u64,
}

const NO_FDS: [i32; 2] = [-1, -1];
/// How long the keeper stays after the end for who has not read everything.
const LINGER: u64 = 2 * SECOND;

impl Client {
    pub(crate) const NEW: Self = Self { fd: 0, attached: false, waits_for_room: false, taken: 0, lost: 0 };

    fn new(fd: i32) -> Self {
        Self { fd, ..Self::NEW }
    }

    /// Says how much it has lost, if it has. What came of that.
    fn tell_lost(&mut self) -> isize {
        if self.lost == 0 {
            return 0;
        }
        let mut text = Short::new();
        let parts = [&[LOST][..], text.number(self.lost).bytes()].map(Part::of);
        let sent = call::send(self.fd, &parts, NO_FDS);
        if sent >= 0 {
            self.lost = 0;
        }
        sent
    }

    /// Whether there is no room for the last word yet.
    fn is_behind(&mut self, state: &[u8]) -> bool {
        self.tell_lost() == -EAGAIN
            || call::send(self.fd, &[&[ENDED][..], state].map(Part::of), NO_FDS) == -EAGAIN
    }
}

/// Output for everybody who is attached. Who does not read loses it, and is told how much.
pub(crate) fn forward(clients: &mut [Client], tag: u8, bytes: &[u8]) {
    for client in clients.iter_mut().filter(|client| client.fd >= 0 && client.attached) {
        client.tell_lost();
        let sent = client.lost == 0 && call::send(client.fd, &[&[tag][..], bytes].map(Part::of), NO_FDS) >= 0;
        if !sent {
            client.lost = client.lost.saturating_add(bytes.len() as u64);
        }
    }
}

impl Keeper {
    /// One more, if it is root or the same user and there is a place.
    pub(crate) fn accept(&mut self) -> bool {
        let fd = call::accept(self.config.socket) as i32;
        if fd < 0 {
            return false;
        }
        match self.clients.iter_mut().find(|client| client.fd < 0) {
            Some(place) if call::is_ours(fd) => *place = Client::new(fd),
            _ => call::close(fd),
        }
        true
    }

    /// A packet of a client's.
    pub(crate) fn serve(&mut self, n: usize) {
        let Some(&Client { fd, attached, taken, .. }) = self.clients.get(n) else { return };
        let mut room = [0u8; 8];
        let length = call::peek(fd, &mut room);
        if length == -EAGAIN || length == -EINTR {
            return;
        }
        let (first, rest) = match room.get(..length.clamp(0, 8) as usize) {
            Some([first, rest @ ..]) => (*first, rest),
            _ => return self.forget(n),
        };
        if first == INPUT && attached && length as usize <= 1 + PIECE {
            let (done, count) = pass_on(fd, self.input(), 1 + taken);
            if let Some(client) = self.clients.get_mut(n) {
                client.taken = if done { 0 } else { taken + count };
                client.waits_for_room = !done;
            }
            if done {
                call::skip(fd);
            }
            return;
        }
        if first == ASK_HOLD && rest.is_empty() {
            call::keep(fd);
            return self.answer(n, STATE, NO_FDS);
        }
        call::skip(fd);
        match (first, rest) {
            (ASK_STATE, []) => self.answer(n, STATE, NO_FDS),
            (ASK_PIDFDS, []) => {
                let there = !self.run.dying && self.record.phase == Phase::Running;
                let fds = if there { [self.run.program, self.run.monitor] } else { NO_FDS };
                self.answer(n, STATE, fds);
            }
            // Everybody is told of the end.
            (ASK_WAIT, []) => {}
            (ASK_STOP, []) => {
                self.stop();
                self.answer(n, STATE, NO_FDS);
            }
            (ASK_RESTART, []) => {
                let tag = if self.restart() { STATE } else { REFUSED };
                self.answer(n, tag, NO_FDS);
            }
            (ASK_POLICY, [restart, a, b, c, d]) => {
                let set = self.set_policy((*restart).into(), u32::from_le_bytes([*a, *b, *c, *d]));
                self.answer(n, if set { STATE } else { REFUSED }, NO_FDS);
            }
            (ASK_ATTACH, []) => {
                if let Some(client) = self.clients.get_mut(n) {
                    client.attached = true;
                }
                self.answer(n, STATE, NO_FDS);
            }
            (CLOSE_INPUT, []) if attached => call::take(&mut self.stdin),
            (RESIZE, [a, b, c, d]) if attached => {
                if self.record.terminal {
                    call::resize(self.input(), u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]));
                }
            }
            _ => self.forget(n),
        }
    }

    fn answer(&mut self, n: usize, tag: u8, fds: [i32; 2]) {
        let text = self.record.text();
        let Some(client) = self.clients.get(n) else { return };
        if call::send(client.fd, &[&[tag][..], text.bytes()].map(Part::of), fds) < 0 {
            self.forget(n);
        }
    }

    fn forget(&mut self, n: usize) {
        if let Some(client) = self.clients.get_mut(n) {
            call::close(client.fd);
            *client = Client::new(-1);
        }
    }

    /// It has ended for good: whoever waits is told, and who has come meanwhile; who is behind with reading has a while for it.
    pub(crate) fn finish(&mut self) {
        call::unlink(self.config.directory, c"socket");
        let end = call::now(MONOTONIC) + LINGER;
        let text = self.record.text();
        loop {
            let mut behind = [Poll { fd: -1, events: POLLOUT, revents: 0 }; MOST_CLIENTS];
            let mut count = 0;
            for (client, place) in self.clients.iter_mut().zip(&mut behind) {
                if client.fd >= 0 && client.is_behind(text.bytes()) {
                    place.fd = client.fd;
                    count += 1;
                } else {
                    call::close(client.fd);
                    *client = Client::new(-1);
                }
            }
            if self.accept() {
                continue;
            }
            let now = call::now(MONOTONIC);
            if count == 0 || now >= end {
                return;
            }
            call::poll(&mut behind, end - now);
        }
    }
}

/// The next packet from this byte on, to the input. Whether all of it went in, or nobody is there who could take it; and how much
/// did. By itself, so that its room is on the stack only while there is input.
#[inline(never)]
fn pass_on(client: i32, input: i32, from: usize) -> (bool, usize) {
    let mut room = [0u8; 1 + PIECE];
    let length = call::peek(client, &mut room);
    let bytes = room.get(from..length.max(0) as usize).unwrap_or(&[]);
    if input < 0 || bytes.is_empty() {
        return (true, 0);
    }
    match call::write(input, bytes) {
        got if got == bytes.len() as isize => (true, got as usize),
        got if got >= 0 => (false, got as usize),
        got if got == -EAGAIN || got == -EINTR => (false, 0),
        _ => (true, 0),
    }
}
