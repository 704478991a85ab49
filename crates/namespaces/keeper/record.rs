//! What others can read in the directory: `state`, a line a key, replaced whole; `events`, a line an event, appended.

use crate::call::{self, APPEND, Part, READ_WRITE, REALTIME, REPLACE};
use crate::config::{Config, STATE_ROOM};
use crate::text::{Short, Text};
use crate::wire::Message;

const ENOSPC: isize = 28;

/// What the state says.
pub(crate) struct Record {
    pub directory: i32,
    pub phase: Phase,
    pub pid: i32,
    pub terminal: bool,
    pub restarts: u64,
    pub health: Health,
    /// Checks that have failed in a row.
    pub failing: u64,
    /// In ns since 1970.
    pub started: u64,
    pub ended: u64,
    pub end: End,
    /// Kills for memory in the run that has ended.
    pub oom_kills: u64,
    /// A stop was asked for.
    pub stopped: bool,
    pub dropped: u64,
}

/// How the last run has ended.
pub(crate) struct End {
    pub how: How,
    /// The times are without those of the start.
    pub message: Message,
    /// The step of the start that failed, and its errno.
    pub step: u32,
    pub errno: u32,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum How {
    /// It has not.
    Not,
    Exited,
    Signalled,
    /// Its monitor was killed.
    Lost,
    /// It was never executed.
    Failed,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Phase {
    Running,
    /// Between two runs, or while one is begun.
    Restarting,
    Exited,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Health {
    None,
    Starting,
    Healthy,
    Unhealthy,
}

impl Health {
    pub(crate) fn word(self) -> &'static [u8] {
        match self {
            Self::None => b"",
            Self::Starting => b"starting",
            Self::Healthy => b"healthy",
            Self::Unhealthy => b"unhealthy",
        }
    }
}

/// `si_code` of waitid(2).
const CLD_EXITED: i32 = 1;
/// The file `events` becomes `events.1` when it is larger.
const MOST_EVENTS: u64 = 64 << 10;

const NOTHING: Message = Message {
    kind: 0,
    code: 0,
    status: 0,
    timed_out: 0,
    user_us: 0,
    system_us: 0,
    max_rss: 0,
    went: 0,
    at: 0,
};

impl End {
    pub(crate) const NONE: Self = Self { how: How::Not, message: NOTHING, step: 0, errno: 0 };

    /// What a monitor has told last.
    pub(crate) fn told(message: Message) -> Self {
        let how = if message.code == CLD_EXITED { How::Exited } else { How::Signalled };
        Self { how, message, step: 0, errno: 0 }
    }

    pub(crate) fn is_failure(&self) -> bool {
        self.how != How::Exited || self.message.status != 0 || self.message.timed_out != 0
    }

    /// In words.
    fn detail(&self, text: &mut Short) {
        match self.how {
            How::Not => {}
            How::Exited => _ = text.push(b" code ").number(self.message.status as u32 as u64),
            How::Signalled => _ = text.push(b" signal ").number(self.message.status as u32 as u64),
            How::Lost => _ = text.push(b" lost"),
            How::Failed => {
                text.push(b" step ").number(self.step.into()).push(b" errno ").number(self.errno.into());
            }
        }
        if self.message.timed_out != 0 {
            text.push(b" timeout");
        }
    }
}

impl Record {
    pub(crate) const NEW: Self = Self {
        directory: 0,
        phase: Phase::Running,
        pid: 0,
        terminal: false,
        restarts: 0,
        health: Health::None,
        failing: 0,
        started: 0,
        ended: 0,
        end: End::NONE,
        oom_kills: 0,
        stopped: false,
        dropped: 0,
    };

    pub(crate) fn begin(&mut self, config: &Config) {
        self.directory = config.directory;
        self.pid = config.pid;
        self.started = config.started;
        self.terminal = config.terminal >= 0;
    }

    pub(crate) fn text(&self) -> Text<STATE_ROOM> {
        let mut text = Text::new();
        text.push(match self.phase {
            Phase::Running => b"status running\n",
            Phase::Restarting => b"status restarting\n",
            Phase::Exited => b"status exited\n",
        });
        if self.phase == Phase::Running {
            text.pair(b"pid", self.pid as u32 as u64);
        }
        if self.terminal {
            text.pair(b"terminal", 1);
        }
        text.pair(b"restarts", self.restarts);
        if self.health != Health::None {
            text.push(b"health ").push(self.health.word()).push(b"\n");
            text.pair(b"failing", self.failing);
        }
        text.moment(b"started", self.started);
        let Message { status, timed_out, user_us, system_us, max_rss, .. } = self.end.message;
        let status = status as u32 as u64;
        match self.end.how {
            How::Not => {}
            How::Exited => _ = text.pair(b"code", status),
            How::Signalled => _ = text.pair(b"signal", status),
            How::Lost => _ = text.pair(b"lost", 1),
            How::Failed => _ = text.pair(b"step", self.end.step.into()).pair(b"errno", self.end.errno.into()),
        }
        if self.end.how != How::Not {
            text.moment(b"ended", self.ended);
            text.pair(b"oom_kills", self.oom_kills).pair(b"timed_out", timed_out.into());
            text.pair(b"user_us", user_us).pair(b"system_us", system_us);
            text.pair(b"max_rss", max_rss.wrapping_mul(1024));
        }
        if self.stopped {
            text.pair(b"stopped", 1);
        }
        if self.dropped > 0 {
            text.pair(b"dropped", self.dropped);
        }
        text
    }

    /// Where there is no room, in what was kept for that; where there is none left either, the old one stays. An error is a negative number.
    pub(crate) fn write(&self) -> isize {
        let text = self.text();
        let put = self.put(text.bytes(), REPLACE);
        if put < 0 {
            let spare = call::rename(self.directory, c"state.spare", c"state.new") >= 0;
            if !spare || self.put(text.bytes(), READ_WRITE) < 0 {
                call::unlink(self.directory, c"state.new");
                return put;
            }
        }
        let spare = call::open(self.directory, c"state.spare", APPEND) as i32;
        if spare >= 0 {
            if call::end_of(spare) == 0 {
                call::write(spare, text.bytes());
            }
            call::close(spare);
        }
        0
    }

    /// Aside, and then in the place of the old one. An error is a negative number.
    fn put(&self, text: &[u8], flags: usize) -> isize {
        let file = call::open(self.directory, c"state.new", flags);
        if file < 0 {
            return file;
        }
        let written = call::write(file as i32, text);
        call::truncate(file as i32, text.len() as u64);
        call::close(file as i32);
        match written {
            failed if failed < 0 => failed,
            all if all == text.len() as isize => call::rename(self.directory, c"state.new", c"state"),
            _ => -ENOSPC,
        }
    }

    pub(crate) fn event(&self, kind: &[u8], detail: &[u8]) {
        let mut file = call::open(self.directory, c"events", APPEND) as i32;
        if file >= 0 && call::end_of(file) > MOST_EVENTS {
            call::rename(self.directory, c"events", c"events.1");
            call::close(file);
            file = call::open(self.directory, c"events", APPEND) as i32;
        }
        if file >= 0 {
            let mut time = Short::new();
            time.time(call::now(REALTIME));
            let space: &[u8] = if detail.is_empty() { b"" } else { b" " };
            let parts = [time.bytes(), b" ", kind, space, detail, b"\n"].map(Part::of);
            call::write_parts(file, &parts);
            call::close(file);
        }
    }

    pub(crate) fn died(&self) {
        let mut text = Short::new();
        self.end.detail(&mut text);
        self.event(b"died", text.bytes().get(1..).unwrap_or(&[]));
    }
}
