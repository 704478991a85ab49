//! How it is found out whether a program does what it should.

use std::time::Duration;

use crate::plan::Plan;
use crate::{Error, Result};

/// A plan that a keeper carries out again and again; exit code 0 means that the program is healthy. As Docker's
/// HEALTHCHECK, with its times.
///
/// The plan is mostly one that [joins](crate::Command::join_process) the program's namespaces by its pidfd. That pidfd is
/// replaced when the program is started again; other descriptors of the plan stay what they are. What the check writes to a
/// pipe goes nowhere.
///
/// ```no_run
/// use std::os::fd::AsFd;
/// use std::time::Duration;
/// use isolate_namespaces::{Child, Command, HealthCheck, Keeper, Namespace};
/// # fn keep(child: Child, keeper: Keeper) -> Result<(), Box<dyn std::error::Error>> {
/// let pidfd = child.as_fd().try_clone_to_owned()?;
/// let plan = Command::new("/bin/check").join_process(pidfd, [Namespace::Net, Namespace::Mount]).plan()?;
/// let health = HealthCheck::new(&plan).interval(Duration::from_secs(10)).retries(2);
/// child.hand_over(&keeper.health(health))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it does nothing until a keeper has it"]
pub struct HealthCheck {
    plan: Plan,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) start_period: Duration,
    pub(super) start_interval: Option<Duration>,
    pub(super) retries: u32,
}

impl HealthCheck {
    /// With this plan.
    pub fn new(plan: &Plan) -> Self {
        Self {
            plan: plan.clone(),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            start_period: Duration::ZERO,
            start_interval: None,
            retries: 3,
        }
    }

    /// From the start to the first check, and from the end of one to the next. Default: 30 s.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How long a check may take; then it is killed, and has failed. Default: 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long after a start a check that fails does not count, unless one has succeeded. Default: 0.
    pub fn start_period(mut self, period: Duration) -> Self {
        self.start_period = period;
        self
    }

    /// The interval in the start period, until a check has succeeded. Default: the other one.
    pub fn start_interval(mut self, interval: Duration) -> Self {
        self.start_interval = Some(interval);
        self
    }

    /// So many failures in a row make it unhealthy. Default: 3.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn check(&self) -> Result<()> {
        let least = Duration::from_millis(1);
        let times = [Some(self.interval), Some(self.timeout), self.start_interval];
        if times.into_iter().flatten().any(|time| time < least) || self.retries == 0 {
            return Err(Error::invalid("a health check with an interval, a time or retries of nothing"));
        }
        if self.plan.terminal {
            return Err(Error::invalid("a health check on a terminal"));
        }
        Ok(())
    }
}
