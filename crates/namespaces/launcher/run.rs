//! Carries out the steps of a plan that lies in private writable memory.

use crate::operation;
use crate::sys::{EAGAIN, EBADMSG, EINTR, call};
use crate::wire::{BEFORE, Header, MAGIC, OPERATIONS, Report, SLOTS, Step};

/// A plan in memory, checked, and what its steps have kept so far.
pub(crate) struct Run {
    base: *mut u8,
    length: usize,
    pub header: Header,
    pub slots: [i32; SLOTS],
    /// One end of a pair of sockets whose other end only the monitor holds.
    pub monitor: i32,
    /// User and system time that the init of this process had used when it cloned it, in µs.
    pub used: [u64; 2],
    /// The mount of nothing hides a directory.
    pub hidden: bool,
}

impl Run {
    /// Checks every offset that is used without a check later, and turns the cells into addresses.
    ///
    /// # Safety
    /// `base` is eight-byte aligned, readable and writable for `length` bytes, and nobody else's.
    pub(crate) unsafe fn new(base: *mut u8, length: usize) -> Result<Self, Report> {
        let damaged = Err(Report::failed(BEFORE, EBADMSG));
        if length < size_of::<Header>() {
            return damaged;
        }
        // SAFETY: the length was checked, the mapping is aligned.
        let header = unsafe { *(base as *const Header) };
        let steps = header.prepare as u64 + header.maps as u64 + header.child as u64 + header.main as u64;
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
        Ok(Self { base, length, header, slots: [-1; SLOTS], monitor: -1, used: [0; 2], hidden: false })
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
            let args = self.arguments(&step).ok_or(Report::failed(index, EBADMSG))?;
            // SAFETY: the library's promise.
            let result = unsafe { self.step(&step, args) };
            if result < 0 && !step.ignore.iter().any(|&e| e != 0 && e as isize == -result) {
                return Err(Report::failed(index, -result as i32));
            }
            if let Some(slot) = self.slots.get_mut((step.save as usize).wrapping_sub(1)) {
                *slot = result as i32;
            }
            index += 1;
        }
        Ok(())
    }

    /// What a step's call is given; `None` for a place outside of the plan, or a slot that is not there.
    pub(crate) fn arguments(&self, step: &Step) -> Option<[usize; 6]> {
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

    /// SAFETY: as of [`operation::perform`](crate::operation::perform).
    unsafe fn step(&mut self, step: &Step, args: [usize; 6]) -> isize {
        if step.call >= OPERATIONS {
            // SAFETY: as of the calls.
            return unsafe { operation::perform(step.call, args, self) };
        }
        let mut left = step.retries;
        loop {
            // SAFETY: `arguments` checked the places; the rest is the library's promise.
            let result = unsafe { call(step.call as usize, args) };
            if left == 0 || (result != -EAGAIN && result != -EINTR) {
                return result;
            }
            left -= 1;
        }
    }
}
