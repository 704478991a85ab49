//! The same for many things, on as many processors as there are.

use std::mem;
use std::num::NonZero;
use std::panic;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder, ScopedJoinHandle};

/// For fewer a thread is not worth its start.
const FEW: usize = 64;

/// What comes of each, in their order. They are dropped where they were used.
pub(crate) fn map<T: Send, R: Send>(mut all: Vec<T>, what: impl Fn(T) -> R + Sync) -> Vec<R> {
    let part = |part: Vec<T>| part.into_iter().map(&what).collect::<Vec<R>>();
    if all.len() < 2 * FEW {
        return part(all);
    }
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(all.len() / FEW);
    let size = all.len().div_ceil(threads);
    let chunks: Vec<_> =
        (1..threads).rev().map(|n| Mutex::new(all.split_off(all.len().min(n * size)))).collect();
    let given =
        |chunk: &Mutex<Vec<T>>| part(mem::take(&mut *chunk.lock().unwrap_or_else(PoisonError::into_inner)));
    thread::scope(|scope| {
        let start = |chunk| (chunk, Builder::new().spawn_scoped(scope, move || given(chunk)));
        let others: Vec<_> = chunks.iter().rev().map(start).collect();
        let mut done = part(all);
        for (chunk, thread) in others {
            match thread.map(ScopedJoinHandle::join) {
                Ok(Ok(others)) => done.extend(others),
                Ok(Err(payload)) => panic::resume_unwind(payload),
                // No thread could be had.
                Err(_) => done.extend(given(chunk)),
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
            assert_eq!(super::map(all, |n| 2 * n), doubled);
        }
    }
}
