//! What the program writes, in the files `log`, `log.1`, …, in the format of Kubernetes' Container Runtime Interface:
//! `TIME STREAM TAG TEXT`, a line each; tag P: the line goes on in the next of its stream, or was never ended, F: here it ends.

use crate::call::{self, APPEND, MONOTONIC, Part, REALTIME};
use crate::config::LINE;
use crate::text::{SECOND, Short};

/// What has been read of one stream and is not written: less than a line, unless the line is longer than this.
pub(crate) struct Stream {
    pub fd: i32,
    buffer: [u8; LINE],
    length: usize,
}

impl Stream {
    pub(crate) const NEW: Self = Self { fd: 0, buffer: [0; LINE], length: 0 };

    /// Reads what there is; how much, 0 at the end, or an error.
    pub(crate) fn read(&mut self) -> isize {
        let length = self.length;
        let Some(room) = self.buffer.get_mut(length..) else { return 0 };
        let got = call::read(self.fd, room);
        if got > 0 {
            self.length += got as usize;
        }
        got
    }

    /// The last so many bytes.
    pub(crate) fn last(&self, count: usize) -> &[u8] {
        self.buffer.get(self.length.wrapping_sub(count)..self.length).unwrap_or(&[])
    }

    /// Forgets the first so many bytes.
    fn drop_first(&mut self, count: usize) {
        let (mut to, mut from) = (0, count);
        while from < self.length {
            let byte = self.buffer.get(from).copied().unwrap_or(0);
            if let Some(place) = self.buffer.get_mut(to) {
                *place = byte;
            }
            to += 1;
            from += 1;
        }
        self.length = to;
    }
}

pub(crate) struct Log {
    pub directory: i32,
    pub most_bytes: u64,
    /// 0: nothing is kept.
    pub files: u32,
    fd: i32,
    size: u64,
    /// When it is tried again to open the file, in ns of the monotonic clock.
    again: u64,
    /// Bytes of the program's that could not be written.
    pub dropped: u64,
}

/// Parts of one write: two a line.
const PARTS: usize = 48;

impl Log {
    pub(crate) const NEW: Self =
        Self { directory: 0, most_bytes: 0, files: 0, fd: 0, size: 0, again: 0, dropped: 0 };

    pub(crate) fn begin(&mut self, directory: i32, most_bytes: u64, files: u32) {
        self.directory = directory;
        self.most_bytes = most_bytes;
        self.files = files;
        self.fd = -1;
    }

    /// Writes the lines that are there whole, and a piece of one that fills the buffer; at the `end` what is left as well.
    pub(crate) fn take(&mut self, stream: &mut Stream, name: &[u8], end: bool) {
        if self.files == 0 {
            stream.length = 0;
            return;
        }
        let mut done = 0;
        loop {
            let waiting = stream.buffer.get(done..stream.length).unwrap_or(&[]);
            let full = done == 0 && stream.length == LINE;
            let taken = self.write_lines(waiting, name, full || end);
            if taken == 0 {
                break;
            }
            done += taken;
        }
        if done > 0 {
            stream.drop_first(done);
        }
    }

    /// As many as fit into one write; how many bytes of the program's.
    fn write_lines(&mut self, bytes: &[u8], name: &[u8], all: bool) -> usize {
        let time = call::now(REALTIME);
        let (mut whole, mut part) = (Short::new(), Short::new());
        whole.time(time).push(b" ").push(name).push(b" F ");
        part.time(time).push(b" ").push(name).push(b" P ");
        let mut parts = [Part::NONE; PARTS];
        let (mut lines, mut count, mut taken, mut total) = (0, 0, 0, 0);
        let mut add = |part| {
            if let Some(place) = parts.get_mut(count) {
                *place = part;
                count += 1;
                total += part.len() as u64;
            }
        };
        let mut rest = bytes;
        while lines < PARTS / 2
            && let Some(at) = rest.iter().position(|byte| *byte == b'\n')
            && let Some((line, after)) = rest.split_at_checked(at + 1)
        {
            add(Part::of(whole.bytes()));
            add(Part::of(line));
            taken += line.len();
            rest = after;
            lines += 1;
        }
        if lines == 0 && !rest.is_empty() && all {
            add(Part::of(part.bytes()));
            add(Part::of(rest));
            add(Part::of(b"\n"));
            taken = rest.len();
        }
        if count > 0 && !self.append(parts.get(..count).unwrap_or(&[]), total) {
            self.dropped += taken as u64;
        }
        taken
    }

    /// All or nothing, so that each line is one.
    fn append(&mut self, parts: &[Part<'_>], total: u64) -> bool {
        if self.fd >= 0 && self.size > 0 && self.size + total > self.most_bytes {
            self.rotate();
        }
        if self.fd < 0 {
            if call::now(MONOTONIC) < self.again {
                return false;
            }
            self.open();
        }
        if self.fd < 0 {
            return false;
        }
        let written = call::write_parts(self.fd, parts);
        if written == total as isize {
            self.size += total;
            return true;
        }
        if written > 0 {
            call::truncate(self.fd, self.size);
        }
        false
    }

    /// What is there is gone on with, up to its size.
    fn open(&mut self) {
        self.fd = call::open(self.directory, c"log", APPEND) as i32;
        if self.fd < 0 {
            self.again = call::now(MONOTONIC) + SECOND;
            return;
        }
        self.size = call::end_of(self.fd);
    }

    /// The oldest goes. A file that cannot be renamed is begun anew where it is, so that the size holds.
    fn rotate(&mut self) {
        let mut n = self.files.saturating_sub(1) as u64;
        let mut moved = n > 0;
        while n > 0 {
            let (mut from, mut to) = (Short::new(), Short::new());
            from.push(b"log");
            if n > 1 {
                from.push(b".").number(n - 1);
            }
            to.push(b"log.").number(n);
            let done = call::rename(self.directory, from.name(), to.name());
            if n == 1 {
                moved = done >= 0;
            }
            n -= 1;
        }
        if moved {
            call::take(&mut self.fd);
            self.open();
        } else {
            call::truncate(self.fd, 0);
            self.size = 0;
        }
    }
}
