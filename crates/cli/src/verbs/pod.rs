//! `pod`: containers that share namespaces and limits.

mod create;

use std::time::Duration;

use clap::{Args, Subcommand};
use isolate::{Container, ErrorKind, PodInfo};

use crate::exit::Result;
use crate::table::{Format, Table};
use crate::times;
use crate::verbs::containers::ports;
use crate::verbs::lasting::GRACE;
use crate::verbs::usage::{self, PodStats};
use crate::verbs::{each, inspect_each, print_each};

/// What is done to pods.
#[derive(Subcommand, Debug)]
pub(crate) enum Pod {
    /// Make a pod
    Create(Box<create::Create>),
    /// List pods
    #[command(visible_aliases = ["ls", "list"])]
    Ps(List),
    /// Show all that is known of pods, as JSON
    Inspect(Names),
    /// Start pods, and all their containers
    Start(Names),
    /// Ask all containers of pods to end, and kill those that do not
    Stop {
        /// How many seconds they have before they are killed
        #[arg(short, long, value_name = "SECONDS", value_parser = times::seconds, default_value = GRACE)]
        time: Duration,
        #[command(flatten)]
        names: Names,
    },
    /// Kill all containers of pods
    Kill(Names),
    /// Let all containers of pods stand still
    Pause(Names),
    /// Let them go on
    Unpause(Names),
    /// Show what the containers of pods use
    Stats(PodStats),
    /// Show what runs in the containers of a pod
    Top {
        /// How it is written
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        /// A name
        pod: String,
    },
    /// Remove pods
    Rm {
        /// With all their containers, whether they run or not; one that is not there is no error
        #[arg(short, long)]
        force: bool,
        #[command(flatten)]
        names: Names,
    },
}

/// Pods.
#[derive(Args, Debug)]
pub(crate) struct Names {
    /// Names
    #[arg(required = true, value_name = "POD")]
    pods: Vec<String>,
}

/// Flags of `pod ps`.
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Print names alone
    #[arg(short, long)]
    quiet: bool,
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Pod {
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Self::Create(create) => create.run(),
            Self::Ps(list) => list.run(),
            Self::Inspect(names) => inspect_each(&names.pods, |name| Ok(isolate::Pod::find(name)?)),
            Self::Start(names) => names.each(|pod| pod.start()),
            Self::Stop { time, names } => names.each(|pod| pod.stop(time)),
            Self::Kill(names) => names.each(|pod| pod.kill()),
            Self::Pause(names) => names.each(|pod| pod.pause()),
            Self::Unpause(names) => names.each(|pod| pod.resume()),
            Self::Stats(stats) => stats.run(),
            Self::Top { format, pod } => top(format, &pod),
            Self::Rm { force, names } => each(names.pods, |name| {
                match isolate::Pod::open(&name) {
                    Err(e) if force && e.kind() == ErrorKind::NotFound => {}
                    Ok(pod) if force => pod.remove_by_force()?,
                    pod => pod?.remove()?,
                }
                Ok(name)
            }),
        }
    }
}

impl Names {
    fn each(&self, act: impl Fn(&isolate::DetachedPod) -> isolate::Result<()>) -> Result<()> {
        each(&self.pods, |name| Ok(isolate::Pod::open(name).and_then(|pod| act(&pod)).map(|()| name)?))
    }
}

impl List {
    fn run(&self) -> Result<()> {
        let mut table = Table::new([
            ("NAME", "Name"),
            ("POD ID", "ID"),
            ("STATUS", "Status"),
            ("CREATED", "Created"),
            ("CONTAINERS", "Containers"),
            ("PORTS", "Ports"),
            ("", "Shares"),
            ("", "CreatedAt"),
        ]);
        for pod in isolate::Pod::list()? {
            table.push(row(pod));
        }
        if self.quiet { print_each(table.first_column()) } else { table.show(self.format) }
    }
}

fn top(format: Format, name: &str) -> Result<()> {
    let mut all = Vec::new();
    for name in isolate::Pod::find(name)?.containers.into_keys() {
        match Container::open(name).and_then(|container| container.processes()) {
            // One that does not run, or is somebody's own.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            other => all.extend(other?),
        }
    }
    usage::show(format, all)
}

fn row(pod: PodInfo) -> [String; 8] {
    let shares: Vec<_> = pod.shares.iter().map(ToString::to_string).collect();
    [
        pod.name,
        pod.id,
        pod.state.to_string(),
        times::ago(pod.created),
        pod.containers.len().to_string(),
        ports(&pod.published),
        shares.join(","),
        times::rfc3339(times::at(pod.created)),
    ]
}
