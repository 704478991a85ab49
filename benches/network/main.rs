//! Networks: attached, published, connected to and used, against bare netlink calls and links made by hand; and started on.
//!
//! `cargo bench --bench network`, as root, with `ip`. Everything happens in network namespaces that the bench makes. `-- warm` is that part alone.
#![expect(clippy::disallowed_methods, reason = "a bench runs its peers")]

mod bare;
mod warm;

use std::error::Error;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use isolate::netns::{Bridge, Endpoint, NetworkNamespace, Port, Publish};
use isolate_benches::figure::{self, Times, head};
use rustix::net::netdevice::name_to_index;
use rustix::net::netlink;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const ROUNDS: usize = 200;
const MANY: u16 = 1000;
const PORTS: u16 = 700;
/// So many of those are measured, in turn with the first ones of others.
const LAST: u16 = 200;
const FEW: u16 = 20;
/// Turns of so many connections each, twice.
const TURNS: usize = 80;
const CONNECTIONS: usize = 25;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let parts = [attaching, connecting, growing, moving, warm::measure];
    let first = if std::env::args().any(|word| word == "warm") { parts.len() - 1 } else { 0 };
    for part in &parts[first..] {
        // A host of its own for each.
        NetworkNamespace::new()?.run(part)?.map_err(|e| -> Box<dyn Error> { e })?;
    }
    Ok(())
}

fn run(line: &str) -> Result<()> {
    let mut words = line.split_whitespace();
    let status = Command::new(words.next().unwrap_or_default()).args(words).status()?;
    if status.success() { Ok(()) } else { Err(format!("{line}: {status}").into()) }
}

/// A namespace by a name that other programs can open.
fn path(namespace: &NetworkNamespace) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), namespace.as_fd().as_raw_fd())
}

fn address(n: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(GATEWAY.to_bits() + 1 + u32::from(n))
}

/// One connected and published, in turn with the same in bare calls.
fn attaching() -> Result<()> {
    let bridge = Bridge::create("bench0", "10.77.0.1/16".parse()?)?;
    bridge.masquerade()?;
    let (route, nft) = (bare::Socket::open(None)?, bare::Socket::open(Some(netlink::NETFILTER))?);
    let index = name_to_index(&route, "bench0")?;
    let (mut ours, mut limit, mut detached) = (Times::default(), Times::default(), Times::default());
    for round in 0..ROUNDS as u16 {
        let reservation = Publish::tcp(0, 80).reserve()?;
        let namespace = NetworkNamespace::new()?;
        let begun = Instant::now();
        let port = bridge.connect(&namespace, address(0), "eth0")?;
        port.publish_reserved(&reservation)?;
        ours.push(begun.elapsed());
        let begun = Instant::now();
        port.remove_rules()?;
        detached.push(begun.elapsed());
        drop((namespace, reservation));
        pause();

        let namespace = NetworkNamespace::new()?;
        let begun = Instant::now();
        route.send(&bare::pair(&format!("bare{round}"), index, namespace.as_fd()), 1)?;
        namespace.run(|| {
            let socket = bare::Socket::open(None)?;
            let index = name_to_index(&socket, "eth0")?;
            socket.send(&bare::inside(index, address(0), GATEWAY), 4)
        })??;
        nft.send(&bare::publish(20000 + round, address(0), 80), 1)?;
        limit.push(begun.elapsed());
        drop(namespace);
        pause();
    }
    head("One attached to a bridge and published");
    ours.print("isolate");
    limit.print("bare netlink and nf_tables calls");
    detached.print("detached");
    figure::print("attach/limit", ours.ratio(&limit), "x");
    Ok(())
}

/// Ends of namespaces are tidied up in the background: not in somebody's time.
fn pause() {
    thread::sleep(Duration::from_millis(5));
}

struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// Takes connections and closes them, or reads them to their end.
    fn in_namespace(namespace: &NetworkNamespace, port: u16) -> Result<Self> {
        let listener = namespace.run(|| TcpListener::bind(("0.0.0.0", port)))??;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        listener.set_nonblocking(true)?;
        let serve = move || {
            let mut buffer = vec![0; 256 << 10];
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut stream, _)) => {
                        stream.set_nonblocking(false).ok();
                        while stream.read(&mut buffer).is_ok_and(|n| n > 0) {}
                    }
                    Err(_) => thread::sleep(Duration::from_micros(50)),
                }
            }
        };
        Ok(Self { stop, thread: Some(thread::spawn(serve)) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(thread::JoinHandle::join);
    }
}

/// How long a connection to a published port takes to be set up, with one port published and with many: of two hosts in turn, the one that
/// has many being now this, now that.
fn connecting() -> Result<()> {
    let hosts = [PublishedHost::new()?, PublishedHost::new()?];
    let [mut one, mut many]: [Times; 2] = Default::default();
    for crowded in 0..2 {
        hosts[crowded].publish_many()?;
        for _ in 0..TURNS {
            for (n, host) in hosts.iter().enumerate() {
                host.connect(if n == crowded { &mut many } else { &mut one })?;
            }
        }
        hosts[crowded].unpublish_many()?;
    }
    head("A connection from another host to a published port");
    one.print("1 port published");
    many.print("1000 ports published");
    figure::print("connect-1000-ports/connect-1-port", many.ratio(&one), "x");
    Ok(())
}

/// A host with a container, whose port 80 is published on 9000; and a neighbour on its network.
struct PublishedHost {
    host: NetworkNamespace,
    lan: NetworkNamespace,
    port: Port,
    _bridge: Bridge,
    _server: Server,
}

impl PublishedHost {
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn new() -> Result<Self> {
        let [host, lan, namespace] =
            [NetworkNamespace::new()?, NetworkNamespace::new()?, NetworkNamespace::new()?];
        let here = path(&host);
        lan.run(|| {
            run("ip link set lo up")?;
            run(&format!("ip link add lan1 index 77 type veth peer name lan0 netns {here}"))?;
            run("ip address add 192.0.2.2/24 dev lan1")?;
            run("ip link set lan1 up")
        })??;
        let (bridge, port) = host.run(|| {
            run(&format!("ip address add {}/24 dev lan0", Self::ADDRESS))?;
            run("ip link set lan0 up")?;
            let bridge = Bridge::create("bench0", "10.77.0.1/16".parse()?)?;
            let port = bridge.connect(&namespace, address(0), "eth0")?;
            port.publish((9000, 80))?;
            Ok::<_, Box<dyn Error + Send + Sync>>((bridge, port))
        })??;
        let server = Server::in_namespace(&namespace, 80)?;
        Ok(Self { host, lan, port, _bridge: bridge, _server: server })
    }

    fn publish_many(&self) -> Result<()> {
        let publish = |n| self.port.publish((20000 + n, 80)).map(drop);
        Ok(self.host.run(|| (1..MANY).try_for_each(publish))??)
    }

    fn unpublish_many(&self) -> Result<()> {
        let published = self.port.published().into_iter().skip(1);
        Ok(self.host.run(|| published.into_iter().try_for_each(|publish| self.port.unpublish(publish)))??)
    }

    fn connect(&self, times: &mut Times) -> Result<()> {
        let connect = || TcpStream::connect((Self::ADDRESS, 9000)).map(drop);
        Ok(self.lan.run(|| (0..CONNECTIONS).try_for_each(|_| times.take(connect)))??)
    }
}

/// What one more costs on a bridge of many: in turn with one more on a bridge of few, in a host of its own each.
fn growing() -> Result<()> {
    for dual in [false, true] {
        let mut few: Vec<_> = (0..LAST / FEW).map(|_| BridgedHost::new(dual)).collect::<Result<_>>()?;
        let mut many = BridgedHost::new(dual)?;
        let [mut early, mut first, mut last]: [Times; 3] = Default::default();
        for n in 0..PORTS - LAST {
            let took = many.attach(n)?;
            if n < FEW {
                early.push(took);
            }
        }
        for n in 0..LAST {
            last.push(many.attach(PORTS - LAST + n)?);
            first.push(few[usize::from(n / FEW)].attach(n % FEW)?);
        }
        let what = if dual { "dual stack" } else { "IPv4" };
        head(&format!("One attached to a bridge of many, {what}"));
        early.print("the first 20 of all");
        first.print("the 1st to the 20th");
        last.print("the 501st to the 700th");
        figure::print(&format!("attach-700th/attach-1st ({what})"), last.ratio(&first), "x");
        drop((few, many));
        thread::sleep(Duration::from_secs(2));
    }
    Ok(())
}

