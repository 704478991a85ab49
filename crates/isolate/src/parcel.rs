//! Many descriptors kept by one: queued in a socket, they stay open as long as the socket does (unix(7), SCM_RIGHTS).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};

/// SCM_MAX_FD of Linux.
const MOST: usize = 253;

/// A descriptor that keeps these open. `None` for none.
pub(crate) fn of<T: AsFd>(descriptors: &[T]) -> io::Result<Option<OwnedFd>> {
    if descriptors.is_empty() {
        return Ok(None);
    }
    let (far, near) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    for part in descriptors.chunks(MOST) {
        let borrowed: Vec<_> = part.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&borrowed));
        sendmsg(&near, &[io::IoSlice::new(b"p")], &mut control, SendFlags::DONTWAIT)?;
    }
    // What is queued at this end stays although the other is closed.
    Ok(Some(far))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_parcel_stays_open_until_the_parcel_goes() {
        let (reader, writer) = io::pipe().unwrap();
        let parcel = of(&[&writer]).unwrap();
        drop(writer);
        let polled = |reader: &io::PipeReader| {
            let mut poll = [rustix::event::PollFd::new(reader, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut poll, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap()
        };
        assert_eq!(polled(&reader), 0, "the writing end is open");
        drop(parcel);
        assert_eq!(polled(&reader), 1, "and closed with the parcel");
        assert!(of::<OwnedFd>(&[]).unwrap().is_none());
    }
}
