//! `run`: a program in a new container.

use std::io;

use clap::Args;
use isolate::images::Source;
use isolate::{Container, ContainerBuilder, Stdio, WindowSize};

use crate::exit::{Failure, Result, told_outcome};
use crate::options::{ContainerOptions, PullPolicy};
use crate::verbs::create::Create;
use crate::verbs::signals::Signals;
use crate::verbs::{here, print, pull};

/// Flags of `run`.
#[derive(Args, Debug)]
pub(crate) struct Run {
    /// Let it run for itself, and print its id
    #[arg(short, long)]
    detach: bool,
    /// Print what a start would do, step by step, and do nothing
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    create: Create,
}

impl Run {
    /// The program's own exit code.
    pub(crate) fn run(&self) -> Result<u8> {
        let options = &self.create.container;
        let builder = describe(options, self.explain)?;
        if self.explain {
            return print(builder.plan()?.to_string().trim_end()).map(|()| 0);
        }
        if self.create.rm && !self.detach && !options.lasting.is_said() {
            return self.here(builder);
        }
        let container = self.create.lasting(builder)?.create()?;
        let ended = match self.detach {
            true => container.start().map_err(Failure::from).and_then(|()| print(container.id())).map(|()| 0),
            false => here::start(&container, self.create.interactive),
        };
        // One that is to go with its end goes now.
        if self.create.rm && (!self.detach || ended.is_err()) {
            container.remove_by_force()?;
        }
        ended
    }

    /// Owned by this process: it ends with it.
    fn here(&self, builder: ContainerBuilder) -> Result<u8> {
        let builder = match (self.create.tty, self.create.interactive) {
            (true, _) => builder.terminal(WindowSize::of_stdin().unwrap_or_default()),
            (false, true) => builder,
            (false, false) => builder.stdin(Stdio::null()),
        };
        // At a terminal they are typed.
        let signals = if self.create.tty { None } else { Some(Signals::block()?) };
        let mut container = builder.start()?;
        sit_at(&mut container, self.create.interactive)?;
        if let Some(signals) = signals {
            signals.pass_on_until(&container, |signal| container.signal(signal))?;
        }
        let outcome = container.outcome()?;
        container.remove()?;
        Ok(told_outcome(outcome))
    }
}

/// Until nobody has its terminal any more, if it has one.
fn sit_at(container: &mut Container, interactive: bool) -> Result<()> {
    match container.terminal.take() {
        Some(mut terminal) if interactive => Ok(terminal.interact()?),
        Some(mut terminal) => Ok(io::copy(&mut terminal, &mut io::stdout()).map(|_| ())?),
        None => Ok(()),
    }
}

/// The description, with its image in the store and the entry point that was said.
pub(crate) fn describe(options: &ContainerOptions, explain: bool) -> Result<ContainerBuilder> {
    let builder = options.describe()?;
    let Some(source) = options.root.source()? else { return Ok(builder) };
    let image = match explain {
        // What a plan wants and does not find, the library says.
        true => match find(&source)? {
            Some(image) => image,
            None => return Ok(builder),
        },
        false => pull::bring(&source, options.root.pull)?,
    };
    Ok(match &options.root.entrypoint {
        None => builder,
        Some(program) => {
            let mut config = image.config().clone();
            config.entrypoint = if program.is_empty() { Vec::new() } else { vec![program.clone()] };
            config.command.clear();
            builder.image_config(&config)
        }
    })
}

fn find(source: &Source) -> Result<Option<isolate::images::Image>> {
    match pull::bring(source, PullPolicy::Never) {
        Ok(image) => Ok(Some(image)),
        Err(_) => Ok(None),
    }
}
