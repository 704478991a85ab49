//! Networks that several processes use at once, and that are left by who is killed.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use isolate::{Attach, Bandwidth, ErrorKind, Network};
use testkit::kernel_test;
use testkit::leaks::Snapshot;

use crate::common::{NET, sh, slow, until};

/// Says to this program what it is for.
const PART: &str = "ISOLATE_TEST_PART";
const STATE: [&str; 2] = ["/run/isolate/containers", "/run/isolate/networks"];

/// No test: a process of the tests of this file, in their world.
#[test]
#[ignore = "the tests of this file start it as a process of its own"]
fn part() {
    match std::env::var(PART).as_deref() {
        Ok("prey") => prey(),
        Ok("tenant") => tenant(),
        Ok("bare") => bare(),
        _ => {}
    }
}

fn start_part(part: &str) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "shared_networks::part", "--ignored", "--nocapture"])
        .env(PART, part)
        .env_remove("PATH")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut lines = lines.skip_while(|line| line != "ready");
    assert!(lines.next().is_some());
    (child, lines)
}

/// Networks, containers on them, ports, limits, changes, over and over.
fn prey() {
    println!("\nready");
    loop {
        let net = Network::builder("prey").ipv6().create().unwrap();
        let on = Attach::to(&net).alias("other").bandwidth(Bandwidth::new().up(9_000_000).down(9_000_000));
        let mut container =
            sh("exec sleep 1000").name("prey").network(on).publish((9000, 80)).start().unwrap();
        container.connect(Attach::bridge()).unwrap();
        container.publish((9001, 80)).unwrap();
        container.disconnect("prey").unwrap();
        drop(container);
        net.remove().unwrap();
    }
}

#[test]
fn what_is_left_of_networks_by_who_is_killed_at_any_moment_is_swept() {
    kernel_test(NET, || {
        let (rounds, longest) = if slow() { (8, 4000) } else { (200, 250) };
        isolate::sweep().unwrap();
        let before = Snapshot::take();
        let mut found = 0;
        for round in 0..rounds {
            let delay = Duration::from_micros(round * 617 % 1000 * longest);
            let (mut prey, lines) = start_part("prey");
            thread::sleep(delay);
            prey.kill().unwrap();
            let status = prey.wait().unwrap();
            let lines: Vec<_> = lines.collect();
            assert_eq!(status.signal(), Some(9), "all had gone well until then: {lines:?}");
            let clean = || STATE.iter().all(|state| fs::read_dir(state).unwrap().next().is_none());
            found += u32::from(!clean());
            let swept = until(Duration::from_secs(20), || {
                isolate::sweep().unwrap();
                clean().then_some(())
            });
            let at = format!("round {round}, after {delay:?}");
            assert!(
                swept.is_some(),
                "{at}: {:?}",
                STATE.map(|state| fs::read_dir(state).unwrap().collect::<Vec<_>>())
            );
            // Name servers, pairs, what held packets back, rules of both tables, groups, mounts.
            let left = until(Duration::from_secs(5), || before.left().is_empty().then_some(()));
            assert!(left.is_some(), "{at}: {:?}", before.left());
            drop(TcpListener::bind("0.0.0.0:9000").unwrap());
        }
        assert!(found > rounds as u32 / 4, "there was something to sweep: {found} of {rounds}");
    });
}

/// Takes addresses until there are none, tells them, and holds them until it is told to end.
fn tenant() {
    println!("\nready");
    let (threads, held) = (if slow() { 2 } else { 8 }, Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    match sh("exec sleep 1000").network(Attach::named("small")).start() {
                        Ok(container) => held.lock().unwrap().push(container),
                        Err(e) if e.kind() == ErrorKind::InUse => break,
                        Err(e) => panic!("{e:?}"),
                    }
                }
            });
        }
    });
    let held = held.into_inner().unwrap();
    held.iter().for_each(|container| println!("{}", container.address().unwrap()));
    println!("all");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn processes_and_threads_at_once_get_each_address_of_a_network_once() {
    kernel_test(NET, || {
        let subnet = if slow() { "10.50.0.0/28" } else { "10.50.0.0/26" };
        let net = Network::builder("small").subnet(subnet.parse().unwrap()).create().unwrap();
        let mut tenants: Vec<_> = (0..if slow() { 2 } else { 8 }).map(|_| start_part("tenant")).collect();
        let mut addresses = Vec::new();
        for (_, lines) in &mut tenants {
            addresses.extend(lines.take_while(|line| line != "all"));
        }
        let distinct: BTreeSet<_> = addresses.iter().collect();
        let count = if slow() { 13 } else { 61 };
        assert_eq!((addresses.len(), distinct.len()), (count, count));
        let info = net.inspect().unwrap();
        assert_eq!(info.containers.len(), count);
        for (mut tenant, _) in tenants {
            drop(tenant.stdin.take());
            assert!(tenant.wait().unwrap().success());
        }
        assert!(net.inspect().unwrap().containers.is_empty());
        net.remove().unwrap();
    });
}

/// A network, used; all parameters of the namespace before, meanwhile and afterwards.
fn bare() {
    // All parameters of the network but those of links that come and go.
    let parameters = || {
        let mut all = Vec::new();
        let mut todo = vec![std::path::PathBuf::from("/proc/sys/net")];
        while let Some(path) = todo.pop() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !(name.starts_with("iso") || name.starts_with("isb")) {
                    todo.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
                }
            } else if let Ok(value) = fs::read_to_string(&path) {
                // A counter, and what the kernel changes along with forwarding (ip-sysctl of its documents).
                let moving =
                    ["nf_conntrack_count", "forwarding", "ip_forward", "mc_forwarding", "accept_redirects"];
                if !moving.contains(&name.as_str()) {
                    all.push((path, value));
                }
            }
        }
        all.sort();
        all
    };
    let (before, threads) = (parameters(), fs::read_link("/proc/thread-self/ns/net").unwrap());
    assert!(std::env::var_os("PATH").is_none());
    let net = Network::builder("bare").ipv6().create().unwrap();
    let mut one = sh("exec /bin/sleep 1000").network(&net).publish((9000, 80)).start().unwrap();
    one.connect(Attach::bridge()).unwrap();
    one.publish((9001, 80)).unwrap();
    let changed: Vec<_> = parameters().into_iter().filter(|one| !before.contains(one)).collect();
    assert!(changed.is_empty(), "{changed:?}");
    assert_eq!(fs::read_link("/proc/thread-self/ns/net").unwrap(), threads);
    assert_eq!(one.check_network().unwrap(), []);
    one.disconnect("isolate0").unwrap();
    one.remove().unwrap();
    net.remove().unwrap();
    assert_eq!(parameters(), before);
    println!("\nready");
}

#[test]
fn a_network_works_with_no_programs_at_hand_and_changes_no_parameters_but_forwarding() {
    kernel_test(NET, || {
        let (mut bare, lines) = start_part("bare");
        lines.for_each(drop);
        assert!(bare.wait().unwrap().success());
    });
}
