//! The name server, asked by clients over the loopback of a world of its own.

#![expect(clippy::unwrap_used, reason = "tests")]

mod dns;

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dns::{
    A, AAAA, MX, NEEDS, PTR, Reply, SERVER, Served, Upstream, ask, ask_by_tcp, dies_within, here, ip, pids,
    query, tell,
};
use isolate_netns::{ErrorKind, end, is_served, serve};
use testkit::{kernel_test, scratch};

#[test]
fn names_and_addresses_of_the_network_are_answered() {
    kernel_test(NEEDS, || {
        let _served = Served::with(&here());
        for ask in [ask, ask_by_tcp] {
            assert_eq!(ask(&query("db", A)).unwrap(), Reply::of(["172.30.0.2"]));
            assert_eq!(ask(&query("DB.", A)).unwrap(), Reply::of(["172.30.0.2"]));
            assert_eq!(ask(&query("db", AAAA)).unwrap(), Reply::of(["fd00::2"]));
            assert_eq!(ask(&query("web", AAAA)).unwrap(), Reply::code(0));
            assert_eq!(ask(&query("web", MX)).unwrap(), Reply::code(0));
            assert_eq!(ask(&query("2.0.30.172.in-addr.arpa", PTR)).unwrap(), Reply::of(["db"]));
            assert_eq!(ask(&query("9.0.30.172.in-addr.arpa", PTR)).unwrap(), Reply::code(3));
            assert_eq!(ask(&query("elsewhere", A)).unwrap(), Reply::code(2), "nobody to ask");
        }
        assert_eq!(tell("[::1]:53", &query("db", A)).unwrap(), Reply::of(["172.30.0.2"]));
    });
}

#[test]
fn a_shared_name_takes_turns() {
    kernel_test(NEEDS, || {
        let _served = Served::with(&here());
        for ask in [ask, ask_by_tcp] {
            let first: Vec<_> = (0..4).map(|_| ask(&query("store", A)).unwrap().records[0].clone()).collect();
            assert!(first[0] != first[1] && first[..2] == first[2..], "{first:?}");
        }
    });
}

#[test]
fn an_internal_network_asks_nobody() {
    kernel_test(NEEDS, || {
        let upstream = Upstream::start("127.0.0.9:53");
        let _served = Served::with(&here().forward_to([upstream.address]).internal());
        assert_eq!(ask(&query("example.com", A)).unwrap(), Reply::code(3));
        assert_eq!(ask(&query("db", A)).unwrap(), Reply::of(["172.30.0.2"]));
        assert_eq!(upstream.asked(), 0);
    });
}

#[test]
fn the_rest_is_forwarded() {
    kernel_test(NEEDS, || {
        let upstream = Upstream::start("127.0.0.9:53");
        let _served = Served::with(&here().forward_to([upstream.address]));
        for (ask, by_udp) in [(ask as fn(&[u8]) -> Option<Reply>, true), (ask_by_tcp, false)] {
            assert_eq!(ask(&query("example.com", A)).unwrap(), Reply::of(["192.0.2.9"]));
            assert_eq!(ask(&query("single", A)).unwrap(), Reply::of(["192.0.2.9"]), "names of the host");
            assert_eq!(ask(&query("1.2.0.192.in-addr.arpa", A)).unwrap(), Reply::of(["192.0.2.9"]));
            let asked = upstream.asked();
            assert_eq!(ask(&query("web", AAAA)).unwrap(), Reply::code(0));
            assert_eq!(ask(&query("9.0.30.172.in-addr.arpa", PTR)).unwrap(), Reply::code(3));
            assert_eq!(upstream.asked(), asked, "what is the network's own stays here");
            // A reply with a wrong number, one with another question, then the right one.
            if by_udp {
                assert_eq!(ask(&query("forged.test", A)).unwrap(), Reply::of(["192.0.2.9"]));
            }
        }
        // By UDP it is cut, with the client's room, and asked for again by TCP.
        let cut = ask(&query("big.test", A)).unwrap();
        assert!(cut.truncated && cut.records.is_empty());
        let roomy = dns::with_edns(&query("big.test", A), 4000);
        assert_eq!(ask(&roomy).unwrap().records.len(), 100);
        assert_eq!(ask_by_tcp(&query("big.test", A)).unwrap().records.len(), 100);
        let edns = ask(&dns::with_edns(&query("db", A), 4000)).unwrap();
        assert_eq!((edns.edns, edns.records.len()), (Some(1232), 1));
        // Longer than there is a place for.
        let padded = dns::with_padding(&query("example.com", A), 600);
        assert!(ask(&padded).unwrap().truncated);
        assert_eq!(ask_by_tcp(&padded).unwrap(), Reply { edns: Some(1232), ..Reply::of(["192.0.2.9"]) });
        let medium = dns::with_padding(&query("example.com", A), 300);
        assert_eq!(ask(&medium).unwrap().records, ["192.0.2.9"]);
    });
}

