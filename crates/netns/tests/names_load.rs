//! The name server under load: what it loses, what it takes, what it survives.

#![expect(clippy::unwrap_used, reason = "tests")]

mod dns;

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dns::{A, NEEDS, PTR, Reply, SERVER, Served, Upstream, ask, ask_by_tcp, here, pids, query};
use testkit::kernel_test;

#[test]
fn more_than_there_is_room_for_gives_up_the_oldest() {
    kernel_test(NEEDS, || {
        let upstream = Upstream::start("127.0.0.9:53");
        let served = Served::with(&here().forward_to([upstream.address]));
        let socket = UdpSocket::bind("127.0.0.2:0").unwrap();
        socket.connect((SERVER, 53)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for n in 0..200u16 {
            let mut query = query("silent-on-9.test", A);
            query[..2].copy_from_slice(&n.to_be_bytes());
            socket.send(&query).unwrap();
            thread::sleep(Duration::from_micros(200));
        }
        let mut buffer = [0; 512];
        let failed: Vec<_> = (0..136)
            .map(|_| {
                let length = socket.recv(&mut buffer).unwrap();
                assert_eq!(Reply::read(&buffer[..length]), Reply::code(2));
                u16::from_be_bytes([buffer[0], buffer[1]])
            })
            .collect();
        assert_eq!(failed, (0..136).collect::<Vec<_>>(), "64 of one client are on their way");
        // Another one is served as before.
        assert_eq!(ask(&query("example.com", A)).unwrap(), Reply::of(["192.0.2.9"]));
        let open = fs::read_dir(format!("/proc/{}/fd", served.pid())).unwrap().count();
        assert!(open < 64 + 16, "{open}");
    });
}

#[test]
fn a_client_that_asks_again_is_not_asked_for_again() {
    kernel_test(NEEDS, || {
        let upstream = Upstream::start("127.0.0.9:53");
        let _served = Served::with(&here().forward_to([upstream.address]));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect((SERVER, 53)).unwrap();
        for _ in 0..10 {
            socket.send(&query("silent-on-9.test", A)).unwrap();
        }
        thread::sleep(Duration::from_millis(500));
        assert_eq!(upstream.asked(), 1);
        // Under the same number, but something else.
        socket.send(&query("example.com", A)).unwrap();
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(Reply::read(&buffer[..length]), Reply::of(["192.0.2.9"]));
    });
}

#[test]
fn connections_are_bounded_and_keep_nobody_waiting() {
    kernel_test(NEEDS, || {
        let served = Served::with(&here());
        let held: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect((SERVER, 53)).unwrap()).collect();
        thread::sleep(Duration::from_millis(200));
        assert_eq!(pids(&served.0).len(), 1 + 8, "eight of one client");
        assert_eq!(ask(&query("db", A)).unwrap(), Reply::of(["172.30.0.2"]));
        // Several queries by one connection, and half of one.
        let mut both = dns::framed(&query("db", A));
        both.extend(dns::framed(&query("web", A)));
        let (mut first, mut second) = (&held[0], &held[1]);
        std::io::Write::write_all(&mut first, &both).unwrap();
        assert_eq!(dns::read_framed(&mut first).unwrap(), Reply::of(["172.30.0.2"]));
        assert_eq!(dns::read_framed(&mut first).unwrap(), Reply::of(["172.30.0.3"]));
        std::io::Write::write_all(&mut second, &both[..5]).unwrap();
        let begun = Instant::now();
        assert_eq!(std::io::Read::read(&mut second, &mut [0]).unwrap(), 0, "it is closed");
        assert!(
            begun.elapsed() > Duration::from_millis(4000) && begun.elapsed() < Duration::from_millis(8000)
        );
        drop(held);
        let begun = Instant::now();
        while pids(&served.0).len() > 1 {
            assert!(begun.elapsed() < Duration::from_secs(5), "they are reaped");
            thread::sleep(Duration::from_millis(20));
        }
    });
}

