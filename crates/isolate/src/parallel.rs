//! The same for many things, on as many processors as there are.

use std::num::NonZero;
use std::panic;
use std::thread::{self, Builder, ScopedJoinHandle};

/// For fewer a thread is not worth its start.
const FEW: usize = 64;

/// What comes of each, in their order.
pub(crate) fn map<T: Sync, R: Send>(all: &[T], what: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let part = |part: &[T]| part.iter().map(&what).collect::<Vec<R>>();
    if all.len() < 2 * FEW {
        return part(all);
    }
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(all.len() / FEW);
    let (own, rest) = all.split_at(all.len().div_ceil(threads));
    thread::scope(|scope| {
        let start = |chunk| (chunk, Builder::new().spawn_scoped(scope, move || part(chunk)));
        let others: Vec<_> = rest.chunks(own.len()).map(start).collect();
        let mut done = part(own);
        for (chunk, thread) in others {
            match thread.map(ScopedJoinHandle::join) {
                Ok(Ok(others)) => done.extend(others),
                Ok(Err(payload)) => panic::resume_unwind(payload),
                // No thread could be had.
                Err(_) => done.extend(part(chunk)),
            }
        }
        done
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_is_done_once_and_in_its_order() {
        for many in [0, 1, 63, 64, 127, 128, 129, 1000, 4097] {
            let all: Vec<u32> = (0..many).collect();
            let doubled: Vec<u32> = all.iter().map(|n| 2 * n).collect();
            assert_eq!(super::map(&all, |n| 2 * n), doubled);
        }
    }
}
