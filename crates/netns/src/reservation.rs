//! A host port, claimed so that nobody else gets it, and who has one that is taken.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, bind, getsockname, listen, shutdown, socket_with,
    sockopt,
};

use crate::listener::{Holder, holder};
use crate::publish::Protocol;
use crate::{Error, ErrorKind, Publish, Result};

/// How often another port is tried, where the kernel picks one of IPv4 that is taken on IPv6.
const PICKS: usize = 64;

/// A port of the host that no other program can bind while this is held: a socket that is bound and never listens, or one for each
/// version of IP.
///
/// Connections do not reach it, they are translated before. These are plain descriptors: whoever lives as long as the
/// container may hold them ([`Reservation::into_fds`]).
#[derive(Debug)]
#[must_use = "dropping it gives the port up"]
pub struct Reservation {
    sockets: Vec<OwnedFd>,
    publish: Publish,
}

impl Publish {
    /// Claims the host port, in the calling thread's network namespace; without an address on all of IPv4. See
    /// [`reserve_both`](Self::reserve_both).
    ///
    /// ```no_run
    /// use isolate_netns::Publish;
    ///
    /// let reservation = Publish::tcp(0, 8080).reserve()?;
    /// println!("the container's port 8080 is going to be {}", reservation.publish().host_port());
    /// # Ok::<(), isolate_netns::Error>(())
    /// ```
    ///
    /// # Errors
    /// - [`AddressInUse`](ErrorKind::AddressInUse) if somebody has it, and who, if `/proc` shows it:
    ///   `host port 9000/tcp is taken: pid 4711 (nginx) listens there`.
    /// - [`PermissionDenied`](ErrorKind::PermissionDenied) below `net.ipv4.ip_unprivileged_port_start` (1024)
    ///   without `CAP_NET_BIND_SERVICE`.
    /// - [`InvalidInput`](ErrorKind::InvalidInput) for an address that this host has not got, for a range (see
    ///   [`each`](Self::each)), and for a port of the container that is 0.
    pub fn reserve(&self) -> Result<Reservation> {
        self.check_single()?;
        let (socket, port) = self.claim(self.address().unwrap_or(Ipv4Addr::UNSPECIFIED.into()))?;
        Ok(Reservation { sockets: vec![socket], publish: self.with_host_port(port) })
    }

    /// The same for a container that has an address of IPv6, too: without an address of the host, on all of both versions. Where the
    /// kernel has no IPv6, on all of IPv4.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    pub fn reserve_both(&self) -> Result<Reservation> {
        if self.address().is_some() {
            return self.reserve();
        }
        let mut left = PICKS;
        loop {
            let mut reservation = self.reserve()?;
            match reservation.publish.claim(Ipv6Addr::UNSPECIFIED.into()) {
                Ok((socket, _)) => reservation.sockets.push(socket),
                Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
                Err(error)
                    if self.host_port() == 0 && error.kind() == ErrorKind::AddressInUse && left > 0 =>
                {
                    left -= 1;
                    continue;
                }
                Err(error) => return Err(error),
            }
            return Ok(reservation);
        }
    }

    /// Refuses ranges, too.
    pub(crate) fn check_single(&self) -> Result<()> {
        self.check()?;
        match self.count() {
            1 => Ok(()),
            _ => Err(Error::invalid(format!("{self}: a range is published port by port"))
                .with_hint("Publish::each has them one by one")),
        }
    }

    /// A socket on that address of the host, and its port.
    fn claim(&self, host: IpAddr) -> Result<(OwnedFd, u16)> {
        let address = SocketAddr::new(host, self.host_port());
        let refused =
            |errno: Errno| Error::os(format!("host port {}", self.host_side()), errno.raw_os_error());
        let socket = match bound(self.protocol(), address, false) {
            Err(Errno::ADDRINUSE) => match holder(self.protocol(), address) {
                // Only connections that are over: with SO_REUSEADDR it can be had, but not from a live socket.
                Holder::Nobody if address.port() != 0 => bound(self.protocol(), address, true),
                holder => return Err(taken(self, &holder)),
            },
            result => result,
        };
        let socket = socket.map_err(|errno| match errno {
            Errno::ADDRINUSE => taken(self, &Holder::Nobody),
            Errno::ACCESS | Errno::PERM => refused(errno).with_hint(
                "needs CAP_NET_BIND_SERVICE, or a port from net.ipv4.ip_unprivileged_port_start (1024) on",
            ),
            Errno::ADDRNOTAVAIL => refused(errno)
                .with_kind(ErrorKind::InvalidInput)
                .with_hint("no link of this host has that address: see `ip address`"),
            _ => refused(errno),
        })?;
        let port = getsockname(&socket)
            .ok()
            .and_then(|name| SocketAddr::try_from(name).ok())
            .map_or(self.host_port(), |name| name.port());
        Ok((socket, port))
    }
}

impl Reservation {
    /// What was asked for, with the host port that the kernel picked where that was left to it.
    pub fn publish(&self) -> Publish {
        self.publish
    }