/// A host with a bridge, and what is on it.
struct BridgedHost {
    host: NetworkNamespace,
    bridge: Bridge,
    dual: bool,
    attached: Vec<(NetworkNamespace, Port)>,
}

impl BridgedHost {
    fn new(dual: bool) -> Result<Self> {
        let host = NetworkNamespace::new()?;
        let bridge = host.run(|| {
            let builder = Bridge::builder("bench0", "10.77.0.1/16".parse()?);
            let builder = if dual { builder.ipv6("fd00:77::1/64".parse()?) } else { builder };
            Ok::<_, Box<dyn Error + Send + Sync>>(builder.create()?)
        })??;
        Ok(Self { host, bridge, dual, attached: Vec::new() })
    }

    /// How long it takes to attach one more.
    fn attach(&mut self, n: u16) -> Result<Duration> {
        let namespace = NetworkNamespace::new()?;
        let endpoint = Endpoint::new("eth0", address(n));
        let endpoint = match self.dual {
            true => endpoint.ipv6(Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 1, n)),
            false => endpoint,
        };
        let bridge = &self.bridge;
        let (port, took) = self.host.run(|| {
            let begun = Instant::now();
            bridge.attach(&namespace, &endpoint).map(|port| (port, begun.elapsed()))
        })??;
        self.attached.push((namespace, port));
        Ok(took)
    }
}

/// Bytes a second from one container to another, in turn with the same over a bridge and pairs made by hand.
fn moving() -> Result<()> {
    let bridge = Bridge::create("bench0", "10.77.0.1/16".parse()?)?;
    bridge.masquerade()?;
    let (one, two) = (NetworkNamespace::new()?, NetworkNamespace::new()?);
    let _ports = (bridge.connect(&one, address(0), "eth0")?, bridge.connect(&two, address(1), "eth0")?);
    run("ip link add hand0 type bridge")?;
    run("ip address add 10.78.0.1/16 dev hand0")?;
    run("ip link set hand0 up")?;
    let by_hand = [NetworkNamespace::new()?, NetworkNamespace::new()?];
    for (n, namespace) in by_hand.iter().enumerate() {
        run(&format!("ip link add hand{} type veth peer name eth0 netns {}", n + 1, path(namespace)))?;
        run(&format!("ip link set hand{} master hand0 up", n + 1))?;
        namespace.run(|| {
            run("ip link set lo up")?;
            run(&format!("ip address add 10.78.0.{}/16 dev eth0", n + 2))?;
            run("ip link set eth0 up")
        })??;
    }
    let _servers = (Server::in_namespace(&two, 80)?, Server::in_namespace(&by_hand[1], 80)?);
    let mut ratios = Vec::new();
    let (mut ours, mut theirs) = (0.0, 0.0);
    for _ in 0..15 {
        ours = moved(&one, address(1).into())?;
        theirs = moved(&by_hand[0], Ipv4Addr::new(10, 78, 0, 3).into())?;
        ratios.push(ours / theirs);
    }
    ratios.sort_by(f64::total_cmp);
    println!("\nData from one container to another: {:.1} Gbit/s, by hand {:.1}", ours / 1e9, theirs / 1e9);
    figure::print("data/by-hand", ratios[ratios.len() / 2], "x");
    Ok(())
}

fn moved(from: &NetworkNamespace, to: IpAddr) -> Result<f64> {
    let mut stream = from.run(|| TcpStream::connect((to, 80)))??;
    let buffer = vec![0; 256 << 10];
    let (begun, mut bytes) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_millis(300) {
        bytes += stream.write(&buffer)?;
    }
    Ok(bytes as f64 * 8.0 / begun.elapsed().as_secs_f64())
}
