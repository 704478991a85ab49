//! Containers that are machines of a LAN: the parent is a pair's end in the test's own namespace, a machine of the LAN at the other.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use isolate::netns::NetworkNamespace;
use isolate::{
    Attach, Bandwidth, Container, ErrorKind, Firewall, MacvlanMode, Network, NetworkBuilder, NetworkDriver,
    Publish, UserNamespace,
};
use testkit::{Need, kernel_test};

use crate::common::{NET, OnDisk, SERVER, get, idle, pings, run, sh, tried, until, wait_for};

const LAN: &[Need] = &[
    Need::Root,
    Need::Overlay,
    Need::Veth,
    Need::Macvlan,
    Need::NfTables,
    Need::Program("busybox"),
    Need::Program("ip"),
    Need::Program("nft"),
    Need::Program("ping"),
];
/// Says to this program what it is for.
const PART: &str = "ISOLATE_TEST_PART";

/// The LAN's router, with addresses behind it, and the host's own place there.
fn router() -> NetworkNamespace {
    let router = NetworkNamespace::new().unwrap();
    plug(&router);
    router.run(|| run("ip link set lo up; ip address add 198.51.100.1/32 dev lo")).unwrap();
    router.run(|| run("ip address add fd00:3::1/128 dev lo nodad")).unwrap();
    router
}

/// The cable between the two.
fn plug(router: &NetworkNamespace) {
    let host = std::process::id();
    let cable = format!("ip link add uplink0 index 77 type veth peer name lan0 netns {host}");
    let own = "ip address add 192.0.2.1/24 dev uplink0; ip address add fd00:2::1/64 dev uplink0 nodad; ip link set uplink0 up";
    router.run(|| run(&format!("{cable}; {own}"))).unwrap();
    run("ip address add 192.0.2.254/24 dev lan0; ip link set lan0 up");
}

fn lan(name: &str) -> NetworkBuilder {
    let cidr = |text: &str| text.parse().unwrap();
    Network::builder(name)
        .macvlan("lan0")
        .subnet(cidr("192.0.2.0/24"))
        .subnet(cidr("fd00:2::/64"))
        .ip_range(cidr("192.0.2.64/26"))
}

fn pinged(from: &NetworkNamespace, address: IpAddr) -> bool {
    let ping = || Command::new("ping").args(["-c", "1", "-W", "1", &address.to_string()]).output().unwrap();
    from.run(ping).unwrap().status.success()
}

fn links() -> usize {
    run("ip -o link").lines().count()
}

