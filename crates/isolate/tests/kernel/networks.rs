//! Networks that a user makes: names, several at once, changes while containers run.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use isolate::{Attach, Container, ErrorKind, Firewall, Network, Publish};
use testkit::{Need, kernel_test};

use crate::common::{NET, SERVER, get, idle, pings, printed, run, sh, tried, until, wait_for};

const IPTABLES: &[Need] =
    &[Need::Root, Need::Overlay, Need::Veth, Need::Iptables, Need::Program("busybox"), Need::Program("nft")];

/// iptables makes tables of nf_tables that it never deletes: ours are gone from them.
fn forget_iptables() {
    assert!(!run("iptables-save; ip6tables-save").contains("ISOLATE"));
    run("nft flush ruleset");
}

/// The same test with either firewall.
macro_rules! with_either_firewall {
    ($($name:ident => $f:ident;)*) => {
        $(mod $name {
            use super::*;
            #[test]
            fn with_nf_tables() {
                kernel_test(&[NET, &[Need::Program("ping")]].concat(), || $f(Firewall::NfTables));
            }
            #[test]
            fn with_iptables() {
                kernel_test(&[IPTABLES, &[Need::Program("ping")]].concat(), || {
                    $f(Firewall::Iptables);
                    forget_iptables();
                });
            }
        })*
    };
}

with_either_firewall! {
    two_on_a_network_reach_each_other_by_name_and_a_third_once_it_is_connected => walk;
    a_network_of_both_versions_is_reached_by_both => both_versions;
    an_internal_network_leads_nowhere => internal;
    what_was_flushed_is_found_and_made_whole => flushed;
}

fn walk(firewall: Firewall) {
    let bridge2 = Network::builder("bridge2")
        .subnet("172.30.0.0/16".parse().unwrap())
        .ip_range("172.30.5.0/24".parse().unwrap())
        .gateway([172, 30, 5, 254])
        .firewall(firewall)
        .create()
        .unwrap();
    let sn1 = idle("sn1").network(&bridge2).start().unwrap();
    let sn2 = idle("sn2").network(Attach::to(&bridge2).alias("second")).start().unwrap();
    for container in [&sn1, &sn2] {
        let address = container.address().unwrap();
        assert!(address.to_string().starts_with("172.30.5."), "{address}");
    }
    assert!(pings(&sn1, "sn2") && pings(&sn2, "sn1") && pings(&sn1, "second"));
    assert_eq!(bridge2.resolve("SN2").unwrap(), [sn2.address().unwrap()]);

    let third = idle("third").network(Attach::bridge()).start().unwrap();
    let (by_name, by_address) = ("sn1", sn1.address().unwrap().to_string());
    assert!(!pings(&third, by_name) && !pings(&third, &by_address));
    let default = tried(&third, "ip route show default").unwrap();
    // Its other network does not notice.
    let gateway = tried(&third, "ip route show default | cut -d' ' -f3").unwrap();
    let steady = format!("ping -i 0.01 -c 300 -W 1 {}", gateway.trim());
    thread::scope(|scope| {
        let pinging = scope.spawn(|| tried(&third, &steady).expect("every one is answered"));
        thread::sleep(Duration::from_millis(300));
        let addresses = bridge2.connect(&third).unwrap();
        assert!(pings(&third, by_name) && pings(&third, &by_address) && pings(&sn2, "third"));
        assert_eq!(bridge2.inspect().unwrap().containers["third"], addresses);
        assert_eq!(tried(&third, "ip route show default | head -n 1").unwrap(), default);
        thread::sleep(Duration::from_millis(300));
        bridge2.disconnect(&third).unwrap();
        assert!(!pings(&third, by_name) && !pings(&third, &by_address) && !pings(&sn2, "third"));
        let lost = pinging.join().unwrap();
        assert!(lost.contains(" 0% packet loss"), "{lost}");
    });
    assert!(
        until(Duration::from_secs(5), || {
            tried(&third, "ip link").filter(|links| !links.contains("eth1"))
        })
        .is_some()
    );
    // At once again, and off.
    for _ in 0..3 {
        bridge2.connect(&third).unwrap();
        assert!(pings(&third, by_name));
        bridge2.disconnect(&third).unwrap();
    }
    let error = bridge2.disconnect(&third).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");

    let error = Network::open("bridge2").unwrap().remove().unwrap_err();
    assert_eq!(error.to_string(), "network `bridge2`: in use by container `sn1`, `sn2`");
    drop((sn1, sn2));
    bridge2.remove().unwrap();
    third.remove().unwrap();
    assert!(Network::list().unwrap().is_empty());
}

