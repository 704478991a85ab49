//! A published port is reached from everywhere it should be, and from nowhere else, by either firewall.

#![expect(clippy::unwrap_used, reason = "tests")]

mod lan;

use std::net::Ipv4Addr;

use isolate_netns::{Firewall, Publish};
use lan::{
    CONTAINER, GATEWAY, HOST, NEIGHBOUR, ask, ask_udp, bridge, container, here, named, neighbour, serve,
    serve_udp,
};
use testkit::{Need, kernel_test};

const NF_TABLES: &[Need] =
    &[Need::Root, Need::Veth, Need::NfTables, Need::Program("ip"), Need::Program("nft")];
const IPTABLES: &[Need] =
    &[Need::Root, Need::Veth, Need::Iptables, Need::Program("ip"), Need::Program("nft")];

/// The same test with either firewall.
macro_rules! with_either_firewall {
    ($($name:ident)*) => {
        mod with_nf_tables {
            use super::*;
            $(#[test] fn $name() { kernel_test(NF_TABLES, || super::$name(Firewall::NfTables)); })*
        }
        mod with_iptables {
            use super::*;
            $(#[test] fn $name() {
                kernel_test(IPTABLES, || {
                    super::$name(Firewall::Iptables);
                    lan::forget_iptables();
                });
            })*
        }
    };
}

with_either_firewall! {
    a_published_port_is_reached_four_ways
    what_is_not_published_is_not_reached
    a_port_on_loopback_is_reached_from_the_host_alone
    a_port_on_one_address_is_not_on_the_others
    loopback_services_of_the_host_stay_its_own
    outgoing_traffic_has_the_address_of_the_host
    two_bridges_do_not_see_each_other
    services_of_the_host_are_open_on_request
    one_port_is_taken_back_and_the_other_stays
    udp_is_published_too
    a_forged_source_is_dropped
}

fn a_published_port_is_reached_four_ways(firewall: Firewall) {
    let neighbour = neighbour();
    let bridge = bridge(firewall);
    let container = container(&bridge, CONTAINER);
    let _server = serve(&container.namespace, 8080);
    container.port.publish(Publish::tcp(9000, 8080)).unwrap();

    // Where each comes from is kept, where the container can answer it.
    assert_eq!(ask(&here(), (Ipv4Addr::LOCALHOST, 9000)), Some(GATEWAY.to_string()), "from 127.0.0.1");
    assert_eq!(ask(&here(), (HOST, 9000)), Some(HOST.to_string()), "from the host, by its LAN address");
    assert_eq!(ask(&here(), (GATEWAY, 9000)), Some(GATEWAY.to_string()), "from the host, by the gateway's");
    assert_eq!(ask(&neighbour, (HOST, 9000)), Some(NEIGHBOUR.to_string()), "from the LAN");
    assert_eq!(
        ask(&container.namespace, (HOST, 9000)),
        Some(GATEWAY.to_string()),
        "from the container itself"
    );
    assert_eq!(ask(&container.namespace, (GATEWAY, 9000)), Some(GATEWAY.to_string()));
    let other = lan::container(&bridge, Ipv4Addr::new(172, 30, 0, 3));
    assert_eq!(ask(&other.namespace, (HOST, 9000)), Some(GATEWAY.to_string()), "from another container");
    let elsewhere = named("test1", Ipv4Addr::new(172, 31, 0, 1), firewall);
    let stranger = lan::container(&elsewhere, Ipv4Addr::new(172, 31, 0, 2));
    assert_eq!(ask(&stranger.namespace, (HOST, 9000)), Some("172.31.0.2".into()), "from another network");
}

fn what_is_not_published_is_not_reached(firewall: Firewall) {
    let neighbour = neighbour();
    let bridge = bridge(firewall);
    let container = container(&bridge, CONTAINER);
    let _servers = (serve(&container.namespace, 8080), serve(&container.namespace, 8081));
    container.port.publish(Publish::tcp(9000, 8080)).unwrap();

    assert!(ask(&neighbour, (HOST, 9000)).is_some(), "the published one is");
    assert_eq!(ask(&neighbour, (HOST, 8081)), None);
    assert_eq!(ask(&neighbour, (CONTAINER, 8081)), None, "straight, by way of the host");
    assert_eq!(ask(&neighbour, (CONTAINER, 8080)), None, "nor the published one by its inner address");
    assert!(ask(&here(), (CONTAINER, 8081)).is_some(), "the host sees its containers");
    // Without the rules it would be reached: they are what keeps it.
    match firewall {
        Firewall::Iptables => lan::run("iptables -I FORWARD -j ACCEPT"),
        _ => lan::run("nft flush chain inet isolate forward"),
    };
    assert!(ask(&neighbour, (CONTAINER, 8081)).is_some());
    if firewall == Firewall::Iptables {
        lan::run("iptables -D FORWARD -j ACCEPT");
    }
}

