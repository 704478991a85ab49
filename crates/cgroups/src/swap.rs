//! Swap beside memory, and machines that do not account for it.

use crate::{Bytes, Error, ErrorKind, Limits, Result};

/// The swap limit to set: what was said, else none beside a memory limit; without a limit of memory there is none of swap.
pub(crate) fn wanted(limits: &Limits) -> Option<Bytes> {
    let with = |memory| if memory == Bytes::UNLIMITED { memory } else { Bytes::new(0) };
    limits.get_swap().or(limits.get_memory().map(with))
}

/// cgroup v1 limits memory and swap together.
#[cfg_attr(not(feature = "cgroup-v1"), expect(dead_code, reason = "cgroup v1 only"))]
pub(crate) fn together(memory: Bytes, beyond: Bytes) -> u64 {
    memory.get().saturating_add(beyond.get()).min(i64::MAX as u64)
}

/// For a kernel without the given file: nothing to do for a machine that does not swap, nor for a limit that was
/// not asked for; else the limit would not hold.
pub(crate) fn without_accounting(asked: Option<Bytes>, file: &str) -> Result<()> {
    match asked {
        Some(swap) if is_on() => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "swap limit {swap}: this kernel's memory controller has no {file}, and the machine swaps"
            ),
        )
        .with_hint("boot with swapaccount=1, or switch swap off: swapoff -a")),
        _ => Ok(()),
    }
}

/// proc_swaps(5): a heading, then a line each. On when in doubt.
fn is_on() -> bool {
    std::fs::read_to_string("/proc/swaps").map_or(true, |table| table.lines().nth(1).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_limit_without_a_word_on_swap_forbids_it() {
        assert_eq!(wanted(&Limits::new()), None);
        assert_eq!(wanted(&Limits::new().memory(8192)), Some(Bytes::new(0)));
        assert_eq!(wanted(&Limits::new().memory(Bytes::UNLIMITED)), Some(Bytes::UNLIMITED));
        assert_eq!(wanted(&Limits::new().memory(8192).swap(4096)), Some(Bytes::new(4096)));
        assert_eq!(wanted(&Limits::new().swap(4096)), Some(Bytes::new(4096)));
    }

    #[cfg(feature = "cgroup-v1")]
    #[test]
    fn memory_and_swap_together_never_wrap() {
        assert_eq!(together(Bytes::mib(64), Bytes::mib(16)), 80 << 20);
        assert_eq!(together(Bytes::new(u64::MAX), Bytes::new(1)), i64::MAX as u64);
    }

    #[test]
    fn swap_that_nobody_asked_to_limit_is_no_error() {
        without_accounting(None, "memory.swap.max").unwrap();
    }
}