fn both_versions(firewall: Firewall) {
    // Where the bridge hands packets to these rules itself, answers to ::1 are lost.
    run("sysctl -qw net.bridge.bridge-nf-call-ip6tables=0 || true");
    let net = Network::builder("six").ipv6().subnet("fd00:77::/64".parse().unwrap()).firewall(firewall);
    let net = net.create().unwrap();
    let server = SERVER.replace("-p 8080", "-p [::]:8080");
    let web = sh(&server).name("web").network(&net).publish((9000, 8080)).start().unwrap();
    let client = idle("client").network(&net).start().unwrap();
    let six = web.addresses()[1];
    assert!(six.is_ipv6() && six.to_string().starts_with("fd00:77::"), "{six}");
    wait_for((six, 8080).into());
    for host in ["[::1]:9000", "127.0.0.1:9000", &format!("[{}]:9000", net.subnets()[1].gateway())] {
        let answer = until(Duration::from_secs(10), || get(host.parse::<SocketAddr>().unwrap()));
        assert!(answer.is_some_and(|answer| answer.ends_with("hello\n")), "{host}");
    }
    let asked = tried(&client, &format!("busybox wget -q -O - http://[{six}]:8080/index.html"));
    assert_eq!(asked.as_deref(), Some("hello\n"));
    let shown = tried(&client, "ip -6 -o address show dev eth0").unwrap();
    assert!(!shown.contains("fe80") && !shown.contains("tentative"), "{shown}");
    let answer = tried(&client, "busybox nslookup -type=aaaa web; busybox nslookup web").unwrap();
    assert!(
        answer.contains(&six.to_string()) && answer.contains(&web.address().unwrap().to_string()),
        "{answer}"
    );
    // A port of IPv6 alone.
    let mut web = web;
    web.publish(Publish::tcp(9001, 8080).on(std::net::Ipv6Addr::LOCALHOST)).unwrap();
    assert!(get("[::1]:9001".parse().unwrap()).is_some());
    assert_eq!(get("127.0.0.1:9001".parse().unwrap()), None);
}

fn internal(firewall: Firewall) {
    let net = Network::builder("inner").internal().firewall(firewall).create().unwrap();
    let (one, two) =
        (idle("one").network(&net).start().unwrap(), sh(SERVER).name("two").network(&net).start().unwrap());
    assert!(pings(&one, "two"));
    wait_for((two.address().unwrap(), 8080).into());
    assert_eq!(tried(&one, "ip route show default").as_deref(), Some(""));
    assert_eq!(tried(&one, "busybox nslookup example.org"), None);
    let error = idle("x").network(&net).publish((9000, 80)).start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("is internal"), "{error}");
}

fn flushed(firewall: Firewall) {
    let net = Network::builder("web").firewall(firewall).create().unwrap();
    let web = sh(SERVER).network(&net).publish((9000, 8080)).start().unwrap();
    let reached = || get((Ipv4Addr::LOCALHOST, 9000).into()).is_some();
    wait_for((Ipv4Addr::LOCALHOST, 9000).into());
    assert_eq!(web.check_network().unwrap(), []);
    match firewall {
        Firewall::Iptables => run("iptables -t nat -F; iptables -F; nft delete table bridge isolate"),
        _ => run("nft flush ruleset"),
    };
    assert!(!reached());
    let problems = web.check_network().unwrap();
    assert!(problems.len() >= 2, "{problems:?}");
    web.repair_network().unwrap();
    assert!(reached());
    assert_eq!(web.check_network().unwrap(), []);

    // A chain of somebody else that drops what it does not know.
    run(
        "nft add table inet theirs; nft 'add chain inet theirs through { type filter hook forward priority 10; policy drop; }'",
    );
    run("nft 'add chain inet theirs into { type filter hook input priority 10; policy drop; }'");
    run("nft add rule inet theirs into iifname lo accept");
    let beside = idle("beside").network(&net).start().unwrap();
    let said: Vec<_> = web.check_network().unwrap().iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|said| said.contains("chain inet theirs through")), "{said:?}");
    web.repair_network().unwrap();
    assert!(reached() && pings(&beside, &net.subnets()[0].gateway().to_string()));
    assert_eq!(web.check_network().unwrap(), []);
    drop((web, beside));
    net.remove().unwrap();
    assert!(!run("nft list table inet theirs").contains("isolate:"), "what let pass is taken back");
    run("nft delete table inet theirs");
}

