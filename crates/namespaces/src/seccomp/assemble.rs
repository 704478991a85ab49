//! From rules to classic BPF (Documentation/networking/filter.rst, seccomp(2)).
//!
//! A conditional jump reaches 255 instructions ahead, and none goes back. So the program is written from its end: what a
//! jump leads to is there already, its distance known, and what is too far away gets a copy or an unconditional jump, which
//! reaches anywhere.

use std::collections::HashMap;
use std::mem::offset_of;

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W,
    seccomp_data, sock_filter,
};

use super::action::SeccompAction;
use super::condition::SeccompCondition;
use super::rules::{NOT_THERE, Range, Rules, Verdict};

/// The native architecture, as seccomp_data(2) names it (linux/audit.h).
#[cfg(target_arch = "x86_64")]
pub(super) const NATIVE: u32 = 0xc000_003e;
/// The native architecture, as seccomp_data(2) names it (linux/audit.h).
#[cfg(target_arch = "aarch64")]
pub(super) const NATIVE: u32 = 0xc000_00b7;

const _: () = assert!(cfg!(target_endian = "little"), "the low half of an argument is its first word");

const ARCHITECTURE: u32 = offset_of!(seccomp_data, arch) as u32;
const NUMBER: u32 = offset_of!(seccomp_data, nr) as u32;
const ARGUMENTS: u32 = offset_of!(seccomp_data, args) as u32;

/// How far a conditional jump leads.
const REACH: usize = u8::MAX as usize;

/// The whole filter: another architecture's calls are not there, the others are searched by number.
pub(super) fn assemble(rules: &Rules) -> Vec<sock_filter> {
    let mut program = Program::default();
    let root = program.search(&rules.ranges());
    let native = program.load(NUMBER, root);
    let foreign = program.end(NOT_THERE.word());
    let check = program.branch(BPF_JEQ, NATIVE, native, foreign);
    program.load(ARCHITECTURE, check);
    program.reversed.reverse();
    program.reversed
}

#[derive(Default)]
struct Program {
    /// The last instruction first.
    reversed: Vec<sock_filter>,
    /// The latest return of each word.
    ends: HashMap<u32, Label>,
    verdicts: HashMap<Verdict, Label>,
}

/// An instruction, counted from the end of the program.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Label(usize);

/// Code that wants a word of the arguments in the accumulator; and the same with a load before it, once it was needed.
struct Block {
    bare: Label,
    word: Option<u32>,
    loaded: Option<Label>,
}

impl Program {
    /// The number is in the accumulator.
    fn search(&mut self, ranges: &[Range]) -> Label {
        match ranges {
            [] => self.end(NOT_THERE.word()),
            [only] => self.verdict(&only.verdict),
            _ => {
                let (below, above) = ranges.split_at(ranges.len() / 2);
                let start = above[0].start;
                let above = self.search(above);
                let below = self.search(below);
                self.branch(BPF_JGE, start, above, below)
            }
        }
    }

    fn verdict(&mut self, verdict: &Verdict) -> Label {
        if let Some(&label) = self.verdicts.get(verdict) {
            return label;
        }
        let mut rest = Block::end(self.action(verdict.otherwise));
        for (conditions, action) in verdict.rules.iter().rev() {
            let mut block = Block::end(self.action(*action));
            for condition in conditions.iter().rev() {
                block = self.condition(condition, block, &mut rest);
            }
            rest = block;
        }
        let label = self.enter(&mut rest, None);
        if !verdict.rules.is_empty() {
            self.verdicts.insert(verdict.clone(), label);
        }
        label
    }

    fn condition(&mut self, condition: &SeccompCondition, mut holds: Block, fails: &mut Block) -> Block {
        let low = ARGUMENTS + 8 * u32::from(condition.argument);
        let (mask, value) = (condition.mask, condition.value);
        let (same, other) = if condition.negated { (fails, &mut holds) } else { (&mut holds, fails) };
        let mut block = self.compare(low, mask as u32, value as u32, same, other);
        if condition.wide {
            block = self.compare(low + 4, (mask >> 32) as u32, (value >> 32) as u32, &mut block, other);
        }
        block
    }

    /// Whether a word, below a mask, is a value.
    fn compare(&mut self, word: u32, mask: u32, value: u32, same: &mut Block, other: &mut Block) -> Block {
        let kept = (mask == u32::MAX || value == 0).then_some(word);
        let same = self.enter(same, kept);
        let other = self.enter(other, kept);
        let bare = match (mask, value) {
            (u32::MAX, _) => self.branch(BPF_JEQ, value, same, other),
            (_, 0) => self.branch(BPF_JSET, mask, other, same),
            _ => {
                let branch = self.branch(BPF_JEQ, value, same, other);
                self.before(branch);
                self.push(BPF_ALU | BPF_AND | BPF_K, 0, 0, mask)
            }
        };
        Block { bare, word: Some(word), loaded: None }
    }

    /// The way into a block for who has this word in the accumulator.
    fn enter(&mut self, block: &mut Block, has: Option<u32>) -> Label {
        match block.word {
            Some(word) if block.word != has => {
                *block.loaded.get_or_insert_with(|| self.load(word, block.bare))
            }
            _ => block.bare,
        }
    }

    fn action(&mut self, action: SeccompAction) -> Label {
        self.end(action.word())
    }

    fn end(&mut self, word: u32) -> Label {
        match self.ends.get(&word) {
            Some(&label) if self.reaches(label) => label,
            _ => {
                let label = self.push(BPF_RET | BPF_K, 0, 0, word);
                self.ends.insert(word, label);
                label
            }
        }
    }

    fn load(&mut self, offset: u32, next: Label) -> Label {
        self.before(next);
        self.push(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset)
    }

    /// What is pushed next is followed by `next`.
    fn before(&mut self, next: Label) {
        if next.0 + 1 != self.reversed.len() {
            self.jump(next);
        }
    }

    fn branch(&mut self, test: u32, k: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let yes = self.near(yes);
        let no = self.near(no);
        let (yes, no) = (self.distance(yes), self.distance(no));
        self.push(BPF_JMP | test | BPF_K, yes as u8, no as u8, k)
    }

    /// The same place within the reach of a branch.
    fn near(&mut self, label: Label) -> Label {
        let target = self.reversed[label.0];
        if self.reaches(label) {
            label
        } else if u32::from(target.code) == BPF_RET | BPF_K {
            self.end(target.k)
        } else {
            self.jump(label)
        }
    }

    /// Whether a branch reaches it, though one more instruction comes between for the other way.
    fn reaches(&self, label: Label) -> bool {
        self.distance(label) < REACH
    }

    fn jump(&mut self, to: Label) -> Label {
        let distance = self.distance(to);
        self.push(BPF_JMP | BPF_JA | BPF_K, 0, 0, distance as u32)
    }

    /// From the instruction to be pushed next: the kernel counts from the one after it.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - label.0 - 1
    }

    fn push(&mut self, code: u32, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(sock_filter { code: code as u16, jt, jf, k });
        Label(self.reversed.len() - 1)
    }
}

impl Block {
    fn end(label: Label) -> Self {
        Self { bare: label, word: None, loaded: None }
    }
}
