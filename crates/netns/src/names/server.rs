//! Starting and ending the server: a program of its own that is nobody's child.

use std::fs;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    bind, listen, recv, sendmsg, socket_with, socketpair, sockopt,
};

use super::image;
use super::lock::{self, Part};
use super::store::{self, FILE};
use crate::listener::{Holder, holder};
use crate::publish::Protocol;
use crate::{Error, ErrorKind, Result};

const PORT: u16 = 53;
/// What the program calls itself.
const NAME: &str = "isolate-names";
/// Most addresses and control groups of one server; it has places for no more.
const ADDRESSES: usize = 16;
const GROUPS: usize = 16;
/// How long a start may take, and how long a server that was told to end.
const START: Duration = Duration::from_secs(5);
const END: Duration = Duration::from_secs(2);
/// How long it is tried again: a server of a network that is gone ends in a second, and an IPv6 address that is new is
/// usable after about as long.
const RETRY: Duration = Duration::from_millis(2500);
/// The same, for a port that nobody seems to have.
const ENDING: Duration = Duration::from_secs(2);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(10);
/// Connections that wait to be taken.
const BACKLOG: i32 = 64;

/// Starts the server of the table in `directory` unless it runs, on port 53 of `addresses`, by UDP and TCP, in the calling
/// thread's network namespace. Whether it was started by this call; it answers when this returns.
///
/// It is a process of its own, neither a child of the caller nor dependent on it, that runs until [`end`], or until the
/// table or the directory has been removed for a second. `groups` are control groups that it joins: open `cgroup.procs` files,
/// or `tasks` of v1. Started by root it becomes nobody (65534), without capabilities and in a root of its own; a
/// seccomp filter leaves it some twenty calls.
///
/// At most 128 queries are on their way to upstreams at a time, 64 of one client; at most 32 connections are open, 8 of one
/// client. A message has 5 seconds, a connection a minute.
///
/// # Errors
/// - [`InvalidInput`](ErrorKind::InvalidInput): no addresses or more than 16, more than 16 groups, or an address that this
///   host has not got.
/// - [`NotFound`](ErrorKind::NotFound): no table there: [`Names::write`](crate::Names::write) comes first.
/// - [`AddressInUse`](ErrorKind::AddressInUse): another name server has the port, and who, if `/proc` shows it.
/// - [`PermissionDenied`](ErrorKind::PermissionDenied) without `CAP_NET_BIND_SERVICE`.
/// - Else what the kernel refused.
pub fn serve(directory: &Path, addresses: &[IpAddr], groups: &[BorrowedFd<'_>]) -> Result<bool> {
    let wrong = |error: io::Error| Error::io(format!("name server of {}", directory.display()), &error);
    if addresses.is_empty() || addresses.len() > ADDRESSES || groups.len() > GROUPS {
        let counts = format!("{} addresses and {} control groups", addresses.len(), groups.len());
        return Err(Error::invalid(format!(
            "a name server on {counts}: 1 to {ADDRESSES}, and {GROUPS} at most"
        )));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(directory, flags, Mode::empty()).map_err(|errno| wrong(errno.into()))?;
    let starting = lock::open(directory).map_err(wrong)?;
    // One at a time; who has waited finds a server that answers.
    if !within(START, || lock::take(&starting, Part::Starting)).map_err(wrong)? {
        return Err(wrong(Errno::TIMEDOUT.into()));
    }
    let running = lock::open(directory).map_err(wrong)?;
    if !lock::take(&running, Part::Running).map_err(wrong)? {
        return Ok(false);
    }
    let bound = |kind| addresses.iter().map(move |address| patiently_bound(*address, kind)).collect();
    let (udp, tcp): (Result<Vec<_>>, Result<Vec<_>>) = (bound(Protocol::Udp), bound(Protocol::Tcp));
    let (udp, tcp) = (udp?, tcp?);
    let counts = [udp.len() as u8, tcp.len() as u8, groups.len() as u8];
    let mut descriptors = vec![opened.as_fd(), running.as_fd()];
    descriptors.extend(udp.iter().chain(&tcp).map(AsFd::as_fd));
    descriptors.extend(groups);
    start(directory, counts, &descriptors).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT) => wrong(error).with_hint("Names::write comes first"),
        Some(libc::EACCES) => wrong(error).with_hint(
            "the server is nobody: the directory has to be 0755, the table in it 0644, neither a secret",
        ),
        _ => wrong(error),
    })?;
    Ok(true)
}

/// Whether the server of the directory runs.
#[must_use]
pub fn is_served(directory: &Path) -> bool {
    lock::open_existing(directory).and_then(|file| lock::is_taken(file, Part::Running)).unwrap_or(false)
}