#[test]
fn of_several_networks_the_priority_says_which_is_the_way_out() {
    kernel_test(NET, || {
        let (a, b) = (Network::create("a").unwrap(), Network::create("b").unwrap());
        let way = |container: &Container| {
            tried(container, "ip route show default | sort -n -k9 | head -n 1").unwrap()
        };
        let first = idle("first").network(&a).network(&b).start().unwrap();
        assert!(way(&first).contains(&format!("via {} ", a.subnets()[0].gateway())), "{}", way(&first));
        assert_eq!(first.addresses().len(), 2);
        let links = tried(&first, "ls /sys/class/net").unwrap();
        assert!(links.contains("eth0") && links.contains("eth1"), "{links}");
        let chosen = idle("chosen").network(&a).network(Attach::to(&b).priority(1)).start().unwrap();
        assert!(way(&chosen).contains(&format!("via {} ", b.subnets()[0].gateway())), "{}", way(&chosen));
        assert!(pings(&first, "chosen") && pings(&chosen, "first"));
        let error = idle("x").network(&a).network(&a).start().unwrap_err();
        assert_eq!(error.to_string(), "container `x`: network `a` is named twice");
        let error = idle("x").network(&a).network(Attach::host()).start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        let error = idle("x").network(Attach::named("nowhere")).start().unwrap_err();
        assert_eq!((error.kind(), error.hint()), (ErrorKind::NotFound, Some("there are `a`, `b`")));
    });
}

#[test]
fn a_network_of_another_container_is_the_same() {
    kernel_test(NET, || {
        let server = sh(SERVER).network(Attach::bridge()).start().unwrap();
        wait_for((server.address().unwrap(), 8080).into());
        let inside =
            printed(sh("busybox wget -q -O - http://127.0.0.1:8080/index.html").network(server.network()));
        assert_eq!(inside, "hello\n");
        let path = format!("/proc/{}/ns/net", server.pid());
        let same = printed(sh("readlink /proc/self/ns/net").network(Attach::container(&server)));
        assert_eq!(same.trim(), std::fs::read_link(path).unwrap().to_str().unwrap());
    });
}

#[test]
fn what_cannot_be_a_network_is_said_with_why_and_nothing_is_left() {
    kernel_test(NET, || {
        let cidr = |text: &str| text.parse().unwrap();
        let kept = Network::builder("kept").subnet(cidr("10.50.0.0/24")).create().unwrap();
        let refused = |builder: isolate::NetworkBuilder, kind: ErrorKind, text: &str| {
            let error = builder.create().unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
        };
        let new = || Network::builder("new");
        refused(Network::builder("kept"), ErrorKind::AlreadyExists, "network `kept`: the name is in use");
        for bad in ["", "..", "../containers", "a/b", "a b"] {
            assert_eq!(Network::create(bad).unwrap_err().kind(), ErrorKind::InvalidConfig, "{bad:?}");
            assert_eq!(Network::open(bad).unwrap_err().kind(), ErrorKind::InvalidConfig, "{bad:?}");
            let error = idle("x").network(Attach::named(bad)).start().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
        }
        refused(
            new().subnet(cidr("10.50.0.128/25")),
            ErrorKind::InUse,
            "network `new`: subnet 10.50.0.128/25 overlaps that of network `kept`",
        );
        refused(
            new().subnet(cidr("10.51.0.0/24")).gateway([10, 52, 0, 1]),
            ErrorKind::InvalidConfig,
            "network `new`: gateway 10.52.0.1: not a host's address of subnet 10.51.0.0/24",
        );
        refused(
            new().gateway([10, 52, 0, 1]),
            ErrorKind::InvalidConfig,
            "network `new`: a gateway or an ip range without its subnet",
        );
        run("ip link add taken type bridge; ip address add 10.60.0.9/16 dev taken; ip link set taken up");
        let error = new().subnet(cidr("10.60.5.0/24")).create().unwrap_err();
        assert!(error.to_string().contains("overlaps 10.60.0.0/16, which link taken leads to"), "{error}");
        run("ip link del taken");
        assert_eq!(Network::list().unwrap().iter().map(Network::name).collect::<Vec<_>>(), ["kept"]);
        let link = kept.inspect().unwrap().bridge.unwrap();
        run(&format!("ip link show {link}"));
        drop(kept);
        run(&format!("! ip link show {link} 2>/dev/null"));
        assert!(std::fs::read_dir("/run/isolate/networks").unwrap().next().is_none());
    });
}

