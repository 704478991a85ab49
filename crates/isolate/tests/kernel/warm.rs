//! Places that are kept ready: what comes of them is what comes without.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use isolate::{
    Attach, Bandwidth, Capabilities, Container, ContainerBuilder, ErrorKind, Network, UserNamespace,
};
use testkit::kernel_test;

use crate::common::{NET, OnDisk, SERVER, get, link_is_there, pings, run, slow, tried, until, wait_for};

const MOMENT: Duration = Duration::from_secs(10);
/// Set for a process that is killed.
const OWNER: &str = "ISOLATE_TEST_WARM";

/// Whether it came of a place that was ready: its monitor is in its user namespace then.
fn is_warm(container: &Container) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", container.pid())).unwrap();
    let monitor = stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().to_owned();
    let user = |pid: String| fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    let own = user(container.pid().to_string());
    own != user("self".to_owned()) && own == user(monitor)
}

/// Places that are ready, by the ids that are leased for them.
fn ready() -> usize {
    let leases = fs::read_dir("/run/isolate/ids").unwrap().flatten();
    let holders = leases.filter_map(|lease| fs::read_link(lease.path()).ok());
    holders.filter(|holder| holder.to_string_lossy().starts_with("pool:")).count()
}

fn wait_until_ready(n: usize) {
    until(MOMENT, || (ready() == n).then_some(())).unwrap_or_else(|| panic!("{} are ready", ready()));
}

fn on(disk: &OnDisk, script: &str, network: impl Into<Attach>) -> ContainerBuilder {
    disk.sh(script).network(network).user_namespace(UserNamespace::Required)
}

fn idle(disk: &OnDisk, network: impl Into<Attach>) -> ContainerBuilder {
    on(disk, "exec sleep 1000", network)
}

