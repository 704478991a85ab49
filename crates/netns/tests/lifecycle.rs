//! Making, opening and removing: what is refused, and that nothing is left.

#![expect(clippy::unwrap_used, reason = "tests")]

mod lan;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Barrier;
use std::thread;

use isolate_netns::{Bridge, Endpoint, ErrorKind, Firewall, NetworkNamespace, Publish};
use lan::{CONTAINER, ask, bridge, container, here, neighbour, rules, run, serve};
use testkit::{Need, kernel_test};

const NEEDS: &[Need] = &[Need::Root, Need::Veth, Need::NfTables, Need::Program("ip"), Need::Program("nft")];

fn links() -> String {
    run("ip -br link")
}

#[test]
fn removing_the_last_bridge_leaves_no_link_no_table_and_no_rule() {
    kernel_test(NEEDS, || {
        let bridge = bridge(Firewall::NfTables);
        let container = container(&bridge, CONTAINER);
        container.port.publish((9000, 80)).unwrap();
        assert!(rules().contains("table inet isolate") && links().contains(container.port.interface()));
        container.port.remove().unwrap();
        assert!(!links().contains("iso"));
        bridge.remove().unwrap();
        assert_eq!(rules(), "");
        assert_eq!(links().lines().count(), 1, "{}", links());
    });
}

#[test]
fn dropping_does_what_remove_does() {
    kernel_test(NEEDS, || {
        {
            let bridge = bridge(Firewall::NfTables);
            let container = container(&bridge, CONTAINER);
            container.port.publish((9000, 80)).unwrap();
        }
        assert_eq!((rules().as_str(), links().lines().count()), ("", 1));
    });
}

#[test]
fn a_pair_that_is_prepared_becomes_a_port_of_its_own_bridge_alone() {
    kernel_test(NEEDS, || {
        let (bridge, other) =
            (bridge(Firewall::NfTables), Bridge::create("other0", "10.99.0.1/24".parse().unwrap()));
        let other = other.unwrap();
        let prepare = || bridge.prepare(NetworkNamespace::new().unwrap(), "eth0").unwrap();
        let prepared = prepare();
        assert!(prepared.leads_to(&bridge) && !prepared.leads_to(&other));
        assert!(links().contains(prepared.host_interface()));
        let namespace = prepared.namespace().try_clone().unwrap();
        let endpoint = Endpoint::new("eth0", CONTAINER).with_mac([2, 0, 0, 0, 0, 7]).metric(77);
        let port = prepared.attach(&endpoint).unwrap();
        let _server = serve(&namespace, 80);
        assert!(ask(&here(), (CONTAINER, 80)).is_some());
        let shown = namespace.run(|| run("ip route") + &run("ip link")).unwrap();
        assert!(shown.contains("metric 77") && shown.contains("02:00:00:00:00:07"), "{shown}");
        assert!(port.check().unwrap().is_empty() && rules().contains(port.interface()));
        port.remove().unwrap();

        // What is refused takes the pair along.
        for endpoint in [Endpoint::new("eth1", CONTAINER), Endpoint::new("eth0", Ipv4Addr::new(9, 9, 9, 9))] {
            let prepared = prepare();
            let host = prepared.host_interface().to_owned();
            assert_eq!(prepared.attach(&endpoint).unwrap_err().kind(), ErrorKind::InvalidInput);
            assert!(!links().contains(&host) && !rules().contains(&host));
        }
        assert_eq!(bridge.prepare(here(), "eth0").unwrap_err().kind(), ErrorKind::InvalidInput);
        for touch in ["ip link set HOST nomaster", "ip link set HOST master other0", "ip link delete HOST"] {
            let prepared = prepare();
            run(&touch.replace("HOST", prepared.host_interface()));
            assert!(!prepared.leads_to(&bridge), "{touch}");
        }
        let prepared = prepare();
        run("ip link delete test0");
        assert!(!prepared.leads_to(&bridge));
    });
}

