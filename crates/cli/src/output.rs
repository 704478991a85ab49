//! What a program writes, byte for byte, from two sources: as it comes, and, where that was not read in time, out of its log.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use isolate::Stream;

/// How much of each stream has come here.
#[derive(Debug, Default)]
pub(crate) struct Output {
    written: Mutex<[u64; 2]>,
}

/// One of the sources, from the first byte on without a gap.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    output: &'a Output,
    seen: [u64; 2],
}

impl Output {
    pub(crate) fn source(&self) -> Source<'_> {
        Source { output: self, seen: [0; 2] }
    }
}

impl Source<'_> {
    /// The next bytes of a stream, as far as the other source has not brought them.
    pub(crate) fn bring(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let mut written = self.output.written.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(new) = self.advance(&mut written, stream, bytes) {
            match stream {
                Stream::Stderr => io::stderr().write_all(new)?,
                _ => {
                    io::stdout().write_all(new)?;
                    io::stdout().flush()?;
                }
            }
        }
        Ok(())
    }

    fn advance<'b>(&mut self, written: &mut [u64; 2], stream: Stream, bytes: &'b [u8]) -> Option<&'b [u8]> {
        let n = usize::from(stream == Stream::Stderr);
        let known = usize::try_from(written[n].saturating_sub(self.seen[n])).unwrap_or(usize::MAX);
        self.seen[n] += bytes.len() as u64;
        written[n] = written[n].max(self.seen[n]);
        bytes.get(known..).filter(|new| !new.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_sources_each_byte_comes_once_and_in_order() {
        let output = Output::default();
        let (mut first, mut second) = (output.source(), output.source());
        let (out, err) = (Stream::Stdout, Stream::Stderr);
        let mut written = [0; 2];
        let mut come = Vec::new();
        for (source, stream, bytes) in [
            (0, out, &b"ab"[..]),
            (1, out, b"abcd"),
            (0, out, b"c"),
            (1, err, b"E"),
            (0, out, b"def"),
            (1, out, b"ef"),
            (1, out, b"g"),
        ] {
            let source = if source == 0 { &mut first } else { &mut second };
            come.extend(source.advance(&mut written, stream, bytes).unwrap_or_default());
        }
        assert_eq!((come.as_slice(), written), (&b"abcdEefg"[..], [7, 1]));
    }
}