#[test]
fn no_query_is_lost_while_the_table_changes() {
    kernel_test(NEEDS, || {
        const CLIENTS: u32 = 4;
        const QUERIES: u32 = 5000;
        const CHANGES: u32 = 1000;
        let served = Served::with(&here());
        let (over, changes) = (AtomicBool::new(false), AtomicU32::new(0));
        let begun = Instant::now();
        let took = thread::scope(|scope| {
            let change = || {
                while changes.load(Ordering::Relaxed) < CHANGES || !over.load(Ordering::Relaxed) {
                    let n = changes.fetch_add(1, Ordering::Relaxed);
                    let mut names = here();
                    names.add("3", ["moving"], [IpAddr::from([172, 30, 1, (n % 250) as u8])]);
                    names.write(&served.0).unwrap();
                    if n == 0 {
                        names.write(&served.0).unwrap();
                    }
                    thread::sleep(Duration::from_millis(1));
                }
            };
            let changer = scope.spawn(change);
            while changes.load(Ordering::Relaxed) < 2 {
                thread::yield_now();
            }
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    scope.spawn(move || {
                        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                        socket.connect((SERVER, 53)).unwrap();
                        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                        for n in 0..QUERIES {
                            let name = if n % 2 == 0 { "moving" } else { "db" };
                            let mut query = query(name, A);
                            query[..2].copy_from_slice(&((n + client) as u16).to_be_bytes());
                            socket.send(&query).unwrap();
                            let mut buffer = [0; 512];
                            let length = socket.recv(&mut buffer).expect("an answer");
                            assert_eq!(buffer[..2], query[..2], "to this query");
                            let reply = Reply::read(&buffer[..length]);
                            assert_eq!(reply.records.len(), 1, "{reply:?}");
                            assert!(n % 2 == 0 || reply == Reply::of(["172.30.0.2"]));
                        }
                    })
                })
                .collect();
            clients.into_iter().for_each(|client| client.join().unwrap());
            let took = begun.elapsed();
            over.store(true, Ordering::Relaxed);
            changer.join().unwrap();
            took
        });
        let rate = f64::from(CLIENTS * QUERIES) / took.as_secs_f64();
        println!("{rate:.0} queries/s while the table changed {} times", changes.into_inner());
        // What was written is what the next query sees.
        for n in 1..100 {
            let mut names = here();
            names.add("3", ["moving"], [IpAddr::from([172, 30, 2, n])]);
            names.write(&served.0).unwrap();
            assert_eq!(ask(&query("moving", A)).unwrap(), Reply::of([&*format!("172.30.2.{n}")]));
        }
        let pid = served.pid();
        let private = dns::private_kib(pid);
        println!("{private} KiB private");
        assert!(private < 128, "{private} KiB");
    });
}

#[test]
fn memory_stays_small_with_all_places_taken() {
    kernel_test(NEEDS, || {
        let upstream = Upstream::start("127.0.0.9:53");
        let served = Served::with(&here().forward_to([upstream.address]));
        let before = dns::private_kib(served.pid());
        for client in 0..200u8 {
            let socket = UdpSocket::bind((IpAddr::from([127, 0, 1, client]), 0)).unwrap();
            let query = dns::with_padding(&query("silent-on-9.test", A), 40 + usize::from(client) * 2);
            socket.send_to(&query, (SERVER, 53)).unwrap();
            thread::sleep(Duration::from_micros(200));
        }
        ask_by_tcp(&query("db", A)).unwrap();
        ask(&dns::with_edns(&query("big.test", A), 4000)).unwrap();
        let private = dns::private_kib(served.pid());
        println!("{before} KiB private at first, {private} KiB with 128 queries on their way");
        assert!(private < 128, "{private} KiB");
    });
}

#[test]
fn garbage_is_survived() {
    kernel_test(NEEDS, || {
        let upstream = Upstream::start("127.0.0.9:53");
        let served = Served::with(&here().forward_to([upstream.address]));
        let pid = served.pid();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect((SERVER, 53)).unwrap();
        let mut state = 1u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        for n in 0..20_000 {
            let mut bytes = match n % 3 {
                0 => (0..random() % 1500).map(|_| random() as u8).collect(),
                1 => dns::with_edns(&query("example.com", A), random() as u16),
                _ => dns::with_padding(&query("2.0.30.172.in-addr.arpa", PTR), random() % 500),
            };
            for _ in 0..random() % 4 {
                let at = random() % bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random() as u8;
                }
            }
            socket.send(&bytes).unwrap();
            if n % 500 == 0 {
                let mut stream = std::net::TcpStream::connect((SERVER, 53)).unwrap();
                std::io::Write::write_all(&mut stream, &dns::framed(&bytes)).ok();
            }
        }
        socket.send(&[]).unwrap();
        let begun = Instant::now();
        // What is too much at a time is lost, as datagrams are.
        let moment = Duration::from_millis(300);
        while dns::tell_within("127.0.0.1:53", &query("db", A), moment) != Some(Reply::of(["172.30.0.2"])) {
            assert!(begun.elapsed() < Duration::from_secs(10));
        }
        assert!(pids(&served.0).contains(&pid), "the same process");
    });
}
