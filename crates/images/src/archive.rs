//! A tar archive, entry by entry, as a stream: the formats of tar(5), ustar, pax and GNU, that layers are written in.
//!
//! Everything in it is what somebody else wrote: each length is bounded before anything is kept, and what cannot be understood is an
//! error, never skipped. The header's fields are read by the `tar` crate; what it makes of whole archives is not used, since it knows
//! neither devices nor pax records of any bytes.

mod pax;
mod sparse;

use std::io::{self, Read};

use tar::{EntryType, Header};

use crate::bounds::Bounds;
use crate::error::{Error, ErrorKind, Result};

const BLOCK: usize = 512;
/// Of the extended headers of one entry: names, links, and attributes (64 KiB each, the kernel's bound, and some of them).
const MOST_PAX: u64 = 1 << 20;

/// The entries of an archive, one after the other.
pub(crate) struct Archive<R> {
    reader: R,
    bounds: Bounds,
    /// What is left of the entry that was told last: data, and zeros up to a whole block.
    left: u64,
    padding: u64,
    entries: u64,
    ended: bool,
}

/// One entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As it stands there.
    pub path: Vec<u8>,
    pub kind: Kind,
    /// Where a link leads.
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    pub device: (u32, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// How long the file is, holes included.
    pub size: u64,
    /// Where what is stored lies in the file, if there are holes: offset and length.
    pub segments: Option<Vec<(u64, u64)>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    File,
    HardLink,
    Symlink,
    Character,
    Block,
    Directory,
    Fifo,
}

/// What stands before an entry for it.
#[derive(Default)]
struct Before {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: pax::Records,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(reader: R, bounds: Bounds) -> Self {
        Self { reader, bounds, left: 0, padding: 0, entries: 0, ended: false }
    }

