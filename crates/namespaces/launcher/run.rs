//! Carries out the steps of a plan that lies in private writable memory.

use crate::sys::{EACCES, EAGAIN, EBADMSG, EINTR, EINVAL, ENOENT, ENOTDIR, ESRCH, ETXTBSY, call, new, nr};
use crate::wire::{
    BEFORE, Header, MAGIC, OP_ALIVE, OP_EXEC, OP_READY, OP_TREE, OPERATIONS, Report, SLOTS, Step,
};

/// A plan in memory, checked, and what its steps have kept so far.
pub(crate) struct Run {
    base: *mut u8,
    length: usize,
    pub header: Header,
    pub slots: [i32; SLOTS],
    /// Reading end of a pipe whose writing end only the monitor holds.
    pub monitor: i32,
}

impl Run {
    /// Checks every offset that is used without a check later, and turns the cells into addresses.
    ///
    /// # Safety
    /// `base` is eight-byte aligned, readable and writable for `length` bytes, and nobody else's.
    pub(crate) unsafe fn new(base: *mut u8, length: usize) -> Result<Self, Report> {
        let damaged = Err(Report { step: BEFORE, errno: EBADMSG });
        if length < size_of::<Header>() {
            return damaged;
        }
        // SAFETY: the length was checked, the mapping is aligned.
        let header = unsafe { *(base as *const Header) };
        let steps = header.prepare as u64 + header.maps as u64 + header.child as u64;
        let cells_at = size_of::<Header>() as u64 + steps * size_of::<Step>() as u64;
        let end = cells_at + header.cells as u64 * 8;
        if header.magic != MAGIC || header.length as usize != length || end >= length as u64 {
            return damaged;
        }
        // Every string ends inside the plan if its last byte is NUL.
        // SAFETY: inside the mapping.
        if unsafe { *base.add(length - 1) } != 0 {
            return damaged;
        }
        // SAFETY: all cells lie between `cells_at` and `end`, which is inside the mapping.
        let cells = unsafe { base.add(cells_at as usize) } as *mut u64;
        let mut i = 0;
        while i < header.cells as usize {
            // SAFETY: as above.
            unsafe {
                let offset = *cells.add(i);
                if offset >= length as u64 {
                    return damaged;
                }
                if offset != 0 {
                    *cells.add(i) = base as u64 + offset;
                }
            }
            i += 1;
        }
        Ok(Self { base, length, header, slots: [-1; SLOTS], monitor: -1 })
    }

    /// Makes `count` steps from `first` on.
    ///
    /// # Safety
    /// The calls in the plan are the library's promise.
    pub(crate) unsafe fn steps(&mut self, first: u32, count: u32) -> Result<(), Report> {
        let mut index = first;
        while index < first + count {
            // SAFETY: `new` checked that all steps lie inside.
            let step = unsafe { *(self.base.add(size_of::<Header>()) as *const Step).add(index as usize) };
            let args = self.arguments(&step).ok_or(Report { step: index, errno: EBADMSG })?;
            // SAFETY: the library's promise.
            let result = unsafe { self.step(&step, args) };
            if result < 0 && !step.ignore.iter().any(|&e| e != 0 && e as isize == -result) {
                return Err(Report { step: index, errno: -result as i32 });
            }
            if let Some(slot) = self.slots.get_mut((step.save as usize).wrapping_sub(1)) {
                *slot = result as i32;
            }
            index += 1;
        }
        Ok(())
    }

    fn arguments(&self, step: &Step) -> Option<[usize; 6]> {
        let mut args = [0usize; 6];
        let mut bit = 1u8;
        for (arg, &value) in args.iter_mut().zip(&step.args) {
            *arg = value as usize;
            if step.places & bit != 0 {
                if value >= self.length as u64 {
                    return None;
                }
                *arg = self.base as usize + value as usize;
            } else if step.slots & bit != 0 {
                *arg = *self.slots.get(value as usize)? as isize as usize;
            }
            bit <<= 1;
        }
        Some(args)
    }

    unsafe fn step(&self, step: &Step, args: [usize; 6]) -> isize {
        // SAFETY: `arguments` checked the places; the rest is the library's promise.
        unsafe {
            match step.call {
                OP_EXEC => exec(args[0] as *const usize, args[1], args[2]),
                OP_TREE => tree(args),
                OP_READY => {
                    let ready = Report { step: 0, errno: 0 };
                    call(nr::WRITE, [self.header.report as usize, &raw const ready as usize, 8, 0, 0, 0])
                }
                OP_ALIVE => alive(self.monitor),
                unknown if unknown >= OPERATIONS => -(EBADMSG as isize),
                number => {
                    let mut left = step.retries;
                    loop {
                        let result = call(number as usize, args);
                        if left == 0 || (result != -EAGAIN && result != -EINTR) {
                            return result;
                        }
                        left -= 1;
                    }
                }
            }
        }
    }
}

/// How often and how long a file that somebody still holds open for writing is tried again: 100 × 2 ms.
const BUSY_TRIES: u32 = 100;
const BUSY_PAUSE: [u64; 2] = [0, 2_000_000];

/// Returns only with the error that counts: EACCES if any path gave it, else the last.
unsafe fn exec(mut paths: *const usize, argv: usize, envp: usize) -> isize {
    let (mut worst, mut busy) = (-ENOENT, 0);
    // SAFETY: tables of the plan, each ended by a null cell.
    unsafe {
        while *paths != 0 {
            let failed = call(nr::EXECVE, [*paths, argv, envp, 0, 0, 0]);
            if failed == -ETXTBSY && busy < BUSY_TRIES {
                busy += 1;
                call(nr::NANOSLEEP, [BUSY_PAUSE.as_ptr() as usize, 0, 0, 0, 0, 0]);
                continue;
            }
            match -failed {
                ENOENT | ENOTDIR => {}
                EACCES => worst = failed,
                _ => return failed,
            }
            paths = paths.add(1);
        }
    }
    worst
}

/// args as of open_tree(2). Before Linux 6.15 a detached mount cannot be copied: EINVAL.
unsafe fn tree(args: [usize; 6]) -> isize {
    // SAFETY: descriptors and a string of the plan.
    unsafe {
        match call(new::OPEN_TREE, args) {
            failed if failed == -EINVAL => call(nr::FCNTL, [args[0], 1030 /* F_DUPFD_CLOEXEC */, 3, 0, 0, 0]),
            other => other,
        }
    }
}

unsafe fn alive(monitor: i32) -> isize {
    let mut poll = [monitor as u32 as u64, 0]; // struct pollfd: fd, events, revents; errors are always reported
    let now = [0u64; 2];
    // SAFETY: one pollfd and one timespec on this stack.
    let found = unsafe { call(nr::PPOLL, [poll.as_mut_ptr() as usize, 1, now.as_ptr() as usize, 0, 8, 0]) };
    if found > 0 { -ESRCH } else { found }
}
