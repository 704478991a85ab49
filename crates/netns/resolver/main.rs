//! The name server of a network: answers from a table that the library writes, asks others for the rest. No libc, no
//! allocation, no panic.
//!
//! Its standard input is a socket with one message: how many sockets for UDP and for TCP and how many control groups, and
//! with it the descriptors: the directory of the table, the lock, then those. It goes on in a process of its own, says 0 or
//! an errno on that socket, and stays until the table says that it is over or is gone.
#![no_std]
#![no_main]
#![no_builtins]

mod confine;
mod forward;
mod mem;
mod message;
mod reply;
mod serve;
mod sys;
#[expect(dead_code, reason = "the library's half of the format")]
mod table;
mod tcp;
mod watch;

use core::cell::UnsafeCell;

use serve::{FIRST, MOST, Server};
use sys::nr;
use watch::DIRECTORY;

// The kernel enters without a return address, on a stack that is made straight.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call {0}", "ud2", sym start);
#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x30, xzr", "bl {0}", "brk 1", sym start);

/// The socket to the library, until the server is ready.
const CHANNEL: i32 = 0;
/// Most control groups: v1 has one for each controller.
const GROUPS: usize = 16;

/// What one thread has alone.
struct Alone<T>(UnsafeCell<T>);

// SAFETY: this program has one thread in each process.
unsafe impl<T> Sync for Alone<T> {}

static SERVER: Alone<Server> = Alone(UnsafeCell::new(Server::NEW));

extern "C" fn start() -> ! {
    sys::default_signals();
    // What the caller's program has open and did not mean for us.
    sys::close_from(DIRECTORY);
    let given = given();
    let pid = match given {
        Ok(_) => sys::fork(),
        Err(errno) => -errno,
    };
    if pid < 0 {
        tell(-pid);
    }
    if pid != 0 {
        sys::exit(usize::from(pid < 0));
    }
    // SAFETY: the only reference that is ever made.
    let server = unsafe { &mut *SERVER.0.get() };
    if let Err(errno) = given.and_then(|given| prepare(server, given)) {
        // Who hears of it finds neither the lock nor the port taken.
        sys::close_from(DIRECTORY);
        tell(errno);
        sys::exit(1);
    }
    if !tell(0) {
        // Nobody waits any more, and nobody knows of this server.
        sys::exit(1);
    }
    // The null device, which the library has put there.
    sys::numbers(nr::DUP3, [1, CHANNEL as usize, 0]);
    server.run();
    server.close();
    sys::exit(0)
}

struct Given {
    udp: usize,
    tcp: usize,
    groups: usize,
}

fn given() -> Result<Given, isize> {
    let mut counts = [0u8; 3];
    let (got, count) = loop {
        match sys::receive_message(CHANNEL, &mut counts) {
            (got, _) if got == -sys::EINTR => {}
            got => break got,
        }
    };
    let [udp, tcp, groups] = counts.map(usize::from);
    if got != 3 || count != 2 + udp + tcp + groups || udp > MOST || tcp > MOST || groups > GROUPS {
        return Err(if got < 0 { -got } else { sys::EBADMSG });
    }
    Ok(Given { udp, tcp, groups })
}

/// Becomes a process that belongs to nobody and can do nothing but its work. The errno of what is refused.
fn prepare(server: &mut Server, given: Given) -> Result<(), isize> {
    sys::numbers(nr::SETSID, [0; 3]);
    sys::set_name(c"isolate-names");
    (server.udp, server.tcp) = (given.udp, given.tcp);
    let first = FIRST + (given.udp + given.tcp) as i32;
    confine::join((first..).take(given.groups))?;
    let moved = sys::numbers(nr::FCHDIR, [DIRECTORY as usize, 0, 0]);
    if moved < 0 {
        return Err(-moved);
    }
    for (own, fd) in server.own.iter_mut().zip((FIRST..).take(given.udp)) {
        *own = sys::name_of(fd);
    }
    server.watch.listen();
    confine::drop_privileges()?;
    server.watch.first()?;
    confine::filter()
}

/// Whether the library has heard it.
fn tell(errno: isize) -> bool {
    sys::send(CHANNEL, &(errno as u32).to_le_bytes()) == 4
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit(123)
}