#[test]
fn containers_of_a_lan_find_one_another_by_name_and_the_rest_by_its_router() {
    kernel_test(LAN, || {
        let router = router();
        run("echo 0 > /proc/sys/net/ipv4/ip_forward");
        let before = links();
        let net = lan("lan").create().unwrap();
        let info = net.inspect().unwrap();
        let NetworkDriver::Macvlan { parent, mode, .. } = &info.driver else { panic!("{info:?}") };
        assert_eq!((parent.as_str(), *mode), ("lan0", MacvlanMode::Bridge));
        assert_eq!((info.bridge, info.firewall, info.containers.len()), (None, None, 0));

        let one = idle("one").network(&net).start().unwrap();
        let fixed = Attach::to(&net).address([192, 0, 2, 9]).mac([2, 0, 0, 0, 0, 9]).alias("second");
        let two = sh(SERVER).name("two").network(fixed).start().unwrap();
        assert!(pings(&one, "two") && pings(&two, "one") && pings(&one, "second"));
        let [four, six] = two.addresses()[..] else { panic!("{:?}", two.addresses()) };
        assert_eq!(four, IpAddr::from([192, 0, 2, 9]));
        assert_eq!(net.resolve("second").unwrap(), [four, six]);
        assert!(
            pings(&one, &six.to_string())
                && tried(&two, "ip link show eth0").unwrap().contains("02:00:00:00:00:09")
        );
        let leased = one.address().unwrap();
        assert!("192.0.2.64/26".parse::<isolate::Cidr>().unwrap().contains(leased), "{leased}");

        assert!(pings(&one, "192.0.2.1") && pings(&one, "198.51.100.1") && pings(&one, "fd00:3::1"));
        for container in [&one, &two] {
            assert!(container.addresses().iter().all(|address| pinged(&router, *address)));
        }
        let answer = || router.run(|| get((Ipv4Addr::new(192, 0, 2, 9), 8080).into())).unwrap();
        assert!(until(Duration::from_secs(30), answer).unwrap().ends_with("hello\n"));
        // The host and its macvlans are apart, though the host reaches the LAN.
        assert!(!pings(&one, "192.0.2.254") && !pinged(&NetworkNamespace::current().unwrap(), four));
        assert!(pinged(&NetworkNamespace::current().unwrap(), [192, 0, 2, 1].into()));
        let resolv = tried(&one, "cat /etc/resolv.conf").unwrap();
        assert!(!resolv.contains("192.0.2.1\n"), "nobody answers there: {resolv}");
        let stats = one.network_stats().unwrap()["lan"];
        assert!(stats.iter().all(|counted| counted.packets > 3), "{stats:?}");
        assert_eq!(one.check_network().unwrap(), []);

        // Of the host nothing is used but the parent.
        assert_eq!((links(), run("nft list ruleset").as_str()), (before, ""));
        assert_eq!(run("cat /proc/sys/net/ipv4/ip_forward"), "0\n");
        let error = Network::open("lan").unwrap().remove().unwrap_err();
        assert_eq!(error.to_string(), "network `lan`: in use by container `one`, `two`");
        one.remove().unwrap();
        assert!(!tried(&two, "cat /etc/hosts").unwrap().contains("one"));
        two.remove().unwrap();
        net.remove().unwrap();
        assert_eq!(links(), before);
        assert!(std::fs::read_dir("/run/isolate/networks").unwrap().next().is_none());
    });
}

#[test]
fn a_container_with_a_user_namespace_of_its_own_is_on_a_lan_too() {
    kernel_test(LAN, || {
        let router = router();
        let (net, disk) = (lan("lan").create().unwrap(), OnDisk::root());
        let own = disk.sh("exec sleep 1000").user_namespace(UserNamespace::Required);
        let one = own.network(&net).start().unwrap();
        assert!(one.root_outside().is_some());
        assert!(one.addresses().iter().all(|address| pinged(&router, *address)));
        assert_eq!(one.check_network().unwrap(), []);
        net.disconnect(&one).unwrap();
        assert!(!pinged(&router, one.addresses()[0]));
    });
}