#[test]
fn dropping_the_bridge_before_its_ports_leaves_nothing_either() {
    kernel_test(NEEDS, || {
        let bridge = bridge(Firewall::NfTables);
        let container = container(&bridge, CONTAINER);
        container.port.publish((9000, 80)).unwrap();
        drop(bridge);
        assert_eq!(rules(), "");
        container.port.remove().unwrap();
        assert_eq!(links().lines().count(), 1);
    });
}

#[test]
fn auto_is_nf_tables_where_there_is_one() {
    kernel_test(NEEDS, || {
        let bridge = Bridge::create("test0", "172.30.0.1/24".parse().unwrap()).unwrap();
        assert_eq!(bridge.firewall(), Firewall::NfTables);
        let read = rules();
        for part in [
            "fib daddr type local goto published",
            "dnat ip to ip daddr . meta l4proto . th dport map @published",
            "masquerade",
        ] {
            assert!(read.contains(part), "{part} in {read}");
        }
    });
}

#[test]
fn a_taken_port_is_told_with_pid_and_name() {
    kernel_test(NEEDS, || {
        let bridge = bridge(Firewall::NfTables);
        let container = container(&bridge, CONTAINER);
        let listener = TcpListener::bind("0.0.0.0:9000").unwrap();
        let error = container.port.publish((9000, 80)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddressInUse);
        let me = std::fs::read_to_string("/proc/self/comm").unwrap();
        let expected =
            format!("host port 9000/tcp is taken: pid {} ({}) listens there", std::process::id(), me.trim());
        assert_eq!(error.to_string(), expected);
        assert!(!rules().contains("9000"), "and nothing leads away from it");
        drop(listener);
        container.port.publish((9000, 80)).unwrap();
        assert!(TcpListener::bind("0.0.0.0:9000").is_err(), "now it is claimed");
        let again = container.port.publish((9000, 81)).unwrap_err();
        assert!(again.to_string().starts_with("host port 9000/tcp is taken"), "{again}");
    });
}

#[test]
fn a_reserved_port_is_published_for_one_container_only() {
    kernel_test(NEEDS, || {
        let bridge = bridge(Firewall::NfTables);
        let (one, two) = (container(&bridge, CONTAINER), container(&bridge, Ipv4Addr::new(172, 30, 0, 3)));
        let reservation = Publish::tcp(0, 80).reserve().unwrap();
        one.port.publish_reserved(&reservation).unwrap();
        let error = two.port.publish_reserved(&reservation).unwrap_err();
        let port = reservation.publish().host_port();
        assert_eq!(
            error.to_string(),
            format!("host port {port}/tcp is published already: it leads to 172.30.0.2:80")
        );
    });
}

#[test]
fn publishing_changes_no_rule_only_elements_of_a_map() {
    kernel_test(NEEDS, || {
        let bridge = bridge(Firewall::NfTables);
        bridge.masquerade().unwrap();
        let container = container(&bridge, CONTAINER);
        // With the number of each rule, and without what is in the sets.
        let fixed = || run("nft --handle --terse list ruleset");
        let (before, empty) = (fixed(), rules());
        for n in 0..20 {
            container.port.publish((9000 + n, 80)).unwrap();
            container.port.publish(Publish::udp(9000 + n, 80).on(Ipv4Addr::LOCALHOST)).unwrap();
        }
        assert!(rules().contains("9019 : 172.30.0.2 . 80"), "{}", rules());
        assert_eq!(fixed(), before);
        for publish in container.port.published() {
            container.port.unpublish(publish).unwrap();
        }
        assert_eq!((fixed(), rules()), (before.clone(), empty));
        run("nft add rule inet isolate published accept");
        assert_ne!(fixed(), before, "a rule would be seen");
    });
}

/// What a race of threads for one host port comes to: how many have it, while all of them have tried.
fn winners(publish: Publish) -> usize {
    const RACERS: usize = 32;
    let start = Barrier::new(RACERS);
    let race = || {
        start.wait();
        publish.reserve()
    };
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..RACERS).map(|_| scope.spawn(race)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        assert_eq!(error.kind(), ErrorKind::AddressInUse, "{error}");
        assert!(error.to_string().starts_with("host port "), "{error}");
    }
    results.iter().filter(|result| result.is_ok()).count()
}