/// All that a container can see of itself, but for numbers that no two have in common.
const LOOK: &str = "
    sed 's/^ *0 *[0-9]* *\\([0-9]*\\)/0 BASE \\1/' /proc/self/uid_map /proc/self/gid_map
    cat /proc/self/setgroups /proc/self/cgroup /proc/self/oom_score_adj /proc/self/limits; id; umask
    grep -E '^(Uid|Gid|Groups|Cap|NoNew|Seccomp)' /proc/self/status
    sed 's/^[0-9]* [0-9]* [0-9]*:[0-9]* //; s/[0-9a-f]\\{12\\}/RANDOM/g' /proc/self/mountinfo | cut -d' ' -f2-4 | sort
    ip -o address; ip -o link; ip route; ip -6 route
    ls -ln /dev /proc/net/ /proc/self/net/ | sed 's/ [A-Z][a-z][a-z]  *[0-9]* *[0-9:]* / /'
    for place in /sys/class/net/*; do
        ls -lnR $place/ | sed 's/ [A-Z][a-z][a-z]  *[0-9]* *[0-9:]* / /; s/^total.*//'
        for file in $place/* $place/queues/*/*; do
            case $file in */iflink) ;; *) [ -f $file ] && echo $file $(cat $file 2>&1) ;; esac
        done
    done
    find /proc/sys/net /proc/sys/kernel /proc/sys/fs/mqueue -type f | sort | while read file; do
        case $file in
        */random/* | */stable_secret | */ns_last_pid | */nf_conntrack_count | */pty/nr) ;;
        */base_reachable_time*) stat -c '%n %u %g %a' $file ;;
        *) echo $(stat -c '%n %u %g %a' $file) $(cat $file 2>&1) ;;
        esac
    done
    readlink /proc/self/ns/* | cut -d: -f1
";

fn seen(builder: ContainerBuilder, warm: bool) -> Vec<String> {
    let container = builder.name("seen").start().unwrap();
    assert_eq!(is_warm(&container), warm);
    let text = tried(&container, LOOK).unwrap();
    let peer = |word: &str| word.starts_with("eth0@if") || word.starts_with("eth1@if");
    let line = |line: &str| {
        let words = line.split(' ').map(|word| if peer(word) { &word[..7] } else { word });
        words.collect::<Vec<_>>().join(" ")
    };
    let lines = text.lines().map(line).collect();
    container.remove().unwrap();
    lines
}

fn same(cold: &[String], warm: &[String], what: &str) {
    assert!(cold.len() > 400, "{what}: {} lines", cold.len());
    let differ: Vec<_> = cold.iter().zip(warm).filter(|(cold, warm)| cold != warm).collect();
    assert!(differ.is_empty() && cold.len() == warm.len(), "{what}: {differ:#?}");
}

#[test]
fn inside_it_makes_no_difference_whether_a_place_was_ready() {
    kernel_test(NET, || {
        let disk = OnDisk::root();
        let plain = Network::builder("plain").subnet("10.50.1.0/24".parse().unwrap()).create().unwrap();
        let dual = Network::builder("dual")
            .subnet("10.50.2.0/24".parse().unwrap())
            .ipv6()
            .subnet("fd00:50::/64".parse().unwrap())
            .mtu(1400)
            .create()
            .unwrap();
        let inner =
            Network::builder("inner").subnet("10.50.3.0/24".parse().unwrap()).internal().create().unwrap();
        for (n, net) in [&plain, &dual, &inner].into_iter().enumerate() {
            if slow() && n != 1 {
                continue;
            }
            let address = std::net::Ipv4Addr::new(10, 50, n as u8 + 1, 9);
            let at = || {
                let at = Attach::to(net).address(address);
                if n == 1 { at.address("fd00:50::9".parse::<std::net::Ipv6Addr>().unwrap()) } else { at }
            };
            let mut builders = vec![idle(&disk, at())];
            if n == 1 {
                let fast = Bandwidth::new().up(90_000_000).down(80_000_000);
                let limited = at().mac([2, 0, 0, 0, 0, 9]).bandwidth(fast).priority(7);
                builders.push(idle(&disk, limited).sysctl("net.ipv4.ip_unprivileged_port_start", "99"));
                let beside = Attach::to(&plain).address([10, 50, 1, 8]);
                builders.push(idle(&disk, at()).network(beside).user("1000"));
            }
            for builder in builders.into_iter().take(if slow() { 1 } else { 3 }) {
                let cold = seen(builder.clone(), false);
                net.warm(1).unwrap();
                let warm = seen(builder, true);
                net.warm(0).unwrap();
                same(&cold, &warm, net.name());
            }
        }
    });
}

#[test]
fn a_container_of_a_place_that_was_ready_is_reached_by_name_and_port_and_reaches_others() {
    kernel_test(NET, || {
        let disk = OnDisk::root();
        let (net, more) =
            (Network::builder("net").ipv6().create().unwrap(), Network::create("more").unwrap());
        net.warm(2).unwrap();
        assert_eq!(ready(), 2);
        // What this root has for ping wants a raw socket.
        let own = |script: &str| {
            disk.sh(script).user_namespace(UserNamespace::Required).add_capabilities(Capabilities::NET_RAW)
        };
        let web = own(SERVER).network(&net).name("web").publish((9000, 8080)).start().unwrap();
        let second = Attach::named("net").alias("second");
        let other = own(SERVER).network(second).name("other").start().unwrap();
        assert!(is_warm(&web) && is_warm(&other));
        let answer = wait_for("127.0.0.1:9000".parse().unwrap());
        assert!(answer.ends_with("hello\n"), "{answer}");
        assert!(get((web.address().unwrap(), 8080).into()).is_some());
        // A static program of this root looks names up nowhere: they are in the file.
        let knows = |one: &Container, name: &str, other: &Container| {
            let line = tried(one, &format!("grep -w {name} /etc/hosts | grep -v :")).unwrap_or_default();
            line.starts_with(&format!("{} ", other.address().unwrap()))
                && net.resolve(name).unwrap().len() == 2
        };
        assert!(knows(&other, "web", &web) && knows(&web, "other", &other) && knows(&web, "second", &other));
        for one in [&web, &other] {
            one.addresses().iter().for_each(|at| drop(wait_for((*at, 8080).into())));
        }
        let reaches = |from: &Container, to: &Container| pings(from, &to.address().unwrap().to_string());
        assert!(reaches(&other, &web) && reaches(&web, &other));
        wait_until_ready(2);
        assert!(web.check_network().unwrap().is_empty());
        // Changes while it runs.
        more.connect(&other).unwrap();
        assert!(tried(&other, "ip link show eth1").is_some());
        net.disconnect(&other).unwrap();
        assert!(!reaches(&other, &web));
    });
}

#[test]
fn who_cannot_take_a_place_starts_as_without() {
    kernel_test(NET, || {
        let disk = OnDisk::root();
        let (net, other) = (Network::create("net").unwrap(), Network::create("other").unwrap());
        net.warm(1).unwrap();
        let host = disk.sh("exec sleep 1000").network(&net).user_namespace(UserNamespace::Host);
        let first = idle(&disk, &other).network(&net);
        let lower = idle(&disk, &net).oom_score_adj(5);
        for builder in [host, first, lower] {
            let container = builder.start().unwrap();
            assert!(!is_warm(&container));
            assert!(tried(&container, "ip -o address show eth0").is_some());
            assert_eq!(ready(), 1);
        }
        let both = idle(&disk, &net).network(&other).start().unwrap();
        assert!(is_warm(&both));
        assert!(tried(&both, "ip -o address show eth1").is_some());
        // Of an empty pool.
        wait_until_ready(1);
        let all: Vec<_> = (0..8).map(|_| idle(&disk, &net).start().unwrap()).collect();
        let places: BTreeSet<_> = all.iter().flat_map(Container::addresses).collect();
        assert_eq!(places.len(), 8);
    });
}

#[test]
fn of_two_hundred_starts_none_has_what_another_had_and_nothing_is_left() {
    const MARK: &str = "ip -o address show dev lo | grep -q 192.0.2.9 && exit 9
        ip address add 192.0.2.9/32 dev lo && ip -o address show dev lo | grep -q 192.0.2.9";
    kernel_test(NET, || {
        let disk = OnDisk::root();
        let net = Network::create("net").unwrap();
        net.warm(4).unwrap();
        let (warm, over) = (AtomicU32::new(0), AtomicBool::new(false));
        let each = if slow() { 5 } else { 50 };
        let start = || {
            let marks = on(&disk, &format!("{MARK} && exec sleep 1000"), &net);
            let marks = marks.add_capabilities(Capabilities::NET_ADMIN).start().unwrap();
            warm.fetch_add(is_warm(&marks).into(), Ordering::Relaxed);
            assert!(until(MOMENT, || tried(&marks, "ip -o address show dev lo | grep 192.0.2.9")).is_some());
            marks.remove().unwrap();
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    isolate::sweep().unwrap();
                }
            });
            let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| (0..each).for_each(|_| start()))).collect();
            let ended: Vec<_> = starts.into_iter().map(thread::ScopedJoinHandle::join).collect();
            over.store(true, Ordering::Relaxed);
            ended.into_iter().for_each(Result::unwrap);
        });
        let warm = warm.into_inner();
        assert!(warm > 4 * each / 10, "{warm}");
        // At once, too: each has namespaces of its own.
        wait_until_ready(4);
        let all: Vec<_> = (0..6).map(|_| idle(&disk, &net).start().unwrap()).collect();
        let space =
            |of: &Container, kind: &str| fs::read_link(format!("/proc/{}/ns/{kind}", of.pid())).unwrap();
        for kind in ["net", "user"] {
            assert_eq!(all.iter().map(|one| space(one, kind)).collect::<BTreeSet<_>>().len(), 6);
        }
        assert!(all.iter().filter(|one| is_warm(one)).count() >= 4);
        drop(all);
        net.remove().unwrap();
        assert_eq!(ready(), 0);
        assert_eq!(fs::read_dir("/run/isolate/ids").unwrap().count(), 0);
        assert_eq!(fs::read_dir("/run/isolate/pools").unwrap().count(), 0);
        assert!(until(MOMENT, || (!run("ip -o link").contains("iso")).then_some(())).is_some());
    });
}

#[test]
fn places_end_with_the_handle_the_network_or_the_word() {
    kernel_test(NET, || {
        let net = Network::create("net").unwrap().keep().unwrap();
        net.warm(3).unwrap();
        let again = Network::open("net").unwrap();
        // The thread may be making one more, which it gives back.
        wait_until_ready(3);
        net.warm(1).unwrap();
        wait_until_ready(1);
        net.warm(2).unwrap();
        wait_until_ready(2);
        again.warm(1).unwrap();
        wait_until_ready(1);
        drop(net);
        assert_eq!(ready(), 1, "the last word counts");
        drop(again);
        assert_eq!(ready(), 0);
        let (net, again) = (Network::open("net").unwrap(), Network::open("net").unwrap());
        net.warm(2).unwrap();
        again.warm(0).unwrap();
        assert_eq!(ready(), 0);
        net.warm(2).unwrap();
        again.remove().unwrap();
        assert_eq!(ready(), 0);
        let error = net.warm(2).unwrap_err();
        assert_eq!((error.kind(), ready()), (ErrorKind::NotFound, 0), "{error}");
        assert!(error.to_string().contains("network `net`"), "{error}");
        assert_eq!(fs::read_dir("/run/isolate/pools").unwrap().count(), 0);
    });
}

#[test]
fn places_whose_bridge_is_gone_or_that_somebody_has_touched_are_thrown_away() {
    kernel_test(NET, || {
        let disk = OnDisk::root();
        let net = Network::create("net").unwrap();
        net.warm(2).unwrap();
        let bridge = net.inspect().unwrap().bridge.unwrap();
        let works = |warm: bool| {
            let server = on(&disk, SERVER, &net).start().unwrap();
            assert_eq!(is_warm(&server), warm);
            wait_for((server.address().unwrap(), 8080).into());
        };
        works(true);
        wait_until_ready(2);
        run(&format!("ip link delete {bridge}"));
        works(false);
        assert!(link_is_there(&bridge));
        wait_until_ready(2);
        works(true);
        wait_until_ready(2);
        let pairs = || {
            let links = run(&format!("ip -o link show master {bridge}"));
            let name = |line: &str| line.split_once(": ")?.1.split_once('@').map(|(name, _)| name.to_owned());
            links.lines().filter_map(name).collect::<Vec<_>>()
        };
        let ready = until(MOMENT, || Some(pairs()).filter(|pairs| pairs.len() == 2)).unwrap();
        run(&format!("ip link set {} nomaster; ip link delete {}", ready[0], ready[1]));
        works(false);
        wait_until_ready(2);
        works(true);
    });
}

/// The owner of places: says that they are ready, and waits to be killed.
fn owner() {
    let net = Network::create("doomed").unwrap();
    net.warm(4).unwrap();
    println!("\nready");
    thread::sleep(Duration::from_secs(1000));
}

#[test]
fn an_owner_that_is_killed_leaves_no_place_and_one_that_lives_keeps_its_own() {
    if std::env::var_os(OWNER).is_some() {
        return owner();
    }
    kernel_test(NET, || {
        let test = "warm::an_owner_that_is_killed_leaves_no_place_and_one_that_lives_keeps_its_own";
        let mut owner = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(OWNER, "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(owner.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.into_iter().any(|line| line == "ready"));
        isolate::sweep().unwrap();
        assert_eq!(ready(), 4, "what lives is not swept");
        // Its places are its own.
        let disk = OnDisk::root();
        let here = idle(&disk, Attach::named("doomed")).start().unwrap();
        assert!(!is_warm(&here) && !pings(&here, "nobody"));
        here.remove().unwrap();
        assert!(run("ip -o link").contains("iso"));
        owner.kill().unwrap();
        owner.wait().unwrap();
        let gone = || (!run("ip -o link").contains(" iso")).then_some(());
        assert!(until(MOMENT, gone).is_some(), "{}", run("ip -o link"));
        isolate::sweep().unwrap();
        for directory in ["ids", "pools", "networks", "containers"] {
            assert_eq!(fs::read_dir(format!("/run/isolate/{directory}")).unwrap().count(), 0, "{directory}");
        }
    });
}
