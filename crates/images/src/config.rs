//! What an image says of the program that is to run in it: OCI image-spec, config.md.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use oci_spec::image::ImageConfiguration;
use serde_json::{Map, Value, json};

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::moment;

/// What an image says of the program that is to run in it. Everything is as its author wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct Config {
    /// What is always executed, before [`command`](Self::command) or what is said in its place.
    pub entrypoint: Vec<String>,
    /// Its arguments, or the program itself where there is no entry point.
    pub command: Vec<String>,
    /// Variables, name and value.
    pub env: Vec<(String, String)>,
    /// `user`, `uid`, `user:group` or `uid:gid`; empty for root.
    pub user: String,
    /// The directory that it starts in; empty for `/`.
    pub workdir: String,
    /// Ports that it listens on, as `8080/tcp`.
    pub exposed_ports: Vec<String>,
    /// Directories that are to be volumes.
    pub volumes: Vec<String>,
    /// The signal that asks it to end; none for SIGTERM.
    pub stop_signal: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// How to find out whether the program is well. Nothing here runs it.
    pub health_check: Option<HealthCheck>,
}

/// How an image says to find out whether its program is well: `HEALTHCHECK` of a Dockerfile. What is not said is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct HealthCheck {
    /// `CMD` and a command line, `CMD-SHELL` and one text for a shell, or `NONE`.
    pub test: Vec<String>,
    /// From one to the next.
    pub interval: Option<Duration>,
    /// How long one may take.
    pub timeout: Option<Duration>,
    /// How long after the start failures do not count,
    pub start_period: Option<Duration>,
    /// and from one to the next meanwhile.
    pub start_interval: Option<Duration>,
    /// How many failures one after the other make it unwell.
    pub retries: Option<u32>,
}

impl Config {
    /// The whole command line: the entry point, and its arguments.
    pub fn argv(&self) -> impl Iterator<Item = &str> {
        self.entrypoint.iter().chain(&self.command).map(String::as_str)
    }
}

/// What a configuration says besides.
pub(crate) struct Rest {
    /// The digest of each layer, uncompressed.
    pub diff_ids: Vec<Digest>,
    pub created: Option<SystemTime>,
}

pub(crate) fn read(bytes: &[u8]) -> Result<(Config, Rest)> {
    let wrong = |why: &str| Error::new(ErrorKind::Corrupt, format!("an image's configuration: {why}"));
    let all = ImageConfiguration::from_reader(bytes).map_err(|e| wrong(&e.to_string()))?;
    let diff_ids: Result<_> = all.rootfs().diff_ids().iter().map(|digest| digest.parse::<Digest>()).collect();
    let diff_ids = diff_ids.map_err(|e| wrong(&e.to_string()))?;
    let rest = Rest { diff_ids, created: all.created().as_deref().and_then(moment::read) };
    let Some(said) = all.config() else { return Ok((Config::default(), rest)) };
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let variable = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(wrong(&format!("{text:?} is no variable"))),
    };
    let mut labels = BTreeMap::new();
    labels.extend(said.labels().iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
    let config = Config {
        entrypoint: list(said.entrypoint()),
        command: list(said.cmd()),
        env: said.env().iter().flatten().map(variable).collect::<Result<_>>()?,
        user: said.user().clone().unwrap_or_default(),
        workdir: said.working_dir().clone().unwrap_or_default(),
        exposed_ports: list(said.exposed_ports()),
        volumes: list(said.volumes()),
        stop_signal: said.stop_signal().clone(),
        labels,
        health_check: health_check(bytes),
    };
    Ok((config, rest))
}

/// Docker's own, of which OCI's specification knows nothing.
fn health_check(bytes: &[u8]) -> Option<HealthCheck> {
    let all: Value = serde_json::from_slice(bytes).ok()?;
    let said = all.get("config")?.get("Healthcheck")?;
    let test =
        said.get("Test")?.as_array()?.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect();
    let time = |name: &str| said.get(name)?.as_u64().filter(|time| *time > 0).map(Duration::from_nanos);
    Some(HealthCheck {
        test,
        interval: time("Interval"),
        timeout: time("Timeout"),
        start_period: time("StartPeriod"),
        start_interval: time("StartInterval"),
        retries: said.get("Retries").and_then(Value::as_u64).and_then(|retries| u32::try_from(retries).ok()),
    })
}

/// The part of a configuration that [`read`] makes a [`Config`] of.
pub(crate) fn write(config: &Config) -> Value {
    let mut said = Map::new();
    let mut say = |name: &str, value: Value| {
        let empty = match &value {
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            other => other.is_null(),
        };
        if !empty {
            said.insert(name.to_owned(), value);
        }
    };
    let set = |names: &[String]| Value::Object(names.iter().map(|name| (name.clone(), json!({}))).collect());
    say("Entrypoint", json!(config.entrypoint));
    say("Cmd", json!(config.command));
    say("Env", config.env.iter().map(|(name, value)| format!("{name}={value}")).collect());
    say("User", json!(config.user));
    say("WorkingDir", json!(config.workdir));
    say("ExposedPorts", set(&config.exposed_ports));
    say("Volumes", set(&config.volumes));
    say("StopSignal", json!(config.stop_signal));
    say("Labels", json!(config.labels));
    if let Some(check) = &config.health_check {
        let time = |time: Option<Duration>| {
            time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
        };
        say(
            "Healthcheck",
            json!({
                "Test": check.test, "Interval": time(check.interval), "Timeout": time(check.timeout),
                "StartPeriod": time(check.start_period), "StartInterval": time(check.start_interval),
                "Retries": check.retries.unwrap_or(0),
            }),
        );
    }
    Value::Object(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let mut config = Config { user: "7:8".into(), workdir: "/srv".into(), ..Config::default() };
        config.entrypoint = vec!["a".into()];
        config.command = vec!["b".into(), String::new()];
        config.env = vec![("A".into(), "b=c".into()), ("B".into(), String::new())];
        config.exposed_ports = vec!["8080/tcp".into()];
        config.volumes = vec!["/data".into()];
        config.stop_signal = Some("SIGINT".into());
        config.labels = [("k".to_owned(), "v".to_owned())].into();
        config.health_check = Some(HealthCheck {
            test: vec!["CMD-SHELL".into(), "true".into()],
            interval: Some(Duration::from_secs(30)),
            retries: Some(0),
            ..HealthCheck::default()
        });
        for config in [config, Config::default()] {
            let whole = json!({
                "architecture": "amd64", "os": "linux", "config": write(&config),
                "rootfs": { "type": "layers", "diff_ids": [Digest::of(b"").to_string()] },
            });
            let (again, rest) = read(whole.to_string().as_bytes()).unwrap();
            assert_eq!((again, rest.diff_ids), (config, vec![Digest::of(b"")]));
        }
    }
}
