//! A plan as the bytes that the launcher reads.

use std::ffi::CString;
use std::os::fd::AsRawFd;

use crate::plan::{Arg, Plan, Section};
use crate::stdio::Ends;
use crate::wire::{Header, KEPT, MAGIC, Step};

/// Numbers that are known only when a plan is run.
pub(crate) struct Channels<'a> {
    pub report: i32,
    pub control: i32,
    pub hold: bool,
    pub ends: &'a Ends,
}

/// Cells and bytes, each with offsets relative to its own start until the layout is known.
#[derive(Default)]
struct Heap {
    cells: Vec<Option<usize>>,
    bytes: Vec<u8>,
}

impl Heap {
    /// Eight-byte aligned: structures want it.
    fn keep(&mut self, bytes: &[u8]) -> usize {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        at
    }

    fn table(&mut self, strings: &[CString]) -> usize {
        let entries: Vec<_> = strings.iter().map(|s| Some(self.keep(s.as_bytes_with_nul()))).collect();
        let at = self.cells.len();
        self.cells.extend(entries);
        self.cells.push(None);
        at
    }
}

enum Place {
    Value(u64),
    Slot(u64),
    Cell(usize),
    Byte(usize),
}

pub(crate) fn encode(plan: &Plan, channels: &Channels<'_>) -> Vec<u8> {
    let mut heap = Heap::default();
    let places: Vec<Vec<Place>> = plan
        .steps
        .iter()
        .map(|step| step.args.iter().map(|arg| place(arg, &mut heap, channels.ends)).collect())
        .collect();
    let cells_at = size_of::<Header>() + plan.steps.len() * size_of::<Step>();
    let bytes_at = cells_at + heap.cells.len() * 8;
    let length = bytes_at + heap.bytes.len() + 8;

    let mut out = Vec::with_capacity(length);
    header(plan, channels, heap.cells.len(), length, &mut out);
    for (step, places) in plan.steps.iter().zip(&places) {
        out.extend(step.call.to_ne_bytes());
        let bits = |wanted: fn(&Place) -> bool| {
            places.iter().enumerate().fold(0u8, |bits, (n, p)| bits | (u8::from(wanted(p)) << n))
        };
        out.push(bits(|p| matches!(p, Place::Cell(_) | Place::Byte(_))));
        out.push(bits(|p| matches!(p, Place::Slot(_))));
        out.push(step.save.map_or(0, |slot| slot + 1));
        out.push(step.retries);
        out.extend(step.ignore.iter().flat_map(|e| e.to_ne_bytes()));
        // Step is eight-byte aligned after 16 bytes.
        for n in 0..6 {
            let value = match places.get(n) {
                None => 0,
                Some(Place::Value(value) | Place::Slot(value)) => *value,
                Some(Place::Cell(at)) => (cells_at + 8 * at) as u64,
                Some(Place::Byte(at)) => (bytes_at + at) as u64,
            };
            out.extend(value.to_ne_bytes());
        }
    }
    for cell in &heap.cells {
        out.extend(cell.map_or(0, |at| (bytes_at + at) as u64).to_ne_bytes());
    }
    out.extend(&heap.bytes);
    out.extend([0; 8]);
    out
}

fn place(arg: &Arg, heap: &mut Heap, ends: &Ends) -> Place {
    match arg {
        Arg::Number(value) => Place::Value(*value),
        Arg::Descriptor(fd) => Place::Value(fd.as_raw_fd() as u64),
        Arg::Standard(n) => {
            Place::Value(ends.child.get(*n).and_then(Option::as_ref).map_or(u64::MAX, |fd| fd.as_raw_fd() as u64))
        }
        Arg::Slot(slot) => Place::Slot((*slot).into()),
        Arg::Text(text) => Place::Byte(heap.keep(text.as_bytes_with_nul())),
        Arg::Bytes(bytes) => Place::Byte(heap.keep(bytes)),
        Arg::Table(strings) => Place::Cell(heap.table(strings)),
    }
}

fn header(plan: &Plan, channels: &Channels<'_>, cells: usize, length: usize, out: &mut Vec<u8>) {
    let count = |section| plan.steps.iter().filter(|s| s.section == section).count() as u32;
    for word in [
        MAGIC,
        length as u32,
        cells as u32,
        count(Section::Prepare),
        count(Section::Maps),
        count(Section::Child),
    ] {
        out.extend(word.to_ne_bytes());
    }
    out.extend(plan.clone_flags.to_ne_bytes());
    let number = |fd: &Option<_>| fd.as_ref().map_or(-1, |fd: &std::sync::Arc<std::os::fd::OwnedFd>| fd.as_raw_fd());
    for word in [number(&plan.cgroup), number(&plan.procs), channels.report, channels.control] {
        out.extend(word.to_ne_bytes());
    }
    out.extend(u32::from(channels.hold).to_ne_bytes());
    out.extend(0u32.to_ne_bytes());
    for n in 0..KEPT {
        out.extend(plan.kept.get(n).map_or(-1, |fd| fd.as_raw_fd()).to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Run;
    use crate::{Command, Namespace};

    fn bytes() -> Vec<u8> {
        let plan = Command::new("/bin/true").unshare([Namespace::Uts]).hostname("box").plan().unwrap();
        encode(&plan, &Channels { report: -1, control: -1, hold: false, ends: &Ends::default() })
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
        assert!(header.child > 3);
        assert_eq!(header.kept, [-1; KEPT]);
    }

    #[test]
    fn a_damaged_plan_is_an_error_and_not_a_wild_pointer() {
        let good = bytes();
        assert_eq!(read(&good[..8]).err(), Some(libc::EBADMSG));
        assert_eq!(read(&good[..good.len() - 8]).err(), Some(libc::EBADMSG));
        let header = read(&good).unwrap();
        let cells_at =
            size_of::<Header>() + (header.prepare + header.maps + header.child) as usize * size_of::<Step>();
        let mut wild = good;
        wild[cells_at..cells_at + 8].copy_from_slice(&u64::MAX.to_ne_bytes());
        assert_eq!(read(&wild).err(), Some(libc::EBADMSG));
    }
}