#[test]
fn an_upstream_that_is_silent_deaf_or_refuses_is_followed_by_the_next() {
    kernel_test(NEEDS, || {
        let (one, two) = (Upstream::start("127.0.0.9:53"), Upstream::start("127.0.0.10:53"));
        let deaf = "127.0.0.11:53".parse().unwrap();
        // The server itself, which would be a circle, is left out.
        let itself = SocketAddr::new(SERVER, 53);
        let _served = Served::with(&here().forward_to([itself, deaf, one.address, two.address]));
        for ask in [ask, ask_by_tcp] {
            let begun = Instant::now();
            assert_eq!(ask(&query("example.com", A)).unwrap(), Reply::of(["192.0.2.9"]));
            assert!(begun.elapsed() < Duration::from_millis(1900), "deaf ones cost no time");
            assert_eq!(ask(&query("refused-by-9.test", A)).unwrap(), Reply::of(["192.0.2.10"]));
            assert_eq!(ask(&query("refused.test", A)).unwrap(), Reply::code(5), "all of them do");
            let begun = Instant::now();
            assert_eq!(ask(&query("silent-on-9.test", A)).unwrap(), Reply::of(["192.0.2.10"]));
            assert!(begun.elapsed() > Duration::from_millis(1900), "{:?}", begun.elapsed());
        }
    });
}

#[test]
fn an_upstream_may_be_of_ipv6_and_on_any_port() {
    kernel_test(NEEDS, || {
        let upstream = Upstream::start("[::1]:5353");
        let _served = Served::with(&here().forward_to([upstream.address]));
        for ask in [ask, ask_by_tcp] {
            assert_eq!(ask(&query("example.com", A)).unwrap(), Reply::of(["192.0.2.1"]));
        }
    });
}

#[test]
fn in_the_end_there_is_a_failure() {
    kernel_test(NEEDS, || {
        let upstream = Upstream::start("127.0.0.9:53");
        let _served = Served::with(&here().forward_to([upstream.address]));
        let begun = Instant::now();
        thread::scope(|scope| {
            let silent = || {
                assert_eq!(ask(&query("silent-on-9.test", A)).unwrap(), Reply::code(2));
            };
            scope.spawn(silent);
            scope.spawn(|| assert_eq!(ask_by_tcp(&query("silent-on-9.test", A)).unwrap(), Reply::code(2)));
            // Nobody else waits for it.
            for _ in 0..20 {
                assert_eq!(ask(&query("example.com", A)).unwrap(), Reply::of(["192.0.2.9"]));
                assert_eq!(ask_by_tcp(&query("db", A)).unwrap(), Reply::of(["172.30.0.2"]));
            }
            assert!(begun.elapsed() < Duration::from_secs(2));
        });
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(3900) && took < Duration::from_millis(9000), "{took:?}");
    });
}

