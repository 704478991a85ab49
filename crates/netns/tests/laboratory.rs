//! Three machines: a client on the LAN, the host, containers. Who reaches what, by either version of IP, protocol and firewall.

#![expect(clippy::unwrap_used, reason = "tests")]

mod lan;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use isolate_netns::{Bridge, Endpoint, Firewall, NetworkNamespace, Port, Protocol, Publish};
use lan::{here, neighbour, run};
use testkit::{Need, kernel_test};

const NF_TABLES: &[Need] =
    &[Need::Root, Need::Veth, Need::NfTables, Need::Program("ip"), Need::Program("nft"), Need::Native];
const IPTABLES: &[Need] = &[
    Need::Root,
    Need::Veth,
    Need::NfTables,
    Need::Iptables,
    Need::Program("ip"),
    Need::Program("nft"),
    Need::Native,
];

const LAN_HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const LAN_CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);

/// How long an answer is waited for that should come, and one that should not.
fn patience(expected: bool) -> Duration {
    Duration::from_millis(if expected { 5000 } else { 250 })
}

/// A port of the container that answers by both protocols and both versions.
struct Echo {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Echo {
    fn on(namespace: &NetworkNamespace, port: u16) -> Self {
        let all = (Ipv6Addr::UNSPECIFIED, port);
        let (tcp, udp) =
            namespace.run(|| (TcpListener::bind(all).unwrap(), UdpSocket::bind(all).unwrap())).unwrap();
        tcp.set_nonblocking(true).unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (one, two) = (Arc::clone(&stop), Arc::clone(&stop));
        let streams = thread::spawn(move || {
            while !one.load(Ordering::Relaxed) {
                match tcp.accept() {
                    Ok((mut stream, peer)) => drop(stream.write_all(plain(peer.ip()).as_bytes())),
                    Err(_) => thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        let datagrams = thread::spawn(move || {
            while !two.load(Ordering::Relaxed) {
                if let Ok((_, peer)) = udp.recv_from(&mut [0; 16]) {
                    udp.send_to(plain(peer.ip()).as_bytes(), peer).ok();
                }
            }
        });
        Self { stop, threads: vec![streams, datagrams] }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn plain(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

/// The client's address as the server sees it, if it answers.
fn asks(from: &NetworkNamespace, protocol: Protocol, to: SocketAddr, patience: Duration) -> Option<String> {
    from.run(|| match protocol {
        Protocol::Tcp => {
            let mut stream = TcpStream::connect_timeout(&to, patience).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            Some(answer).filter(|answer| !answer.is_empty())
        }
        Protocol::Udp => {
            let any: IpAddr =
                if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((any, 0)).ok()?;
            // Whose answer it is counts, too.
            socket.connect(to).ok()?;
            socket.set_read_timeout(Some(patience)).ok()?;
            socket.send(b"who").ok()?;
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        }
    })
    .unwrap()
}

struct Container {
    namespace: NetworkNamespace,
    port: Port,
    addresses: [IpAddr; 2],
}

fn container(bridge: &Bridge, last: u8) -> Container {
    let namespace = NetworkNamespace::new().unwrap();
    let IpAddr::V4(gateway) = bridge.gateway().address() else { unreachable!() };
    let [a, b, c, _] = gateway.octets();
    let four = Ipv4Addr::new(a, b, c, last);
    let six = Ipv6Addr::new(0xfd00, u16::from(b), 0, 0, 0, 0, 0, last.into());
    let port = bridge.attach(&namespace, &Endpoint::new("eth0", four).ipv6(six)).unwrap();
    Container { namespace, port, addresses: [four.into(), six.into()] }
}

fn bridge(name: &str, second: u8, firewall: Firewall, internal: bool) -> Bridge {
    let four = format!("172.{second}.0.1/24").parse().unwrap();
    let six = format!("fd00:{second:x}::1/64").parse().unwrap();
    let builder = Bridge::builder(name, four).ipv6(six).firewall(firewall).internal(internal);
    let bridge = builder.create().unwrap();
    if !internal {
        bridge.masquerade().unwrap();
    }
    bridge
}

struct Laboratory {
    client: NetworkNamespace,
    host: NetworkNamespace,
    bridges: Vec<Bridge>,
    web: Container,
    beside: Container,
    stranger: Container,
    inner: Container,
    _echoes: Vec<Echo>,
}

impl Laboratory {
    fn new(firewall: Firewall) -> Self {
        // Where the bridge hands packets to these rules itself, answers to ::1 are lost.
        std::fs::write("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "0").ok();
        let client = neighbour();
        run(&format!("ip address add {LAN_HOST6}/64 dev lan0 nodad"));
        let routed = || {
            run(&format!("ip address add {LAN_CLIENT6}/64 dev uplink0 nodad"));
            run(&format!("ip -6 route add default via {LAN_HOST6}"));
        };
        client.run(routed).unwrap();
        let bridges = vec![
            bridge("web0", 30, firewall, false),
            bridge("other0", 31, firewall, false),
            bridge("inner0", 32, firewall, true),
        ];
        let (web, beside) = (container(&bridges[0], 2), container(&bridges[0], 3));
        let (stranger, inner) = (container(&bridges[1], 2), container(&bridges[2], 2));
        let echoes = [&web, &beside, &inner].map(|one| Echo::on(&one.namespace, 8080)).into();
        for protocol in [Publish::tcp, Publish::udp] {
            web.port.publish(protocol(9000, 8080)).unwrap();
            web.port.publish(protocol(9001, 8080).on(Ipv4Addr::LOCALHOST)).unwrap();
            web.port.publish(protocol(9001, 8080).on(Ipv6Addr::LOCALHOST)).unwrap();
        }
        Self { client, host: here(), bridges, web, beside, stranger, inner, _echoes: echoes }
    }

    /// Every row: who asks what, and as whom the answer comes back, if it does.
    fn rows(&self, when: &str) {
        let lan: [IpAddr; 2] = [lan::HOST.into(), LAN_HOST6.into()];
        let client: [IpAddr; 2] = [lan::NEIGHBOUR.into(), LAN_CLIENT6.into()];
        let gateway: [IpAddr; 2] =
            [self.bridges[0].gateway().address(), self.bridges[0].gateway6().unwrap().address()];
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let [web, beside, stranger] = [&self.web, &self.beside, &self.stranger];
        for (v, protocol) in (0..2).flat_map(|v| [(v, Protocol::Tcp), (v, Protocol::Udp)]) {
            let row = |what: &str, from: &NetworkNamespace, to: (IpAddr, u16), expected: Option<IpAddr>| {
                let got = asks(from, protocol, to.into(), patience(expected.is_some()));
                assert_eq!(got, expected.map(plain), "{when}: {what}, {protocol}, {}", to.0);
            };
            let (own, next) = (web.addresses[v], beside.addresses[v]);
            row("published, from the LAN", &self.client, (lan[v], 9000), Some(client[v]));
            row("published, from the host", &self.host, (lan[v], 9000), Some(lan[v]));
            row("published, from its loopback", &self.host, (loopback[v], 9000), Some(gateway[v]));
            row("published, from beside", &beside.namespace, (lan[v], 9000), Some(gateway[v]));
            row("published, from itself", &web.namespace, (lan[v], 9000), Some(gateway[v]));
            row(
                "published, from another network",
                &stranger.namespace,
                (lan[v], 9000),
                Some(stranger.addresses[v]),
            );
            row("on loopback, from the host", &self.host, (loopback[v], 9001), Some(gateway[v]));
            row("on loopback, from the LAN", &self.client, (lan[v], 9001), None);
            row("on loopback, from beside", &beside.namespace, (gateway[v], 9001), None);
            row("unpublished, from the LAN", &self.client, (lan[v], 8080), None);
            row("straight, from the LAN", &self.client, (own, 8080), None);
            row("straight, from the host", &self.host, (own, 8080), Some(gateway[v]));
            row("from beside", &beside.namespace, (own, 8080), Some(next));
            row("from another network", &stranger.namespace, (own, 8080), None);
            row("internal, from the LAN", &self.client, (self.inner.addresses[v], 8080), None);
            row("internal, from another network", &stranger.namespace, (self.inner.addresses[v], 8080), None);
        }
        self.outward(when);
    }

    /// To the LAN: under the host's address, but for a forged source and from an internal network.
    fn outward(&self, when: &str) {
        let _echo = Echo::on(&self.client, 7000);
        let client: [IpAddr; 2] = [lan::NEIGHBOUR.into(), LAN_CLIENT6.into()];
        let lan: [IpAddr; 2] = [lan::HOST.into(), LAN_HOST6.into()];
        for v in 0..2 {
            let to = (client[v], 7000).into();
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let out = asks(&self.web.namespace, protocol, to, patience(true));
                assert_eq!(out, Some(plain(lan[v])), "{when}: outward, {protocol}");
                assert_eq!(
                    asks(&self.inner.namespace, protocol, to, patience(false)),
                    None,
                    "{when}: outward of an internal one"
                );
            }
        }
    }
}

fn rows_hold(firewall: Firewall) {
    let laboratory = Laboratory::new(firewall);
    laboratory.rows("at first");
    match firewall {
        Firewall::Iptables => {
            for line in ["-t raw -F", "-t nat -F", "-F"] {
                run(&format!("iptables {line}"));
                run(&format!("ip6tables {line}"));
            }
            run("nft delete table bridge isolate");
        }
        _ => drop(run("nft flush ruleset")),
    }
    let gone = asks(&laboratory.client, Protocol::Tcp, (lan::HOST, 9000).into(), patience(false));
    assert_eq!(gone, None, "without the rules it is not published");
    for one in [&laboratory.web, &laboratory.beside, &laboratory.stranger, &laboratory.inner] {
        assert!(!one.port.check().unwrap().is_empty());
        one.port.repair().unwrap();
        assert_eq!(one.port.check().unwrap(), []);
    }
    laboratory.bridges.iter().for_each(|bridge| assert_eq!(bridge.check().unwrap(), []));
    laboratory.rows("after a repair");

    // As Docker, ufw and firewalld leave it.
    run("nft add table inet theirs");
    run("nft add chain inet theirs across { type filter hook forward priority 0; policy drop; }");
    let blocked = asks(&laboratory.client, Protocol::Tcp, (lan::HOST, 9000).into(), patience(false));
    assert_eq!(blocked, None, "an accept of ours does not undo their drop");
    let problems = laboratory.bridges[0].check().unwrap();
    assert!(
        problems.iter().any(|problem| problem.to_string().contains("inet theirs across")),
        "{problems:?}"
    );
    laboratory.bridges.iter().for_each(|bridge| bridge.repair().unwrap());
    laboratory.rows("beside a chain that drops");
    drop(laboratory);
    let theirs = run("nft list table inet theirs");
    assert!(!theirs.contains("accept\n") && !theirs.contains("isolate"), "{theirs}");
    run("nft delete table inet theirs");
}

#[test]
fn every_row_holds_before_and_after_a_flush_with_nf_tables() {
    kernel_test(NF_TABLES, || rows_hold(Firewall::NfTables));
}

#[test]
fn every_row_holds_before_and_after_a_flush_with_iptables() {
    kernel_test(IPTABLES, || {
        rows_hold(Firewall::Iptables);
        assert!(!run("ip6tables-save").contains("ISOLATE"));
        lan::forget_iptables();
    });
}

/// What a container sends under another's address does not arrive, not even next door.
fn forged(firewall: Firewall) {
    let laboratory = Laboratory::new(firewall);
    let (web, beside) = (&laboratory.web, &laboratory.beside);
    let link = |line: &str| web.namespace.run(|| run(line)).unwrap();
    let heard = |from: IpAddr, expected: bool| {
        let any: IpAddr =
            if from.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let listener = beside.namespace.run(|| UdpSocket::bind((any, 5000)).unwrap()).unwrap();
        listener.set_read_timeout(Some(patience(expected))).unwrap();
        let to = beside.addresses[usize::from(from.is_ipv6())];
        let send = || UdpSocket::bind((from, 0)).unwrap().send_to(b"x", (to, 5000)).ok();
        web.namespace.run(send).unwrap();
        listener.recv(&mut [0; 8]).is_ok()
    };
    assert!(heard(web.addresses[0], true) && heard(web.addresses[1], true), "under its own address");
    link("ip address add 172.30.0.99/24 dev eth0");
    link("ip address add fd00:1e::99/64 dev eth0 nodad");
    assert!(!heard([172, 30, 0, 99].into(), false) && !heard("fd00:1e::99".parse().unwrap(), false));
    // With the address of its neighbour: who asks for that is not told by the wrong one.
    link(&format!("ip address add {}/24 dev eth0", beside.addresses[0]));
    link("sysctl -qw net.ipv4.conf.all.arp_announce=0");
    link("ip neigh flush all");
    assert!(
        asks(&laboratory.host, Protocol::Tcp, (beside.addresses[0], 8080).into(), patience(true)).is_some()
    );
    link(&format!("ip address del {}/24 dev eth0", beside.addresses[0]));
    // Another MAC address.
    link("ip link set eth0 address 02:42:ac:1e:00:63");
    link("ip neigh flush all");
    assert!(!heard(web.addresses[0], false), "under a MAC address that is not its own");
    // It is these rules that drop it.
    run("nft flush chain bridge isolate guards");
    link("ip neigh flush all");
    assert!(heard([172, 30, 0, 99].into(), true), "without them it arrives");
}

#[test]
fn a_forged_address_does_not_reach_the_neighbours_with_nf_tables() {
    kernel_test(NF_TABLES, || forged(Firewall::NfTables));
}

#[test]
fn a_forged_address_does_not_reach_the_neighbours_with_iptables() {
    kernel_test(IPTABLES, || {
        forged(Firewall::Iptables);
        lan::forget_iptables();
    });
}
