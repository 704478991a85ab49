//! `run`: a program in a new container.

use std::io;

use clap::Args;
use isolate::images::Source;
use isolate::{Container, ContainerBuilder, Stdio, WindowSize};

use crate::exit::{Result, told_outcome};
use crate::options::{ContainerOptions, PullPolicy};
use crate::verbs::signals::Signals;
use crate::verbs::{print, pull};

/// Flags of `run`.
#[derive(Args, Debug)]
pub(crate) struct Run {
    /// Keep its standard input open: what is typed here is typed there
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Remove it when it has ended
    #[arg(long)]
    rm: bool,
    /// Print what a start would do, step by step, and do nothing
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    container: ContainerOptions,
}

impl Run {
    /// The program's own exit code.
    pub(crate) fn run(&self) -> Result<u8> {
        let builder = describe(&self.container, self.explain)?;
        if self.explain {
            return print(builder.plan()?.to_string().trim_end()).map(|()| 0);
        }
        self.here(builder)
    }

    /// Owned by this process: it ends with it.
    fn here(&self, builder: ContainerBuilder) -> Result<u8> {
        let builder = match (self.tty, self.interactive) {
            (true, _) => builder.terminal(WindowSize::of_stdin().unwrap_or_default()),
            (false, true) => builder,
            (false, false) => builder.stdin(Stdio::null()),
        };
        // At a terminal they are typed.
        let signals = if self.tty { None } else { Some(Signals::block()?) };
        let mut container = builder.start()?;
        sit_at(&mut container, self.interactive)?;
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