#[test]
fn it_is_nobody_and_can_do_nothing() {
    kernel_test(NEEDS, || {
        let served = Served::with(&here());
        let status = fs::read_to_string(format!("/proc/{}/status", served.pid())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(field("Name"), "isolate-names");
        assert_eq!(field("Uid"), "65534 65534 65534 65534");
        assert_eq!(field("Gid"), "65534 65534 65534 65534");
        assert_eq!(field("Groups"), "");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(set), "0000000000000000", "{set}");
        }
        assert_eq!(
            (field("NoNewPrivs"), field("Seccomp"), field("Threads")),
            ("1".into(), "2".into(), "1".into())
        );
        let descriptors = || {
            let open = fs::read_dir(format!("/proc/{}/fd", served.pid())).unwrap();
            let mut open: Vec<_> = open
                .flatten()
                .filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string()))
                .map(|to| to.split(':').next().unwrap().to_owned())
                .collect();
            open.sort();
            open
        };
        let directory = served.0.display().to_string();
        let lock = format!("{directory}/lock");
        let mut expected = vec!["/dev/null"; 3];
        expected.extend([&*directory, &*lock, "anon_inode"]);
        expected.extend(["socket"; 4]);
        expected.sort_unstable();
        // The socket that it told of its start by goes right after.
        let begun = Instant::now();
        while descriptors() != expected {
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", descriptors());
        }
    });
}

#[test]
fn one_that_was_killed_is_started_again() {
    kernel_test(NEEDS, || {
        let served = Served::with(&here());
        assert!(is_served(&served.0));
        assert!(!serve(&served.0, &[SERVER], &[]).unwrap(), "it runs");
        let pid = served.pid();
        dns::kill(pid);
        assert!(dies_within(pid, Duration::from_secs(5)) && !is_served(&served.0));
        assert_eq!(ask(&query("db", A)), None);
        assert!(serve(&served.0, &[SERVER, ip("::1")], &[]).unwrap());
        assert_eq!(ask(&query("db", A)).unwrap(), Reply::of(["172.30.0.2"]));
        // Of many that start it at the same time one does, and all find it answering.
        let pid = served.pid();
        dns::kill(pid);
        assert!(dies_within(pid, Duration::from_secs(5)));
        let started = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let began = serve(&served.0, &[SERVER, ip("::1")], &[]).unwrap();
                    started.fetch_add(u32::from(began), Ordering::Relaxed);
                    assert_eq!(ask(&query("db", A)).unwrap(), Reply::of(["172.30.0.2"]));
                });
            }
        });
        assert_eq!(started.into_inner(), 1);
    });
}

#[test]
fn it_ends_with_its_table_or_its_directory() {
    kernel_test(NEEDS, || {
        let served = Served::with(&here());
        let pid = served.pid();
        fs::remove_dir_all(&served.0).unwrap();
        assert!(dies_within(pid, Duration::from_millis(900)), "with the directory");

        here().write(&served.0).unwrap();
        serve(&served.0, &[SERVER], &[]).unwrap();
        let pid = served.pid();
        fs::remove_file(served.0.join("names")).unwrap();
        thread::sleep(Duration::from_millis(300));
        assert_eq!(ask(&query("db", A)).unwrap(), Reply::of(["172.30.0.2"]), "it may come back");
        here().write(&served.0).unwrap();
        thread::sleep(Duration::from_millis(1500));
        assert_eq!(ask(&query("web", A)).unwrap(), Reply::of(["172.30.0.3"]));
        fs::remove_file(served.0.join("names")).unwrap();
        assert!(dies_within(pid, Duration::from_secs(5)), "without a table");

        here().write(&served.0).unwrap();
        serve(&served.0, &[SERVER], &[]).unwrap();
        let begun = Instant::now();
        end(&served.0).unwrap();
        assert!(begun.elapsed() < Duration::from_millis(900) && !is_served(&served.0));
        end(&served.0).unwrap();
    });
}

#[test]
fn a_network_that_was_removed_is_in_nobodys_way() {
    kernel_test(NEEDS, || {
        let served = Served::with(&here());
        fs::remove_dir_all(&served.0).unwrap();
        let other = Served::with(&here());
        assert_eq!(ask(&query("db", A)).unwrap(), Reply::of(["172.30.0.2"]));
        drop(other);
    });
}

#[test]
fn it_survives_who_started_it() {
    kernel_test(NEEDS, || {
        let directory = scratch().join("net");
        here().write(&directory).unwrap();
        // A process of its own, in a session of its own, which dies by a signal right after.
        dns::in_another_process("helper_that_serves_and_dies", &directory);
        assert!(is_served(&directory));
        assert_eq!(ask(&query("db", A)).unwrap(), Reply::of(["172.30.0.2"]));
        end(&directory).unwrap();
    });
}

