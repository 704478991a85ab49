//! Layers as they are stored: gzip (RFC 1952, of any number of members), zstd (RFC 8878, of any number of frames), or plain. Which of
//! them is told by the first bytes, not by a media type: they are said wrongly often enough.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::errors::ReadFrameHeaderError::SkipFrame;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::bounds::Bounds;

const BUFFER: usize = 128 << 10;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// A skippable frame, the low nibble of the first byte apart (RFC 8878, 3.1.2).
const SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];

/// What comes out is bounded by what goes in.
pub(crate) struct Decompress<R: Read> {
    decoder: Decoder<Counted<R>>,
    read: Rc<Cell<u64>>,
    made: u64,
    bounds: Bounds,
}

type Begun<R> = BufReader<io::Chain<Cursor<Vec<u8>>, R>>;

enum Decoder<R: Read> {
    Plain(Begun<R>),
    Gzip(Box<MultiGzDecoder<Begun<R>>>),
    Zstd(Box<Frames<Begun<R>>>),
}

struct Counted<R> {
    inner: R,
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}

impl<R: Read> Decompress<R> {
    pub(crate) fn new(reader: R, bounds: Bounds) -> io::Result<Self> {
        let read = Rc::new(Cell::new(0));
        let mut reader = Counted { inner: reader, read: Rc::clone(&read) };
        let mut first = Vec::with_capacity(4);
        (&mut reader).take(4).read_to_end(&mut first)?;
        let (gzip, zstd) = (first.starts_with(GZIP), first.starts_with(ZSTD) || is_skippable(&first));
        let begun = BufReader::with_capacity(BUFFER, Cursor::new(first).chain(reader));
        let decoder = match (gzip, zstd) {
            (true, _) => Decoder::Gzip(Box::new(MultiGzDecoder::new(begun))),
            (_, true) => {
                Decoder::Zstd(Box::new(Frames { source: begun, decoder: FrameDecoder::new(), within: false }))
            }
            _ => Decoder::Plain(begun),
        };
        Ok(Self { decoder, read, made: 0, bounds })
    }

    /// How many bytes were read so far, as they are stored.
    pub(crate) fn counter(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.read)
    }
}

impl<R: Read> Read for Decompress<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let made = match &mut self.decoder {
            Decoder::Plain(reader) => return reader.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer)?,
            Decoder::Zstd(decoder) => decoder.read(buffer)?,
        };
        self.made += made as u64;
        if self.bounds.is_bomb(self.read.get(), self.made) {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                format!(
                    "{} bytes out of {} compressed ones, more than is allowed",
                    self.made,
                    self.read.get()
                ),
            ));
        }
        Ok(made)
    }
}

/// Frame after frame: the decoder knows one.
struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    within: bool,
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wrong = |error: FrameDecoderError| io::Error::new(io::ErrorKind::InvalidData, error);
        loop {
            if self.within {
                while self.decoder.can_collect() < buffer.len() && !self.decoder.is_finished() {
                    let missing = buffer.len() - self.decoder.can_collect();
                    let upto = BlockDecodingStrategy::UptoBytes(missing);
                    self.decoder.decode_blocks(&mut self.source, upto).map_err(wrong)?;
                }
                let made = self.decoder.read(buffer)?;
                if made > 0 || buffer.is_empty() {
                    return Ok(made);
                }
                self.within = false;
            }
            if self.source.fill_buf()?.is_empty() {
                return Ok(0);
            }
            match self.decoder.init(&mut self.source) {
                Ok(()) => self.within = true,
                Err(FrameDecoderError::ReadFrameHeaderError(SkipFrame { length, .. })) => {
                    io::copy(&mut (&mut self.source).take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(wrong(error)),
            }
        }
    }
}

fn is_skippable(first: &[u8]) -> bool {
    first.first().is_some_and(|byte| byte & 0xf0 == 0x50) && first.get(1..4) == Some(SKIPPABLE)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn whole(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Decompress::new(bytes, Bounds::new())?.read_to_end(&mut out).map(|_| out)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    #[test]
    fn what_was_compressed_comes_out_and_what_was_not_too() {
        let bytes: Vec<u8> = (0..300_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for bytes in [&bytes[..], b"", b"x", b"\x1f", b"plain text"] {
            assert!(whole(bytes).unwrap() == bytes, "plain");
            assert!(whole(&gzip(bytes)).unwrap() == bytes, "gzip");
            assert!(whole(&zstd(bytes)).unwrap() == bytes, "zstd");
        }
    }

    #[test]
    fn members_and_frames_follow_one_another() {
        assert_eq!(whole(&[gzip(b"one "), gzip(b"two")].concat()).unwrap(), b"one two");
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let frames = [skipped.clone(), zstd(b"one "), skipped, zstd(b"two")].concat();
        assert_eq!(whole(&frames).unwrap(), b"one two");
    }

    #[test]
    fn what_is_cut_off_or_changed_is_an_error() {
        for whole_one in [gzip(&[7; 100_000]), zstd(&[7; 100_000])] {
            assert!(whole(&whole_one[..whole_one.len() - 9]).is_err());
        }
        let mut changed = gzip(b"some text that is long enough");
        changed[15] ^= 0xff;
        assert!(whole(&changed).is_err());
    }

    #[test]
    fn a_bomb_is_refused_and_the_same_bytes_pass_where_they_may() {
        let bomb = gzip(&vec![0; 17 << 20]);
        let mut out = io::sink();
        let error = io::copy(&mut Decompress::new(&bomb[..], Bounds::new()).unwrap(), &mut out).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded, "{error}");
        let generous = Bounds::new().ratio(2000);
        let made = io::copy(&mut Decompress::new(&bomb[..], generous).unwrap(), &mut out).unwrap();
        assert_eq!(made, 17 << 20);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_an_error(kind in 0..3, bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let magic: &[u8] = [GZIP, ZSTD, b""][kind as usize];
            let _ = whole(&[magic, &bytes].concat());
        }
    }
}
