//! Raw system calls of which each must succeed: a limit of which one fails measures nothing.

/// One raw system call, by its number and arguments; gives what it returns. A failure ends the process with the number of
/// its line, child or parent.
///
/// The caller's promise: strings and structures outlive the call.
#[macro_export]
macro_rules! must {
    ($number:expr $(, $argument:expr)*) => {{
        let mut arguments = [0usize; 6];
        for (place, argument) in arguments.iter_mut().zip([$($argument as usize),*]) {
            *place = argument;
        }
        let done = $crate::raw::call($number, arguments);
        if done < 0 {
            $crate::raw::fail(line!());
        }
        done
    }};
}

/// One call, with the promise of `must`.
#[must_use]
pub fn call(number: libc::c_long, [a, b, c, d, e, f]: [usize; 6]) -> libc::c_long {
    // SAFETY: strings and structures that outlive the call.
    unsafe { libc::syscall(number, a, b, c, d, e, f) }
}

/// Ends the process at once, with this line as its status (less than 251).
pub fn fail(line: u32) -> ! {
    // SAFETY: ends this process without running anything else of it.
    unsafe { libc::_exit((line % 250) as i32 + 1) }
}
