//! The rules of a filter, call by call, and the ranges of numbers that share a verdict.

use std::collections::{BTreeMap, BTreeSet};

use super::action::SeccompAction;
use super::condition::SeccompCondition;
use super::numbers;

/// From this number on a call is one of x32, the 32-bit ABI in the 64-bit entry of x86_64, where seccomp_data(2) has the
/// architecture of the native ones. Nothing elsewhere.
pub(super) const X32: u32 = 0x4000_0000;

/// What a kernel says that has not got the call: so a program looks for another way.
pub(super) const NOT_THERE: SeccompAction = SeccompAction::Errno(libc::ENOSYS);

/// What each call comes to.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// For the calls without rules.
    default: SeccompAction,
    calls: BTreeMap<u32, Verdict>,
}

/// What one call comes to: the first rule that holds decides, else the last word.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Verdict {
    pub(super) rules: Vec<(Vec<SeccompCondition>, SeccompAction)>,
    pub(super) otherwise: SeccompAction,
}

/// The calls from `start` to the next range.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) start: u32,
    pub(super) verdict: Verdict,
}

impl Rules {
    pub(super) fn new(default: SeccompAction) -> Self {
        Self { default, calls: BTreeMap::new() }
    }

    /// A rule that goes before those that are there. Without conditions it takes their place.
    pub(super) fn add(&mut self, number: u32, conditions: &[SeccompCondition], action: SeccompAction) {
        if conditions.is_empty() {
            self.calls.insert(number, Verdict::always(action));
        } else {
            let default = self.default;
            let verdict = self.calls.entry(number).or_insert_with(|| {
                let known = numbers::known().any(|known| known == number);
                Verdict::always(if known { default } else { unknown(default) })
            });
            verdict.rules.insert(0, (conditions.to_vec(), action));
        }
    }

    /// All numbers from 0 up, in as few ranges as can be. No two neighbours have the same verdict.
    pub(super) fn ranges(&self) -> Vec<Range> {
        let numbers: BTreeSet<u32> = numbers::known().chain(self.calls.keys().copied()).collect();
        let mut ranges = Vec::new();
        let mut next = 0;
        for number in numbers {
            if number > next {
                extend(&mut ranges, next, Verdict::always(unknown(self.default)));
            }
            let verdict = self.calls.get(&number).map_or(Verdict::always(self.default), Verdict::simplified);
            extend(&mut ranges, number, verdict);
            next = number + 1;
        }
        if next < X32 {
            extend(&mut ranges, next, Verdict::always(unknown(self.default)));
        }
        extend(&mut ranges, X32, Verdict::always(NOT_THERE));
        ranges
    }
}

impl Verdict {
    fn always(action: SeccompAction) -> Self {
        Self { rules: Vec::new(), otherwise: action }
    }

    /// Without the rules whose action would come anyway.
    fn simplified(&self) -> Self {
        let mut simple = self.clone();
        while simple.rules.pop_if(|(_, action)| *action == simple.otherwise).is_some() {}
        simple
    }
}

/// For a number without a name: newer than this crate, or in a gap of the table.
fn unknown(default: SeccompAction) -> SeccompAction {
    if default.lets_through() { default } else { NOT_THERE }
}

/// One more range, unless the last one has the same verdict.
fn extend(ranges: &mut Vec<Range>, start: u32, verdict: Verdict) {
    if ranges.last().is_none_or(|last| last.verdict != verdict) {
        ranges.push(Range { start, verdict });
    }
}
