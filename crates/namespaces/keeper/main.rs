//! The keeper: what the caller was to a container's monitor, once the caller has handed the container over. It keeps the
//! log, records the end, starts again, checks health, and answers other processes. No libc, no allocation, no panic.
//!
//! Arguments: its name, the descriptor of the configuration, that of the report; decimal. It says on the report that it is
//! ready, or why not. Every signal is blocked, as it is for the launchers that it starts.
#![no_std]
#![no_main]
#![no_builtins]

mod calendar;
mod call;
mod check;
mod clients;
mod config;
mod keep;
mod log;
#[path = "../launcher/mem.rs"]
mod mem;
mod record;
mod run;
mod start;
#[path = "../launcher/sys.rs"]
#[expect(dead_code, reason = "the launcher makes more calls by number")]
mod sys;
mod text;
#[path = "../src/wire.rs"]
#[expect(dead_code, reason = "the keeper has plans carried out, and reads none")]
mod wire;

use core::cell::UnsafeCell;

use keep::Keeper;
use wire::{BEFORE, Report};

// The kernel enters with the stack pointer at argc; hand that address to Rust on an aligned stack.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {0}", "ud2", sym enter);
#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x30, xzr", "mov x0, sp", "bl {0}", "brk 1", sym enter);

/// What one thread has alone. On pages of its own, so that they are as few as can be.
#[repr(align(4096))]
struct Alone<T>(UnsafeCell<T>);

// SAFETY: this program has one thread, and each process its own memory.
unsafe impl<T> Sync for Alone<T> {}

static KEEPER: Alone<Keeper> = Alone(UnsafeCell::new(Keeper::NEW));

/// SAFETY: entered once, by the kernel, with the stack of execve(2).
unsafe extern "C" fn enter(stack: *const usize) -> ! {
    // SAFETY: the System V ABI puts argc and argv there; the library always passes three.
    let [config, report] = unsafe {
        if *stack < 3 {
            call::exit(126);
        }
        [take_number(*stack.add(2) as *mut u8), take_number(*stack.add(3) as *mut u8)]
    };
    call::settle();
    // SAFETY: the only reference that is ever made.
    let keeper = unsafe { &mut *KEEPER.0.get() };
    let is_one = call::read_config(config, &mut keeper.config);
    let damaged = Err(Report::failed(BEFORE, sys::EBADMSG));
    let begun = if is_one { keeper.begin() } else { damaged };
    let said = begun.err().unwrap_or(Report::failed(BEFORE, 0));
    // SAFETY: a report on this stack.
    let told = unsafe {
        sys::call(sys::nr::WRITE, [report as usize, &raw const said as usize, size_of::<Report>(), 0, 0, 0])
    };
    call::close(report);
    // Who has been killed hears nothing, and wants it to go on.
    if said.errno != 0 || (told < 0 && told != -sys::EPIPE) {
        call::exit(1);
    }
    keeper.keep()
}

/// An argument that ps(1) shall not show: what is read is gone.
/// SAFETY: a NUL ends the digits, in memory that may be written and that nobody else uses.
unsafe fn take_number(mut digits: *mut u8) -> i32 {
    let mut value = 0i32;
    // SAFETY: a NUL ends every argument, and their memory is this process's.
    unsafe {
        while *digits != 0 {
            value = value.wrapping_mul(10).wrapping_add((*digits).wrapping_sub(b'0') as i32);
            *digits = 0;
            digits = digits.add(1);
        }
    }
    value
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    call::exit(123)
}