#[test]
fn forwarding_is_off_again_after_the_last_network_if_it_was_before() {
    kernel_test(NET, || {
        let forwarding = || {
            let read = |path: &str| std::fs::read_to_string(path).unwrap().trim().to_owned();
            [read("/proc/sys/net/ipv4/ip_forward"), read("/proc/sys/net/ipv6/conf/all/forwarding")]
        };
        run("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0");
        let net = Network::create("four").unwrap();
        assert_eq!(forwarding(), ["1", "0"]);
        let six = Network::builder("six").ipv6().create().unwrap();
        assert_eq!(forwarding(), ["1", "1"]);
        net.remove().unwrap();
        assert_eq!(forwarding(), ["1", "1"]);
        six.remove().unwrap();
        assert_eq!(forwarding(), ["0", "0"]);
        run("sysctl -qw net.ipv4.ip_forward=1");
        Network::create("again").unwrap().remove().unwrap();
        assert_eq!(forwarding(), ["1", "0"]);
    });
}

#[test]
fn a_network_stays_when_it_is_kept_and_is_swept_when_its_owner_was_killed() {
    kernel_test(NET, || {
        let kept = Network::create("kept").unwrap().keep().unwrap();
        drop(kept);
        isolate::sweep().unwrap();
        let open = Network::open("kept").unwrap();
        // As an owner that is killed leaves it: the lock is free.
        let lost = std::mem::ManuallyDrop::new(Network::create("lost").unwrap());
        isolate::sweep().unwrap();
        assert_eq!(Network::list().unwrap().len(), 2, "it is owned");
        std::fs::remove_file("/run/isolate/networks/lost/owner").unwrap();
        isolate::sweep().unwrap();
        assert_eq!(Network::list().unwrap().iter().map(Network::name).collect::<Vec<_>>(), ["kept"]);
        drop(std::mem::ManuallyDrop::into_inner(lost));
        open.remove().unwrap();
    });
}

#[test]
fn of_many_that_want_one_port_one_gets_it_and_the_others_are_told_who() {
    kernel_test(NET, || {
        let racers = if std::env::var_os("ISOLATE_VM").is_some() { 8 } else { 32 };
        let start = Barrier::new(racers);
        let race = |n: usize| {
            start.wait();
            sh("exec sleep 1000").name(format!("racer{n}")).publish((9000, 80)).start()
        };
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..racers).map(|n| scope.spawn(move || race(n))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (winners, losers): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(winners.len(), 1);
        let winner = winners.into_iter().next().unwrap().unwrap();
        for error in losers.into_iter().map(Result::unwrap_err) {
            assert_eq!(error.kind(), ErrorKind::InUse);
            assert!(error.to_string().contains("host port 9000/tcp is taken"), "{error}");
        }
        let error = sh("true").name("late").publish((9000, 80)).start().unwrap_err();
        let text = format!(
            "container `late`: host port 9000/tcp is taken: container `{}` has published it",
            winner.name()
        );
        assert_eq!(error.to_string(), text);
    });
}

#[test]
fn ports_come_and_go_while_a_container_runs_and_ranges_are_several() {
    kernel_test(NET, || {
        let mut web =
            sh(SERVER).network(Attach::bridge()).publish(Publish::tcp(9000, 8080).range(2)).start().unwrap();
        assert_eq!(web.published(), [Publish::tcp(9000, 8080), Publish::tcp(9001, 8081)]);
        wait_for((Ipv4Addr::LOCALHOST, 9000).into());
        let live = web.publish(Publish::tcp(0, 8080)).unwrap();
        let port = live[0].host_port();
        assert!(get((Ipv4Addr::LOCALHOST, port).into()).is_some());
        let error = sh("true").name("x").publish((port, 80)).start().unwrap_err();
        assert!(
            error.to_string().contains(&format!("container `{}` has published it", web.name())),
            "{error}"
        );
        web.unpublish(live[0]).unwrap();
        assert_eq!(get((Ipv4Addr::LOCALHOST, port).into()), None);
        assert_eq!(web.published().len(), 2);
        let error = web.unpublish(live[0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        // The network that it is published by goes: another takes it over.
        let other = Network::create("other").unwrap();
        other.connect(&web).unwrap();
        web.disconnect("isolate0").unwrap();
        assert!(get((Ipv4Addr::LOCALHOST, 9000).into()).is_some());
        let address = other.inspect().unwrap().containers[web.name()][0];
        assert!(get((address, 8080).into()).is_some() && IpAddr::is_ipv4(&address));
        drop(web);
    });
}
