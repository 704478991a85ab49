//! The window is followed by a handler of SIGWINCH that comes and goes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};

use isolate_namespaces::{Terminal, WindowSize};
use rustix::process::{Signal, getpid, kill_process};

use crate::{alone, is_raw, pair, until};

static PLAIN: AtomicUsize = AtomicUsize::new(0);
static WITH_INFO: AtomicUsize = AtomicUsize::new(0);
static ABOVE: AtomicUsize = AtomicUsize::new(0);
/// What `above` found when it was set.
static BELOW_ABOVE: AtomicUsize = AtomicUsize::new(0);

extern "C" fn plain(_: i32) {
    PLAIN.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn with_info(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel's, handed on.
    let sender = unsafe { (*info).si_pid() };
    assert_eq!((signal, sender), (libc::SIGWINCH, std::process::id() as i32));
    WITH_INFO.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn above(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    ABOVE.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the library's handler, which takes these.
    let below: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) =
        unsafe { std::mem::transmute(BELOW_ABOVE.load(Ordering::SeqCst)) };
    below(signal, info, context);
}

/// Sets the disposition of SIGWINCH, if there is a new one; address, flags and mask of the old one.
fn disposition(new: Option<(usize, i32)>) -> (usize, i32, bool) {
    // SAFETY: all zero is a valid sigaction; a new one is SIG_DFL or one of the handlers above with its flags.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let mut old: libc::sigaction = std::mem::zeroed();
        let mut pointer = std::ptr::null();
        if let Some((address, flags)) = new {
            action.sa_sigaction = address;
            action.sa_flags = flags;
            libc::sigaddset(&mut action.sa_mask, libc::SIGUSR2);
            pointer = &raw const action;
        }
        assert_eq!(libc::sigaction(libc::SIGWINCH, pointer, &mut old), 0);
        (old.sa_sigaction, old.sa_flags, libc::sigismember(&old.sa_mask, libc::SIGUSR2) == 1)
    }
}

/// One at a desk, until the program is dropped.
struct Sitting<'scope> {
    person: Terminal,
    inside: Terminal,
    program: File,
    interaction: ScopedJoinHandle<'scope, io::Result<()>>,
}

impl<'scope> Sitting<'scope> {
    fn new(scope: &'scope thread::Scope<'scope, '_>) -> Self {
        let (person, desk) = pair();
        let (mut terminal, program) = pair();
        let inside = terminal.try_clone().unwrap();
        let looked_at = desk.try_clone().unwrap();
        let interaction = scope.spawn(move || terminal.interact_with(&desk, &desk));
        until("raw", || is_raw(&looked_at));
        Self { person, inside, program, interaction }
    }

    fn follows(&self, rows: u16) {
        let size = WindowSize::new(rows, 80);
        self.person.resize(size).unwrap();
        kill_process(getpid(), Signal::WINCH).unwrap();
        until("the size is followed", || self.inside.size().unwrap() == size);
    }

    fn end(self) {
        drop(self.program);
        self.interaction.join().unwrap().unwrap();
    }
}

#[test]
fn windows_are_followed_and_a_handler_that_was_there_is_called_and_comes_back() {
    let _binary = alone();
    type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);
    let cases = [
        (plain as extern "C" fn(i32) as usize, libc::SA_RESTART, Some(&PLAIN)),
        (with_info as Handler as usize, libc::SA_SIGINFO | libc::SA_NODEFER, Some(&WITH_INFO)),
        (libc::SIG_DFL, 0, None),
        (libc::SIG_IGN, 0, None),
    ];
    let original = disposition(None);
    for (address, flags, calls) in cases {
        disposition(Some((address, flags)));
        let before = disposition(None);
        PLAIN.store(0, Ordering::SeqCst);
        thread::scope(|scope| {
            let (one, two) = (Sitting::new(scope), Sitting::new(scope));
            assert_ne!(disposition(None).0, address, "a handler of the library's");
            one.follows(30);
            two.follows(31);
            one.end();
            two.follows(32);
            assert_ne!(disposition(None), before);
            two.end();
        });
        assert_eq!(disposition(None), before, "address, flags and mask");
        if let Some(calls) = calls {
            until("three calls", || calls.load(Ordering::SeqCst) == 3);
            kill_process(getpid(), Signal::WINCH).unwrap();
            until("one more", || calls.load(Ordering::SeqCst) == 4);
        }
    }
    disposition(Some((original.0, original.1)));
}

#[test]
fn a_handler_that_is_put_over_ours_stays_and_goes_on_being_called_with_the_one_below() {
    let _binary = alone();
    let original = disposition(Some((plain as extern "C" fn(i32) as usize, 0)));
    let over = above as extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) as usize;
    PLAIN.store(0, Ordering::SeqCst);
    let counted = |above, plain| {
        until("each is called once", || {
            (ABOVE.load(Ordering::SeqCst), PLAIN.load(Ordering::SeqCst)) == (above, plain)
        });
    };
    thread::scope(|scope| {
        let sitting = Sitting::new(scope);
        BELOW_ABOVE.store(disposition(None).0, Ordering::SeqCst);
        disposition(Some((over, libc::SA_SIGINFO)));
        sitting.follows(40);
        counted(1, 1);
        sitting.end();
        assert_eq!(disposition(None).0, over);
        kill_process(getpid(), Signal::WINCH).unwrap();
        counted(2, 2);
        // Not over that one again, where the two would call each other.
        let sitting = Sitting::new(scope);
        assert_eq!(disposition(None).0, over);
        sitting.follows(41);
        counted(3, 3);
        // It takes itself away, and ours is what it found.
        disposition(Some((BELOW_ABOVE.load(Ordering::SeqCst), libc::SA_SIGINFO)));
        sitting.follows(42);
        counted(3, 4);
        sitting.end();
    });
    assert_eq!(disposition(None).0, plain as extern "C" fn(i32) as usize);
    disposition(Some((original.0, original.1)));
}

#[test]
fn signals_at_any_moment_of_interactions_that_come_and_go() {
    let _binary = alone();
    let original = disposition(Some((plain as extern "C" fn(i32) as usize, libc::SA_RESTART)));
    let before = disposition(None);
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let open = descriptors();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let storm = scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                kill_process(getpid(), Signal::WINCH).unwrap();
            }
        });
        let sitters: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..25 {
                        thread::scope(|scope| Sitting::new(scope).end());
                    }
                })
            })
            .collect();
        for sitter in sitters {
            sitter.join().unwrap();
        }
        over.store(true, Ordering::SeqCst);
        storm.join().unwrap();
    });
    assert_eq!(disposition(None), before);
    assert_eq!(descriptors(), open);
    disposition(Some((original.0, original.1)));
}

#[test]
fn without_a_terminal_there_is_no_handler() {
    let _binary = alone();
    let before = disposition(None);
    let (near, mut far) = UnixStream::pair().unwrap();
    let (mut terminal, mut program) = pair();
    thread::scope(|scope| {
        let interaction = scope.spawn(move || terminal.interact_with(&near, &near));
        program.write_all(b"x").unwrap();
        far.read_exact(&mut [0]).unwrap();
        assert_eq!(disposition(None), before);
        drop(program);
        interaction.join().unwrap().unwrap();
    });
}