fn a_port_on_loopback_is_reached_from_the_host_alone(firewall: Firewall) {
    let neighbour = neighbour();
    let bridge = bridge(firewall);
    let container = container(&bridge, CONTAINER);
    let _server = serve(&container.namespace, 8080);
    container.port.publish(Publish::tcp(9000, 8080).on(Ipv4Addr::LOCALHOST)).unwrap();

    assert!(ask(&here(), (Ipv4Addr::LOCALHOST, 9000)).is_some());
    assert_eq!(ask(&here(), (HOST, 9000)), None);
    assert_eq!(ask(&neighbour, (HOST, 9000)), None);
    // A neighbour that sends 127.0.0.1 over the wire.
    neighbour
        .run(|| {
            lan::run("ip address del 127.0.0.1/8 dev lo");
            lan::run("sysctl -qw net.ipv4.conf.all.route_localnet=1");
            lan::run(&format!("ip route add 127.0.0.1/32 via {HOST} src {NEIGHBOUR}"));
            lan::run("ip rule add pref 1 lookup main");
        })
        .unwrap();
    assert_eq!(ask(&neighbour, (Ipv4Addr::LOCALHOST, 9000)), None);
    match firewall {
        Firewall::Iptables => lan::run("iptables -t raw -F ISOLATE-RAW"),
        _ => lan::run("nft flush chain inet isolate raw"),
    };
    assert!(ask(&neighbour, (Ipv4Addr::LOCALHOST, 9000)).is_some(), "it is these rules that keep it out");
}

fn a_port_on_one_address_is_not_on_the_others(firewall: Firewall) {
    let neighbour = neighbour();
    let bridge = bridge(firewall);
    let container = container(&bridge, CONTAINER);
    let _server = serve(&container.namespace, 8080);
    container.port.publish(Publish::tcp(9000, 8080).on(HOST)).unwrap();
    assert!(ask(&here(), (HOST, 9000)).is_some());
    assert!(ask(&neighbour, (HOST, 9000)).is_some());
    assert!(ask(&container.namespace, (HOST, 9000)).is_some());
    assert_eq!(ask(&here(), (Ipv4Addr::LOCALHOST, 9000)), None);
    assert_eq!(ask(&container.namespace, (GATEWAY, 9000)), None);
}

fn loopback_services_of_the_host_stay_its_own(firewall: Firewall) {
    let bridge = bridge(firewall);
    let container = container(&bridge, CONTAINER);
    let listener = std::net::TcpListener::bind("127.0.0.1:7000").unwrap();
    container
        .namespace
        .run(|| {
            lan::run("ip address del 127.0.0.1/8 dev lo");
            lan::run("sysctl -qw net.ipv4.conf.all.route_localnet=1");
            lan::run(&format!("ip route add 127.0.0.1/32 via {GATEWAY} src {CONTAINER}"));
        })
        .unwrap();
    let connect = || {
        container
            .namespace
            .run(|| {
                std::net::TcpStream::connect_timeout(
                    &([127, 0, 0, 1], 7000).into(),
                    std::time::Duration::from_millis(400),
                )
                .is_ok()
            })
            .unwrap()
    };
    assert!(!connect(), "route_localnet of the bridge opens 127.0.0.1 to its containers");
    match firewall {
        Firewall::Iptables => {
            lan::run("iptables -t raw -F ISOLATE-RAW") + &lan::run("iptables -F ISOLATE-INPUT")
        }
        _ => lan::run("nft flush chain inet isolate raw") + &lan::run("nft flush chain inet isolate input"),
    };
    assert!(connect(), "it is these rules that keep it out");
    drop(listener);
}

fn outgoing_traffic_has_the_address_of_the_host(firewall: Firewall) {
    let neighbour = neighbour();
    let bridge = bridge(firewall);
    let container = container(&bridge, CONTAINER);
    let _server = serve(&neighbour, 80);
    assert_eq!(ask(&container.namespace, (NEIGHBOUR, 80)), None, "nothing leaves before it is asked for");
    bridge.masquerade().unwrap();
    assert_eq!(ask(&container.namespace, (NEIGHBOUR, 80)), Some(HOST.to_string()));
}