#[test]
fn of_32_threads_that_race_for_a_port_one_gets_it() {
    kernel_test(&[Need::Root], || {
        let port = Publish::tcp(9000, 80);
        for publish in [port, port.on(Ipv4Addr::LOCALHOST), Publish::udp(9000, 80)] {
            for round in 0..3 {
                assert_eq!(winners(publish), 1, "{publish}, round {round}");
            }
        }
        // The port of a server that was there a moment ago: its connections are over, and are still listed.
        for round in 0..3 {
            let listener = TcpListener::bind("127.0.0.1:9000").unwrap();
            let client = TcpStream::connect("127.0.0.1:9000").unwrap();
            drop(listener.accept().unwrap());
            drop((client, listener));
            assert_eq!(winners(port), 1, "after a server, round {round}");
        }
    });
}

#[test]
fn a_failed_connect_leaves_nothing() {
    kernel_test(NEEDS, || {
        let bridge = bridge(Firewall::NfTables);
        let namespace = NetworkNamespace::new().unwrap();
        let refused = |address: &str, name: &str| {
            bridge.connect(&namespace, address.parse().unwrap(), name).unwrap_err()
        };
        for address in ["172.30.1.2", "172.30.0.0", "172.30.0.255", "172.30.0.1"] {
            let error = refused(address, "eth0");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(error.to_string().starts_with(address), "{error}");
        }
        assert_eq!(refused("172.30.0.2", "a-name-of-16-byt").kind(), ErrorKind::InvalidInput);
        assert_eq!(refused("172.30.0.2", "lo").kind(), ErrorKind::AlreadyExists);
        let here = bridge.connect(&here(), CONTAINER, "eth0").unwrap_err();
        assert_eq!(here.to_string(), "bridge test0 is in this namespace: connect another to it");
        let file = std::fs::File::open("/proc/version").unwrap();
        assert_eq!(bridge.connect(&file, CONTAINER, "eth0").unwrap_err().kind(), ErrorKind::InvalidInput);
        // Refused after the pair was made: to enter a namespace takes more than to put a link into it.
        let before = links();
        let error = thread::scope(|scope| {
            scope
                .spawn(|| {
                    let mut sets = rustix::thread::capabilities(None).unwrap();
                    sets.effective.remove(rustix::thread::CapabilitySet::SYS_ADMIN);
                    rustix::thread::set_capabilities(None, sets).unwrap();
                    refused("172.30.0.2", "eth0")
                })
                .join()
                .unwrap()
        });
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(error.hint().unwrap().contains("CAP_SYS_ADMIN"));
        assert_eq!(links().lines().count(), before.lines().count(), "{}", links());
        run("ip link del test0");
        let gone = bridge.connect(&namespace, CONTAINER, "eth0").unwrap_err();
        assert_eq!(
            (gone.to_string().as_str(), gone.kind()),
            ("bridge test0 is not there", ErrorKind::NotFound)
        );
        assert_eq!(links().lines().count(), before.lines().count() - 1);
    });
}

#[test]
fn a_bridge_is_refused_where_something_is_in_its_way() {
    kernel_test(NEEDS, || {
        let _neighbour = neighbour();
        let create = |name: &str, gateway: &str| Bridge::create(name, gateway.parse().unwrap());
        let conflict = create("test0", "192.0.2.129/25").unwrap_err();
        assert_eq!(conflict.kind(), ErrorKind::Conflict);
        assert_eq!(
            conflict.to_string(),
            "network 192.0.2.128/25 overlaps 192.0.2.0/24, which link lan0 leads to"
        );
        assert_eq!(create("lan0", "172.30.0.1/24").unwrap_err().kind(), ErrorKind::AlreadyExists);
        let ensure = Bridge::ensure("lan0", "172.30.0.1/24".parse().unwrap()).unwrap_err();
        assert_eq!(
            (ensure.kind(), ensure.to_string().as_str()),
            (ErrorKind::Conflict, "link lan0 is not a bridge")
        );
        let bridge = create("test0", "172.30.0.1/24").unwrap();
        let other = Bridge::ensure("test0", "172.31.0.1/24".parse().unwrap()).unwrap_err();
        assert_eq!(other.to_string(), "bridge test0 has the address 172.30.0.1/24, not 172.31.0.1/24");
        assert_eq!(Bridge::open("test1").unwrap_err().kind(), ErrorKind::NotFound);
        bridge.remove().unwrap();
        assert_eq!(rules(), "", "none of those that failed left a rule");
    });
}

