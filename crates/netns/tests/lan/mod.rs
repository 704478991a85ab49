//! A small world of networks: the test's own namespace is the host, beside it a host of its LAN, behind it containers.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use isolate_netns::{Bridge, Firewall, NetworkNamespace, Port};

pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
pub(crate) const CONTAINER: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 2);

/// How long a question that is not answered is waited for. A virtual machine is slow, and before Linux 6.8 a new
/// bridge loses packets for up to a second.
fn patience() -> Duration {
    Duration::from_millis(if std::env::var_os("ISOLATE_VM").is_some() { 3000 } else { 400 })
}

/// Runs a program that must succeed; what it printed.
#[expect(clippy::disallowed_methods, reason = "tests look at the kernel through other eyes")]
pub(crate) fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = std::process::Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A host of the LAN. It knows the host as a neighbour and, the worst case, as its way to everywhere else.
pub(crate) fn neighbour() -> NetworkNamespace {
    let namespace = NetworkNamespace::new().unwrap();
    namespace.loopback_up().unwrap();
    let host = std::process::id();
    let inside = || {
        // Its number is not its peer's: of a pair with one number the kernel takes a second to see the carrier.
        run(&format!("ip link add uplink0 index 77 type veth peer name lan0 netns {host}"));
        run(&format!("ip address add {NEIGHBOUR}/24 dev uplink0"));
        run("ip link set uplink0 up");
        run(&format!("ip route add default via {HOST}"));
    };
    namespace.run(inside).unwrap();
    run(&format!("ip address add {HOST}/24 dev lan0"));
    run("ip link set lan0 up");
    namespace
}

/// A container: its namespace and its port.
pub(crate) struct Container {
    pub(crate) port: Port,
    pub(crate) namespace: NetworkNamespace,
}

pub(crate) fn bridge(firewall: Firewall) -> Bridge {
    named("test0", GATEWAY, firewall)
}

pub(crate) fn named(name: &str, gateway: Ipv4Addr, firewall: Firewall) -> Bridge {
    let bridge =
        Bridge::builder(name, format!("{gateway}/24").parse().unwrap()).firewall(firewall).create().unwrap();
    assert_eq!(bridge.firewall(), firewall);
    bridge
}

pub(crate) fn container(bridge: &Bridge, address: Ipv4Addr) -> Container {
    let namespace = NetworkNamespace::new().unwrap();
    let port = bridge.connect(&namespace, address, "eth0").unwrap();
    Container { port, namespace }
}

/// A server that tells each client the address it comes from, until it is dropped.
pub(crate) struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

pub(crate) fn serve(namespace: &NetworkNamespace, port: u16) -> Server {
    let listener = namespace.run(|| TcpListener::bind(("0.0.0.0", port))).unwrap().unwrap();
    listener.set_nonblocking(true).unwrap();
    until_stopped(move || {
        if let Ok((mut stream, peer)) = listener.accept() {
            stream.write_all(peer.ip().to_string().as_bytes()).ok();
        }
    })
}

pub(crate) fn serve_udp(namespace: &NetworkNamespace, port: u16) -> Server {
    let socket = namespace.run(|| UdpSocket::bind(("0.0.0.0", port))).unwrap().unwrap();
    socket.set_nonblocking(true).unwrap();
    until_stopped(move || {
        if let Ok((_, peer)) = socket.recv_from(&mut [0; 16]) {
            socket.send_to(peer.ip().to_string().as_bytes(), peer).ok();
        }
    })
}

fn until_stopped(mut once: impl FnMut() + Send + 'static) -> Server {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            once();
            thread::sleep(Duration::from_millis(1));
        }
    });
    Server { stop, thread: Some(thread) }
}

/// What a server at that address says to a client in this namespace: the client's address as it sees it.
pub(crate) fn ask(from: &NetworkNamespace, to: impl Into<SocketAddr>) -> Option<String> {
    let to = to.into();
    from.run(|| {
        let mut stream = TcpStream::connect_timeout(&to, patience()).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer).filter(|answer| !answer.is_empty())
    })
    .unwrap()
}

pub(crate) fn ask_udp(from: &NetworkNamespace, to: impl Into<SocketAddr>) -> Option<String> {
    let to = to.into();
    from.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.set_read_timeout(Some(patience())).ok()?;
        socket.send_to(b"who am I", to).ok()?;
        let mut buffer = [0; 64];
        let (length, _) = socket.recv_from(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
    .unwrap()
}

/// Whether an echo request (RFC 792) is answered.
pub(crate) fn ping(from: &NetworkNamespace, to: Ipv4Addr) -> bool {
    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, recv, sendto, socket, sockopt,
    };
    let request = [8, 0, 0xf7, 0xfd, 0, 1, 0, 1];
    from.run(|| {
        let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)).unwrap();
        sockopt::set_socket_timeout(&raw, sockopt::Timeout::Recv, Some(patience())).unwrap();
        sendto(&raw, &request, SendFlags::empty(), &SocketAddr::from((to, 0))).unwrap();
        recv(&raw, &mut [0; 128][..], RecvFlags::empty()).is_ok_and(|(_, length)| length >= 28)
    })
    .unwrap()
}

pub(crate) fn here() -> NetworkNamespace {
    NetworkNamespace::current().unwrap()
}

/// All rules of this namespace. Tables that `iptables` makes of nf_tables and never deletes are deleted if they
/// are empty of rules.
pub(crate) fn rules() -> String {
    run("nft list ruleset")
}

/// After iptables: none of our chains is left, and its own empty tables, which it never deletes, are not a leak.
pub(crate) fn forget_iptables() {
    for table in ["raw", "nat", "filter"] {
        let left = run(&format!("iptables-save -t {table}"));
        assert!(!left.contains("ISOLATE") && !left.contains("\n-A"), "{left}");
    }
    run("nft flush ruleset");
}
