//! Other processes: what they ask, and what they get. None of them holds anything up.

use crate::call::{self, Part};
use crate::config::{
    ASK_ATTACH, ASK_PIDFDS, ASK_RESTART, ASK_STATE, ASK_STOP, ASK_WAIT, CLOSE_INPUT, ENDED, INPUT, LOST, PIECE,
    REFUSED, RESIZE, STATE,
};
use crate::keep::Keeper;
use crate::sys::{EAGAIN, EINTR};
use crate::text::Short;

pub(crate) struct Client {
    /// -1: nobody.
    pub fd: i32,
    /// Wants to hear of the end.
    waits: bool,
    attached: bool,
    /// The input does not take what it has sent.
    pub waits_for_room: bool,
    /// Of its next packet the input has taken so much.
    taken: usize,
    /// Bytes of output that it did not take.
    lost: u64,
}

const NO_FDS: [i32; 2] = [-1, -1];

impl Client {
    pub(crate) const NEW: Self =
        Self { fd: 0, waits: false, attached: false, waits_for_room: false, taken: 0, lost: 0 };

    fn new(fd: i32) -> Self {
        Self { fd, ..Self::NEW }
    }
}

/// Output for everybody who is attached. Who does not read loses it, and is told how much.
pub(crate) fn forward(clients: &mut [Client], tag: u8, bytes: &[u8]) {
    for client in clients.iter_mut().filter(|client| client.fd >= 0 && client.attached) {
        if client.lost > 0 {
            let mut text = Short::new();
            let parts = [&[LOST][..], text.number(client.lost).bytes()].map(Part::of);
            if call::send(client.fd, &parts, NO_FDS) {
                client.lost = 0;
            }
        }
        let sent = client.lost == 0 && call::send(client.fd, &[&[tag][..], bytes].map(Part::of), NO_FDS);
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
        call::skip(fd);
        match (first, rest) {
            (ASK_STATE, []) => self.answer(n, STATE, NO_FDS),
            (ASK_PIDFDS, []) => {
                let fds = if self.run.dying { NO_FDS } else { [self.run.program, self.run.monitor] };
                self.answer(n, STATE, fds);
            }
            (ASK_WAIT, []) => {
                if let Some(client) = self.clients.get_mut(n) {
                    client.waits = true;
                }
            }
            (ASK_STOP, []) => {
                self.stop();
                self.answer(n, STATE, NO_FDS);
            }
            (ASK_RESTART, []) => {
                let tag = if self.restart() { STATE } else { REFUSED };
                self.answer(n, tag, NO_FDS);
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
        if !call::send(client.fd, &[&[tag][..], text.bytes()].map(Part::of), fds) {
            self.forget(n);
        }
    }

    fn forget(&mut self, n: usize) {
        if let Some(client) = self.clients.get_mut(n) {
            call::close(client.fd);
            *client = Client::new(-1);
        }
    }

    /// It has ended for good: whoever waits is told, and who has come meanwhile.
    pub(crate) fn finish(&mut self) {
        call::unlink(self.config.directory, c"socket");
        let mut more = true;
        while more {
            for n in 0..self.clients.len() {
                if self.clients.get(n).is_some_and(|client| client.fd >= 0) {
                    self.answer(n, ENDED, NO_FDS);
                    self.forget(n);
                }
            }
            more = self.accept();
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
