//! Macvlans of a link of the test's own host, with a machine of its LAN at the other end.

#![expect(clippy::unwrap_used, reason = "tests")]

mod lan;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::time::{Duration, Instant};

use isolate_netns::{
    Endpoint, Error, ErrorKind, Macvlan, MacvlanMode, MacvlanPort, NetworkNamespace, Problem,
};
use lan::{HOST, NEIGHBOUR, neighbour, run};
use testkit::{Need, kernel_test, without_system_call};

const NEEDS: &[Need] = &[
    Need::Root,
    Need::Veth,
    Need::Macvlan,
    Need::Program("ip"),
    Need::Program("ping"),
    Need::Program("cat"),
];

const NEIGHBOUR6: &str = "fd00:2::2";

/// Both versions of IP, by the LAN's machine to everywhere else.
fn network() -> Macvlan {
    Macvlan::new("lan0", "192.0.2.0/24".parse().unwrap())
        .ipv6("fd00:2::/64".parse().unwrap())
        .gateway(NEIGHBOUR)
        .gateway(NEIGHBOUR6.parse::<Ipv6Addr>().unwrap())
}

/// The LAN's machine, with an address behind it that only a default route leads to.
fn machine() -> NetworkNamespace {
    let machine = neighbour();
    let inside = || {
        run(&format!("ip address add {NEIGHBOUR6}/64 dev uplink0 nodad"));
        run("ip address add fe80::2/64 dev uplink0 nodad");
        run("ip address add 198.51.100.1/32 dev lo");
        run("ip address add fd00:3::1/128 dev lo nodad");
    };
    machine.run(inside).unwrap();
    machine
}

struct Container {
    namespace: NetworkNamespace,
    port: MacvlanPort,
}

fn endpoint(n: u8) -> Endpoint {
    Endpoint::new("eth0", Ipv4Addr::new(192, 0, 2, n)).ipv6(six(n))
}

fn six(n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, n.into())
}

fn container(network: &Macvlan, n: u8) -> Container {
    let namespace = NetworkNamespace::new().unwrap();
    let port = network.attach(&namespace, &endpoint(n)).unwrap();
    Container { namespace, port }
}

/// Whether an echo request is answered. The first may be answered late, where neighbours are asked for.
#[expect(clippy::disallowed_methods, reason = "tests look at the kernel through other eyes")]
fn pings(from: &NetworkNamespace, to: &str) -> bool {
    let ping = || std::process::Command::new("ping").args(["-c", "1", "-W", "1", to]).output().unwrap();
    from.run(ping).unwrap().status.success()
}

fn reaches(from: &Container, n: u8) -> [bool; 2] {
    [pings(&from.namespace, &format!("192.0.2.{n}")), pings(&from.namespace, &six(n).to_string())]
}

fn inside(container: &Container, line: &str) -> String {
    container.namespace.run(|| run(line)).unwrap()
}

fn refused(result: Result<MacvlanPort, Error>, kind: ErrorKind, text: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (kind, text), "{error:?}");
}

#[test]
fn two_of_a_parent_reach_one_another_and_the_lan_but_not_the_host() {
    kernel_test(NEEDS, || {
        let machine = machine();
        run("ip address add fd00:2::1/64 dev lan0 nodad");
        let parent = || run("ip -o link show lan0") + &run("ip -4 address show lan0") + &run("ip route");
        let (before, links) = (parent(), run("ip -o link").lines().count());
        let (one, two) = (container(&network(), 11), container(&network(), 12));
        assert_eq!(reaches(&one, 12), [true, true]);
        assert_eq!(reaches(&two, 11), [true, true]);
        assert_eq!(reaches(&one, 2), [true, true], "a machine of the LAN");
        assert!(pings(&machine, "192.0.2.11") && pings(&machine, &six(12).to_string()), "and it them");
        assert!(
            pings(&one.namespace, "198.51.100.1") && pings(&one.namespace, "fd00:3::1"),
            "by the gateway"
        );
        // Neither way, though the host is on the LAN and reaches its machine.
        assert_eq!(reaches(&one, 1), [false, false]);
        let here = NetworkNamespace::current().unwrap();
        assert!(!pings(&here, "192.0.2.11") && pings(&here, &NEIGHBOUR.to_string()));

        assert_eq!(one.port.mac(), [0x02, 0x42, 192, 0, 2, 11]);
        let shown = inside(&one, "ip -o address show dev eth0");
        assert!(shown.contains("192.0.2.11/24") && shown.contains("fd00:2::b/64"), "{shown}");
        assert!(shown.contains("fe80::42:c0ff:fe00:20b/64") && !shown.contains("tentative"), "{shown}");
        let [received, sent] = one.port.counters(&one.namespace).unwrap();
        assert!(received.packets > 5 && sent.packets > 5 && sent.bytes > 500, "{received:?} {sent:?}");
        assert_eq!(one.port.check(&one.namespace).unwrap(), []);
        // The parent and the host's routes are as they were, and the host has no link more.
        assert_eq!((parent(), run("ip -o link").lines().count()), (before, links));
    });
}

