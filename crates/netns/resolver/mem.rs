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

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    if to.cast_const() <= from {
        // SAFETY: from the front on, nothing is overwritten that is still read.
        return unsafe { memcpy(to, from, length) };
    }
    let mut n = length;
    while n > 0 {
        n -= 1;
        // SAFETY: the caller promises `length` bytes on both sides; from the end on, as above.
        unsafe { *to.add(n) = *from.add(n) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    let mut n = 0;
    while n < length {
        // SAFETY: the caller promises `length` bytes on both sides.
        let (a, b) = unsafe { (*one.add(n), *other.add(n)) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
        n += 1;
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    // SAFETY: the same promise.
    unsafe { memcmp(one, other, length) }
}