#[test]
fn what_the_host_cannot_do_for_a_macvlan_is_refused_by_name_and_nothing_is_left() {
    kernel_test(LAN, || {
        let _router = router();
        let net = lan("lan").create().unwrap();
        let refused = |error: isolate::Error, kind: ErrorKind, text: &str| {
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, text), "{error:?}");
        };
        let why = "network `lan` is a macvlan, where all ports of a container are open at its own address";
        let error = idle("x").network(&net).publish((9000, 80)).start().unwrap_err();
        refused(
            error,
            ErrorKind::InvalidConfig,
            &format!("container `x`: cannot publish 9000:80/tcp: {why}"),
        );
        let limit =
            "a limit of the bandwidth on network `lan`: a macvlan has no end on the host that could hold it";
        let bandwidth = Bandwidth::new().down(8_000_000);
        let error = idle("x").network(Attach::to(&net).bandwidth(bandwidth)).start().unwrap_err();
        refused(error, ErrorKind::Unsupported, &format!("container `x`: {limit}"));
        let ahead = "network `lan`: its containers are on a macvlan, of which nothing can be made ahead";
        refused(net.warm(1).unwrap_err(), ErrorKind::Unsupported, ahead);
        let mut one = idle("one").network(&net).start().unwrap();
        let error = one.limit_network("lan", bandwidth).unwrap_err();
        refused(error, ErrorKind::Unsupported, &format!("container `one`: {limit}"));
        let error = one.publish((9000, 80)).unwrap_err();
        refused(
            error,
            ErrorKind::InvalidConfig,
            &format!("container `one`: cannot publish 9000:80/tcp: {why}"),
        );
        let error = idle("x").network(Attach::to(&net).address([192, 0, 2, 1])).start().unwrap_err();
        refused(
            error,
            ErrorKind::InvalidConfig,
            "container `x`: address 192.0.2.1: not a free one of 192.0.2.0/24",
        );

        let not = |builder: NetworkBuilder, kind: ErrorKind, text: &str| {
            refused(builder.create().unwrap_err(), kind, &format!("network `new`: {text}"));
        };
        let new = || Network::builder("new").macvlan("lan0").subnet("192.0.2.0/24".parse().unwrap());
        let other =
            |parent: &str| Network::builder("new").macvlan(parent).subnet("10.0.0.0/24".parse().unwrap());
        let bare = Network::builder("new");
        not(
            bare.clone().macvlan("lan0"),
            ErrorKind::InvalidConfig,
            "a macvlan network without its IPv4 subnet",
        );
        not(other("lan0").ipv6(), ErrorKind::InvalidConfig, "a macvlan network without its IPv6 subnet");
        let mode = bare.macvlan_mode(MacvlanMode::Vepa);
        not(mode, ErrorKind::InvalidConfig, "mode vepa of macvlans without a parent");
        let services =
            "the host's services on a macvlan network: the host and its macvlans do not reach one another";
        not(other("lan0").host_services(), ErrorKind::InvalidConfig, services);
        let firewall = "a firewall of a macvlan network: what its containers send and get does not pass the host's rules";
        not(other("lan0").firewall(Firewall::NfTables), ErrorKind::InvalidConfig, firewall);
        let overlaps = "subnet 192.0.2.0/24 overlaps that of network `lan`";
        not(new(), ErrorKind::InUse, overlaps);
        let bridge = Network::builder("new").subnet("192.0.2.0/24".parse().unwrap());
        not(bridge, ErrorKind::InUse, overlaps);
        not(other("none0"), ErrorKind::NotFound, "link none0, the parent, is not there");
        not(other("lo"), ErrorKind::InvalidConfig, "link lo is no Ethernet link: it cannot carry macvlans");
        not(
            other("lan0").mtu(9000),
            ErrorKind::InvalidConfig,
            "an MTU above that of lan0, which is 1500 bytes",
        );
        // On another parent it is another LAN.
        run("ip link add lan1 type veth peer name far1");
        let same = Network::builder("new").macvlan("lan1").subnet("192.0.2.0/24".parse().unwrap());
        same.create().unwrap().remove().unwrap();
        run("ip link del lan1");
        assert_eq!(Network::list().unwrap().iter().map(Network::name).collect::<Vec<_>>(), ["lan"]);
        assert_eq!(net.inspect().unwrap().containers.len(), 1);
    });
}

#[test]
fn private_containers_do_not_reach_one_another_but_the_lan_and_without_a_way_out_only_that() {
    kernel_test(LAN, || {
        let _router = router();
        for (mode, expected) in [(MacvlanMode::Private, false), (MacvlanMode::Bridge, true)] {
            let net = lan("lan").macvlan_mode(mode).internal().create().unwrap();
            let (one, two) =
                (idle("one").network(&net).start().unwrap(), idle("two").network(&net).start().unwrap());
            assert_eq!((pings(&one, "two"), pings(&two, "one")), (expected, expected), "{mode}");
            assert!(pings(&one, "192.0.2.1") && !pings(&one, "198.51.100.1"), "{mode}");
            assert_eq!(tried(&one, "ip route show default").as_deref(), Some(""));
            drop((one, two));
            net.remove().unwrap();
        }
    });
}