#[test]
fn a_bridge_that_is_ensured_is_shared_and_stays() {
    kernel_test(NEEDS, || {
        let gateway = "172.30.0.1/24".parse().unwrap();
        thread::scope(|scope| {
            let threads: Vec<_> =
                (0..16).map(|_| scope.spawn(|| Bridge::ensure("test0", gateway).unwrap())).collect();
            threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap().gateway(), gateway));
        });
        assert!(links().contains("test0"));
        assert!(isolate_netns::remove_bridge("test0").unwrap());
        assert!(!isolate_netns::remove_bridge("test0").unwrap(), "once");
        assert_eq!((rules().as_str(), links().lines().count()), ("", 1));
    });
}

#[test]
fn what_a_killed_owner_left_is_removed_by_name_and_address() {
    kernel_test(NEEDS, || {
        let bridge = bridge(Firewall::NfTables);
        let container = container(&bridge, CONTAINER);
        container.port.publish((9000, 80)).unwrap();
        container.port.publish(Publish::udp(9000, 80).on(Ipv4Addr::LOCALHOST)).unwrap();
        let link = container.port.interface().to_owned();
        drop((container.port.keep(), bridge.keep()));

        assert_eq!(isolate_netns::remove_published(&[CONTAINER.into()]).unwrap(), 2);
        assert_eq!(isolate_netns::remove_published(&[CONTAINER.into()]).unwrap(), 0);
        assert!(isolate_netns::delete_link(&link).unwrap());
        assert!(!isolate_netns::delete_link(&link).unwrap());
        assert!(rules().contains(&link), "what guards it is there");
        isolate_netns::remove_guard(&link).unwrap();
        assert!(!rules().contains(&link));
        run("ip link del test0");
        assert!(isolate_netns::remove_bridge("test0").unwrap(), "the rules alone");
        assert_eq!(rules(), "");
    });
}

#[test]
fn a_bridge_whose_owner_was_killed_before_it_had_an_address_is_removed_by_name() {
    kernel_test(NEEDS, || {
        run("ip link add test0 type bridge");
        assert_eq!(Bridge::open("test0").unwrap_err().to_string(), "bridge test0 has no IPv4 address");
        assert!(isolate_netns::remove_bridge("test0").unwrap());
        assert!(!isolate_netns::remove_bridge("test0").unwrap(), "once");
        assert_eq!((rules().as_str(), links().lines().count()), ("", 1));
        run("ip link add test0 type veth peer name test1");
        assert_eq!(isolate_netns::remove_bridge("test0").unwrap_err().kind(), ErrorKind::Conflict);
        run("ip link del test0");
    });
}

#[test]
fn flushed_rules_are_repaired() {
    kernel_test(NEEDS, || {
        let bridge = bridge(Firewall::NfTables);
        bridge.masquerade().unwrap();
        let container = container(&bridge, CONTAINER);
        let _server = serve(&container.namespace, 80);
        container.port.publish((9000, 80)).unwrap();
        let before = rules();
        run("nft flush ruleset");
        container.port.repair().unwrap();
        assert_eq!(rules(), before);
        assert!(ask(&here(), ([127, 0, 0, 1], 9000)).is_some());
        run("nft flush ruleset");
        container.port.publish((9001, 80)).unwrap();
        assert!(ask(&here(), ([127, 0, 0, 1], 9001)).is_some(), "publishing repairs the bridge's");
    });
}