    /// Its sockets.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(AsFd::as_fd)
    }

    /// The sockets alone; closing their last duplicates gives the port up.
    #[must_use]
    pub fn into_fds(self) -> Vec<OwnedFd> {
        self.sockets
    }
}

fn bound(protocol: Protocol, address: SocketAddr, over_the_dead: bool) -> Result<OwnedFd, Errno> {
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if !over_the_dead || protocol == Protocol::Udp {
        bind(&socket, &address)?;
        return Ok(socket);
    }
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    // With SO_REUSEADDR any number can bind, and the kernel goes on letting them when it is off again. One can listen: it
    // does for a moment, in which a connection is reset as it is without.
    listen(&socket, 0)?;
    sockopt::set_socket_reuseaddr(&socket, false)?;
    shutdown(&socket, Shutdown::Both)?;
    Ok(socket)
}

fn taken(publish: &Publish, holder: &Holder) -> Error {
    let port = publish.host_side();
    let error = Error::os("", libc::EADDRINUSE);
    match holder {
        Holder::Process(pid, name) => {
            error.saying(format!("host port {port} is taken: pid {pid} ({name}) listens there"))
        }
        Holder::Hidden => error
            .saying(format!("host port {port} is taken: a process that is not seen from here listens there")),
        Holder::Nobody => error.saying(format!("host port {port} is taken")).with_hint(
            "a socket is bound there that does not listen: most likely a container's published port",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn a_reserved_port_is_nobody_elses_until_it_is_given_up() {
        for publish in [Publish::tcp(0, 80), Publish::udp(0, 80)] {
            let reservation = publish.on(Ipv4Addr::LOCALHOST).reserve().unwrap();
            let port = reservation.publish().host_port();
            assert_ne!(port, 0);
            let address = (Ipv4Addr::LOCALHOST, port);
            let bind = || match publish.protocol() {
                Protocol::Tcp => TcpListener::bind(address).map(|_| ()),
                Protocol::Udp => UdpSocket::bind(address).map(|_| ()),
            };
            assert_eq!(bind().unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
            let again = reservation.publish().reserve().unwrap_err();
            assert_eq!(
                (again.kind(), again.raw_os_error()),
                (ErrorKind::AddressInUse, Some(libc::EADDRINUSE))
            );
            drop(reservation);
            bind().unwrap();
        }
    }

    #[test]
    fn a_port_that_is_taken_is_told_with_who_has_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let me = std::fs::read_to_string("/proc/self/comm").unwrap();
        let who = format!("is taken: pid {} ({}) listens there", std::process::id(), me.trim());
        let everywhere = Publish::tcp(port, 80).reserve().unwrap_err();
        assert_eq!(everywhere.to_string(), format!("host port {port}/tcp {who}"));
        let one = Publish::tcp(port, 80).on(Ipv4Addr::LOCALHOST).reserve().unwrap_err();
        assert_eq!(one.to_string(), format!("host port 127.0.0.1:{port}/tcp {who}"));
    }

    #[test]
    fn connections_that_are_over_are_in_nobodys_way() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        // The side that closes first is the one that waits (TIME_WAIT).
        drop(listener.accept().unwrap());
        drop((client, listener));
        let publish = Publish::tcp(address.port(), 80).on(Ipv4Addr::LOCALHOST);
        let reservation = publish.reserve().unwrap();
        assert!(publish.reserve().is_err(), "and then it is taken");
        drop(reservation);
    }

    #[test]
    fn over_connections_that_are_over_one_of_many_gets_the_port() {
        const RACERS: usize = 8;
        let any = bound(Protocol::Tcp, SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0), false).unwrap();
        let address = SocketAddr::try_from(getsockname(&any).unwrap()).unwrap();
        drop(any);
        let start = Barrier::new(RACERS);
        let race = || {
            start.wait();
            bound(Protocol::Tcp, address, true)
        };
        for round in 0..500 {
            let results: Vec<_> = thread::scope(|scope| {
                let threads: Vec<_> = (0..RACERS).map(|_| scope.spawn(race)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "round {round}");
            let error = std::net::TcpStream::connect(address).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "it does not listen any more");
        }
    }

    #[test]
    fn an_address_of_another_host_cannot_be_reserved() {
        let error = Publish::tcp(0, 80).on([192, 0, 2, 1]).reserve().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with("host port 192.0.2.1:0/tcp: Cannot assign"), "{error}");
    }
    #[test]
    fn a_port_of_both_versions_is_taken_on_both() {
        let reservation = Publish::tcp(0, 80).reserve_both().unwrap();
        let port = reservation.publish().host_port();
        assert_eq!(reservation.fds().count(), 2);
        for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()] {
            assert_eq!(TcpListener::bind(address).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        }
        drop(reservation);
        let one = Publish::tcp(port, 80).on(Ipv6Addr::LOCALHOST).reserve_both().unwrap();
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert_eq!(one.fds().count(), 1);
    }

    #[test]
    fn a_range_is_not_claimed_as_one() {
        let error = Publish::tcp(9000, 80).range(2).reserve().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.hint().unwrap().contains("Publish::each"), "{error:?}");
    }
}
