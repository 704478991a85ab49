//! Messages between launcher, child and caller, with descriptors (unix(7)).

use crate::sys::{EAGAIN, EINTR, EPIPE, call, nr};
use crate::wire::{GO, MOST_PASSED, Message, PASSED, SLOTS};

const MSG_NOSIGNAL: usize = 0x4000;
const MSG_DONTWAIT: usize = 0x40;
const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
/// Level and type of a control message with descriptors: SOL_SOCKET, SCM_RIGHTS.
const RIGHTS: u64 = 1 | 1 << 32;

pub(crate) const EMPTY: Message = Message {
    kind: 0,
    code: 0,
    status: 0,
    timed_out: 0,
    user_us: 0,
    system_us: 0,
    max_rss: 0,
    went: 0,
    at: 0,
};

/// `fd` goes along unless it is -1. An error is a negative number; a receiver that is gone is none.
///
/// # Safety
/// The descriptors are this process's.
pub(crate) unsafe fn send(socket: i32, message: &Message, fd: i32) -> isize {
    let part = [message as *const Message as usize, size_of::<Message>()];
    let rights: [u64; 3] = [20, RIGHTS, fd as u32 as u64];
    let control = if fd < 0 { [0, 0] } else { [rights.as_ptr() as usize, size_of_val(&rights)] };
    // SAFETY: all of it lies on this stack.
    match unsafe { transfer(nr::SENDMSG, socket, &part, control, MSG_NOSIGNAL) } {
        failed if failed == -EPIPE => 0,
        sent => sent,
    }
}

/// A message, if there is one now.
///
/// # Safety
/// As of [`send`].
pub(crate) unsafe fn receive(socket: i32) -> Option<Message> {
    let mut message = EMPTY;
    let part = [&raw mut message as usize, size_of::<Message>()];
    // SAFETY: as above.
    let got = unsafe { transfer(nr::RECVMSG, socket, &part, [0, 0], MSG_DONTWAIT) };
    (got == size_of::<Message>() as isize).then_some(message)
}

/// Room for a header and the descriptors, two in a word.
const ROOM: usize = 2 + MOST_PASSED.div_ceil(2);

/// The child may go on, with what the map steps have kept for it: a byte for each slot, and its descriptor.
///
/// # Safety
/// As of [`send`].
pub(crate) unsafe fn send_go(socket: i32, slots: &[i32; SLOTS], since: &[i32; SLOTS]) -> isize {
    let mut bytes = [GO; 1 + MOST_PASSED];
    let mut rights = [0u64; ROOM];
    let mut count = 0usize;
    for (number, (fd, before)) in slots.iter().zip(since).enumerate() {
        if number >= PASSED
            && fd != before
            && let Some(byte) = bytes.get_mut(1 + count)
            && let Some(word) = rights.get_mut(2 + count / 2)
        {
            *byte = number as u8;
            *word |= (*fd as u32 as u64) << (32 * (count % 2));
            count += 1;
        }
    }
    rights[0] = 16 + 4 * count as u64;
    rights[1] = RIGHTS;
    let part = [bytes.as_ptr() as usize, 1 + count];
    let control = if count == 0 { [0, 0] } else { [rights.as_ptr() as usize, 16 + 4 * count] };
    // SAFETY: as above.
    unsafe { transfer(nr::SENDMSG, socket, &part, control, MSG_NOSIGNAL) }
}

/// Waits for the go message; false if the other end is gone.
///
/// # Safety
/// As of [`send`].
pub(crate) unsafe fn receive_go(socket: i32, slots: &mut [i32; SLOTS]) -> bool {
    let mut bytes = [0u8; 1 + MOST_PASSED];
    let mut rights = [0u64; ROOM];
    let part = [bytes.as_mut_ptr() as usize, bytes.len()];
    let control = [rights.as_mut_ptr() as usize, size_of_val(&rights)];
    // SAFETY: as above.
    let got = unsafe { transfer(nr::RECVMSG, socket, &part, control, MSG_CMSG_CLOEXEC) };
    if got < 1 || bytes[0] != GO {
        return false;
    }
    let mut n = 0;
    while n + 1 < got as usize {
        if let (Some(number), Some(word)) = (bytes.get(1 + n), rights.get(2 + n / 2))
            && let Some(slot) = slots.get_mut(*number as usize)
        {
            *slot = (*word >> (32 * (n % 2))) as u32 as i32;
        }
        n += 1;
    }
    true
}

/// How often a message is tried again that the kernel has no room for: how a program ended is told once.
const TRIES: u32 = 4;

/// sendmsg(2) or recvmsg(2) of one part, until no signal interrupts it.
/// SAFETY: what `part` and `control` point to is as long as they say, and writable where a message is received.
unsafe fn transfer(
    number: usize,
    socket: i32,
    part: &[usize; 2],
    control: [usize; 2],
    flags: usize,
) -> isize {
    let mut tries = 0;
    loop {
        let header = [0usize, 0, part.as_ptr() as usize, 1, control[0], control[1], 0];
        // SAFETY: a msghdr, and what it points to is the caller's promise.
        let done = unsafe { call(number, [socket as usize, header.as_ptr() as usize, flags, 0, 0, 0]) };
        tries += u32::from(done != -EINTR);
        let no_message = done == -EAGAIN && flags & MSG_DONTWAIT != 0;
        if done >= 0 || done == -EPIPE || no_message || tries == TRIES {
            return done;
        }
    }
}
