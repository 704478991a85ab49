//! Health: a plan that is carried out again and again, and what its ends mean (as Docker's HEALTHCHECK).

use crate::call::{self, Heard, MONOTONIC};
use crate::config::Config;
use crate::keep::Keeper;
use crate::record::{End, Health, How, Phase};
use crate::start::start;
use crate::text::SECOND;
use crate::wire::ENDED;

/// The check that works, if one does.
pub(crate) struct Check {
    pub control: i32,
    pub pidfd: i32,
    /// When the next one is begun, or this one is given up, in ns of the monotonic clock.
    at: u64,
    /// When the start period is over.
    settled: u64,
}

/// Its monitor ends what is over its time; a monitor that does not is ended this much later.
const GRACE: u64 = 5 * SECOND;

impl Check {
    pub(crate) const NEW: Self = Self { control: 0, pidfd: 0, at: 0, settled: 0 };

    pub(crate) fn begin(&mut self) {
        self.control = -1;
        self.pidfd = -1;
    }

    /// Of a program that was started then.
    pub(crate) fn first(&mut self, config: &Config, began: u64) {
        self.settled = began.saturating_add(config.start_period);
        self.next(config, began, Health::Starting);
    }

    fn next(&mut self, config: &Config, now: u64, health: Health) {
        let begins = health == Health::Starting && now < self.settled && config.start_interval > 0;
        self.at = now.saturating_add(if begins { config.start_interval } else { config.interval });
    }
}

impl Keeper {
    pub(crate) fn check_at(&self) -> u64 {
        let there_is = self.config.check.plan >= 0 && self.record.phase == Phase::Running && !self.run.dying;
        if there_is { self.check.at } else { u64::MAX }
    }

    pub(crate) fn check_if_due(&mut self, now: u64) {
        if now < self.check_at() {
            return;
        }
        if self.check.control >= 0 {
            return self.checked(false);
        }
        match start(&self.config, &self.config.check, false) {
            Ok(started) => {
                self.children += 1;
                self.check.control = started.control;
                self.check.pidfd = started.pidfd;
                self.check.at = now.saturating_add(self.config.timeout).saturating_add(GRACE);
            }
            Err(_) => self.checked(false),
        }
    }

    pub(crate) fn hear_check(&mut self) {
        match call::hear(self.check.control) {
            Heard::Message(message, fd) if message.kind == ENDED => {
                call::close(fd);
                let end = End::told(message);
                self.checked(end.how == How::Exited && !end.is_failure());
            }
            Heard::Message(_, fd) => call::close(fd),
            Heard::Nothing => {}
            Heard::End => self.checked(false),
        }
    }

    fn checked(&mut self, passed: bool) {
        // Where it still works: the lifeline's end kills the check.
        call::take(&mut self.check.control);
        call::take(&mut self.check.pidfd);
        let now = call::now(MONOTONIC);
        let before = self.record.health;
        let failing = self.record.failing;
        if passed {
            self.record.health = Health::Healthy;
            self.record.failing = 0;
        } else if before != Health::Starting || now >= self.check.settled {
            self.record.failing += 1;
            if self.record.failing >= self.config.retries as u64 {
                self.record.health = Health::Unhealthy;
            }
        }
        self.check.next(&self.config, now, self.record.health);
        if self.record.health != before {
            self.record.event(b"health", self.record.health.word());
        }
        if self.record.health != before || self.record.failing != failing {
            self.record.write();
        }
    }
}
