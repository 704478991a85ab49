//! `exec`: one more program in a running container.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use clap::Args;
use isolate::{Container, Stdio, User, WindowSize};

use crate::exit::{Result, told_outcome};
use crate::options::environment::EnvironmentOptions;
use crate::options::program;
use crate::verbs::signals::Signals;

/// Flags of `exec`.
#[derive(Args, Debug)]
pub(crate) struct Exec {
    /// Keep its standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// The directory that it starts in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// The user that it runs as
    #[arg(short, long, value_name = "USER[:GROUP]", value_parser = program::user)]
    user: Option<User>,
    #[command(flatten)]
    environment: EnvironmentOptions,
    /// A name, or the beginning of an id
    container: String,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

impl Exec {
    /// The program's own exit code.
    pub(crate) fn run(&self) -> Result<u8> {
        let container = Container::open(&self.container)?;
        let (program, args) = self.command.split_first().unzip();
        let mut exec = container.exec(program.cloned().unwrap_or_default())?;
        exec.args(args.unwrap_or_default());
        for (name, value) in self.environment.variables()? {
            exec.env(name, value);
        }
        if let Some(directory) = &self.workdir {
            exec.current_dir(directory);
        }
        if let Some(user) = &self.user {
            exec.user(user.clone());
        }
        match (self.tty, self.interactive) {
            (true, _) => _ = exec.terminal(WindowSize::of_stdin().unwrap_or_default()),
            (false, true) => {}
            (false, false) => _ = exec.stdin(Stdio::null()),
        }
        let signals = if self.tty { None } else { Some(Signals::block()?) };
        let mut child = exec.spawn()?;
        match child.terminal.take() {
            Some(mut terminal) if self.interactive => terminal.interact()?,
            Some(mut terminal) => _ = io::copy(&mut terminal, &mut io::stdout())?,
            None => {}
        }
        if let Some(signals) = signals {
            signals.pass_on_until(&child, |signal| child.signal(signal))?;
        }
        Ok(told_outcome(child.outcome()?))
    }
}
