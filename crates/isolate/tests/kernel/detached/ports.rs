//! Ports of a container that lasts, published and taken back while it runs.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use isolate::{Attach, Container, Detached, ErrorKind, Network, Publish, Restart, Signal};
use testkit::kernel_test;

use super::{GRACE, created, patience, printed_in};
use crate::common::{NET, OnDisk, SERVER, get, idle, tried, until, wait_for};

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn published(container: &Detached) -> Vec<String> {
    let mut all: Vec<_> = container.inspect().unwrap().published.iter().map(ToString::to_string).collect();
    all.sort();
    all
}

#[test]
fn a_port_is_published_and_taken_back_while_it_runs_and_for_its_later_starts() {
    kernel_test(NET, || {
        let disk = OnDisk::root();
        let net = Network::create("back").unwrap();
        let web = disk.sh(SERVER).name("web").network(&net).restart(Restart::Always);
        let web = created(web.publish((9000, 8080)));
        web.start().unwrap();
        wait_for(at(9000));
        // By another handle, as by another process.
        let other = Container::open("web").unwrap();
        assert_eq!(other.publish((9001, 8080)).unwrap(), [Publish::tcp(9001, 8080)]);
        assert_eq!(other.publish(Publish::tcp(9100, 8080).range(2)).unwrap().len(), 2);
        let picked = other.publish((0, 8080)).unwrap()[0].host_port();
        for port in [9000, 9001, 9100, picked] {
            wait_for(at(port));
        }
        assert_eq!(published(&web).len(), 5);
        assert_eq!(web.check_network().unwrap(), []);
        // The host's port is its own: of no other program, and of no other container.
        assert!(TcpListener::bind(at(9001)).is_err());
        let error = idle("other").publish((9001, 1)).start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        assert!(error.to_string().contains("container `web` has published it"), "{error}");
        assert_eq!(web.publish((9001, 80)).unwrap_err().kind(), ErrorKind::InUse);
        let squatter = TcpListener::bind(at(9200)).unwrap();
        web.publish(Publish::tcp(9199, 8080).range(2)).unwrap_err();
        assert!(get(at(9199)).is_none() && published(&web).len() == 5, "all or none");
        drop(squatter);

        web.signal(Signal::KILL).unwrap();
        assert!(
            until(patience(), || (web.inspect().unwrap().detached?.restarts == 1).then_some(())).is_some()
        );
        wait_for(at(9001));
        web.unpublish((9000, 8080)).unwrap();
        web.unpublish(Publish::tcp(9100, 8080).range(2)).unwrap();
        assert_eq!(get(at(9000)), None);
        assert_eq!(web.unpublish((9000, 8080)).unwrap_err().kind(), ErrorKind::NotFound);
        // Its keeper has the claim still: it can have the port again.
        web.publish((9000, 8080)).unwrap();
        wait_for(at(9000));
        web.unpublish((9001, 8080)).unwrap();
        web.restart(GRACE).unwrap();
        wait_for(at(9000));
        wait_for(at(picked));
        assert_eq!((get(at(9001)), published(&web).len()), (None, 2));
        TcpListener::bind(at(9001)).unwrap();

        web.stop(GRACE).unwrap();
        assert_eq!(web.publish((9002, 8080)).unwrap(), [Publish::tcp(9002, 8080)]);
        web.unpublish((9000, 8080)).unwrap();
        web.unpublish((picked, 8080)).unwrap();
        assert_eq!(web.unpublish((1, 1)).unwrap_err().kind(), ErrorKind::NotFound);
        web.start().unwrap();
        wait_for(at(9002));
        assert_eq!(published(&web), ["9002:8080/tcp"]);
        web.remove_by_force().unwrap();
        net.remove().unwrap();
    });
}

#[test]
fn one_shares_the_network_of_another_that_lasts_as_it_is_at_each_start() {
    kernel_test(NET, || {
        let disk = OnDisk::root();
        let web = created(disk.sh(SERVER).name("web").publish((9000, 8080)).restart(Restart::Always));
        let reader = |name: &str| disk.sh("exec sleep 1000").name(name).network(Attach::container(&web));
        let beside = created(reader("beside").restart(Restart::Always));
        let error = beside.start().unwrap_err();
        assert!(
            error.kind() == ErrorKind::NotFound && error.to_string().contains("container `web`"),
            "{error}"
        );
        web.start().unwrap();
        wait_for(at(9000));
        beside.start().unwrap();
        let network = |container: &Detached| printed_in(container, "readlink /proc/self/ns/net");
        let page = |container: &Detached| {
            printed_in(container, "busybox wget -q -O - http://127.0.0.1:8080/index.html")
        };
        assert_eq!((network(&beside), page(&beside).as_str()), (network(&web), "hello\n"));
        // So does one of ones own.
        let own = reader("own").start().unwrap();
        assert_eq!(tried(&own, "readlink /proc/self/ns/net").unwrap(), network(&web));
        own.remove().unwrap();
        // Its keeper starts it again there, also while the other does not run, and it can be entered.
        beside.signal(Signal::KILL).unwrap();
        let again = || (beside.inspect().unwrap().detached?.restarts == 1).then_some(());
        assert!(until(patience(), again).is_some());
        assert!(until(patience(), || beside.exec("true").is_ok().then_some(())).is_some());
        let before = network(&web);
        assert_eq!(network(&beside), before);
        let web = web.rename("renamed").unwrap();
        web.stop(GRACE).unwrap();
        assert_eq!(network(&beside), before);
        web.start().unwrap();
        wait_for(at(9000));
        beside.restart(std::time::Duration::ZERO).unwrap();
        assert_eq!((network(&beside), page(&beside).as_str()), (network(&web), "hello\n"));
        web.remove_by_force().unwrap();
        beside.stop(std::time::Duration::ZERO).unwrap();
        let error = beside.start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        beside.remove().unwrap();
    });
}

#[test]
fn without_a_bridge_nothing_is_published_and_with_the_last_port_it_stays_on_it() {
    kernel_test(NET, || {
        let disk = OnDisk::root();
        let alone = created(disk.sh("exec sleep 1000").name("alone").network(Attach::none()));
        let error = alone.publish((9000, 8080)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        alone.remove().unwrap();
        let web = created(disk.sh(SERVER).name("web").publish((9000, 8080)));
        web.unpublish((9000, 8080)).unwrap();
        web.start().unwrap();
        assert_eq!(web.inspect().unwrap().networks.len(), 1);
        web.publish((9000, 8080)).unwrap();
        wait_for(at(9000));
        web.remove_by_force().unwrap();
    });
}