    /// The next one. What was not read of the one before is passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        let mut before = Before::default();
        loop {
            self.pass()?;
            let Some(header) = self.header()? else {
                return match before.path.is_none() && before.link.is_none() && before.records.is_empty() {
                    true => Ok(None),
                    false => Err(self.corrupt("it ends where an entry should begin")),
                };
            };
            let size = header.entry_size().map_err(|_| self.corrupt("a size that is no number"))?;
            match header.entry_type() {
                EntryType::GNULongName => before.path = Some(self.name(size)?),
                EntryType::GNULongLink => before.link = Some(self.name(size)?),
                EntryType::XHeader => {
                    let bytes = self.extension(size)?;
                    before.records.read(&bytes).map_err(|why| self.corrupt(why))?;
                }
                // Of all entries from here on: writers put comments there, and readers leave it out.
                EntryType::XGlobalHeader => drop(self.extension(size)?),
                kind => return self.entry(&header, kind, size, before).map(Some),
            }
        }
    }

    /// The next bytes of the entry that was told last; 0 at its end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most) else { return Ok(0) };
        let read = fill(&mut self.reader, buffer).map_err(|e| self.failed(&e))?;
        if read < most {
            return Err(self.corrupt("it ends within a file"));
        }
        self.left -= read as u64;
        Ok(read)
    }

    /// How many entries were told.
    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    /// What is below: whatever follows is read by whom it is for.
    pub(crate) fn into_inner(self) -> R {
        self.reader
    }

    fn entry(&mut self, header: &Header, kind: EntryType, size: u64, before: Before) -> Result<Entry> {
        self.entries += 1;
        if self.entries > self.bounds.entries {
            return Err(self.refused(format!("more than {} entries", self.bounds.entries)));
        }
        let records = &before.records;
        let number = |what: io::Result<u64>, name: &str| {
            what.map_err(|_| self.corrupt(format!("a {name} that is no number")))
        };
        let id = |id: u64, name: &str| match u32::try_from(id) {
            // The last is no id: chown(2) leaves the owner as it is then.
            Ok(id) if id != u32::MAX => Ok(id),
            _ => Err(self.refused(format!("{name} {id} is none of Linux"))),
        };
        let stored = records.size.unwrap_or(size);
        let mut entry = Entry {
            path: records.path.clone().or(before.path).unwrap_or_else(|| header.path_bytes().into_owned()),
            link: records
                .link
                .clone()
                .or(before.link)
                .or_else(|| header.link_name_bytes().map(Into::into))
                .unwrap_or_default(),
            mode: header.mode().map_err(|_| self.corrupt("a mode that is no number"))? & 0o7777,
            uid: id(records.uid.map_or_else(|| number(header.uid(), "user"), Ok)?, "user")?,
            gid: id(records.gid.map_or_else(|| number(header.gid(), "group"), Ok)?, "group")?,
            mtime: match records.mtime {
                Some(time) => time,
                None => (number(header.mtime(), "time")?.cast_signed(), 0),
            },
            xattrs: records.xattrs.clone(),
            size: stored,
            ..Entry::default()
        };
        let directory = entry.path.ends_with(b"/");
        entry.kind = match kind {
            EntryType::Regular if directory => Kind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Link => Kind::HardLink,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Char => Kind::Character,
            EntryType::Block => Kind::Block,
            EntryType::Directory => Kind::Directory,
            EntryType::Fifo => Kind::Fifo,
            other => {
                let what = format!("an entry of the unknown type {:?}", char::from(other.as_byte()));
                return Err(self.refused(format!("{what}: {}", shown(&entry.path))));
            }
        };
        if matches!(entry.kind, Kind::Character | Kind::Block) {
            let part =
                |part: io::Result<Option<u32>>| part.map_err(|_| self.corrupt("a device that is no number"));
            entry.device =
                (part(header.device_major())?.unwrap_or(0), part(header.device_minor())?.unwrap_or(0));
        }
        // Of all others a size says nothing: some writers give that of the file that a hard link is to.
        if entry.kind == Kind::File {
            (self.left, self.padding) = (stored, padding(stored));
            self.holes(header, kind, records, &mut entry)?;
        } else {
            entry.size = 0;
        }
        for (what, text) in [("path", &entry.path), ("link", &entry.link)] {
            if text.len() > self.bounds.path {
                return Err(self.refused(format!(
                    "a {what} of {} bytes, more than {}",
                    text.len(),
                    self.bounds.path
                )));
            }
            if text.contains(&0) {
                return Err(self.refused(format!("a {what} with a NUL: {}", shown(text))));
            }
        }
        Ok(entry)
    }

    /// Where its data lie, if not one after the other from the beginning on.
    fn holes(
        &mut self,
        header: &Header,
        kind: EntryType,
        records: &pax::Records,
        entry: &mut Entry,
    ) -> Result<()> {
        let sparse = &records.sparse;
        let (segments, real) = if kind == EntryType::GNUSparse {
            let Some(gnu) = header.as_gnu() else {
                return Err(self.corrupt("a sparse file without its map"));
            };
            let real = gnu.real_size().map_err(|_| self.corrupt("a sparse file without its size"))?;
            (sparse::of_gnu(gnu, &mut self.reader).map_err(|why| self.corrupt(why))?, real)
        } else if let Some(map) = &sparse.map {
            (map.clone(), sparse.real_size.unwrap_or(entry.size))
        } else if sparse.in_data {
            let (segments, taken) =
                sparse::in_data(&mut self.reader, self.left).map_err(|why| self.corrupt(why))?;
            self.left -= taken;
            (segments, sparse.real_size.unwrap_or(entry.size))
        } else {
            return Ok(());
        };
        if let Some(name) = &sparse.name {
            entry.path.clone_from(name);
        }
        sparse::check(&segments, self.left, real).map_err(|why| self.corrupt(why))?;
        (entry.size, entry.segments) = (real, Some(segments));
        Ok(())
    }

    /// `None` at the end: two blocks of zeros, or, as every reader takes it, nothing more.
    fn header(&mut self) -> Result<Option<Header>> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        let read = fill(&mut self.reader, &mut block).map_err(|e| self.failed(&e))?;
        if read == 0 || block == [0; BLOCK] {
            self.ended = true;
            return Ok(None);
        }
        if read < BLOCK {
            return Err(self.corrupt("it ends within a header"));
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum = |signed: bool| {
            block.iter().enumerate().fold(0_i64, |sum, (at, byte)| {
                let byte = if (148..156).contains(&at) { b' ' } else { *byte };
                sum + if signed { i64::from(byte.cast_signed()) } else { i64::from(byte) }
            })
        };
        // Old writers took bytes as signed.
        let right = header.cksum().is_ok_and(|said| [sum(false), sum(true)].contains(&i64::from(said)));
        if right { Ok(Some(header)) } else { Err(self.corrupt("no header where one should be")) }
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MOST_PAX {
            return Err(self.refused(format!("an extended header of {size} bytes, more than {MOST_PAX}")));
        }
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(size).read_to_end(&mut bytes).map_err(|e| self.failed(&e))?;
        if (read as u64) < size {
            return Err(self.corrupt("it ends within an extended header"));
        }
        self.padding = padding(size);
        Ok(bytes)
    }

    fn name(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut bytes = self.extension(size)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
        Ok(bytes)
    }

    /// To the next header. Some writers leave out the last file's zeros along with the archive's end.
    fn pass(&mut self) -> Result<()> {
        let (left, padding) = (self.left, self.padding);
        (self.left, self.padding) = (0, 0);
        let mut pass = |bytes: u64| io::copy(&mut (&mut self.reader).take(bytes), &mut io::sink());
        let passed = pass(left).and_then(|passed| pass(padding).map(|_| passed));
        if passed.map_err(|e| self.failed(&e))? == left {
            Ok(())
        } else {
            Err(self.corrupt("it ends within a file"))
        }
    }

    fn corrupt(&self, why: impl Into<String>) -> Error {
        Error::new(ErrorKind::Corrupt, format!("archive, after entry {}: {}", self.entries, why.into()))
    }

    fn refused(&self, why: impl Into<String>) -> Error {
        Error::new(ErrorKind::Refused, format!("archive, entry {}: {}", self.entries, why.into()))
    }

    fn failed(&self, error: &io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::QuotaExceeded => self.refused(error.to_string()),
            _ if error.raw_os_error().is_none() => self.corrupt(error.to_string()),
            _ => Error::io("archive", error),
        }
    }
}

/// For messages.
pub(crate) fn shown(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}

fn padding(size: u64) -> u64 {
    let block = BLOCK as u64;
    (block - size % block) % block
}

/// As much as there is.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
