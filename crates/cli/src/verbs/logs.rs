//! `logs` and `events`: what was written, and what happens.

use std::io::{self, Write};
use std::time::SystemTime;

use clap::Args;
use isolate::{Container, Events, Stream};
use serde_json::{Value, json};

use crate::exit::{Failure, Result};
use crate::table::Format;
use crate::times;
use crate::verbs::print;

/// Flags of `logs`.
#[derive(Args, Debug)]
pub(crate) struct Logs {
    /// Wait for more until it has ended for good
    #[arg(short, long)]
    follow: bool,
    /// Print when each line was written
    #[arg(short, long)]
    timestamps: bool,
    /// How many of the last lines, or `all`
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "all", value_parser = tail)]
    tail: Tail,
    /// Nothing older: 10m (ago), seconds after 1970, or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = times::moment)]
    since: Option<SystemTime>,
    /// Nothing younger
    #[arg(long, value_name = "TIME", value_parser = times::moment)]
    until: Option<SystemTime>,
    /// A name, or the beginning of an id
    container: String,
}

/// How many lines; none for all.
#[derive(Clone, Copy, Debug)]
struct Tail(Option<usize>);

fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" | "-1" => Ok(Tail(None)),
        text => {
            text.parse().map(|lines| Tail(Some(lines))).map_err(|_| format!("`{text}` is no number of lines"))
        }
    }
}

impl Logs {
    pub(crate) fn run(&self) -> Result<()> {
        times::order(self.since, self.until)?;
        let mut logs = Container::open(&self.container)?.logs().follow(self.follow);
        if let Some(lines) = self.tail.0 {
            logs = logs.tail(lines);
        }
        if let Some(time) = self.since {
            logs = logs.since(time);
        }
        if let Some(time) = self.until {
            logs = logs.until(time);
        }
        for line in logs {
            let line = line?;
            let stamp =
                if self.timestamps { format!("{} ", times::rfc3339(line.time)) } else { String::new() };
            let whole = [stamp.as_bytes(), &line.bytes].concat();
            match line.stream {
                Stream::Stderr => io::stderr().write_all(&whole)?,
                _ => io::stdout().write_all(&whole)?,
            }
            // What one waits for is to be seen.
            if self.follow {
                io::stdout().flush()?;
            }
        }
        Ok(())
    }
}

/// Flags of `events`.
#[derive(Args, Debug)]
pub(crate) struct Watch {
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Only of these containers
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Watch {
    /// Until a signal ends it.
    pub(crate) fn run(&self) -> Result<()> {
        let mut events = Events::new()?;
        while let Some(event) = events.next(None)? {
            if !self.containers.is_empty() && !self.containers.contains(&event.container) {
                continue;
            }
            let time = times::rfc3339(event.time);
            let kind = serde_json::to_value(event.kind).map_err(|e| Failure::new(e.to_string()))?;
            match self.format {
                Format::Json => print(json!({ "time": time, "container": event.container, "event": kind }))?,
                Format::Table => print(format_args!("{time} {} {}", event.container, words(&kind)))?,
            }
            io::stdout().flush()?;
        }
        Ok(())
    }
}

/// `exited 7` of `{"exited": 7}`.
fn words(kind: &Value) -> String {
    match kind {
        Value::String(word) => word.clone(),
        Value::Object(map) => {
            let pairs = map.iter().map(|(word, value)| match value {
                Value::String(text) => format!("{word} {text}"),
                other => format!("{word} {other}"),
            });
            pairs.collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_word_with_what_belongs_to_it() {
        assert_eq!(words(&json!("started")), "started");
        assert_eq!(words(&json!({ "exited": 7 })), "exited 7");
        assert_eq!(words(&json!({ "health": "healthy" })), "health healthy");
    }
}