#[test]
fn a_running_container_is_put_on_a_lan_and_off_and_its_bridge_does_not_notice() {
    kernel_test(&[NET, LAN].concat(), || {
        let router = router();
        let (net, web) = (lan("lan").create().unwrap(), Network::create("web").unwrap());
        let machine = idle("machine").network(&net).start().unwrap();
        let server = sh(SERVER).name("server").network(&web).publish((9000, 8080)).start().unwrap();
        wait_for((Ipv4Addr::LOCALHOST, 9000).into());
        let way = |container: &Container| {
            tried(container, "ip route show default | sort -n -k9 | head -n 1 | cut -d' ' -f3").unwrap()
        };
        let bridge = way(&server);
        for _ in 0..3 {
            let [four, six] = net.connect(&server).unwrap()[..] else { panic!() };
            assert!(pings(&server, "machine") && pings(&machine, "server") && pinged(&router, six));
            assert_eq!(net.inspect().unwrap().containers["server"], [four, six]);
            assert!(router.run(|| get((four, 8080).into())).unwrap().is_some());
            assert_eq!(way(&server), bridge, "its way out is the first that it had");
            assert!(get((Ipv4Addr::LOCALHOST, 9000).into()).is_some());
            net.disconnect(&server).unwrap();
            assert!(!pings(&machine, "server") && !pinged(&router, four));
            assert!(!tried(&server, "ls /sys/class/net").unwrap().contains("eth1"));
        }
        // The way out, by its priority; and what is published is the bridge's still.
        let on_lan = server.connect(Attach::to(&net).priority(1)).unwrap()[0];
        assert_eq!(way(&server), "192.0.2.1\n");
        assert!(pings(&server, "198.51.100.1") && get((Ipv4Addr::LOCALHOST, 9000).into()).is_some());
        let mut server = server;
        assert_eq!(server.publish(Publish::tcp(9001, 8080)).unwrap(), [Publish::tcp(9001, 8080)]);
        assert_eq!(server.network_stats().unwrap().keys().collect::<Vec<_>>(), ["lan", "web"]);
        web.disconnect(&server).unwrap();
        assert_eq!(get((Ipv4Addr::LOCALHOST, 9000).into()), None);
        assert!(pings(&server, "machine"));
        // Of one that has ended there is nothing to take away.
        assert!(pinged(&router, on_lan));
        server.kill().unwrap();
        server.wait().unwrap();
        let gone = || (!pinged(&router, on_lan)).then_some(());
        assert!(until(Duration::from_secs(10), gone).is_some(), "the link is gone with its namespace");
        net.disconnect(&server).unwrap();
        assert_eq!(net.inspect().unwrap().containers.keys().collect::<Vec<_>>(), ["machine"]);
    });
}

