//! What the compiler calls behind our back: there is no libc to bring it. `no_builtins` keeps it from turning these
//! loops into calls of themselves.
//!
//! SAFETY of each: the compiler gives `length` bytes that may be read, and written where they are the destination.

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
    let mut n = 0;
    while n < length {
        // SAFETY: the caller promises `length` writable bytes.
        unsafe { *to.add(n) = byte as u8 };
        n += 1;
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    let mut n = 0;
    while n < length {
        // SAFETY: the caller promises `length` bytes on both sides, without overlap.
        unsafe { *to.add(n) = *from.add(n) };
        n += 1;
    }
    to
}
