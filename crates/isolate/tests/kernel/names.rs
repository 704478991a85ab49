//! Names on a network, by `/etc/hosts` and by its name server.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use isolate::{Attach, Container, Network};
use testkit::{Need, kernel_test};

use crate::common::{NET, idle, run, sh, tried, until};

#[test]
fn names_are_in_etc_hosts_and_the_name_server_lives_as_long_as_the_network() {
    kernel_test(NET, || {
        let net = Network::create("names").unwrap();
        let one = idle("one").network(&net).start().unwrap();
        let hosts = |container: &Container| tried(container, "cat /etc/hosts").unwrap();
        let two = idle("two").network(Attach::to(&net).alias("shared").alias("other")).start().unwrap();
        let line = format!("{} two ", two.address().unwrap());
        assert!(hosts(&one).contains(&line) && hosts(&one).contains(" shared other\n"), "{}", hosts(&one));
        let three = idle("three").network(Attach::to(&net).alias("shared")).start().unwrap();
        let found: BTreeSet<_> = net.resolve("shared").unwrap().into_iter().collect();
        assert_eq!(found, BTreeSet::from([two.address().unwrap(), three.address().unwrap()]));
        let resolv = tried(&one, "cat /etc/resolv.conf").unwrap();
        assert!(resolv.starts_with(&format!("nameserver {}\n", net.subnets()[0].gateway())), "{resolv}");
        // By the server alone.
        let answer = tried(&one, "busybox nslookup shared; busybox nslookup one").unwrap();
        for container in [&one, &two, &three] {
            assert!(answer.contains(&container.address().unwrap().to_string()), "{answer}");
        }
        let back = tried(&one, &format!("busybox nslookup {}", two.address().unwrap())).unwrap();
        assert!(back.contains("two"), "{back}");
        two.remove().unwrap();
        assert!(!hosts(&one).contains("two") && net.resolve("other").unwrap().is_empty());
        assert_eq!(tried(&one, "busybox nslookup two"), None);

        // Killed, it is there again with the next use.
        let server = || {
            let all = std::fs::read_dir("/proc").unwrap().flatten();
            let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
            // Other worlds have name servers, too: of networks of other names.
            let own = |pid: &i32| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line == b"isolate-names\0/run/isolate/networks/names/names\0"
            };
            pids.filter(own).collect::<Vec<_>>()
        };
        let [pid] = server()[..] else { panic!("{:?}", server()) };
        run(&format!("kill -9 {pid}"));
        let table = std::path::Path::new("/run/isolate/networks/names/names");
        until(Duration::from_secs(5), || (!isolate::netns::is_served(table)).then_some(())).unwrap();
        let four = idle("four").network(&net).start().unwrap();
        assert!(tried(&four, "busybox nslookup one").is_some());
        drop((one, three, four));
        net.remove().unwrap();
        assert!(until(Duration::from_secs(5), || server().is_empty().then_some(())).is_some());
    });
}

/// A query of one question (RFC 1035), and what its answer must be like: its code, and how many records it has.
fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = [id.to_be_bytes(), [1, 0], [0, 1], [0, 0], [0, 0], [0, 0]].concat();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, kind as u8, 0, 1]);
    bytes
}

#[test]
fn no_query_is_lost_or_wrong_while_a_thousand_containers_come_and_go() {
    kernel_test(&[NET, &[Need::Native]].concat(), || {
        const CLIENTS: u16 = 4;
        const QUERIES: u16 = 5000;
        const COMERS: usize = 1000;
        let net = Network::builder("busy").subnet("10.60.0.0/16".parse().unwrap()).create().unwrap();
        let stable = idle("stable").network(Attach::to(&net).alias("db")).start().unwrap();
        let Some(IpAddr::V4(address)) = stable.address() else { panic!() };
        let [a, b, c, d] = address.octets();
        let reverse = format!("{d}.{c}.{b}.{a}.in-addr.arpa");
        let server = SocketAddr::new(net.subnets()[0].gateway(), 53);
        let inside = isolate::netns::NetworkNamespace::of_pid(stable.pid()).unwrap();
        // Name, type, code, records: A, A by alias, AAAA, PTR, and what is in nobody's table and has nobody to ask.
        let rows: [(&str, u16, u8, u8); 5] = [
            ("stable", 1, 0, 1),
            ("db", 1, 0, 1),
            ("stable", 28, 0, 0),
            (&reverse, 12, 0, 1),
            ("77.0.60.10.in-addr.arpa", 12, 3, 0),
        ];
        let ask = |client: u16| {
            let socket = inside.run(|| std::net::UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
            socket.connect(server).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut buffer = [0; 512];
            for n in 0..QUERIES {
                let (name, kind, code, records) = rows[usize::from(n) % rows.len()];
                let id = client << 13 | n;
                socket.send(&query(id, name, kind)).unwrap();
                let length = socket.recv(&mut buffer).unwrap_or_else(|e| panic!("query {n} of {name}: {e}"));
                let answer = &buffer[..length];
                assert_eq!(answer[..2], id.to_be_bytes(), "query {n}");
                assert_eq!((answer[3] & 15, answer[7]), (code, records), "query {n} of {name}, type {kind}");
                if (kind, records) == (1, 1) {
                    assert_eq!(answer[length - 4..], address.octets());
                }
            }
        };
        thread::scope(|scope| {
            let ask = &ask;
            let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || ask(client))).collect();
            let comers: Vec<_> = (0..4)
                .map(|thread| {
                    let net = &net;
                    scope.spawn(move || {
                        for n in 0..COMERS / 4 {
                            let comer =
                                sh("true").name(format!("comer-{thread}-{n}")).network(net).start().unwrap();
                            drop(comer);
                        }
                    })
                })
                .collect();
            clients.into_iter().chain(comers).for_each(|thread| thread.join().unwrap());
        });
        assert_eq!(net.inspect().unwrap().containers.len(), 1);
    });
}

#[test]
fn of_a_large_network_etc_hosts_has_the_own_names_alone_and_never_those_of_who_is_gone() {
    kernel_test(&[NET, &[Need::Native]].concat(), || {
        const PEERS: usize = 128;
        let net = Network::builder("large").subnet("10.61.0.0/16".parse().unwrap()).create().unwrap();
        let mut all: Vec<_> =
            (0..PEERS).map(|n| idle(&format!("box{n}x")).network(&net).start().unwrap()).collect();
        let hosts = |all: &[Container]| tried(&all[0], "cat /etc/hosts").unwrap();
        let last = format!("box{}x", PEERS - 1);
        assert!(hosts(&all).contains(&last));
        let more: Vec<_> = (0..2).map(|n| idle(&format!("more{n}")).network(&net).start().unwrap()).collect();
        assert!(
            hosts(&all).contains("box0x") && !hosts(&all).contains("box1x") && !hosts(&all).contains("more")
        );
        assert!(tried(&all[0], &format!("busybox nslookup {last}")).is_some(), "the name server has all");
        drop(more);
        assert!(hosts(&all).contains(&last) && !hosts(&all).contains("more"));
        drop(all.pop());
        assert!(hosts(&all).contains("box1x") && !hosts(&all).contains(&last));
    });
}