/// Ends the server of the directory and removes the table. Waits for it, two seconds at most. Nothing happens where
/// there is neither.
///
/// # Errors
/// [`Kernel`](ErrorKind::Kernel) if it is still there then; else what the kernel refused.
pub fn end(directory: &Path) -> Result<()> {
    let wrong = |error: io::Error| Error::io(format!("name server of {}", directory.display()), &error);
    let ended = if is_served(directory) {
        store::write_end(directory)?;
        within(END, || Ok(!is_served(directory))).map_err(wrong)?
    } else {
        true
    };
    match fs::remove_file(directory.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(wrong(error)),
        _ => {}
    }
    match ended {
        true => Ok(()),
        false => Err(wrong(Errno::TIMEDOUT.into())),
    }
}

/// Tries until it is so, or the time is over.
fn within(limit: Duration, mut is_so: impl FnMut() -> io::Result<bool>) -> io::Result<bool> {
    let begun = Instant::now();
    loop {
        if is_so()? {
            return Ok(true);
        }
        if begun.elapsed() > limit {
            return Ok(false);
        }
        thread::sleep(PAUSE);
    }
}

fn patiently_bound(address: IpAddr, protocol: Protocol) -> Result<OwnedFd> {
    let begun = Instant::now();
    let mut patience = Duration::ZERO;
    loop {
        let errno = match bound(address, protocol) {
            Ok(socket) => return Ok(socket),
            Err(errno) => errno,
        };
        patience = patience.max(match errno {
            Errno::ADDRINUSE => match who_has(address, protocol) {
                Holder::Process(_, name) if name == NAME => RETRY,
                Holder::Process(..) => Duration::ZERO,
                // One that is ending has no descriptors any more.
                Holder::Hidden | Holder::Nobody => ENDING,
            },
            Errno::ADDRNOTAVAIL if address.is_ipv6() => RETRY,
            _ => return Err(refused(address, protocol, errno)),
        });
        if begun.elapsed() >= patience {
            return Err(refused(address, protocol, errno));
        }
        thread::sleep(PAUSE);
    }
}

fn bound(address: IpAddr, protocol: Protocol) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match protocol {
        Protocol::Udp => SocketType::DGRAM,
        Protocol::Tcp => SocketType::STREAM,
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Tcp {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(address, PORT))?;
    if protocol == Protocol::Tcp {
        listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

fn who_has(address: IpAddr, protocol: Protocol) -> Holder {
    holder(protocol, SocketAddr::new(address, PORT))
}

fn refused(address: IpAddr, protocol: Protocol, errno: Errno) -> Error {
    let place = format!("a name server on {}/{protocol}", SocketAddr::new(address, PORT));
    let error = Error::os(place.clone(), errno.raw_os_error());
    match errno {
        Errno::ADDRINUSE => {
            let who = match who_has(address, protocol) {
                Holder::Process(pid, name) => format!("pid {pid} ({name}) has the port"),
                Holder::Hidden => "a process that is not seen from here has the port".into(),
                Holder::Nobody => "the port is taken".into(),
            };
            error.saying(format!("{place}: {who}")).with_hint(
                "a name server of the host that listens on all addresses: let it bind its own ones",
            )
        }
        Errno::ADDRNOTAVAIL => error
            .with_kind(ErrorKind::InvalidInput)
            .with_hint("no link of this network namespace has that address: the bridge comes first"),
        Errno::ACCESS | Errno::PERM => error
            .with_hint("needs CAP_NET_BIND_SERVICE, or net.ipv4.ip_unprivileged_port_start at 53 or below"),
        _ => error,
    }
}

/// Runs the program, hands it the descriptors, waits until it is ready. The process that is started here ends at once: the
/// server is a child of it, and then of init.
#[expect(clippy::disallowed_methods, reason = "the program that this crate has inside")]
fn start(directory: &Path, counts: [u8; 3], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let program = image::executable()?;
    // The descriptors lie in this socket until they are taken: nothing of ours is ever open on exec, not even for a moment.
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2 + 2 * ADDRESSES + GROUPS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    sendmsg(&ours, &[IoSlice::new(&counts)], &mut ancillary, SendFlags::NOSIGNAL)?;
    let mut child = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .arg0(NAME)
        // For people who look at processes; the server does not read it.
        .arg(directory)
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let told = told(&ours);
    // Before it is waited for: a server that is not ready by now finds nobody to tell, and ends.
    drop(ours);
    if told.is_err() {
        child.kill().ok();
    }
    // Who ignores SIGCHLD has no child to wait for.
    child.wait().ok();
    match told? {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// The errno that the server tells, or 0 when it is ready.
fn told(ours: &OwnedFd) -> io::Result<i32> {
    sockopt::set_socket_timeout(ours, sockopt::Timeout::Recv, Some(START))?;
    let mut bytes = [0; 4];
    loop {
        match recv(ours, &mut bytes[..], RecvFlags::empty()) {
            Ok((4, _)) => return Ok(i32::from_le_bytes(bytes)),
            Ok(_) => return Err(io::Error::other("the server ended before it was ready")),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Err(Errno::TIMEDOUT.into()),
            Err(errno) => return Err(errno.into()),
        }
    }
}