#[test]
#[ignore = "the other process of it_survives_who_started_it"]
fn helper_that_serves_and_dies() {
    let Some(directory) = std::env::var_os("ISOLATE_NAMES_DIRECTORY") else { return };
    serve(directory.as_ref(), &[SERVER], &[]).unwrap();
    dns::kill(std::process::id());
}

#[test]
fn it_joins_the_groups_that_it_is_given() {
    kernel_test(NEEDS, || {
        // Of v2, alone or beside v1, and of v1: whichever there are.
        let files = [
            ("/sys/fs/cgroup", "cgroup.procs"),
            ("/sys/fs/cgroup/unified", "cgroup.procs"),
            ("/sys/fs/cgroup/pids", "tasks"),
        ];
        let name = format!("isolate-names-{}", std::process::id());
        let there = files.iter().filter(|(root, file)| Path::new(root).join(file).exists());
        let groups: Vec<_> = there
            .map(|(root, file)| (Path::new(root).join(&name), *file))
            .filter(|(group, _)| fs::create_dir(group).is_ok())
            .collect();
        let open = |group: &PathBuf, file| fs::File::options().write(true).open(group.join(file)).unwrap();
        let opened: Vec<_> = groups.iter().map(|(group, file)| open(group, file)).collect();
        let directory = scratch().join("net");
        here().write(&directory).unwrap();
        let descriptors: Vec<_> = opened.iter().map(AsFd::as_fd).collect();
        serve(&directory, &[SERVER], &descriptors).unwrap();
        for (group, file) in &groups {
            let inside = fs::read_to_string(group.join(file)).unwrap();
            assert_eq!(inside.trim(), pids(&directory)[0].to_string(), "{group:?}");
        }
        end(&directory).unwrap();
        here().write(&directory).unwrap();
        let not_a_group = fs::File::open("/dev/null").unwrap();
        assert!(serve(&directory, &[SERVER], &[not_a_group.as_fd()]).is_err());
        assert!(!is_served(&directory));
        end(&directory).unwrap();
        let begun = Instant::now();
        for (group, _) in &groups {
            while fs::remove_dir(group).is_err() {
                assert!(begun.elapsed() < Duration::from_secs(5));
            }
        }
    });
}

#[test]
fn what_cannot_be_served_is_said() {
    kernel_test(NEEDS, || {
        let directory = scratch().join("net");
        assert_eq!(serve(&directory, &[SERVER], &[]).unwrap_err().kind(), ErrorKind::NotFound);
        fs::create_dir(&directory).unwrap();
        assert_eq!(serve(&directory, &[SERVER], &[]).unwrap_err().kind(), ErrorKind::NotFound, "no table");
        here().write(&directory).unwrap();
        let wrong = serve(&directory, &[ip("192.0.2.77")], &[]).unwrap_err();
        assert_eq!(wrong.kind(), ErrorKind::InvalidInput);
        assert_eq!(serve(&directory, &[], &[]).unwrap_err().kind(), ErrorKind::InvalidInput);
        let holder = UdpSocket::bind("0.0.0.0:53").unwrap();
        let taken = serve(&directory, &[SERVER], &[]).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddressInUse);
        let who = format!("a name server on 127.0.0.1:53/udp: pid {} (", std::process::id());
        assert!(taken.to_string().starts_with(&who), "{taken}");
        drop(holder);
        assert!(!is_served(&directory), "nothing is left of it");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        let hidden = serve(&directory, &[SERVER], &[]).unwrap_err();
        assert_eq!(hidden.kind(), ErrorKind::PermissionDenied);
        assert!(hidden.hint().is_some_and(|hint| hint.contains("0755")));
        let bad = here().host(["not a name"], []).write(&directory).unwrap_err();
        assert!(bad.kind() == ErrorKind::InvalidInput && bad.to_string().contains("`not a name`"), "{bad}");
    });
}