#[test]
fn a_parent_that_goes_is_told_and_in_nobodys_way_and_its_macvlans_are_made_again() {
    kernel_test(LAN, || {
        let router = router();
        let net = lan("lan").create().unwrap();
        let one = idle("one").network(&net).start().unwrap();
        let two = idle("two").network(&net).start().unwrap();
        let other = idle("other").start().unwrap();
        run("ip link set lan0 down");
        let said = |container: &Container| {
            let problems = container.check_network().unwrap();
            problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(said(&one), ["down: link lan0, the parent"]);
        run("ip link del lan0");
        let missing =
            ["missing: link lan0, the parent", "missing: link eth0 in the namespace, the macvlan of lan0"];
        assert_eq!(said(&one), missing);
        let error = one.repair_network().unwrap_err();
        assert_eq!(error.to_string(), "container `one`: link lan0, the parent, is not there");
        let error = net.connect(&other).unwrap_err();
        assert_eq!(
            (error.kind(), net.inspect().unwrap().containers.len()),
            (ErrorKind::NotFound, 2),
            "{error}"
        );
        let error = idle("x").network(&net).start().unwrap_err();
        assert_eq!(error.to_string(), "container `x`: link lan0, the parent, is not there");
        net.disconnect(&two).unwrap();
        assert_eq!(net.inspect().unwrap().containers.keys().collect::<Vec<_>>(), ["one"]);

        plug(&router);
        one.repair_network().unwrap();
        assert_eq!(said(&one), Vec::<String>::new());
        net.connect(&two).unwrap();
        let reached = || (pings(&one, "two") && pings(&one, "198.51.100.1")).then_some(());
        assert!(until(Duration::from_secs(10), reached).is_some());
        run("ip link del lan0");
        drop((one, two));
        net.remove().unwrap();
    });
}

#[test]
fn an_address_is_had_again_at_once_though_the_link_that_had_it_goes_later() {
    kernel_test(LAN, || {
        let router = router();
        for mode in [MacvlanMode::Bridge, MacvlanMode::Passthru] {
            let net = lan("lan").macvlan_mode(mode).create().unwrap();
            let address = IpAddr::from([192, 0, 2, 9]);
            let start = || idle("again").network(Attach::to(&net).address(address)).start();
            for _ in 0..3 {
                let before = start().unwrap();
                // The kernel takes namespaces down in the background.
                let namespace = NetworkNamespace::of_pid(before.pid()).unwrap();
                before.remove().unwrap();
                let later = thread::spawn(move || {
                    thread::sleep(Duration::from_millis(500));
                    drop(namespace);
                });
                let again = start().unwrap();
                let reached = || pinged(&router, address).then_some(());
                assert!(until(Duration::from_secs(5), reached).is_some(), "{mode}");
                again.remove().unwrap();
                later.join().unwrap();
            }
            net.remove().unwrap();
        }
    });
}

/// No test: a process of the test below, in its world.
#[test]
#[ignore = "the test below starts it as a process of its own"]
fn part() {
    if std::env::var(PART).as_deref() != Ok("machine") {
        return;
    }
    let _machine = idle("machine").network(Attach::named("lan")).start().unwrap();
    let detached = idle("detached").network(Attach::named("lan")).start().unwrap();
    println!("\nready\n{}", detached.pid());
    detached.detach().unwrap();
    println!("detached");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn what_a_killed_owner_leaves_of_a_lan_is_swept_and_what_is_detached_stays() {
    kernel_test(LAN, || {
        let router = router();
        let (net, before) = (lan("lan").create().unwrap(), links());
        let mut owner = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "macvlan::part", "--ignored", "--nocapture"])
            .env(PART, "machine")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(owner.stdout.take().unwrap()).lines().map_while(Result::ok);
        let said: Vec<_> = lines.skip_while(|line| line != "ready").take(3).collect();
        let [_, pid, _] = &said[..] else { panic!("{said:?}") };
        let containers = net.inspect().unwrap().containers;
        let address = |name: &str| containers[name][0];
        assert!(pinged(&router, address("machine")) && pinged(&router, address("detached")));
        isolate::sweep().unwrap();
        assert_eq!(net.inspect().unwrap().containers, containers, "it is owned");
        owner.kill().unwrap();
        owner.wait().unwrap();
        let swept = until(Duration::from_secs(20), || {
            isolate::sweep().unwrap();
            (net.inspect().unwrap().containers.len() == 1).then_some(())
        });
        assert!(swept.is_some(), "{:?}", net.inspect());
        let gone = || (!pinged(&router, address("machine"))).then_some(());
        assert!(until(Duration::from_secs(10), gone).is_some(), "the link goes with its namespace");
        assert!(pinged(&router, address("detached")) && net.resolve("machine").unwrap().is_empty());
        // The address is free for another.
        let again = idle("again").network(Attach::to(&net).address(address("machine"))).start().unwrap();
        assert!(pinged(&router, address("machine")));
        again.remove().unwrap();
        run(&format!("kill -9 {pid}"));
        let swept = until(Duration::from_secs(20), || {
            isolate::sweep().unwrap();
            net.inspect().unwrap().containers.is_empty().then_some(())
        });
        assert!(swept.is_some() && links() == before);
    });
}
