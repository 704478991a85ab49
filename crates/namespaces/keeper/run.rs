//! One run of the program, from its start to its end, and what comes after: the next, or nothing.

use crate::call::{self, Heard, MONOTONIC, REALTIME};
use crate::config::{Config, RESTART_ALWAYS, RESTART_NEVER, RESTART_ON_FAILURE};
use crate::keep::Keeper;
use crate::record::{End, Health, How, Phase};
use crate::start::{each, oom_kills, start};
use crate::text::{SECOND, Short};
use crate::wire::{CLONE, ENDED, Report, STARTED, TERMINAL};

pub(crate) struct Run {
    pub control: i32,
    /// Pidfds of the monitor and of the program.
    pub monitor: i32,
    pub program: i32,
    pub report: i32,
    /// The monitor is a child of ours.
    pub is_ours: bool,
    /// The monitor is gone without a word; the program is on its way.
    pub dying: bool,
    /// CLOCK_MONOTONIC, in ns.
    began: u64,
    /// What the start has used in the child, in µs: user, system.
    used: [u64; 2],
    /// The start has reported that all but the exec is done.
    is_ready: bool,
    /// The step that failed, and its errno.
    failed: Report,
    /// Before the next start, in ns.
    delay: u64,
    /// When it is.
    due: u64,
    /// A restart was asked for: the next end is no end.
    pub again: bool,
    /// As the control group counts, up to the end before.
    oom_kills: u64,
}

/// As Docker's: doubled with each start, up to a minute, and begun again after a run of ten seconds.
const FIRST_DELAY: u64 = SECOND / 10;
const LAST_DELAY: u64 = 60 * SECOND;
const LONG_RUN: u64 = 10 * SECOND;

impl Run {
    pub(crate) const NEW: Self = Self {
        control: 0,
        monitor: 0,
        program: 0,
        report: 0,
        is_ours: false,
        dying: false,
        began: 0,
        used: [0; 2],
        is_ready: false,
        failed: Report::failed(0, 0),
        delay: 0,
        due: 0,
        again: false,
        oom_kills: 0,
    };

    pub(crate) fn begin(&mut self, config: &Config) {
        self.control = config.control;
        self.monitor = config.monitor;
        self.program = config.program;
        self.report = -1;
        self.began = config.began;
        self.used = [config.began_user, config.began_system];
        self.oom_kills = config.oom_kills;
    }
}

impl Keeper {
    /// A message of the monitor's.
    pub(crate) fn hear(&mut self) {
        match call::hear(self.run.control) {
            Heard::Message(message, pidfd) if message.kind == STARTED => self.started(message.code, pidfd),
            Heard::Message(message, master) if message.kind == TERMINAL => {
                call::do_not_wait(master);
                if let Some(stream) = self.streams.first_mut() {
                    call::close(stream.fd);
                    stream.fd = master;
                }
            }
            Heard::Message(message, fd) if message.kind == ENDED => {
                call::close(fd);
                let mut end = End::told(message);
                self.read_report();
                let [user, system] = self.run.used;
                end.message.user_us = message.user_us.saturating_sub(user);
                end.message.system_us = message.system_us.saturating_sub(system);
                self.over(end);
            }
            Heard::Message(_, fd) => call::close(fd),
            Heard::Nothing => {}
            // It was killed. The kernel kills the program with it; nothing begins before that is so.
            Heard::End if self.run.program >= 0 => {
                call::take(&mut self.run.control);
                call::kill(self.run.program);
                self.run.dying = true;
            }
            Heard::End => {
                self.read_report();
                self.over(End { how: How::Lost, ..End::NONE });
            }
        }
    }

    /// After the monitor the program has gone, too.
    pub(crate) fn gone(&mut self) {
        if self.run.dying {
            self.over(End { how: How::Lost, ..End::NONE });
        }
    }

    fn started(&mut self, pid: i32, pidfd: i32) {
        call::close(self.run.program);
        self.run.program = pidfd;
        self.run.began = call::now(MONOTONIC);
        each(&self.config, self.config.renewed, |number| call::duplicate(pidfd, number, false));
        self.record.pid = pid;
        self.runs();
    }

    /// Once both have come, in whichever order: its pidfd, and that its root is its own. Before, nobody enters it.
    fn runs(&mut self) {
        if !self.run.is_ready || self.run.program < 0 {
            return;
        }
        self.record.phase = Phase::Running;
        self.record.started = call::now(REALTIME);
        if self.config.check.plan >= 0 {
            self.record.health = Health::Starting;
            self.record.failing = 0;
            self.check.first(&self.config, self.run.began);
        }
        let mut text = Short::new();
        self.record.event(b"started", text.push(b"pid ").number(self.record.pid as u32 as u64).bytes());
        self.record.write();
    }