#[test]
fn private_ones_and_vepa_do_not_reach_one_another_and_those_of_a_bridge_do() {
    kernel_test(NEEDS, || {
        let _machine = machine();
        for (mode, expected) in
            [(MacvlanMode::Private, false), (MacvlanMode::Vepa, false), (MacvlanMode::Bridge, true)]
        {
            let network = network().mode(mode);
            let (one, two) = (container(&network, 11), container(&network, 12));
            assert_eq!(reaches(&one, 12), [expected; 2], "{mode}");
            assert_eq!((reaches(&one, 2), reaches(&two, 2)), ([true; 2], [true; 2]), "{mode}: the LAN");
            one.port.disconnect(&one.namespace).unwrap();
            two.port.disconnect(&two.namespace).unwrap();
        }
    });
}

#[test]
fn passthru_is_for_one_alone_with_the_parents_own_mac_address() {
    kernel_test(NEEDS, || {
        let machine = machine();
        let all = network().mode(MacvlanMode::Passthru);
        let taken = "link lan0 cannot carry one more macvlan: one in mode passthru is alone on its parent";
        let before = container(&network(), 11);
        refused(all.attach(&NetworkNamespace::new().unwrap(), &endpoint(12)), ErrorKind::Conflict, taken);
        before.port.disconnect(&before.namespace).unwrap();

        let one = container(&all, 12);
        let mac = one.port.mac().map(|byte| format!("{byte:02x}")).join(":");
        assert!(
            run("ip -o link show lan0").contains(&mac) && inside(&one, "ip -o link show eth0").contains(&mac)
        );
        assert!(run("ip -d -o link show lan0").contains("promiscuity 0"));
        assert_eq!(reaches(&one, 2), [true; 2]);
        assert!(pings(&machine, "192.0.2.12"));
        refused(
            network().attach(&NetworkNamespace::new().unwrap(), &endpoint(13)),
            ErrorKind::Conflict,
            taken,
        );
        assert_eq!(network().check().unwrap_err().to_string(), taken);
        let named = endpoint(13).with_mac([2, 0, 0, 0, 0, 1]);
        let error = all.attach(&NetworkNamespace::new().unwrap(), &named).unwrap_err();
        assert_eq!(error.to_string(), "a MAC address: in mode passthru it is that of lan0");
        one.port.disconnect(&one.namespace).unwrap();
        container(&network(), 13);
    });
}

#[test]
fn it_is_gone_after_disconnect_whatever_it_is_called_and_with_its_namespace() {
    kernel_test(NEEDS, || {
        let machine = machine();
        let links = |container: &Container| inside(container, "ip -o link").lines().count();
        let renamed = container(&network(), 11);
        for line in ["ip link set eth0 down", "ip link set eth0 name mine0", "ip link set mine0 up"] {
            inside(&renamed, line);
        }
        assert!(pings(&machine, "192.0.2.11"));
        assert_eq!(renamed.port.check(&renamed.namespace).unwrap(), []);
        renamed.port.counters(&renamed.namespace).unwrap();
        let Container { namespace, port } = renamed;
        port.disconnect(&namespace).unwrap();
        assert!(!pings(&machine, "192.0.2.11"));
        // At once again, and with another of the same name.
        let port = network().attach(&namespace, &endpoint(11)).unwrap();
        let renamed = Container { namespace, port };
        assert_eq!((links(&renamed), pings(&machine, "192.0.2.11")), (2, true));
        // A port does not hold its namespace.
        let Container { namespace, port } = renamed;
        drop(namespace);
        let end = Instant::now() + Duration::from_secs(10);
        while pings(&machine, "192.0.2.11") {
            assert!(Instant::now() < end, "it answers still");
        }
        drop(port);
        container(&network(), 11);
    });
}

#[test]
fn with_its_parent_it_is_gone_and_that_is_told_and_in_nobodys_way() {
    kernel_test(NEEDS, || {
        let machine = machine();
        let one = container(&network(), 11);
        run("ip link set lan0 down");
        let down = Problem::Down("link lan0, the parent".into());
        assert_eq!(one.port.check(&one.namespace).unwrap(), [down]);
        let two = container(&network(), 12);
        run("ip link set lan0 up");
        assert_eq!(two.port.check(&two.namespace).unwrap(), []);
        // The kernel's link watch may take a second to see the carrier.
        let end = Instant::now() + Duration::from_secs(10);
        while reaches(&two, 11) != [true; 2] {
            assert!(Instant::now() < end, "it works once the parent does");
        }

        run("ip link del lan0");
        let missing =
            ["missing: link lan0, the parent", "missing: link eth0 in the namespace, the macvlan of lan0"];
        let said = one.port.check(&one.namespace).unwrap();
        assert_eq!(said.iter().map(ToString::to_string).collect::<Vec<_>>(), missing);
        let error = one.port.counters(&one.namespace).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::NotFound, "link eth0 is gone from the namespace")
        );
        let gone = "link lan0, the parent, is not there";
        refused(network().attach(&one.namespace, &endpoint(11)), ErrorKind::NotFound, gone);
        assert_eq!(network().check().unwrap_err().to_string(), gone);
        one.port.disconnect(&one.namespace).unwrap();
        drop(machine);
    });
}

