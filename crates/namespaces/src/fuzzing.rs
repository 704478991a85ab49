//! Doors for `cargo xtask fuzz`: there with `--cfg fuzzing` alone. What they promise is checked here, for any input.

use std::fmt::Display;
use std::str::FromStr;

use crate::run::Run;
use crate::wire::{Header, MAGIC, Step};

/// A plan as the launcher gets it: once as it is, once with the first two words and the last byte right, so that the rest is
/// looked at, too.
pub fn plan(data: &[u8]) {
    decode(&mut Aligned::new(data));
    let mut repaired = Aligned::new(data);
    let length = repaired.length as u32;
    if let [first, ..] = &mut repaired.words[..] {
        let (magic, length) = (MAGIC.to_ne_bytes(), length.to_ne_bytes());
        let mut word = [0; 8];
        word[..4].copy_from_slice(&magic);
        word[4..].copy_from_slice(&length);
        *first = u64::from_ne_bytes(word);
    }
    repaired.end_with_nul();
    decode(&mut repaired);
}

/// What is read in words: each type that can be parsed prints what it reads as the same again.
pub fn words(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    same_again::<crate::IdMap>(text);
    same_again::<crate::Capabilities>(text);
    same_again::<crate::Signal>(text);
    same_again::<crate::CpuSet>(text);
    same_again::<crate::Resource>(text);
    same_again::<crate::ResourceLimit>(text);
    drop(text.parse::<crate::Ulimit>());
    drop(text.parse::<crate::KeptState>());
}

fn same_again<T: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert!(value.to_string().parse::<T>().is_ok_and(|again| again == value), "{value}");
    }
}

/// A copy, aligned as a mapping is. Its memory ends where the plan does, to a word.
struct Aligned {
    words: Vec<u64>,
    length: usize,
}

impl Aligned {
    fn new(data: &[u8]) -> Self {
        let words = data.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        });
        Self { words: words.collect(), length: data.len() }
    }

    fn end_with_nul(&mut self) {
        let last = self.length.wrapping_sub(1);
        if let Some(word) = self.words.get_mut(last / 8) {
            let mut bytes = word.to_ne_bytes();
            bytes[last % 8] = 0;
            *word = u64::from_ne_bytes(bytes);
        }
    }
}

/// Decodes it; where that succeeds, reads all that the steps rely on.
fn decode(plan: &mut Aligned) {
    let (base, length) = (plan.words.as_mut_ptr().cast::<u8>(), plan.length);
    // SAFETY: aligned, writable and ours for `length` bytes; no step is made.
    let Ok(run) = (unsafe { Run::new(base, length) }) else { return };
    let header = &run.header;
    let steps =
        [header.prepare, header.maps, header.child, header.main].iter().map(|n| *n as usize).sum::<usize>();
    let cells_at = size_of::<Header>() + steps * size_of::<Step>();
    let end = cells_at + 8 * run.header.cells as usize;
    assert!(run.header.magic == MAGIC && end < length, "steps or cells beyond the plan");
    for n in 0..steps {
        // SAFETY: inside the plan, as was asserted; aligned, since both sizes are multiples of eight.
        let step = unsafe { *base.add(size_of::<Header>()).cast::<Step>().add(n) };
        // Places are inside, and slots are there, or it is refused.
        std::hint::black_box(run.arguments(&step));
    }
    let cells = plan.words.get(cells_at / 8..end / 8).unwrap_or_default();
    let inside = |cell: u64| cell.checked_sub(base as u64).is_some_and(|offset| offset < length as u64);
    assert!(cells.iter().all(|&cell| cell == 0 || inside(cell)), "an address outside of the plan");
    // SAFETY: not empty, or there would be no header.
    assert_eq!(unsafe { *base.add(length - 1) }, 0, "a string without an end");
}
