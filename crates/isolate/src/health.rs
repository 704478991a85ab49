//! How a container's health is found out.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A command that is executed in a container again and again; it is healthy as long as that ends with code 0. As Docker's `HEALTHCHECK`,
/// with its times.
///
/// ```
/// use std::time::Duration;
/// use isolate::HealthCheck;
/// let check = HealthCheck::new(["curl", "-f", "http://127.0.0.1:8080/"]).interval(Duration::from_secs(5)).retries(2);
/// let script = HealthCheck::shell("curl -f http://127.0.0.1:8080/ || exit 1");
/// # let _ = (check, script);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use = "a description does nothing until a container is started with it"]
pub struct HealthCheck {
    #[serde(with = "crate::recorded")]
    pub(crate) command: Vec<OsString>,
    #[serde(default)]
    pub(crate) interval: Option<Duration>,
    #[serde(default)]
    pub(crate) timeout: Option<Duration>,
    #[serde(default)]
    pub(crate) start_period: Option<Duration>,
    #[serde(default)]
    pub(crate) start_interval: Option<Duration>,
    #[serde(default)]
    pub(crate) retries: Option<u32>,
}

impl HealthCheck {
    /// By this program with these arguments, as the container's user, with its environment.
    pub fn new(command: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        Self {
            command: command.into_iter().map(|word| word.as_ref().to_owned()).collect(),
            interval: None,
            timeout: None,
            start_period: None,
            start_interval: None,
            retries: None,
        }
    }

    /// By the container's `/bin/sh`.
    pub fn shell(script: impl AsRef<OsStr>) -> Self {
        Self::new([OsStr::new("/bin/sh"), OsStr::new("-c"), script.as_ref()])
    }

    /// None, whatever the image says.
    pub fn none() -> Self {
        Self::new([""; 0])
    }

    /// From the start to the first check, and from the end of one to the next. Default: 30 s.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    /// How long a check may take; then it is killed, and has failed. Default: 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// So long after a start, failures do not count, as long as no check has succeeded. Default: none.
    pub fn start_period(mut self, period: Duration) -> Self {
        self.start_period = Some(period);
        self
    }

    /// From one check to the next meanwhile. Default: the [interval](Self::interval).
    pub fn start_interval(mut self, interval: Duration) -> Self {
        self.start_interval = Some(interval);
        self
    }

    /// How many failures in a row make it unhealthy. Default: 3.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }

    pub(crate) fn is_none(&self) -> bool {
        self.command.is_empty()
    }

    /// For a keeper, with the plan of its command.
    pub(crate) fn of_keeper(&self, plan: &isolate_namespaces::Plan) -> isolate_namespaces::HealthCheck {
        let mut check = isolate_namespaces::HealthCheck::new(plan);
        if let Some(interval) = self.interval {
            check = check.interval(interval);
        }
        if let Some(timeout) = self.timeout {
            check = check.timeout(timeout);
        }
        if let Some(period) = self.start_period {
            check = check.start_period(period);
        }
        if let Some(interval) = self.start_interval {
            check = check.start_interval(interval);
        }
        match self.retries {
            Some(retries) => check.retries(retries),
            None => check,
        }
    }
}

/// As an image says it: `CMD` and a command line, `CMD-SHELL` and a script, or `NONE`.
#[cfg(feature = "images")]
impl From<&isolate_images::HealthCheck> for HealthCheck {
    fn from(check: &isolate_images::HealthCheck) -> Self {
        let command = match check.test.split_first() {
            Some((kind, words)) if kind == "CMD" => Self::new(words),
            Some((kind, [script])) if kind == "CMD-SHELL" => Self::shell(script),
            _ => Self::none(),
        };
        Self {
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
            ..command
        }
    }
}
