//! `ps`: which containers there are.

use std::time::SystemTime;

use clap::Args;
use isolate::{Container, ContainerInfo, Health, State};

use crate::exit::{Result, of_outcome};
use crate::table::{Format, Table, shortened};
use crate::times;
use crate::verbs::containers::{command_line, ports};
use crate::verbs::print_each;

/// How much of a command line is shown.
const COMMAND: usize = 20;

/// Flags of `ps`.
#[derive(Args, Debug)]
pub(crate) struct Ps {
    /// Those that do not run, too
    #[arg(short, long)]
    all: bool,
    /// Print ids alone
    #[arg(short, long)]
    quiet: bool,
    /// Print whole command lines
    #[arg(long)]
    no_trunc: bool,
    /// The last ones that were made, whether they run or not
    #[arg(short = 'n', long, value_name = "NUMBER")]
    last: Option<usize>,
    /// The last one that was made
    #[arg(short, long, conflicts_with = "last")]
    latest: bool,
    /// Only those that are so: name, id, status, label, ancestor, network, volume, pod
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = filter)]
    filters: Vec<Filter>,
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What a container must be to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Filter {
    Name(String),
    Id(String),
    Status(String),
    Label(String, Option<String>),
    Ancestor(String),
    Network(String),
    Volume(String),
    Pod(String),
}

fn filter(text: &str) -> Result<Filter, String> {
    let (key, value) = text.split_once('=').ok_or("write it like status=running")?;
    let value = value.to_owned();
    match key {
        "name" => Ok(Filter::Name(value)),
        "id" => Ok(Filter::Id(value)),
        "status" => Ok(Filter::Status(value)),
        "label" => Ok(match value.split_once('=') {
            Some((key, value)) => Filter::Label(key.to_owned(), Some(value.to_owned())),
            None => Filter::Label(value, None),
        }),
        "ancestor" => Ok(Filter::Ancestor(value)),
        "network" => Ok(Filter::Network(value)),
        "volume" => Ok(Filter::Volume(value)),
        "pod" => Ok(Filter::Pod(value)),
        other => {
            Err(format!("`{other}`: there are name, id, status, label, ancestor, network, volume and pod"))
        }
    }
}

impl Filter {
    fn holds(&self, container: &ContainerInfo) -> bool {
        match self {
            Self::Name(part) => container.name.contains(part),
            Self::Id(begin) => container.id.starts_with(begin),
            Self::Status(state) => container.state.to_string() == *state,
            Self::Label(key, value) => container
                .labels
                .get(key)
                .is_some_and(|found| value.as_ref().is_none_or(|value| value == found)),
            Self::Ancestor(image) => container.image.as_ref() == Some(image),
            Self::Network(name) => container.networks.contains_key(name),
            Self::Volume(name) => container.volumes.contains(name),
            Self::Pod(name) => container.pod.as_ref() == Some(name),
        }
    }
}

impl Ps {
    pub(crate) fn run(&self) -> Result<()> {
        let last = if self.latest { Some(1) } else { self.last };
        let by_state = self.filters.iter().any(|filter| matches!(filter, Filter::Status(_)));
        let every = self.all || last.is_some() || by_state;
        let mut all = Container::list()?;
        all.retain(|container| {
            every || matches!(container.state, State::Running | State::Paused | State::Restarting)
        });
        all.retain(|container| self.filters.iter().all(|filter| filter.holds(container)));
        // The newest first, as Docker has it; those of one second by name.
        all.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.name.cmp(&b.name)));
        all.truncate(last.unwrap_or(usize::MAX));
        if self.quiet {
            return print_each(all.into_iter().map(|container| container.id));
        }
        let mut table = Table::new([
            ("CONTAINER ID", "ID"),
            ("IMAGE", "Image"),
            ("COMMAND", "Command"),
            ("CREATED", "RunningFor"),
            ("STATUS", "Status"),
            ("PORTS", "Ports"),
            ("NAMES", "Names"),
            ("", "State"),
            ("", "CreatedAt"),
            ("", "Labels"),
            ("", "Networks"),
            ("", "Pod"),
        ]);
        for container in all {
            table.push(self.row(container));
        }
        table.show(self.format)
    }

    fn row(&self, container: ContainerInfo) -> [String; 12] {
        let command = command_line(&container.command);
        let command = if self.no_trunc { command } else { shortened(&command, COMMAND) };
        let labels: Vec<_> = container.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let networks: Vec<_> = container.networks.keys().cloned().collect();
        let status = status(&container);
        [
            container.id,
            container.image.unwrap_or_else(|| "<rootfs>".to_owned()),
            format!("{command:?}"),
            times::ago(container.created),
            status,
            ports(&container.published),
            container.name,
            container.state.to_string(),
            times::rfc3339(times::at(container.created)),
            labels.join(","),
            networks.join(","),
            container.pod.unwrap_or_default(),
        ]
    }
}

/// What it is doing, and for how long.
fn status(container: &ContainerInfo) -> String {
    let lasting = container.detached.as_ref();
    let length =
        |time: Option<SystemTime>| times::roughly(times::since(time.unwrap_or(times::at(container.created))));
    let up = || length(lasting.and_then(|lasting| lasting.started));
    let ended = || length(lasting.and_then(|lasting| lasting.ended));
    let code = || match lasting.and_then(|lasting| lasting.outcome) {
        Some(outcome) => of_outcome(outcome).to_string(),
        None => "?".to_owned(),
    };
    let health = lasting.and_then(|lasting| lasting.health).map_or("", |health| match health {
        Health::Starting => " (health: starting)",
        Health::Healthy => " (healthy)",
        _ => " (unhealthy)",
    });
    match container.state {
        State::Running => format!("Up {}{health}", up()),
        State::Paused => format!("Up {} (Paused)", up()),
        State::Restarting => format!("Restarting ({}) {} ago", code(), ended()),
        State::Exited => format!("Exited ({}) {} ago", code(), ended()),
        State::Created => "Created".to_owned(),
        _ => "Dead".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_key_that_is_known_and_a_value() {
        assert_eq!(filter("label=a=b"), Ok(Filter::Label("a".into(), Some("b".into()))));
        assert_eq!(filter("label=a"), Ok(Filter::Label("a".into(), None)));
        assert_eq!(filter("status=paused"), Ok(Filter::Status("paused".into())));
        assert!(filter("colour=red").unwrap_err().contains("colour"));
        assert!(filter("name").is_err());
    }
}
