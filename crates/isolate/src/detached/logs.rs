//! What a detached container has written, out of its keeper's files.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use isolate_namespaces::{Kept, Waiter};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Where a container has written something to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stream {
    /// Its standard output, or its terminal.
    Stdout,
    /// Its standard error.
    Stderr,
}

/// A line of a container's log, or a piece of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogLine {
    /// When its end was read.
    pub time: SystemTime,
    /// Where it was written to.
    pub stream: Stream,
    /// What was written: with the newline at its end, unless it is a piece of a line that goes on, or was never ended.
    pub bytes: Vec<u8>,
}

/// What a container has written to its standard output and error, line by line, oldest first, as far as its
/// [log](crate::ContainerBuilder::log) reaches back: an [`Iterator`], once it is said which lines. As `docker logs`.
///
/// ```no_run
/// use std::io::Write;
/// use isolate::Container;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// for line in Container::open("web")?.logs().tail(100).follow(true) {
///     std::io::stdout().write_all(&line?.bytes)?;
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "it reads nothing until it is iterated"]
pub struct Logs {
    name: String,
    directory: PathBuf,
    follow: bool,
    tail: Option<usize>,
    since: Option<SystemTime>,
    until: Option<SystemTime>,
    reading: Option<Reading>,
    failed: bool,
}

/// How long a follower sleeps at most between two looks.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// More files a log never has.
const MOST_FILES: u32 = 100;

impl Logs {
    pub(super) fn new(name: String, directory: PathBuf) -> Self {
        Self {
            name,
            directory,
            follow: false,
            tail: None,
            since: None,
            until: None,
            reading: None,
            failed: false,
        }
    }

    /// Whether to wait for more until it has ended for good. Default: no.
    pub fn follow(mut self, follow: bool) -> Self {
        self.follow = follow;
        self
    }

    /// Of what is there, no more than so many lines, the last ones. Default: all.
    pub fn tail(mut self, lines: usize) -> Self {
        self.tail = Some(lines);
        self
    }

    /// Nothing that is older.
    pub fn since(mut self, time: SystemTime) -> Self {
        self.since = Some(time);
        self
    }

    /// Nothing that is younger.
    pub fn until(mut self, time: SystemTime) -> Self {
        self.until = Some(time);
        self
    }

    fn read(&mut self) -> Result<Option<LogLine>> {
        let reading = match &mut self.reading {
            Some(reading) => reading,
            None => {
                let mut reading = Reading::begin(&self.directory, self.follow)?;
                if let Some(tail) = self.tail {
                    let (since, until) = (self.since, self.until);
                    let wanted = |line: &LogLine| is_between(line, since, until);
                    reading.keep_last(tail, wanted)?;
                }
                self.reading.insert(reading)
            }
        };
        loop {
            match reading.next()? {
                Some(line) if !is_between(&line, self.since, None) => {}
                Some(line) if !is_between(&line, None, self.until) => return Ok(None),
                other => return Ok(other),
            }
        }
    }
}

impl Iterator for Logs {
    type Item = Result<LogLine>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let read = self.read();
        // Nothing comes after an error.
        self.failed = read.is_err();
        read.map_err(|e| e.of(format!("container `{}`: its log", self.name))).transpose()
    }
}

fn is_between(line: &LogLine, since: Option<SystemTime>, until: Option<SystemTime>) -> bool {
    since.is_none_or(|since| line.time >= since) && until.is_none_or(|until| line.time <= until)
}

#[derive(Debug)]
struct Reading {
    /// By its descriptor: the path is another one once the container is renamed.
    directory: File,
    /// Older ones before; the last one is that which is written to.
    files: VecDeque<(u64, BufReader<File>)>,
    /// Lines that were read ahead.
    ahead: VecDeque<LogLine>,
    /// The beginning of a line that is not whole.
    part: Vec<u8>,
    waiter: Option<Waiter>,
    over: bool,
}

impl Reading {
    fn begin(directory: &std::path::Path, follow: bool) -> Result<Self> {
        let failed = |e: std::io::Error| Error::io(directory.display(), &e);
        let opened = File::open(directory).map_err(failed)?;
        let waiter = match follow && directory.join("state").exists() {
            true => Some(Kept::new(opened.try_clone().map_err(failed)?).waiter()?),
            false => None,
        };
        let mut reading = Self {
            directory: opened,
            files: VecDeque::new(),
            ahead: VecDeque::new(),
            part: Vec::new(),
            waiter,
            over: false,
        };
        // From the youngest on: what is renamed meanwhile is met twice, not missed.
        for n in 0..MOST_FILES {
            let Some((inode, file)) = reading.open(n).map_err(failed)? else { break };
            if reading.files.iter().all(|(other, _)| *other != inode) {
                reading.files.push_front((inode, file));
            }
        }
        Ok(reading)
    }

