//! What concerns a container beyond one run: restarts, health, its log.

use std::time::Duration;

use clap::Args;
use isolate::{Bytes, ContainerBuilder, HealthCheck, Restart};

use crate::options::pairs::{read, wanted};
use crate::times;

/// The library's own, where only one of the two is said.
const LOG: (Bytes, u32) = (Bytes::mib(10), 3);

/// Flags of containers that last.
#[derive(Args, Debug)]
pub(crate) struct LastingOptions {
    /// When it is started again: no, on-failure[:MOST], always, unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = restart, help_heading = "Beyond one run")]
    restart: Option<Restart>,
    /// A shell's command that tells by its exit code whether the program is well
    #[arg(long, value_name = "COMMAND", help_heading = "Beyond one run")]
    health_cmd: Option<String>,
    /// From one check to the next (30s)
    #[arg(long, value_name = "TIME", value_parser = times::duration, requires = "health_cmd", help_heading = "Beyond one run")]
    health_interval: Option<Duration>,
    /// How long a check may take (30s)
    #[arg(long, value_name = "TIME", value_parser = times::duration, requires = "health_cmd", help_heading = "Beyond one run")]
    health_timeout: Option<Duration>,
    /// How many failures in a row make it unhealthy (3)
    #[arg(long, value_name = "NUMBER", requires = "health_cmd", help_heading = "Beyond one run")]
    health_retries: Option<u32>,
    /// How long after a start failures do not count (0s)
    #[arg(long, value_name = "TIME", value_parser = times::duration, requires = "health_cmd", help_heading = "Beyond one run")]
    health_start_period: Option<Duration>,
    /// From one check to the next meanwhile
    #[arg(long, value_name = "TIME", value_parser = times::duration, requires = "health_cmd", help_heading = "Beyond one run")]
    health_start_interval: Option<Duration>,
    /// No check, whatever the image says
    #[arg(long, conflicts_with = "health_cmd", help_heading = "Beyond one run")]
    no_healthcheck: bool,
    /// max-size=BYTES of a log file, max-file=NUMBER of them
    #[arg(long = "log-opt", value_name = "KEY=VALUE", value_parser = log, help_heading = "Beyond one run")]
    log: Vec<Log>,
}

/// An option of the log that the library has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Log {
    Size(Bytes),
    Files(u32),
}

impl LastingOptions {
    /// Whether something is said that only a container that is written down has.
    pub(crate) fn is_said(&self) -> bool {
        let restarts = self.restart.is_some_and(|policy| policy != Restart::Never);
        restarts || self.health_cmd.is_some() || !self.log.is_empty()
    }

    /// Whether it is to be started again.
    pub(crate) fn restarts(&self) -> bool {
        self.restart.is_some_and(|policy| policy != Restart::Never)
    }

    pub(super) fn apply(&self, mut builder: ContainerBuilder) -> ContainerBuilder {
        if let Some(policy) = self.restart {
            builder = builder.restart(policy);
        }
        if let Some(check) = self.check() {
            builder = builder.health(check);
        }
        if !self.log.is_empty() {
            let both = |(size, files), option: &Log| match option {
                Log::Size(size) => (*size, files),
                Log::Files(files) => (size, *files),
            };
            let (size, files) = self.log.iter().fold(LOG, both);
            builder = builder.log(size.get(), files);
        }
        builder
    }

    fn check(&self) -> Option<HealthCheck> {
        if self.no_healthcheck {
            return Some(HealthCheck::none());
        }
        let mut check = HealthCheck::shell(self.health_cmd.as_ref()?);
        if let Some(time) = self.health_interval {
            check = check.interval(time);
        }
        if let Some(time) = self.health_timeout {
            check = check.timeout(time);
        }
        if let Some(most) = self.health_retries {
            check = check.retries(most);
        }
        if let Some(time) = self.health_start_period {
            check = check.start_period(time);
        }
        if let Some(time) = self.health_start_interval {
            check = check.start_interval(time);
        }
        Some(check)
    }
}

pub(crate) fn restart(text: &str) -> Result<Restart, String> {
    match text {
        "no" => Ok(Restart::Never),
        "always" => Ok(Restart::Always),
        "unless-stopped" => Ok(Restart::UnlessStopped),
        "on-failure" => Ok(Restart::OnFailure { most: None }),
        _ => match text.strip_prefix("on-failure:").map(str::parse) {
            Some(Ok(most)) => Ok(Restart::OnFailure { most: Some(most) }),
            _ => Err("there are no, on-failure[:MOST], always and unless-stopped".into()),
        },
    }
}

fn log(text: &str) -> Result<Log, String> {
    let (key, value) = text.split_once('=').ok_or("write it like max-size=10m")?;
    match key {
        "max-size" => read(key, Some(value)).map(Log::Size),
        "max-file" => read(key, Some(wanted(key, Some(value))?)).map(Log::Files),
        other => Err(format!("`{other}`: there are max-size and max-file")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::options::tests::{refused, with};

    #[test]
    fn a_restart_policy_is_one_of_dockers() {
        for (text, wanted) in [
            ("no", Restart::Never),
            ("always", Restart::Always),
            ("unless-stopped", Restart::UnlessStopped),
            ("on-failure", Restart::OnFailure { most: None }),
            ("on-failure:5", Restart::OnFailure { most: Some(5) }),
        ] {
            assert_eq!(restart(text), Ok(wanted));
        }
        assert!(refused(&["--restart", "on-failure:x"]).contains("unless-stopped"));
    }

    #[test]
    fn a_health_check_is_a_shells_command_with_times() {
        let said =
            with(&["--health-cmd", "wget localhost", "--health-interval", "5s", "--health-retries", "2"]);
        let wanted = HealthCheck::shell("wget localhost").interval(Duration::from_secs(5)).retries(2);
        assert_eq!(said["health"], serde_json::to_value(wanted).unwrap());
        assert_eq!(with(&["--no-healthcheck"])["health"], serde_json::to_value(HealthCheck::none()).unwrap());
        assert_eq!(with(&[])["health"], Value::Null);
        assert!(refused(&["--health-interval", "5s"]).contains("--health-cmd"));
        assert!(refused(&["--health-cmd", "x", "--health-timeout", "5"]).contains("`5` is no duration"));
    }

    #[test]
    fn a_log_has_a_size_and_a_number_of_files() {
        assert_eq!(
            with(&["--log-opt", "max-size=1m", "--log-opt", "max-file=7"])["log"],
            json!([1 << 20, 7])
        );
        assert_eq!(with(&["--log-opt", "max-file=7"])["log"], json!([10 << 20, 7]));
        assert!(refused(&["--log-opt", "mode=non-blocking"]).contains("max-size"));
    }
}