fn two_bridges_do_not_see_each_other(firewall: Firewall) {
    let one = bridge(firewall);
    let two = named("test1", Ipv4Addr::new(172, 31, 0, 1), firewall);
    one.masquerade().unwrap();
    two.masquerade().unwrap();
    let (left, right) = (container(&one, CONTAINER), container(&two, Ipv4Addr::new(172, 31, 0, 2)));
    let beside = container(&one, Ipv4Addr::new(172, 30, 0, 3));
    let _server = serve(&left.namespace, 80);
    assert_eq!(ask(&beside.namespace, (CONTAINER, 80)), Some("172.30.0.3".into()), "on the same bridge");
    assert_eq!(ask(&right.namespace, (CONTAINER, 80)), None, "on another");
    two.remove().unwrap();
    assert!(ask(&beside.namespace, (CONTAINER, 80)).is_some(), "the other's rules are still there");
    assert!(lan::rules().contains("test0") && !lan::rules().contains("test1"));
}

fn services_of_the_host_are_open_on_request(firewall: Firewall) {
    let closed = bridge(firewall);
    let open = isolate_netns::Bridge::builder("test1", "172.31.0.1/24".parse().unwrap());
    let open = open.firewall(firewall).host_services(true).create().unwrap();
    let _server = serve(&here(), 7000);
    let (shut, free) = (container(&closed, CONTAINER), container(&open, Ipv4Addr::new(172, 31, 0, 2)));
    assert_eq!(ask(&free.namespace, ([172, 31, 0, 1], 7000)), Some("172.31.0.2".into()));
    assert_eq!(ask(&shut.namespace, (GATEWAY, 7000)), None);
    assert!(lan::ping(&shut.namespace, GATEWAY), "but ping");
}

fn one_port_is_taken_back_and_the_other_stays(firewall: Firewall) {
    let bridge = bridge(firewall);
    let (one, two) = (container(&bridge, CONTAINER), container(&bridge, Ipv4Addr::new(172, 30, 0, 3)));
    let _servers = (serve(&one.namespace, 80), serve(&two.namespace, 80));
    one.port.publish((9000, 80)).unwrap();
    let second = one.port.publish((9001, 80)).unwrap();
    two.port.publish((9002, 80)).unwrap();
    let reached = |port: u16| ask(&here(), (Ipv4Addr::LOCALHOST, port)).is_some();
    assert!(reached(9000) && reached(9001) && reached(9002));
    one.port.unpublish(second).unwrap();
    assert!(reached(9000) && !reached(9001) && reached(9002));
    one.port.remove().unwrap();
    assert!(!reached(9000) && reached(9002));
    assert_eq!(two.port.published(), [Publish::tcp(9002, 80)]);
}

fn udp_is_published_too(firewall: Firewall) {
    let neighbour = neighbour();
    let bridge = bridge(firewall);
    let container = container(&bridge, CONTAINER);
    let _server = serve_udp(&container.namespace, 53);
    container.port.publish(Publish::udp(5300, 53)).unwrap();
    assert_eq!(ask_udp(&here(), (Ipv4Addr::LOCALHOST, 5300)), Some(GATEWAY.to_string()));
    assert_eq!(ask_udp(&neighbour, (HOST, 5300)), Some(NEIGHBOUR.to_string()));
    assert_eq!(ask_udp(&container.namespace, (HOST, 5300)), Some(GATEWAY.to_string()));
    assert_eq!(ask(&here(), (Ipv4Addr::LOCALHOST, 5300)), None, "and TCP is not");
}

fn a_forged_source_is_dropped(firewall: Firewall) {
    let neighbour = neighbour();
    let bridge = bridge(firewall);
    bridge.masquerade().unwrap();
    let container = container(&bridge, CONTAINER);
    let listener = neighbour.run(|| std::net::UdpSocket::bind("0.0.0.0:99")).unwrap().unwrap();
    listener.set_read_timeout(Some(std::time::Duration::from_millis(400))).unwrap();
    let send = |from: &str| {
        container
            .namespace
            .run(|| {
                std::net::UdpSocket::bind((from, 0)).unwrap().send_to(b"x", (NEIGHBOUR, 99)).unwrap();
            })
            .unwrap()
    };
    container.namespace.run(|| lan::run("ip address add 198.51.100.7/32 dev eth0")).unwrap();
    send("172.30.0.2");
    assert!(listener.recv(&mut [0; 8]).is_ok(), "its own address passes");
    send("198.51.100.7");
    assert!(listener.recv(&mut [0; 8]).is_err());
}
