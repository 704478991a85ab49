//! The loop: waits for whatever happens, and does what follows from it.

use crate::call::{self, MONOTONIC, POLLIN, POLLOUT, Poll};
use crate::check::Check;
use crate::clients::{Client, forward};
use crate::config::{Config, MOST_CLIENTS, STDERR, STDOUT};
use crate::log::{Log, Stream};
use crate::record::{Health, Phase, Record};
use crate::run::Run;
use crate::start::each;
use crate::sys::{EAGAIN, EINTR};
use crate::wire::{GROUPS, Report, STATE};

pub(crate) struct Keeper {
    pub config: Config,
    pub record: Record,
    pub run: Run,
    pub check: Check,
    pub clients: [Client; MOST_CLIENTS],
    pub log: Log,
    /// Standard output, or the terminal; standard error.
    pub streams: [Stream; 2],
    /// The writing end of standard input.
    pub stdin: i32,
    /// When a terminal that nobody has open is looked at again.
    hung: u64,
    /// When it listens again, after a connection that could not be taken.
    deaf: u64,
    /// Launchers of ours that have not been reaped.
    pub children: u32,
}

/// Places in the array for poll(2); the clients come last.
const LISTENS: usize = 0;
const CONTROL: usize = 1;
const PROGRAM: usize = 2;
const REPORT: usize = 3;
const OUTPUT: usize = 4;
const CHECK: usize = 6;
const ROOM: usize = 7;
const CLIENTS: usize = 8;
const POLLS: usize = CLIENTS + MOST_CLIENTS;

const MILLISECOND: u64 = 1_000_000;
/// Between two looks at a terminal that nobody has open; between two tries to type into one that is full.
const HUNG: u64 = 250 * MILLISECOND;
const FULL: u64 = 20 * MILLISECOND;
/// Without a descriptor that is free nobody is let in.
const DEAF: u64 = 100 * MILLISECOND;
/// A launcher ends right after its last word.
const REAP: u64 = 10 * MILLISECOND;
/// The most that is read after the end: a pipe's largest size by default, some times (F_SETPIPE_SZ, fcntl(2)).
const DRAIN: isize = 4 << 20;

impl Keeper {
    pub(crate) const NEW: Self = Self {
        config: Config::ZERO,
        record: Record::NEW,
        run: Run::NEW,
        check: Check::NEW,
        clients: [const { Client::NEW }; MOST_CLIENTS],
        log: Log::NEW,
        streams: [const { Stream::NEW }; 2],
        stdin: 0,
        hung: 0,
        deaf: 0,
        children: 0,
    };

    /// Takes over. An error is what is refused.
    pub(crate) fn begin(&mut self) -> Result<(), Report> {
        let config = &self.config;
        let mut refused = 0;
        each(config, config.groups, |file| {
            refused = refused.min(call::write(file, b"0"));
            call::close(file);
        });
        if refused < 0 {
            return Err(Report::failed(GROUPS, -refused as i32));
        }
        self.record.begin(config);
        self.run.begin(config);
        let first = if config.terminal >= 0 { config.terminal } else { config.stdout };
        for (stream, fd) in self.streams.iter_mut().zip([first, config.stderr]) {
            stream.fd = fd;
            // Somebody may have another descriptor of it, and read what poll(2) has told of.
            if fd >= 0 {
                call::do_not_wait(fd);
            }
        }
        self.stdin = config.stdin;
        for client in &mut self.clients {
            client.fd = -1;
        }
        self.log.begin(config.directory, config.log_bytes, config.log_files);
        self.check.begin();
        if config.check.plan >= 0 {
            self.record.health = Health::Starting;
            self.check.first(config, config.began);
        }
        self.record.event(b"kept", b"");
        // Without one nobody would know that it runs.
        match self.record.write() {
            failed if failed < 0 => Err(Report::failed(STATE, -failed as i32)),
            _ => Ok(()),
        }
    }

