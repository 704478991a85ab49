//! A client of name servers, and a server that does what its name is asked to.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part")]

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use isolate_netns::{Names, end, is_served, serve};
use simple_dns::rdata::{self, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, ResourceRecord};
use testkit::{Need, scratch};

pub(crate) const NEEDS: &[Need] = &[Need::Root];

pub(crate) fn here() -> Names {
    let mut names = Names::new().subnet([172, 30, 0, 1].into(), 24).subnet("fd00::1".parse().unwrap(), 64);
    names.add("1", ["db", "store"], [ip("172.30.0.2"), ip("fd00::2")]);
    names.add("2", ["web", "store"], [ip("172.30.0.3")]);
    names
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A server that runs, on 127.0.0.1 and ::1; it is ended with this.
pub(crate) struct Served(pub(crate) PathBuf);

impl Served {
    pub(crate) fn with(names: &Names) -> Self {
        let directory = scratch().join("net");
        names.write(&directory).unwrap();
        assert!(serve(&directory, &[SERVER, ip("::1")], &[]).unwrap());
        Self(directory)
    }

    pub(crate) fn pid(&self) -> u32 {
        // Who has started it may be on its way out still.
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            match pids(&self.0)[..] {
                [one] => return one,
                ref found => assert!(Instant::now() < end, "one process: {found:?}"),
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // On a machine that is busy two seconds may be too few.
        if end(&self.0).is_err() {
            end(&self.0).unwrap();
        }
        assert!(!is_served(&self.0) && !self.0.join("names").exists());
    }
}

pub(crate) const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const A: u16 = 1;
pub(crate) const PTR: u16 = 12;
pub(crate) const MX: u16 = 15;
pub(crate) const AAAA: u16 = 28;

/// How long a reply is waited for: longer than a server tries.
const PATIENCE: Duration = Duration::from_secs(10);
const ID: u16 = 4711;

/// What a test looks at of a reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: u8,
    pub(crate) truncated: bool,
    /// Addresses and names.
    pub(crate) records: Vec<String>,
    /// The size in its OPT record.
    pub(crate) edns: Option<u16>,
}

impl Reply {
    pub(crate) fn of<const N: usize>(records: [&str; N]) -> Self {
        Self { records: records.map(str::to_owned).to_vec(), ..Self::default() }
    }

    pub(crate) fn code(code: u8) -> Self {
        Self { code, ..Self::default() }
    }

    pub(crate) fn read(bytes: &[u8]) -> Self {
        let packet = Packet::parse(bytes).unwrap_or_else(|error| panic!("{error}: {bytes:?}"));
        assert!(packet.has_flags(PacketFlag::RESPONSE));
        let record = |record: &ResourceRecord<'_>| match &record.rdata {
            RData::A(a) => Ipv4Addr::from(a.address).to_string(),
            RData::AAAA(a) => Ipv6Addr::from(a.address).to_string(),
            RData::PTR(ptr) => ptr.0.to_string(),
            other => format!("{other:?}"),
        };
        Self {
            code: bytes[3] & 15,
            truncated: packet.has_flags(PacketFlag::TRUNCATION),
            records: packet.answers.iter().map(record).collect(),
            edns: packet.opt().map(|opt| opt.udp_packet_size),
        }
    }
}

