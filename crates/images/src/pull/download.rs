//! Layers, some at once; the bottom ones are unpacked while others are on their way.

use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use super::sources::Sources;
use super::{Pull, Stage};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Image, Layer};
use crate::layers::Stack;
use crate::registry::Registry;
use crate::store::{Blobs, Partial, Store};

const CHUNK: usize = 128 << 10;

/// What the threads that fetch and the one that unpacks know of each other.
struct Shared {
    next: AtomicUsize,
    /// Somebody has failed: all others end.
    over: AtomicBool,
    /// Of each layer, once it is here or cannot be had.
    fetched: Mutex<Vec<Option<Result<()>>>>,
    told: Condvar,
}

/// Whoever waits for this layer is told, also when the caller's callback panics.
struct Slot<'a> {
    shared: &'a Shared,
    at: usize,
    fetched: Option<Result<()>>,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let fetched = self.fetched.take().unwrap_or_else(|| {
            Err(Error::new(ErrorKind::Registry, "whoever is told of the progress panicked"))
        });
        let mut all = self.shared.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = all.get_mut(self.at) {
            *slot = Some(fetched);
        }
        self.shared.told.notify_all();
    }
}

/// All of them are here and unpacked afterwards.
pub(super) fn layers(pull: &Pull, image: &Image, sources: &Sources, store: &Store) -> Result<()> {
    let all = image.layers();
    let directory = store.layers();
    let mut stack = Stack::below(&directory, pull.bounds)?;
    let shared = Shared {
        next: AtomicUsize::new(0),
        over: AtomicBool::new(false),
        fetched: Mutex::new(all.iter().map(|_| None).collect()),
        told: Condvar::new(),
    };
    thread::scope(|scope| {
        for _ in 0..pull.jobs.min(all.len()) {
            scope.spawn(|| shared.fetch(pull, all, sources, store));
        }
        let done = all.iter().enumerate().try_for_each(|(at, layer)| {
            let tell = |stage, bytes| pull.tell(&layer.digest, at + 1, all.len(), stage, bytes, layer.size);
            shared.wait(at)?;
            stack.push(layer, &mut |bytes| tell(Stage::Unpacking, bytes))?;
            tell(Stage::Done, layer.size);
            Ok(())
        });
        shared.over.store(true, Ordering::Relaxed);
        done
    })
}

impl Shared {
    /// One layer after the other, until there are no more.
    fn fetch(&self, pull: &Pull, all: &[Layer], sources: &Sources, store: &Store) {
        while !self.over.load(Ordering::Relaxed) {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(layer) = all.get(at) else { return };
            let mut tell = |bytes| {
                pull.tell(&layer.digest, at + 1, all.len(), Stage::Downloading, bytes, layer.size);
                match self.over.load(Ordering::Relaxed) {
                    true => Err(Error::new(ErrorKind::Registry, "another layer has failed")),
                    false => Ok(()),
                }
            };
            let mut slot = Slot { shared: self, at, fetched: None };
            slot.fetched = Some(match store.blobs().has(&layer.digest) {
                true => Ok(()),
                false => sources
                    .each(|registry| blob(registry, store.blobs(), &layer.digest, layer.size, &mut tell))
                    .map_err(|e| e.of(format!("layer {}", layer.digest))),
            });
        }
    }

    /// For the one that is to be unpacked next.
    fn wait(&self, at: usize) -> Result<()> {
        let mut all = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(fetched) = all.get_mut(at).and_then(Option::take) {
                return fetched;
            }
            all = self.told.wait(all).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A blob of this size into the store, unless it is there or somebody else brings it meanwhile. It goes on where it ended before.
pub(super) fn blob(
    registry: &Registry,
    blobs: Blobs<'_>,
    digest: &Digest,
    size: u64,
    tell: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    loop {
        let Some(mut partial) = blobs.fetch(digest)? else { return Ok(()) };
        let begun = partial.have() > 0;
        if partial.have() > size {
            partial.restart()?;
        }
        while partial.have() < size || size == 0 {
            let before = partial.have();
            match part(registry, &mut partial, digest, size, tell) {
                Ok(()) => break,
                // As long as something comes.
                Err(e) if e.again().is_some() && partial.have() > before => {}
                Err(e) => return Err(e),
            }
        }
        match partial.finish() {
            // It may be what was there before.
            Err(e) if begun && e.kind() == ErrorKind::Corrupt => {}
            other => return other,
        }
    }
}

/// One answer of the registry.
fn part(
    registry: &Registry,
    partial: &mut Partial,
    digest: &Digest,
    size: u64,
    tell: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let download = registry.blob(digest, partial.have())?;
    if download.from != partial.have() {
        partial.restart()?;
    }
    let mut body = download.body.into_with_config().limit(u64::MAX).reader();
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = match body.read(&mut buffer) {
            Ok(0) if partial.have() < size => Err("it ends too early".to_owned()),
            Ok(read) => Ok(read),
            Err(e) => Err(e.to_string()),
        };
        let read = read.map_err(|why| {
            Error::new(ErrorKind::Registry, format!("blob {digest}: {why}")).worth_another_try(None)
        })?;
        if read == 0 {
            return Ok(());
        }
        if partial.have() + read as u64 > size {
            let what = format!("blob {digest}: more than the {size} bytes that its manifest says");
            return Err(Error::new(ErrorKind::Corrupt, what));
        }
        partial.write(buffer.get(..read).unwrap_or_default())?;
        tell(partial.have())?;
    }
}
