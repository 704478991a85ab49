//! A program that goes on beyond its owner, and its keeper.

#![expect(clippy::unwrap_used, reason = "tests")]

mod attach;
mod clients;
mod ends;
mod health;
mod log;
mod owner;
mod restart;
mod room;

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use isolate_namespaces::{Command, Keeper, Kept, KeptState, Signal, Stdio};
use testkit::scratch;

/// Far more than anything takes, in an emulated machine, too.
const PATIENCE: Duration = Duration::from_secs(120);

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A shell's script, its output and its errors in pipes.
fn sh(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn open(directory: &Path) -> OwnedFd {
    File::open(directory).unwrap().into()
}

/// A directory of a keeper.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        Self(scratch())
    }

    fn keeper(&self) -> Keeper {
        Keeper::new(open(&self.0)).name(self.0.file_name().unwrap())
    }

    /// The keeper's number: of its title, which other tests' keepers have not.
    fn pid(&self) -> u32 {
        let title = format!("isolate-keeper {}", self.0.file_name().unwrap().to_string_lossy());
        let numbers = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        let mut found = numbers.filter(|pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).next() == Some(title.as_bytes())
        });
        found.next().expect("a keeper of that name")
    }

    fn kept(&self) -> Kept {
        Kept::new(open(&self.0))
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.0.join(name)).unwrap_or_default()).into_owned()
    }

    fn wait(&self) -> KeptState {
        self.kept().wait_timeout(PATIENCE).unwrap().expect("an end")
    }

    /// For good.
    fn end(&self) -> KeptState {
        let kept = self.kept();
        kept.stop_intended().unwrap();
        kept.signal(Signal::KILL).unwrap();
        self.wait()
    }

    /// The kinds of the events, in order.
    fn events(&self) -> Vec<String> {
        self.text("events").lines().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect()
    }
}

/// Keeper and monitor are children of this process; the next start reaps them.
fn no_children_are_left() {
    until("no child is left", || {
        Command::new("/bin/true").status().unwrap();
        own_children().is_empty()
    });
}

fn own_children() -> Vec<u32> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let children =
        tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default());
    children
        .flat_map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

fn status_of(pid: u32, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix(key))?.trim().to_owned())
}

/// Whether it is there and no zombie.
fn lives(pid: u32) -> bool {
    status_of(pid, "State:").is_some_and(|state| !state.starts_with(['Z', 'X']))
}

fn parent_of(pid: u32) -> u32 {
    status_of(pid, "PPid:").unwrap().parse().unwrap()
}