pub(crate) fn query(name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = [&ID.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.trim_end_matches('.').split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

pub(crate) fn with_edns(query: &[u8], size: u16) -> Vec<u8> {
    let [high, low] = size.to_be_bytes();
    let mut bytes = [query, &[0, 0, 41, high, low, 0, 0, 0, 0, 0, 0]].concat();
    bytes[11] = 1;
    bytes
}

/// With a padding option (RFC 7830) of this many bytes.
pub(crate) fn with_padding(query: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = with_edns(query, 1232);
    let at = bytes.len() - 2;
    bytes[at..].copy_from_slice(&(4 + size as u16).to_be_bytes());
    bytes.extend([0, 12]);
    bytes.extend((size as u16).to_be_bytes());
    bytes.resize(bytes.len() + size, 0);
    bytes
}

/// By UDP from 127.0.0.1; `None` without an answer.
pub(crate) fn ask(query: &[u8]) -> Option<Reply> {
    tell("127.0.0.1:53", query)
}

pub(crate) fn tell(server: &str, query: &[u8]) -> Option<Reply> {
    tell_within(server, query, PATIENCE)
}

pub(crate) fn tell_within(server: &str, query: &[u8], patience: Duration) -> Option<Reply> {
    let server: SocketAddr = server.parse().unwrap();
    let socket = UdpSocket::bind(if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    socket.send(query).unwrap();
    let mut buffer = [0; 5000];
    let length = socket.recv(&mut buffer).ok()?;
    assert_eq!(buffer[..2], query[..2], "the same number");
    Some(Reply::read(&buffer[..length]))
}

pub(crate) fn ask_by_tcp(query: &[u8]) -> Option<Reply> {
    let mut stream = TcpStream::connect((SERVER, 53)).ok()?;
    stream.write_all(&framed(query)).unwrap();
    read_framed(&mut stream)
}

pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

pub(crate) fn read_framed(stream: &mut impl Read) -> Option<Reply> {
    Some(Reply::read(&read_message(stream)?))
}

fn read_message(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

/// A server of the world outside, by UDP and TCP, for every name: 192.0.2. and the last byte of its own address.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    asked: AtomicUsize,
}

impl Upstream {
    pub(crate) fn start(address: &str) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let shared = Arc::new(Shared::default());
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (by_udp, by_tcp) = (Arc::clone(&shared), Arc::clone(&shared));
        let datagrams = move || {
            let mut buffer = [0; 2000];
            while !by_udp.over.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                by_udp.asked.fetch_add(1, Ordering::Relaxed);
                for reply in replies(&buffer[..length], address) {
                    socket.send_to(&reply, from).unwrap();
                }
            }
        };
        let connections = move || {
            // Those that wait for an answer that does not come.
            let mut held = Vec::new();
            while !by_tcp.over.load(Ordering::Relaxed) {
                let Ok((mut stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                let Some(query) = read_message(&mut stream) else { continue };
                by_tcp.asked.fetch_add(1, Ordering::Relaxed);
                if let Some(reply) = replies(&query, address).last() {
                    stream.write_all(&framed(reply)).ok();
                }
                held.push(stream);
            }
        };
        Self { address, shared, threads: vec![thread::spawn(datagrams), thread::spawn(connections)] }
    }

    pub(crate) fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

fn replies(query: &[u8], own: SocketAddr) -> Vec<Vec<u8>> {
    let Ok(asked) = Packet::parse(query) else { return Vec::new() };
    let number = own.ip().to_string().rsplit(['.', ':']).next().unwrap().to_owned();
    let name = asked.questions[0].qname.to_string();
    if name == format!("silent-on-{number}.test") {
        return Vec::new();
    }
    let reply = |id: u16, name: &str, count: u8| {
        let mut reply = Packet::new_reply(id);
        reply.set_flags(PacketFlag::RECURSION_AVAILABLE | PacketFlag::RECURSION_DESIRED);
        let mut question = asked.questions[0].clone();
        question.qname = Name::new_unchecked(name).into_owned();
        for n in 0..count {
            let last = if count == 1 { number.parse().unwrap() } else { n };
            let data = RData::A(rdata::A { address: Ipv4Addr::new(192, 0, 2, last).into() });
            reply.answers.push(ResourceRecord::new(question.qname.clone(), CLASS::IN, 60, data));
        }
        reply.questions.push(question);
        if let Some(opt) = asked.opt() {
            *reply.opt_mut() =
                Some(rdata::OPT { opt_codes: Vec::new(), udp_packet_size: 1232, version: opt.version });
        }
        reply.build_bytes_vec_compressed().unwrap()
    };
    let with_code = |code: u8| {
        let mut bytes = reply(asked.id(), &name, 0);
        bytes[3] |= code;
        vec![bytes]
    };
    match &*name {
        "big.test" => vec![reply(asked.id(), &name, 100)],
        "refused.test" => with_code(5),
        "forged.test" => vec![
            reply(asked.id().wrapping_add(1), &name, 3),
            reply(asked.id(), "other.test", 3),
            vec![0; 5],
            reply(asked.id(), &name, 1),
        ],
        other if other == format!("refused-by-{number}.test") => with_code(5),
        _ => vec![reply(asked.id(), &name, 1)],
    }
}

/// The processes of the server of this directory; what serves its connections, too.
pub(crate) fn pids(directory: &Path) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let ours = |pid: &u32| {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        read("comm").trim() == "isolate-names" && read("cmdline").contains(directory.to_str().unwrap())
    };
    all.filter(ours).collect()
}

#[expect(clippy::disallowed_methods, reason = "tests look at the kernel through other eyes")]
pub(crate) fn kill(pid: u32) {
    std::process::Command::new("sh").args(["-c", &format!("kill -9 {pid}")]).status().unwrap();
}

pub(crate) fn dies_within(pid: u32, limit: Duration) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        // With its number gone or a zombie, all that it had open is closed.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z')) {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}

pub(crate) fn private_kib(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let private = rollup.lines().filter(|line| line.starts_with("Private_"));
    private.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum()
}

/// Runs one ignored test of this binary in a process of its own, with the directory in its environment.
#[expect(clippy::disallowed_methods, reason = "a process that can die")]
pub(crate) fn in_another_process(test: &str, directory: &Path) {
    let program = std::env::current_exe().unwrap();
    let status = std::process::Command::new(program)
        .args(["--exact", test, "--ignored"])
        .env("ISOLATE_NAMES_DIRECTORY", directory)
        .env_remove("ISOLATE_WORLD")
        .status()
        .unwrap();
    assert!(!status.success(), "it dies by a signal");
}
