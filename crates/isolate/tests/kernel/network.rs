//! A container on the bridge: its address, its published port, the outside.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::Path;

use isolate::netns::Bridge;
use isolate::{Attach, ErrorKind, Publish};
use testkit::kernel_test;

use crate::common::{NEEDS, NET, SERVER, get, printed, sh, wait_for};

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[test]
fn a_published_port_answers_and_is_free_again_after_the_end() {
    kernel_test(NET, || {
        let container = sh(SERVER).name("web").publish((9000, 8080)).start().unwrap();
        assert!(wait_for(local(9000)).ends_with("hello\n"));
        let inside = (container.address().unwrap(), 8080).into();
        assert!(get(inside).is_some(), "by its own address");
        assert_eq!(
            get((container.address().unwrap(), 9000).into()),
            None,
            "the host's port is not the container's"
        );
        container.remove().unwrap();
        assert_eq!(get(local(9000)), None);
        std::net::TcpListener::bind(local(9000)).unwrap();
    });
}

#[test]
fn port_zero_is_the_kernels_choice_and_two_containers_answer_apart() {
    kernel_test(NET, || {
        let one = sh(&SERVER.replace("hello", "one")).publish((0, 8080)).start().unwrap();
        let two = sh(&SERVER.replace("hello", "two")).publish(Publish::tcp(0, 8080)).start().unwrap();
        let port = |published: &[Publish]| published[0].host_port();
        assert_ne!(port(one.published()), port(two.published()));
        assert!(wait_for(local(port(one.published()))).ends_with("one\n"));
        assert!(wait_for(local(port(two.published()))).ends_with("two\n"));
        assert_ne!(one.address(), two.address());
        drop(one);
        assert!(get(local(port(two.published()))).is_some(), "the other one stays");
    });
}

#[test]
fn an_address_of_its_own_choice_is_its_own_while_it_lives() {
    kernel_test(NET, || {
        let wish = IpAddr::V4(Ipv4Addr::new(10, 213, 7, 7));
        let first = sh("sleep 100").name("first").network(Attach::bridge().address(wish)).start().unwrap();
        assert_eq!(first.address(), Some(wish));
        let error = sh("true").name("x").network(Attach::bridge().address(wish)).start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        assert_eq!(error.to_string(), "container `x`: address 10.213.7.7: container `first` has it");
        let shown = printed(sh("ip -4 -o address show dev eth0").network(Attach::bridge()));
        assert!(shown.contains("10.213."), "{shown}");
        drop(first);
        let again = sh("true").network(Attach::bridge().address(wish)).start().unwrap();
        assert_eq!(again.address(), Some(wish));
    });
}

#[test]
fn a_full_subnet_is_an_error_that_says_so_and_one_address_less_is_none() {
    kernel_test(NET, || {
        // The subnets that come first are somebody else's: the next has 254 addresses.
        let take = |name: &str, gateway: &str| Bridge::create(name, gateway.parse().unwrap()).unwrap();
        let _others = (take("other0", "10.213.0.1/16"), take("other1", "172.29.0.1/16"));
        let start = |name: &str| sh("sleep 100").name(name).network(Attach::bridge()).start();
        let first = start("first").unwrap();
        let wish = Ipv4Addr::new(192, 168, 213, 77);
        let free = if first.address() == Some(wish.into()) { Ipv4Addr::new(192, 168, 213, 78) } else { wish };
        // All others are leased to it, too.
        for address in (2..=254).map(|n| Ipv4Addr::new(192, 168, 213, n)) {
            if address != free && first.address() != Some(address.into()) {
                let lease = Path::new("/run/isolate/networks/isolate0/leases").join(address.to_string());
                symlink("first", lease).unwrap();
            }
        }
        let last = start("last").unwrap();
        assert_eq!(last.address(), Some(free.into()));
        let error = start("x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        let full = "container `x`: network `isolate0`: all 253 addresses of 192.168.213.0/24 are taken: \
                    containers `first`, `last`";
        assert_eq!(error.to_string(), full);
        last.remove().unwrap();
        assert_eq!(start("x").unwrap().address(), Some(free.into()), "then it is free again");
        first.remove().unwrap();
        // What it had by this test's hand.
        isolate::sweep().unwrap();
    });
}

#[test]
fn two_containers_on_the_bridge_see_each_other_by_address() {
    kernel_test(NET, || {
        let server = sh(SERVER).network(Attach::bridge()).start().unwrap();
        let address = server.address().unwrap();
        wait_for((address, 8080).into());
        let client =
            sh(&format!("busybox wget -q -O - http://{address}:8080/index.html")).network(Attach::bridge());
        assert_eq!(printed(client), "hello\n");
    });
}

#[test]
fn without_a_network_there_is_only_the_loopback_device() {
    kernel_test(NEEDS, || {
        let links = "cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '";
        assert_eq!(printed(sh(links)), "lo\n");
        let host = printed(sh("readlink /proc/self/ns/net").network(Attach::host()));
        let here = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        assert_eq!(host.trim(), here.to_str().unwrap(), "on request, the host's own");
    });
}