    /// The report of a start, if there is one: what it has used, or what failed.
    pub(crate) fn read_report(&mut self) {
        if !call::is_readable(self.run.report) {
            return;
        }
        let mut room = [0u8; size_of::<Report>()];
        if call::read(self.run.report, &mut room) != size_of::<Report>() as isize {
            return call::take(&mut self.run.report);
        }
        let report = Report::from_bytes(&room);
        if report.errno == 0 {
            self.run.used = [report.user_us, report.system_us];
            self.run.is_ready = true;
            self.runs();
        }
        self.run.failed = self.run.failed.and(report);
        self.read_report();
    }

    fn over(&mut self, mut end: End) {
        self.drain();
        for fd in [
            &mut self.run.control,
            &mut self.run.monitor,
            &mut self.run.program,
            &mut self.run.report,
            &mut self.check.control,
            &mut self.check.pidfd,
        ] {
            call::take(fd);
        }
        self.run.dying = false;
        if self.run.failed.errno != 0 {
            end.how = How::Failed;
            end.step = self.run.failed.step;
            end.errno = self.run.failed.errno as u32;
        }
        let failure = end.is_failure();
        self.record.end = end;
        self.record.ended = call::now(REALTIME);
        self.record.oom_kills = 0;
        if let Some(kills) = oom_kills(self.config.memory) {
            self.record.oom_kills = kills.saturating_sub(self.run.oom_kills);
            self.run.oom_kills = kills;
        }
        if self.record.oom_kills > 0 {
            let mut text = Short::new();
            self.record.event(b"oom", text.number(self.record.oom_kills).bytes());
        }
        self.record.died();
        let now = call::now(MONOTONIC);
        let delay = match self.run.delay {
            _ if now.saturating_sub(self.run.began) >= LONG_RUN => FIRST_DELAY,
            0 => FIRST_DELAY,
            delay => (2 * delay).min(LAST_DELAY),
        };
        if self.config.replay.plan < 0 || !(self.run.again || self.is_wanted(failure)) {
            return self.exited();
        }
        self.run.delay = delay;
        self.run.due = if self.run.again { now } else { now + delay };
        self.run.again = false;
        self.record.phase = Phase::Restarting;
        let mut text = Short::new();
        text.push(b"in ").number((self.run.due - now) / 1_000_000).push(b" ms");
        self.record.event(b"restarting", text.bytes());
        self.record.write();
    }

    fn is_wanted(&self, failure: bool) -> bool {
        let most = self.config.most as u64;
        !self.record.stopped
            && match self.config.restart {
                RESTART_ALWAYS => true,
                RESTART_ON_FAILURE => failure && (most == 0 || self.record.restarts < most),
                _ => false,
            }
    }

    /// For good. On the disk before anybody is told.
    fn exited(&mut self) {
        self.record.phase = Phase::Exited;
        self.record.event(b"exited", b"");
        self.record.write();
    }

    pub(crate) fn restart_at(&self) -> u64 {
        let waits = self.record.phase == Phase::Restarting && self.run.control < 0;
        if waits { self.run.due } else { u64::MAX }
    }

    pub(crate) fn restart_if_due(&mut self, now: u64) {
        if now < self.restart_at() {
            return;
        }
        self.record.restarts += 1;
        self.run.failed = Report::failed(0, 0);
        self.run.used = [0; 2];
        self.run.is_ready = false;
        self.run.began = now;
        match start(&self.config, &self.config.replay, true) {
            Ok(started) => {
                self.children += 1;
                self.run.is_ours = true;
                self.run.monitor = started.pidfd;
                self.run.control = started.control;
                self.run.report = started.report;
            }
            Err(errno) => {
                self.run.failed = Report::failed(CLONE, errno as i32);
                self.over(End::NONE);
            }
        }
    }

    /// What was asked for: no more restarts.
    pub(crate) fn stop(&mut self) {
        self.record.stopped = true;
        self.run.again = false;
        if self.record.phase != Phase::Restarting {
            self.record.write();
            return;
        }
        if self.run.control < 0 {
            self.exited();
        } else if self.run.program >= 0 {
            // Its monitor tells how it ended.
            call::kill(self.run.program);
        } else {
            // A start is under way: the lifeline's end is that of the start.
            call::kill(self.run.monitor);
        }
    }

    /// What was asked for: what its ends are followed by. Whether that can be.
    pub(crate) fn set_policy(&mut self, restart: u32, most: u32) -> bool {
        if self.config.replay.plan < 0 && restart != RESTART_NEVER {
            return false;
        }
        (self.config.restart, self.config.most) = (restart, most);
        true
    }

    /// What was asked for: the next end is followed by a start. Whether there can be one.
    pub(crate) fn restart(&mut self) -> bool {
        if self.config.replay.plan < 0 {
            return false;
        }
        self.record.stopped = false;
        self.record.write();
        if self.record.phase == Phase::Restarting {
            self.run.due = self.run.due.min(call::now(MONOTONIC));
        } else {
            self.run.again = true;
        }
        true
    }
}
