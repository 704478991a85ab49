//! Verbs of containers that last, one call of the library each.

use std::time::Duration;

use clap::Args;
use isolate::{Container, Limits, Restart, Signal};

use crate::exit::{self, Failure, Result};
use crate::options::lasting::restart;
use crate::options::limits::LimitOptions;
use crate::times;
use crate::verbs::{each, here};

/// How long a stop waits, unless it is said.
pub(crate) const GRACE: &str = "10";

/// Containers.
#[derive(Args, Debug)]
pub(crate) struct Names {
    /// Names, or beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Flags of `start`.
#[derive(Args, Debug)]
pub(crate) struct Start {
    /// Be there: output comes here, signals go there, and the exit code is the program's
    #[arg(short, long)]
    attach: bool,
    /// What is typed here is typed there
    #[arg(short, long)]
    interactive: bool,
    #[command(flatten)]
    names: Names,
}

/// Flags of `stop` and `restart`.
#[derive(Args, Debug)]
pub(crate) struct Stop {
    /// How many seconds it has before it is killed
    #[arg(short, long, value_name = "SECONDS", value_parser = times::seconds, default_value = GRACE)]
    time: Duration,
    #[command(flatten)]
    names: Names,
}

/// Flags of `kill`.
#[derive(Args, Debug)]
pub(crate) struct Kill {
    /// Which one
    #[arg(short, long, default_value = "KILL")]
    signal: Signal,
    #[command(flatten)]
    names: Names,
}

/// Flags of `attach`.
#[derive(Args, Debug)]
pub(crate) struct Attach {
    /// Only look
    #[arg(long)]
    no_stdin: bool,
    /// A name, or the beginning of an id
    container: String,
}

/// Flags of `rm`.
#[derive(Args, Debug)]
pub(crate) struct Rm {
    /// Kill it if it runs; one that is not there is no error
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    names: Names,
}

/// Flags of `rename`.
#[derive(Args, Debug)]
pub(crate) struct Rename {
    /// A name, or the beginning of an id
    container: String,
    /// The new name
    name: String,
}

/// Flags of `update`.
#[derive(Args, Debug)]
pub(crate) struct Update {
    /// When they are started again: no, on-failure[:MOST], always, unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = restart)]
    restart: Option<Restart>,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    names: Names,
}

impl Start {
    pub(crate) fn run(&self) -> Result<u8> {
        let names = &self.names.containers;
        if !self.attach && !self.interactive {
            return each(names, |name| Ok(Container::open(name)?.start().map(|()| name)?)).map(|()| 0);
        }
        let [name] = &names[..] else {
            return Err(Failure::new("one can be at one container only"));
        };
        here::start(&Container::open(name)?, self.interactive)
    }
}

impl Stop {
    pub(crate) fn stop(&self) -> Result<()> {
        each(&self.names.containers, |name| Ok(Container::open(name)?.stop(self.time).map(|_| name)?))
    }

    pub(crate) fn restart(&self) -> Result<()> {
        each(&self.names.containers, |name| Ok(Container::open(name)?.restart(self.time).map(|()| name)?))
    }
}

impl Kill {
    pub(crate) fn run(&self) -> Result<()> {
        each(&self.names.containers, |name| {
            let container = Container::open(name)?;
            match self.signal {
                // Of everything in it, and no restart follows.
                Signal::KILL => container.kill().map(|_| ())?,
                signal => container.signal(signal)?,
            }
            Ok(name)
        })
    }
}

impl Names {
    pub(crate) fn pause(&self) -> Result<()> {
        each(&self.containers, |name| Ok(Container::open(name)?.pause().map(|()| name)?))
    }

    pub(crate) fn unpause(&self) -> Result<()> {
        each(&self.containers, |name| Ok(Container::open(name)?.resume().map(|()| name)?))
    }

    /// The exit code of each, as Docker prints it.
    pub(crate) fn wait(&self) -> Result<()> {
        each(&self.containers, |name| Ok(exit::of_outcome(Container::open(name)?.wait()?)))
    }
}

impl Attach {
    pub(crate) fn run(&self) -> Result<u8> {
        here::attach(&Container::open(&self.container)?, !self.no_stdin)
    }
}

impl Rm {
    pub(crate) fn run(&self) -> Result<()> {
        each(&self.names.containers, |name| {
            match Container::open(name) {
                Err(e) if self.force && e.kind() == isolate::ErrorKind::NotFound => {}
                Ok(container) if self.force => container.remove_by_force()?,
                container => container?.remove()?,
            }
            Ok(name)
        })
    }
}

impl Rename {
    pub(crate) fn run(&self) -> Result<()> {
        Ok(Container::open(&self.container)?.rename(&self.name).map(|_| ())?)
    }
}

impl Update {
    pub(crate) fn run(&self) -> Result<()> {
        let limits = self.limits.limits()?;
        each(&self.names.containers, |name| {
            let container = Container::open(name)?;
            if limits != Limits::new() || self.restart.is_none() {
                container.update(&limits)?;
            }
            Ok(self.restart.map_or(Ok(()), |policy| container.update_restart(policy)).map(|()| name)?)
        })
    }
}