#[test]
fn what_cannot_be_attached_is_said_with_why_and_nothing_is_left() {
    kernel_test(NEEDS, || {
        let _machine = machine();
        let one = container(&network(), 11);
        let free = NetworkNamespace::new().unwrap();
        let attach = |network: &Macvlan| network.attach(&free, &endpoint(12));
        let on = |parent: &str| {
            Macvlan::new(parent, "192.0.2.0/24".parse().unwrap()).ipv6("fd00:2::/64".parse().unwrap())
        };

        refused(attach(&on("none0")), ErrorKind::NotFound, "link none0, the parent, is not there");
        let what = "link lo is no Ethernet link: it cannot carry macvlans";
        refused(attach(&on("lo")), ErrorKind::InvalidInput, what);
        let what = "the namespace has a link eth0 already";
        refused(network().attach(&one.namespace, &endpoint(12)), ErrorKind::AlreadyExists, what);
        let same = endpoint(12).with_mac(one.port.mac());
        let what = "MAC address 02:42:c0:00:02:0b is taken on lan0: by another macvlan of it, or by itself";
        refused(network().attach(&free, &same), ErrorKind::Conflict, what);
        let group = endpoint(12).with_mac([1, 0, 0, 0, 0, 1]);
        assert_eq!(network().attach(&free, &group).unwrap_err().kind(), ErrorKind::InvalidInput);
        let what = "an MTU above that of lan0, which is 1500 bytes";
        refused(attach(&network().mtu(9000)), ErrorKind::InvalidInput, what);
        let here = NetworkNamespace::current().unwrap();
        let what = "link lan0 is in this namespace: attach another";
        refused(network().attach(&here, &endpoint(12)), ErrorKind::InvalidInput, what);
        let file = std::fs::File::open("/").unwrap();
        assert_eq!(network().attach(&file, &endpoint(12)).unwrap_err().kind(), ErrorKind::InvalidInput);

        run("ip link add br0 type bridge");
        run("ip link add port0 index 88 type veth peer name port1");
        run("ip link set port0 master br0");
        let error = attach(&on("port0")).unwrap_err();
        assert_eq!(error.to_string(), "link port0 carries something else: it cannot carry macvlans");
        assert!(error.kind() == ErrorKind::Conflict && error.hint().unwrap().contains("a port of a bridge"));
        assert_eq!(on("port0").check().unwrap_err().to_string(), error.to_string());
        on("br0").check().unwrap();
        run("ip link del port0");
        run("ip link del br0");
        let denied = std::thread::scope(|scope| {
            let attach = || {
                without_system_call(libc::SYS_setns, libc::EPERM);
                attach(&network()).unwrap_err()
            };
            scope.spawn(attach).join().unwrap()
        });
        assert_eq!(denied.kind(), ErrorKind::PermissionDenied, "{denied}");

        let links = free.run(|| run("ip -o link")).unwrap();
        assert_eq!(links.lines().count(), 1, "{links}");
        network().check().unwrap();
        network().mtu(1400).attach(&free, &endpoint(12)).unwrap();
        assert!(free.run(|| run("ip link show eth0")).unwrap().contains("mtu 1400"));
        assert_eq!(HOST.octets()[3], 1, "of which none is taken");
    });
}

/// What a router says: it is one, and this prefix is for addresses of one's own making (RFC 4861, 4.2 and 4.6.2).
fn advertise(machine: &NetworkNamespace) {
    use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket, sockopt};
    let mut message = vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend([3, 4, 64, 0xc0, 0, 0, 7, 8, 0, 0, 7, 8, 0, 0, 0, 0]);
    message.extend("fd00:4::".parse::<Ipv6Addr>().unwrap().octets());
    let send = || {
        let raw = socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)).unwrap();
        sockopt::set_ipv6_multicast_hops(&raw, 255).unwrap();
        let link = rustix::net::netdevice::name_to_index(&raw, "uplink0").unwrap();
        let all = SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, link);
        sendto(&raw, &message, SendFlags::empty(), &all).unwrap();
    };
    machine.run(send).unwrap();
}

#[test]
fn what_a_router_of_the_lan_advertises_is_not_taken() {
    kernel_test(NEEDS, || {
        let machine = machine();
        let plain = Macvlan::new("lan0", "192.0.2.0/24".parse().unwrap());
        let namespace = NetworkNamespace::new().unwrap();
        let port = plain.attach(&namespace, &Endpoint::new("eth0", Ipv4Addr::new(192, 0, 2, 12))).unwrap();
        let four = Container { namespace, port };
        let six = container(&network(), 11);
        let took = |container: &Container| {
            advertise(&machine);
            std::thread::sleep(Duration::from_millis(300));
            inside(container, "ip -6 route").contains("fd00:4::")
        };
        assert!(!took(&four) && !took(&six));
        // Without that protection it is taken.
        for container in [&four, &six] {
            let accept = || std::fs::write("/proc/sys/net/ipv6/conf/eth0/accept_ra", "1");
            container.namespace.run(accept).unwrap().unwrap();
            assert!(took(container));
        }
    });
}
