//! SIGWINCH, while somebody follows a window.
//!
//! A signal's handler is the process's, and a window's change is told in no other way. So there is a handler from the
//! first [`Watch`] to the end of the last one, in any number of threads. It wakes each watch through an eventfd and calls
//! the handler that was there. The disposition from before is put back as it was, but only if ours is still in place:
//! code that has put its own over it is expected to call ours, as ours does with the one below.
//!
//! The handler takes no lock and allocates nothing: it reads one immutable [`Snapshot`] through a pointer. What a snapshot
//! names (descriptors) and the snapshot itself go only after [`replace`] has seen no handler running: see there.

use std::ffi::{c_int, c_void};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

/// Somebody who wants to know of changes of the window's size. Readable after one.
#[derive(Debug)]
pub(crate) struct Watch(OwnedFd);

impl Watch {
    pub(crate) fn new() -> io::Result<Self> {
        let watch = Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
        if state.wake.is_empty() {
            state.install()?;
        }
        state.wake.push(watch.0.as_raw_fd());
        state.publish();
        Ok(watch)
    }

    /// Until the next change it is not readable any more.
    pub(crate) fn seen(&self) {
        // EAGAIN: nothing was there.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Before the descriptor closes, and its number can come to mean another file, no handler knows it.
impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = self.0.as_raw_fd();
        let Some(at) = state.wake.iter().position(|&fd| fd == ours) else {
            return; // it could not be installed
        };
        state.wake.swap_remove(at);
        if state.wake.is_empty() {
            state.uninstall();
        }
        state.publish();
    }
}

static STATE: Mutex<State> = Mutex::new(State { wake: Vec::new(), before: None, covered: false });

struct State {
    wake: Vec<RawFd>,
    /// What was there before our handler. Stays when that is gone: a signal may be on its way to it.
    before: Option<libc::sigaction>,
    /// Somebody's handler lay over ours when the last watch ended.
    covered: bool,
}

impl State {
    fn install(&mut self) -> io::Result<()> {
        let now = disposition()?;
        // A handler that lies over ours, and is expected to call it: over that one ours would be called by what it calls,
        // and the two for ever.
        if is_ours(&now) || self.covered && is_handler(&now) {
            return Ok(());
        }
        self.covered = false;
        self.before = Some(now);
        self.publish();
        let before = replace_disposition(&covering(&now))?;
        // Another thread may have changed it in between.
        if !is_ours(&before) {
            self.before = Some(before);
        }
        Ok(())
    }

    fn uninstall(&mut self) {
        let Ok(now) = disposition() else { return };
        match &self.before {
            Some(before) if is_ours(&now) => {
                // Cannot fail: the kernel gave it to us.
                let _ = replace_disposition(before);
                self.covered = false;
            }
            _ => self.covered = is_handler(&now),
        }
    }

    fn publish(&self) {
        let below = self.before.as_ref().filter(|before| is_handler(before)).map(|before| Below {
            address: before.sa_sigaction,
            takes_info: before.sa_flags & libc::SA_SIGINFO != 0,
        });
        replace(Box::new(Snapshot { wake: self.wake.clone(), below }));
    }
}

/// Our handler over this disposition: as that one in what it blocks, where it runs and what it interrupts; without a
/// handler nothing was interrupted.
fn covering(before: &libc::sigaction) -> libc::sigaction {
    let mut ours = *before;
    let kept = if is_handler(before) {
        before.sa_flags & (libc::SA_RESTART | libc::SA_ONSTACK | libc::SA_NODEFER)
    } else {
        libc::SA_RESTART | libc::SA_ONSTACK
    };
    ours.sa_sigaction = address();
    ours.sa_flags = kept | libc::SA_SIGINFO;
    ours
}

fn is_ours(action: &libc::sigaction) -> bool {
    action.sa_sigaction == address()
}

fn is_handler(action: &libc::sigaction) -> bool {
    action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != libc::SIG_IGN
}

fn address() -> usize {
    handler as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize
}

/// What the handler reads.
struct Snapshot {
    /// Each open for as long as it is in here.
    wake: Vec<RawFd>,
    below: Option<Below>,
}

/// The handler that was there before.
#[derive(Clone, Copy)]
struct Below {
    address: usize,
    takes_info: bool,
}

static SNAPSHOT: AtomicPtr<Snapshot> = AtomicPtr::new(ptr::null_mut());
/// How many handlers may have a snapshot.
static READING: AtomicUsize = AtomicUsize::new(0);

/// Puts the new snapshot into place, and returns when no handler has the one before it.
///
/// A handler counts itself before it takes the pointer. All four operations are in one order (SeqCst): if it took the old
/// pointer, that was before the swap, its count was before that, and so the load here sees it until it is done. It does
/// not wait for anything, so this ends soon, also if the handler runs on this thread: then it runs to its end first.
fn replace(new: Box<Snapshot>) {
    let old = SNAPSHOT.swap(Box::into_raw(new), SeqCst);
    while READING.load(SeqCst) != 0 {
        // Not a yield: under a real-time policy that lets nobody else run who has less priority.
        thread::sleep(Duration::from_micros(20));
    }
    if !old.is_null() {
        // SAFETY: it came from `into_raw`, is not in `SNAPSHOT` any more, and no handler has it.
        drop(unsafe { Box::from_raw(old) });
    }
}

/// Async-signal-safe (signal-safety(7)): atomics, write(2), and what the handler below does by itself.
extern "C" fn handler(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    READING.fetch_add(1, SeqCst);
    // SAFETY: published by `replace`, which frees it only when `READING` was 0 after it was out of `SNAPSHOT`.
    let below = unsafe { SNAPSHOT.load(SeqCst).as_ref() }.and_then(|snapshot| {
        snapshot.wake.iter().copied().for_each(wake);
        snapshot.below
    });
    READING.fetch_sub(1, SeqCst);
    // Not counted any more: it may take its time, or never return.
    if let Some(below) = below {
        call(below, signal, info, context);
    }
}

/// One more for the eventfd. EAGAIN, when it is full of them, is as good.
fn wake(fd: RawFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: errno is this thread's, and is as before afterwards: the code that the signal has interrupted may be about
    // to read it. The bytes are on this stack; a snapshot's descriptors are open.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(fd, one.as_ptr().cast(), one.len());
        *libc::__errno_location() = errno;
    }
}

fn call(below: Below, signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    if below.takes_info {
        // SAFETY: a disposition with SA_SIGINFO that sigaction(2) gave us, and neither SIG_DFL nor SIG_IGN: an address of
        // a function of this type. The arguments are the kernel's.
        let function: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
            unsafe { mem::transmute(below.address) };
        function(signal, info, context);
    } else {
        // SAFETY: as above, of one without SA_SIGINFO.
        let function: extern "C" fn(c_int) = unsafe { mem::transmute(below.address) };
        function(signal);
    }
}

fn disposition() -> io::Result<libc::sigaction> {
    change(None)
}

/// Returns the one before.
fn replace_disposition(new: &libc::sigaction) -> io::Result<libc::sigaction> {
    change(Some(new))
}

/// sigaction(2) of SIGWINCH. `new` is our handler, which is sound at any time, or what was there before.
fn change(new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    // SAFETY: all zero is a valid sigaction.
    let mut before: libc::sigaction = unsafe { mem::zeroed() };
    let new = new.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: both are null or valid for the call.
    match unsafe { libc::sigaction(libc::SIGWINCH, new, &mut before) } {
        0 => Ok(before),
        _ => Err(io::Error::last_os_error()),
    }
}
