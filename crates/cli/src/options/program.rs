//! What the program is given: its environment, its user, its directory, its time.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use isolate::{ContainerBuilder, Signal, User};

use crate::exit::Result;
use crate::options::environment::EnvironmentOptions;
use crate::times;

/// Flags of the program.
#[derive(Args, Debug)]
pub(crate) struct ProgramOptions {
    #[command(flatten)]
    environment: EnvironmentOptions,
    /// The directory that it starts in
    #[arg(short, long, value_name = "DIR", help_heading = "Program")]
    workdir: Option<PathBuf>,
    /// The user that it runs as
    #[arg(short, long, value_name = "USER[:GROUP]", value_parser = user, help_heading = "Program")]
    user: Option<User>,
    /// The host name that it sees
    #[arg(short = 'h', long, value_name = "NAME", help_heading = "Program")]
    hostname: Option<String>,
    /// Whether an init is process 1, and the program its child [default: unless the program is one]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = "Program")]
    init: Option<bool>,
    /// The signal that asks it to end
    #[arg(long, value_name = "SIGNAL", help_heading = "Program")]
    stop_signal: Option<Signal>,
    /// Kill it when it has run for this long
    #[arg(long, value_name = "SECONDS", value_parser = times::seconds, help_heading = "Program")]
    timeout: Option<Duration>,
}

impl ProgramOptions {
    pub(super) fn apply(&self, mut builder: ContainerBuilder) -> Result<ContainerBuilder> {
        for (name, value) in self.environment.variables()? {
            builder = builder.env(name, value);
        }
        if let Some(directory) = &self.workdir {
            builder = builder.workdir(directory);
        }
        if let Some(user) = &self.user {
            builder = builder.user(user.clone());
        }
        if let Some(name) = &self.hostname {
            builder = builder.hostname(name);
        }
        if let Some(init) = self.init {
            builder = builder.init(init);
        }
        if let Some(signal) = self.stop_signal {
            builder = builder.stop_signal(signal);
        }
        if let Some(limit) = self.timeout {
            builder = builder.timeout(limit);
        }
        Ok(builder)
    }
}

/// One that can be: what is made of a text without a look is an error of the start only.
pub(crate) fn user(text: &str) -> Result<User, isolate::Error> {
    text.parse()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::options::tests::{refused, with};

    #[test]
    fn user_directory_name_and_signal_are_what_was_said() {
        let said = with(&["-u", "www-data:adm", "-w", "/srv", "-h", "box", "--stop-signal", "QUIT"]);
        assert_eq!(said["workdir"], "/srv");
        assert_eq!(said["hostname"], "box");
        let user = serde_json::to_value("www-data:adm".parse::<isolate::User>().unwrap()).unwrap();
        assert_eq!(said["confinement"]["user"], user);
        assert_eq!(said["stop_signal"], serde_json::to_value(isolate::Signal::QUIT).unwrap());
        assert!(refused(&["--user", "4294967295"]).contains("4294967295"));
        assert!(refused(&["--stop-signal", "NONE"]).contains("NONE"));
    }

    #[test]
    fn an_init_is_there_is_not_or_is_left_to_the_library() {
        assert_eq!(with(&["--init"])["init"], json!(true));
        assert_eq!(with(&["--init=false"])["init"], json!(false));
        assert_eq!(with(&[])["init"], Value::Null);
    }

    #[test]
    fn a_time_is_in_seconds() {
        assert_eq!(with(&["--timeout", "90"])["timeout"]["secs"], json!(90));
        assert!(refused(&["--timeout", "soon"]).contains("soon"));
    }
}