#[test]
fn a_bridge_works_from_a_thread_in_another_namespace() {
    kernel_test(NEEDS, || {
        let elsewhere = NetworkNamespace::new().unwrap();
        elsewhere.loopback_up().unwrap();
        let bridge = elsewhere.run(|| bridge(Firewall::NfTables)).unwrap();
        assert_eq!(links().lines().count(), 1, "nothing here");
        let container = container(&bridge, CONTAINER);
        let _server = serve(&container.namespace, 80);
        let published = container.port.publish((0, 80)).unwrap();
        assert!(ask(&elsewhere, ([127, 0, 0, 1], published.host_port())).is_some());
        assert_eq!(ask(&here(), ([127, 0, 0, 1], published.host_port())), None);
        container.port.remove().unwrap();
        bridge.remove().unwrap();
        assert_eq!(elsewhere.run(rules).unwrap(), "");
    });
}

#[test]
fn fifty_threads_connect_and_publish_at_once() {
    kernel_test(NEEDS, || {
        let bridge = bridge(Firewall::NfTables);
        let containers: Vec<_> = thread::scope(|scope| {
            let connect = |n: u8| {
                let container = container(&bridge, Ipv4Addr::new(172, 30, 0, n));
                container.port.publish((9000 + u16::from(n), 80)).unwrap();
                container
            };
            let threads: Vec<_> = (2..52).map(|n| scope.spawn(move || connect(n))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for container in &containers {
            let _server = serve(&container.namespace, 80);
            let port = container.port.published()[0].host_port();
            assert!(ask(&here(), ([127, 0, 0, 1], port)).is_some(), "{port}");
        }
        thread::scope(|scope| {
            containers.into_iter().for_each(|c| _ = scope.spawn(move || c.port.remove().unwrap()))
        });
        assert!(!links().contains("iso") && !rules().contains("90"));
    });
}

#[test]
fn processes_that_come_and_go_at_once_leave_no_table() {
    kernel_test(NEEDS, || {
        let round = |n: u8| {
            for _ in 0..10 {
                let gateway = format!("172.{}.0.1/24", 16 + n).parse().unwrap();
                let bridge = Bridge::create(&format!("test{n}"), gateway).unwrap();
                let namespace = NetworkNamespace::new().unwrap();
                let port = bridge.connect(&namespace, Ipv4Addr::new(172, 16 + n, 0, 2), "eth0").unwrap();
                port.publish((9000 + u16::from(n), 80)).unwrap();
                port.remove_rules().unwrap();
                bridge.remove().unwrap();
            }
        };
        thread::scope(|scope| (0..8).for_each(|n| _ = scope.spawn(move || round(n))));
        assert_eq!(rules(), "");
    });
}

#[test]
fn a_second_network_leaves_the_default_route_where_it_was() {
    kernel_test(NEEDS, || {
        let one = bridge(Firewall::NfTables);
        let two = lan::named("test1", Ipv4Addr::new(172, 31, 0, 1), Firewall::NfTables);
        let container = container(&one, CONTAINER);
        let _second = two.connect(&container.namespace, Ipv4Addr::new(172, 31, 0, 2), "eth1").unwrap();
        let route = container.namespace.run(|| run("ip route show default")).unwrap();
        assert_eq!(route.trim(), "default via 172.30.0.1 dev eth0 proto static");
        let shown = container.namespace.run(|| run("ip -br address")).unwrap();
        assert!(shown.contains("172.30.0.2/24") && shown.contains("172.31.0.2/24"), "{shown}");
        assert!(!shown.contains("fe80"), "no IPv6: {shown}");
    });
}

#[test]
fn what_the_machine_has_is_told() {
    kernel_test(NEEDS, || {
        let found = isolate_netns::detect().unwrap();
        assert!(found.permitted && found.bridge && found.veth && found.nf_tables);
        assert_eq!(found.remedies(), Vec::<String>::new());
        run("nft add table ip filter");
        run("nft add chain ip filter DOCKER-USER");
        run("nft add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }");
        let found = isolate_netns::detect().unwrap();
        assert_eq!(found.forward_dropped_by.as_deref(), Some("ip filter FORWARD"));
        assert!(found.bridge_filter);
        run("nft flush ruleset");
    });
}
