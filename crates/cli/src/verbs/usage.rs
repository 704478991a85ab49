//! `stats` and `top`: what containers use, and what runs in them.

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use isolate::cgroups::IoStats;
use isolate::{Bytes, Container, ContainerInfo, Detached, Pod, Process, Samples, State, Stats as Numbers};

use crate::exit::Result;
use crate::table::{Format, Table};
use crate::verbs::containers::command_line;

/// From one look to the next.
const PAUSE: Duration = Duration::from_secs(1);

/// Flags of `stats`.
#[derive(Args, Debug)]
pub(crate) struct Stats {
    /// Print it once
    #[arg(long)]
    no_stream: bool,
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Names, or beginnings of ids [default: all that run]
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Flags of `pod stats`.
#[derive(Args, Debug)]
pub(crate) struct PodStats {
    /// Print it once
    #[arg(long)]
    no_stream: bool,
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Names [default: all pods]
    #[arg(value_name = "POD")]
    pods: Vec<String>,
}

/// Flags of `top`.
#[derive(Args, Debug)]
pub(crate) struct Top {
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// A name, or the beginning of an id
    container: String,
}

/// One that is looked at, and what it had used when it was looked at last.
struct Watched {
    container: Detached,
    samples: Samples,
    before: (Numbers, Instant),
}

impl Stats {
    pub(crate) fn run(&self) -> Result<()> {
        self.show(|_| true)
    }

    /// Of those that were named, or of all such.
    fn show(&self, wanted: impl Fn(&ContainerInfo) -> bool) -> Result<()> {
        let stays = self.format == Format::Table && !self.no_stream && io::stdout().is_terminal();
        let mut all = Vec::new();
        for name in &self.containers {
            all.extend(Watched::begin(Container::open(name)?)?);
        }
        loop {
            if self.containers.is_empty() {
                find_more(&mut all, &wanted)?;
            } else if all.is_empty() {
                return Ok(());
            }
            if all.is_empty() {
                thread::sleep(PAUSE);
            }
            let mut table = Table::new([
                ("CONTAINER ID", "ID"),
                ("NAME", "Name"),
                ("CPU %", "CPUPerc"),
                ("MEM USAGE / LIMIT", "MemUsage"),
                ("MEM %", "MemPerc"),
                ("NET I/O", "NetIO"),
                ("BLOCK I/O", "BlockIO"),
                ("PIDS", "PIDs"),
            ]);
            let mut left = Vec::new();
            for mut one in all {
                // One that has ended meanwhile is none any more.
                if let Some(row) = one.next()? {
                    table.push(row);
                    left.push(one);
                }
            }
            all = left;
            if stays {
                // The cursor to the first line, and nothing below it.
                write!(io::stdout(), "\x1b[H\x1b[J")?;
            }
            table.show(self.format)?;
            if self.no_stream {
                return Ok(());
            }
        }
    }
}

impl PodStats {
    pub(crate) fn run(self) -> Result<()> {
        let Self { no_stream, format, pods } = self;
        for name in &pods {
            Pod::find(name)?;
        }
        let is_wanted = |pod: &String| pods.is_empty() || pods.contains(pod);
        Stats { no_stream, format, containers: Vec::new() }
            .show(|info| info.pod.as_ref().is_some_and(is_wanted))
    }
}

/// Those that run and are not looked at yet.
fn find_more(all: &mut Vec<Watched>, wanted: impl Fn(&ContainerInfo) -> bool) -> Result<()> {
    for info in Container::list()?.into_iter().filter(wanted) {
        let runs = info.detached.is_some() && matches!(info.state, State::Running | State::Paused);
        if runs && all.iter().all(|one| one.container.id() != info.id) {
            // One that ends right now is none.
            let one = Container::open(info.id).map_err(Into::into).and_then(Watched::begin);
            all.extend(one.ok().flatten());
        }
    }
    Ok(())
}

impl Watched {
    fn begin(container: Detached) -> Result<Option<Self>> {
        let mut samples = container.stats_every(PAUSE)?;
        let first = samples.next().transpose()?;
        Ok(first.map(|first| Self { container, samples, before: (first, Instant::now()) }))
    }

    fn next(&mut self) -> Result<Option<[String; 8]>> {
        let Some(now) = self.samples.next().transpose()? else { return Ok(None) };
        let (before, then) = std::mem::replace(&mut self.before, (now.clone(), Instant::now()));
        Ok(Some(row(&self.container, &before, &now, then.elapsed())))
    }
}

fn row(container: &Detached, before: &Numbers, now: &Numbers, time: Duration) -> [String; 8] {
    let used = now.cpu.usage.saturating_sub(before.cpu.usage);
    let size = |bytes: Option<Bytes>| bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
    let (current, limit) = (now.memory.working_set.or(now.memory.current), now.memory.limit);
    let share = current.zip(limit).map(|(current, limit)| current.get() as f64 / limit.get().max(1) as f64);
    let all = |part: fn(&IoStats) -> Bytes| Bytes::new(now.io.iter().map(|one| part(one).get()).sum());
    let (read, written) = (all(|one| one.read), all(|one| one.written));
    // One on no network has passed nothing.
    let passed = container.network_stats().unwrap_or_default();
    let [received, sent] =
        [0, 1].map(|way: usize| passed.values().filter_map(|both| both.get(way)).map(|way| way.bytes).sum());
    [
        container.id().to_owned(),
        container.name().to_owned(),
        percent(used.as_secs_f64() / time.as_secs_f64()),
        format!("{} / {}", size(current), size(limit)),
        share.map_or_else(|| "-".to_owned(), percent),
        format!("{} / {}", Bytes::new(received), Bytes::new(sent)),
        format!("{read} / {written}"),
        now.pids.current.map_or_else(|| "-".to_owned(), |count| count.to_string()),
    ]
}

fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

impl Top {
    pub(crate) fn run(&self) -> Result<()> {
        show(self.format, Container::open(&self.container)?.processes()?)
    }
}

/// Processes, as `ps -ef` of the host would.
pub(crate) fn show(format: Format, processes: impl IntoIterator<Item = Process>) -> Result<()> {
    let mut table = Table::new([
        ("UID", "UID"),
        ("PID", "PID"),
        ("PPID", "PPID"),
        ("INSIDE", "Inside"),
        ("STAT", "State"),
        ("TIME", "Time"),
        ("RSS", "Memory"),
        ("CMD", "Command"),
    ]);
    for process in processes {
        let seconds = process.cpu.as_secs();
        table.push([
            process.user.to_string(),
            process.pid.to_string(),
            process.parent.to_string(),
            process.inside.to_string(),
            process.state.to_string(),
            format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
            process.memory.to_string(),
            command_line(&process.command),
        ]);
    }
    table.show(format)
}
