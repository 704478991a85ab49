//! The command line: every verb, and who does it.

use clap::{Parser, Subcommand};

use crate::exit::Result;
use crate::verbs::{
    self, check, containers, create, exec, files, generate, images, inspect, lasting, logs, network, pod, ps,
    pull, run, system, usage, volume,
};

/// Containers without a daemon
///
/// The flags, columns and exit codes are those that users of Docker know. A run ends with the code of its program; 125 says
/// that isolate itself failed, 126 that the program cannot be executed, 127 that it is not there, 128 + n that signal n killed it.
#[derive(Parser, Debug)]
#[command(name = "isolate", version, max_term_width = 110, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub verb: Verb,
}

/// What is to be done.
#[derive(Subcommand, Debug)]
#[command(subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
pub(crate) enum Verb {
    /// Run a program in a new container
    #[command(
        disable_help_flag = true,
        override_usage = "isolate run [OPTIONS] IMAGE [COMMAND] [ARGUMENT]...\n       isolate run [OPTIONS] --rootfs DIR|host COMMAND [ARGUMENT]..."
    )]
    Run(Box<run::Run>),
    /// Make a container that is to be started later
    #[command(
        disable_help_flag = true,
        override_usage = "isolate create [OPTIONS] IMAGE [COMMAND] [ARGUMENT]...\n       isolate create [OPTIONS] --rootfs DIR|host COMMAND [ARGUMENT]..."
    )]
    Create(Box<create::Create>),
    /// Start containers that do not run
    Start(lasting::Start),
    /// Ask containers to end, and kill them if they do not
    Stop(lasting::Stop),
    /// Stop containers and start them again
    Restart(lasting::Stop),
    /// Kill containers, or send them a signal
    Kill(lasting::Kill),
    /// Let containers stand still
    Pause(lasting::Names),
    /// Let them go on
    Unpause(lasting::Names),
    /// Execute one more program in a running container
    Exec(exec::Exec),
    /// Be at a running container: its output comes here, what is typed goes there; ^P ^Q leaves
    Attach(lasting::Attach),
    /// Print what a container has written
    Logs(logs::Logs),
    /// Print what happens to containers, while it does
    Events(logs::Watch),
    /// Wait for the end of containers, and print their exit codes
    Wait(lasting::Names),
    /// Remove containers
    Rm(lasting::Rm),
    /// Give a container another name
    Rename(lasting::Rename),
    /// Change limits and restart policies of containers while they run
    Update(lasting::Update),
    /// List containers
    #[command(visible_alias = "list")]
    Ps(ps::Ps),
    /// Show all that is known of containers, as JSON
    Inspect(inspect::Inspect),
    /// Show what containers use
    Stats(usage::Stats),
    /// Show what runs in a container
    Top(usage::Top),
    /// Copy files into a container and out of it
    Cp(files::Cp),
    /// Show what a container has changed of its root
    Diff(files::Diff),
    /// Write a container's whole root as a tar archive
    Export(files::Export),
    /// List published ports of a container
    Port(containers::Port),
    /// Publish more ports of a container, while it runs, too
    Publish(containers::Ports),
    /// Take published ports back
    Unpublish(containers::Ports),
    /// Fetch an image from its registry
    Pull(pull::Pull),
    /// List images
    Images(images::Images),
    /// Remove names of images, and what no name leads to any more
    Rmi(images::Rmi),
    /// Bring images of an archive or a layout into the store
    Load(images::Load),
    /// Give an image one more name
    Tag(images::Tag),
    /// Make an image of the archive of a root file system
    Import(images::Import),
    /// Make an image of a container's image and what it has changed
    Commit(images::Commit),
    /// Networks
    #[command(subcommand)]
    Network(network::Network),
    /// Pods: containers that share their network and more, and limits for all together
    #[command(subcommand)]
    Pod(pod::Pod),
    /// Volumes
    #[command(subcommand)]
    Volume(volume::Volume),
    /// All that there is
    #[command(subcommand)]
    System(system::System),
    /// Say what this machine can do, and the line that gives what it lacks
    Check(check::Check),
    /// Take back what containers have left whose owner was killed
    Sweep,
    /// Print a shell's completions
    Completions(generate::Completions),
    /// Write the man pages into a directory
    Man(generate::Man),
}

impl Verb {
    /// Does it; the exit code.
    pub(crate) fn run(self) -> Result<u8> {
        let done = match self {
            Self::Run(run) => return run.run(),
            Self::Start(start) => return start.run(),
            Self::Attach(attach) => return attach.run(),
            Self::Exec(exec) => return exec.run(),
            Self::Check(check) => return check.run(),
            Self::Create(create) => create.run(),
            Self::Stop(stop) => stop.stop(),
            Self::Restart(stop) => stop.restart(),
            Self::Kill(kill) => kill.run(),
            Self::Pause(names) => names.pause(),
            Self::Unpause(names) => names.unpause(),
            Self::Logs(logs) => logs.run(),
            Self::Events(watch) => watch.run(),
            Self::Wait(names) => names.wait(),
            Self::Rm(rm) => rm.run(),
            Self::Rename(rename) => rename.run(),
            Self::Update(update) => update.run(),
            Self::Stats(stats) => stats.run(),
            Self::Top(top) => top.run(),
            Self::Cp(cp) => cp.run(),
            Self::Diff(diff) => diff.run(),
            Self::Export(export) => export.run(),
            Self::Ps(ps) => ps.run(),
            Self::Inspect(inspect) => inspect.run(),
            Self::Port(port) => port.run(),
            Self::Publish(ports) => ports.publish(),
            Self::Unpublish(ports) => ports.unpublish(),
            Self::Pull(pull) => pull.run(),
            Self::Images(images) => images.run(),
            Self::Rmi(rmi) => rmi.run(),
            Self::Load(load) => load.run(),
            Self::Tag(tag) => tag.run(),
            Self::Import(import) => import.run(),
            Self::Commit(commit) => commit.run(),
            Self::Network(network) => network.run(),
            Self::Pod(pod) => pod.run(),
            Self::Volume(volume) => volume.run(),
            Self::System(system) => system.run(),
            Self::Sweep => verbs::print_each(isolate::sweep()?),
            Self::Completions(completions) => completions.run(),
            Self::Man(man) => man.run(),
        };
        done.map(|()| 0)
    }
}