    pub(crate) fn keep(&mut self) -> ! {
        // Who has come before misses nothing.
        while self.accept() {}
        for n in 0..MOST_CLIENTS {
            if self.clients.get(n).is_some_and(|client| client.fd >= 0) {
                self.serve(n);
            }
        }
        while self.record.phase != Phase::Exited {
            let now = call::now(MONOTONIC);
            let mut polls = self.polls(now);
            call::poll(&mut polls, self.pause(now));
            let ready = |n: usize| polls.get(n).is_some_and(|poll| poll.revents != 0);
            for n in 0..2 {
                if ready(OUTPUT + n) {
                    self.read_output(n);
                }
            }
            if ready(REPORT) {
                self.read_report();
            }
            if ready(CONTROL) {
                self.hear();
            }
            if ready(PROGRAM) {
                self.gone();
            }
            if ready(CHECK) {
                self.hear_check();
            }
            if ready(ROOM) || self.record.terminal {
                self.clients.iter_mut().for_each(|client| client.waits_for_room = false);
            }
            for n in 0..MOST_CLIENTS {
                if ready(CLIENTS + n) {
                    self.serve(n);
                }
            }
            let now = call::now(MONOTONIC);
            if ready(LISTENS) && !self.accept() {
                self.deaf = now + DEAF;
            }
            self.restart_if_due(now);
            self.check_if_due(now);
            while self.children > 0 && call::reap() {
                self.children -= 1;
            }
        }
        self.finish();
        call::exit(0)
    }

    fn polls(&self, now: u64) -> [Poll; POLLS] {
        let mut polls = [Poll { fd: -1, events: POLLIN, revents: 0 }; POLLS];
        let [first, second] = &self.streams;
        let hung = self.record.terminal && now < self.hung;
        let there_is_input = self.record.terminal || self.stdin >= 0;
        let waits = |client: &Client| client.waits_for_room && there_is_input;
        let full = self.clients.iter().any(waits);
        let fixed = [
            if now < self.deaf { -1 } else { self.config.socket },
            self.run.control,
            if self.run.dying { self.run.program } else { -1 },
            self.run.report,
            if hung { -1 } else { first.fd },
            second.fd,
            self.check.control,
            if full && !self.record.terminal { self.stdin } else { -1 },
        ];
        let clients = self.clients.iter().map(|client| if waits(client) { -1 } else { client.fd });
        for (poll, fd) in polls.iter_mut().zip(fixed.into_iter().chain(clients)) {
            poll.fd = fd;
        }
        if let Some(room) = polls.get_mut(ROOM) {
            room.events = POLLOUT;
        }
        polls
    }

    /// Until the next thing that time alone brings.
    fn pause(&self, now: u64) -> u64 {
        let mut at = self.restart_at().min(self.check_at());
        if self.record.terminal && now < self.hung {
            at = at.min(self.hung);
        }
        if self.record.terminal && self.clients.iter().any(|client| client.waits_for_room) {
            at = at.min(now + FULL);
        }
        if now < self.deaf {
            at = at.min(self.deaf);
        }
        let active =
            u32::from(self.run.is_ours && self.run.control >= 0) + u32::from(self.check.control >= 0);
        if self.children > active {
            at = at.min(now + REAP);
        }
        if at == u64::MAX { at } else { at.saturating_sub(now) }
    }

    /// Reads once; what there was.
    fn read_output(&mut self, n: usize) -> isize {
        let Some(stream) = self.streams.get_mut(n) else { return 0 };
        let (tag, name): (u8, &[u8]) = if n == 0 { (STDOUT, b"stdout") } else { (STDERR, b"stderr") };
        let got = stream.read();
        if got > 0 {
            forward(&mut self.clients, tag, stream.last(got as usize));
            self.log.take(stream, name, false);
            self.record.dropped = self.log.dropped;
        } else if got == -EAGAIN || got == -EINTR {
        } else if n == 0 && self.record.terminal {
            // A terminal that nobody has open: EIO. Somebody may open it again.
            self.hung = call::now(MONOTONIC) + HUNG;
        } else {
            self.log.take(stream, name, true);
            call::take(&mut stream.fd);
        }
        got
    }

    /// What is left when the program has ended; a line that is not ended is ended.
    pub(crate) fn drain(&mut self) {
        for n in 0..2 {
            let mut left = DRAIN;
            while left > 0 && self.streams.get(n).is_some_and(|stream| call::is_readable(stream.fd)) {
                let got = self.read_output(n);
                if got <= 0 {
                    break;
                }
                left -= got;
            }
            if let Some(stream) = self.streams.get_mut(n) {
                self.log.take(stream, if n == 0 { b"stdout" } else { b"stderr" }, true);
            }
        }
        self.record.dropped = self.log.dropped;
        if self.record.terminal
            && let Some(stream) = self.streams.first_mut()
        {
            call::take(&mut stream.fd);
        }
    }

    /// Where input goes.
    pub(crate) fn input(&self) -> i32 {
        let terminal = self.streams.first().map_or(-1, |stream| stream.fd);
        if self.record.terminal { terminal } else { self.stdin }
    }
}
