//! A set of processors.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// One more than the highest number: what the largest kernels are built for (`CONFIG_NR_CPUS` with `MAXSMP`).
const MOST: usize = 8192;
/// What the kernel reads a mask in (sched_setaffinity(2)): unsigned long.
const WORD_BYTES: usize = size_of::<u64>();

/// Processors by number, for sched_setaffinity(2). Written as in cpuset(7).
///
/// The program and what it starts run only there; any of them may change that again, within the processors of its
/// control group. Numbers of processors that are not there have no effect, but one at least must be.
///
/// ```
/// use isolate_namespaces::CpuSet;
/// let set: CpuSet = "0-2,7".parse()?;
/// assert_eq!(set, CpuSet::from_iter([7, 0, 1, 2]));
/// assert_eq!(set.to_string(), "0-2,7");
/// # Ok::<(), isolate_namespaces::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CpuSet(BTreeSet<usize>);

impl CpuSet {
    /// The numbers, from the lowest on.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().copied()
    }

    /// Whether this processor is in it.
    #[must_use]
    pub fn contains(&self, processor: usize) -> bool {
        self.0.contains(&processor)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none: nothing can run there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The mask as the kernel reads it: words of 64 bits in the machine's order, as few as the highest number needs. A
    /// shorter mask than the kernel's own counts as filled up with zeros.
    pub(crate) fn mask(&self) -> Result<Vec<u8>> {
        let Some(&last) = self.0.last() else {
            return Err(Error::invalid("processors: the set is empty, nothing could run"));
        };
        if last >= MOST {
            return Err(too_high(last));
        }
        let mut words = vec![0u64; last / 64 + 1];
        for processor in self.iter() {
            words[processor / 64] |= 1 << (processor % 64);
        }
        let mut mask = Vec::with_capacity(words.len() * WORD_BYTES);
        words.into_iter().for_each(|word| mask.extend(word.to_ne_bytes()));
        Ok(mask)
    }

    /// Runs of consecutive numbers, first and last.
    fn runs(&self) -> Vec<(usize, usize)> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for processor in self.iter() {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == processor => *last = processor,
                _ => runs.push((processor, processor)),
            }
        }
        runs
    }
}

/// Any numbers: from 8192 on they are an error where the set is used.
impl FromIterator<usize> for CpuSet {
    fn from_iter<I: IntoIterator<Item = usize>>(processors: I) -> Self {
        Self(processors.into_iter().collect())
    }
}

/// The list format of cpuset(7): `0-3,7`; nothing for the empty set. Reading it gives the same set.
impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self
            .runs()
            .into_iter()
            .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
        f.pad(&runs.collect::<Vec<_>>().join(","))
    }
}

/// The list format of cpuset(7): numbers and ranges with commas, `0-3,7`, as files below /sys and /proc have it. An
/// empty text is the empty set.
///
/// # Errors
///
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for anything else, for a range that goes down, and for numbers from
/// 8192 on.
impl FromStr for CpuSet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid(format!("processors `{text}`: not a list of processors"))
                .with_hint("write it like 0-3,7")
        };
        let mut set = BTreeSet::new();
        if text.trim().is_empty() {
            return Ok(Self(set));
        }
        for part in text.trim().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = number(first).zip(number(last)).ok_or_else(wrong)?;
            if first > last {
                return Err(wrong());
            }
            // Before the range is filled in: a text of ten bytes must not take all memory.
            if last >= MOST {
                return Err(too_high(last));
            }
            set.extend(first..=last);
        }
        Ok(Self(set))
    }
}

/// Digits alone: `usize` would read a plus sign as well.
fn number(text: &str) -> Option<usize> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn too_high(processor: usize) -> Error {
    Error::invalid(format!("processor {processor}: the highest number is {}", MOST - 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;

    #[test]
    fn lists_are_read_and_written_as_in_cpuset() {
        for (text, numbers, written) in [
            ("0", vec![0], "0"),
            ("0-3,7", vec![0, 1, 2, 3, 7], "0-3,7"),
            ("7,0-1,1-2\n", vec![0, 1, 2, 7], "0-2,7"),
            ("5-5", vec![5], "5"),
            ("3,4", vec![3, 4], "3-4"),
            ("8191", vec![8191], "8191"),
            (" ", vec![], ""),
        ] {
            let set: CpuSet = text.parse().unwrap();
            assert_eq!(set.iter().collect::<Vec<_>>(), numbers, "{text}");
            assert_eq!(set.to_string(), written);
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in [
            ",",
            "0,",
            ",0",
            "-",
            "-1",
            "1-",
            "3-1",
            "0-1-2",
            "+1",
            "a",
            "0 1",
            "0-",
            "0, 1",
            "8192",
            "0-8192",
            "0-18446744073709551615",
            "99999999999999999999",
        ] {
            let error = text.parse::<CpuSet>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        }
    }

    #[test]
    fn a_mask_has_whole_words_and_no_more_than_it_needs() {
        let mask = |numbers: &[usize]| CpuSet::from_iter(numbers.iter().copied()).mask().unwrap();
        assert_eq!(mask(&[0, 2]), 5u64.to_ne_bytes());
        assert_eq!(mask(&[63]), (1u64 << 63).to_ne_bytes());
        assert_eq!(mask(&[64]), [0u64.to_ne_bytes(), 1u64.to_ne_bytes()].concat());
        assert_eq!(mask(&[8191]).len(), 1024);
    }

    #[test]
    fn an_empty_set_and_one_beyond_the_bound_have_no_mask() {
        assert_eq!(CpuSet::default().mask().unwrap_err().kind(), ErrorKind::InvalidInput);
        let error = CpuSet::from_iter([usize::MAX]).mask().unwrap_err();
        assert!(error.to_string().contains("8191"), "{error}");
    }

    proptest! {
        #[test]
        fn a_set_survives_writing_and_reading(numbers: Vec<u16>) {
            let set: CpuSet = numbers.into_iter().map(|n| usize::from(n) % MOST).collect();
            prop_assert_eq!(set.to_string().parse::<CpuSet>().unwrap(), set);
        }

        #[test]
        fn a_mask_has_exactly_the_bits_of_its_set(numbers in prop::collection::btree_set(0..MOST, 1..20)) {
            let mask = CpuSet(numbers.clone()).mask().unwrap();
            let words = mask.chunks(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect::<Vec<_>>();
            let set: BTreeSet<_> = (0..words.len() * 64).filter(|n| words[n / 64] >> (n % 64) & 1 == 1).collect();
            prop_assert_eq!(set, numbers);
        }

        #[test]
        fn any_text_is_a_set_or_an_error_and_never_a_panic(text in "[0-9,-]{0,24}|.{0,24}") {
            let _ = text.parse::<CpuSet>();
        }
    }
}