    fn open(&self, n: u32) -> std::io::Result<Option<(u64, BufReader<File>)>> {
        let name = if n == 0 { "log".to_owned() } else { format!("log.{n}") };
        let file = match openat(&self.directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => File::from(other?),
        };
        Ok(Some((file.metadata()?.ino(), BufReader::new(file))))
    }

    /// Reads what is there, and keeps the last of the lines that are wanted.
    fn keep_last(&mut self, count: usize, wanted: impl Fn(&LogLine) -> bool) -> Result<()> {
        let mut kept = VecDeque::new();
        while let Some(line) = self.there()? {
            if wanted(&line) {
                kept.push_back(line);
            }
            if kept.len() > count {
                kept.pop_front();
            }
        }
        self.ahead = kept;
        Ok(())
    }

    fn next(&mut self) -> Result<Option<LogLine>> {
        if let Some(line) = self.ahead.pop_front() {
            return Ok(Some(line));
        }
        loop {
            if let Some(line) = self.there()? {
                return Ok(Some(line));
            }
            let Some(waiter) = self.waiter.as_ref().filter(|_| !self.over) else { return Ok(None) };
            let mut ended = [PollFd::from_borrowed_fd(waiter.as_fd(), PollFlags::IN)];
            match poll(&mut ended, Some(&PAUSE)) {
                Ok(0) | Err(Errno::INTR) => {}
                // What was written before is there now.
                Ok(_) => self.over = true,
                Err(e) => return Err(Error::io("cannot wait for more", &e.into())),
            }
        }
    }

    /// The next line that is there now.
    fn there(&mut self) -> Result<Option<LogLine>> {
        let failed = |e: std::io::Error| Error::io("cannot read it", &e);
        loop {
            let got = match self.files.front_mut() {
                Some((_, file)) => file.read_until(b'\n', &mut self.part).map_err(failed)?,
                None => 0,
            };
            if self.part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.part);
                if let Some(line) = parse(&line) {
                    return Ok(Some(line));
                }
            } else if got == 0 && self.files.len() > 1 {
                // A keeper that was killed may have left half a line.
                self.part.clear();
                self.files.pop_front();
            } else if got == 0 && !self.find_younger().map_err(failed)? {
                return Ok(None);
            }
        }
    }

    /// At the end of the file that was the youngest: whether others are. What was written to it before they were made is there then.
    fn find_younger(&mut self) -> std::io::Result<bool> {
        let known = self.files.back().map(|(inode, _)| *inode);
        let mut younger = Vec::new();
        for n in 0..MOST_FILES {
            match self.open(n)? {
                Some((inode, file)) if Some(inode) != known => younger.push((inode, file)),
                _ => break,
            }
        }
        let found = !younger.is_empty();
        self.files.extend(younger.into_iter().rev());
        Ok(found)
    }
}

/// `TIME STREAM TAG TEXT`, as Kubernetes' Container Runtime Interface has it. What is none is passed over.
fn parse(line: &[u8]) -> Option<LogLine> {
    let mut words = line.splitn(4, |byte| *byte == b' ');
    let time = time(std::str::from_utf8(words.next()?).ok()?)?;
    let stream = match words.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let whole = words.next()?.starts_with(b"F");
    let mut bytes = words.next()?.to_vec();
    if !whole {
        bytes.pop();
    }
    Some(LogLine { time, stream, bytes })
}

/// `2016-10-06T00:17:09.669794202Z`.
pub(crate) fn time(text: &str) -> Option<SystemTime> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, between| {
        text.splitn(3, between).map(|word| word.parse::<u64>().ok()).collect::<Option<Vec<_>>>()
    };
    let [year, month, day] = numbers(date, '-')?.try_into().ok()?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(clock, ':')?.try_into().ok()?;
    let ns: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let years: u64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    let months: u64 = lengths.iter().take(month as usize - 1).sum();
    let days = years + months + (day - 1);
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_its_time_and_without_its_frame() {
        let line = parse(b"2016-10-06T00:17:09.669794202Z stderr F two  words\n").unwrap();
        assert_eq!(line.time, SystemTime::UNIX_EPOCH + Duration::new(1_475_713_029, 669_794_202));
        assert_eq!((line.stream, line.bytes.as_slice()), (Stream::Stderr, &b"two  words\n"[..]));
        let piece = parse(b"2024-02-29T23:59:59.000000001Z stdout P abc\n").unwrap();
        assert_eq!(piece.time, SystemTime::UNIX_EPOCH + Duration::new(1_709_251_199, 1));
        assert_eq!(piece.bytes, b"abc");
        assert_eq!(parse(b"2024-02-29T23:59:59Z stdout F \n").unwrap().bytes, b"\n");
        for bad in [
            "",
            "x",
            "2024-02-29T23:59:59Z stdin F x\n",
            "2024-13-29T23:59:59Z stdout F x\n",
            "1969-01-01T00:00:00Z stdout F x\n",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
