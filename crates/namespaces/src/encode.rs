//! A plan as the bytes that the launcher reads.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use crate::plan::{Arg, Plan, Section};
use crate::stdio::Ends;
use crate::wire::{EXECUTES, Header, IDLES, KEPT, MAGIC, STAYS, Step};

/// Numbers that are known only when a plan is run.
pub(crate) struct Channels<'a> {
    pub report: i32,
    pub control: i32,
    pub hear: u32,
    pub ends: &'a Ends,
}

/// What the steps point to, with its place in the plan.
struct Heap {
    cells_at: usize,
    cells: Vec<u64>,
    bytes_at: usize,
    bytes: Vec<u8>,
}

impl Heap {
    /// Eight-byte aligned: structures want it.
    fn keep(&mut self, bytes: &[u8]) -> u64 {
        let at = self.bytes_at + self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        at as u64
    }

    fn table(&mut self, strings: &[CString]) -> u64 {
        let at = self.cells_at + 8 * self.cells.len();
        for string in strings {
            let place = self.keep(string.as_bytes_with_nul());
            self.cells.push(place);
        }
        self.cells.push(0);
        at as u64
    }
}

pub(crate) fn encode(plan: &Plan, channels: &Channels<'_>) -> Vec<u8> {
    let args = plan.steps.iter().flat_map(|step| &step.args);
    let cells = args
        .filter_map(|arg| if let Arg::Table(strings) = arg { Some(strings.len() + 1) } else { None })
        .sum();
    let cells_at = size_of::<Header>() + plan.steps.len() * size_of::<Step>();
    let bytes_at = cells_at + 8 * cells;
    let mut heap =
        Heap { cells_at, cells: Vec::with_capacity(cells), bytes_at, bytes: Vec::with_capacity(4096) };

    let mut out = Vec::with_capacity(bytes_at + 4096);
    out.resize(size_of::<Header>(), 0);
    for step in &plan.steps {
        let (mut places, mut slots, mut values) = (0u8, 0u8, [0u64; 6]);
        for (n, (arg, value)) in step.args.iter().zip(&mut values).enumerate() {
            match arg {
                Arg::Text(_) | Arg::Bytes(_) | Arg::Table(_) => places |= 1 << n,
                Arg::Slot(_) => slots |= 1 << n,
                Arg::Number(_) | Arg::Descriptor(_) | Arg::Standard(_) => {}
            }
            *value = match arg {
                Arg::Number(value) => *value,
                Arg::Descriptor(fd) => fd.as_raw_fd() as u64,
                Arg::Standard(n) => channels
                    .ends
                    .child
                    .get(*n)
                    .and_then(Option::as_ref)
                    .map_or(u64::MAX, |fd| fd.as_raw_fd() as u64),
                Arg::Slot(slot) => (*slot).into(),
                Arg::Text(text) => heap.keep(text.as_bytes_with_nul()),
                Arg::Bytes(bytes) => heap.keep(bytes),
                Arg::Table(strings) => heap.table(strings),
            };
        }
        out.extend_from_slice(&step.call.to_ne_bytes());
        out.extend_from_slice(&[places, slots, step.save.map_or(0, |slot| slot + 1), step.retries]);
        for errno in step.ignore {
            out.extend_from_slice(&errno.to_ne_bytes());
        }
        // Step is eight-byte aligned after 16 bytes.
        for value in values {
            out.extend_from_slice(&value.to_ne_bytes());
        }
    }
    for cell in &heap.cells {
        out.extend_from_slice(&cell.to_ne_bytes());
    }
    out.extend_from_slice(&heap.bytes);
    out.extend_from_slice(&[0; 8]);
    let length = out.len();
    header(plan, channels, cells, length, &mut out);
    out
}

/// Into the room that is left for it.
fn header(plan: &Plan, channels: &Channels<'_>, cells: usize, length: usize, out: &mut [u8]) {
    let count = |section| plan.steps.iter().filter(|s| s.section == section).count() as u32;
    let number =
        |fd: &Option<Arc<OwnedFd>>| fd.as_ref().map_or(u32::MAX, |fd| fd.as_raw_fd().cast_unsigned());
    let timeout = plan.timeout.map_or(0, |limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX).max(1));
    let words = [
        MAGIC,
        length as u32,
        cells as u32,
        count(Section::Prepare),
        count(Section::Maps),
        count(Section::Child),
        count(Section::Main),
        match (plan.init, plan.idle) {
            (_, true) => IDLES,
            (true, false) => STAYS,
            (false, false) => EXECUTES,
        },
    ]
    .into_iter()
    .chain(halves(plan.clone_flags))
    .chain(halves(timeout))
    .chain([number(&plan.cgroup), channels.report.cast_unsigned(), channels.control.cast_unsigned()])
    .chain([channels.hear, plan.readable.into()])
    .chain((0..KEPT).map(|n| plan.kept.get(n).map_or(u32::MAX, |fd| fd.as_raw_fd().cast_unsigned())));
    for (place, word) in out.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
}

/// In the order in which they lie in memory.
fn halves(word: u64) -> [u32; 2] {
    if cfg!(target_endian = "little") { [0, 32] } else { [32, 0] }.map(|by| (word >> by) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Run;
    use crate::wire::TELL;
    use crate::{Command, Namespace};

    fn bytes() -> Vec<u8> {
        let plan = Command::new("/bin/true").unshare([Namespace::Uts]).hostname("box").plan().unwrap();
        encode(&plan, &Channels { report: -1, control: -1, hear: TELL, ends: &Ends::default() })
    }

    fn read(bytes: &[u8]) -> Result<Header, i32> {
        let mut aligned = vec![0u64; bytes.len().div_ceil(8)];
        // SAFETY: the copy is aligned, writable and ours, and no step is made.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), aligned.as_mut_ptr().cast(), bytes.len());
            Run::new(aligned.as_mut_ptr().cast(), bytes.len()).map(|run| run.header).map_err(|r| r.errno)
        }
    }

    #[test]
    fn the_launcher_reads_what_the_library_writes() {
        let header = read(&bytes()).unwrap();
        assert_eq!(header.clone_flags, Namespace::Uts.flag());
        assert_eq!((header.prepare, header.maps), (0, 0));
        assert!(header.child > 0 && header.main > 3);
        assert_eq!((header.init, header.timeout), (0, 0));
        assert_eq!(header.kept, [-1; KEPT]);
    }

    #[test]
    fn a_damaged_plan_is_an_error_and_not_a_wild_pointer() {
        let good = bytes();
        assert_eq!(read(&good[..8]).err(), Some(libc::EBADMSG));
        assert_eq!(read(&good[..good.len() - 8]).err(), Some(libc::EBADMSG));
        let header = read(&good).unwrap();
        let cells_at = size_of::<Header>()
            + (header.prepare + header.maps + header.child + header.main) as usize * size_of::<Step>();
        let mut wild = good;
        wild[cells_at..cells_at + 8].copy_from_slice(&u64::MAX.to_ne_bytes());
        assert_eq!(read(&wild).err(), Some(libc::EBADMSG));
    }
}
