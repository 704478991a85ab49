//! Ten thousand times created, started, stopped and removed: nothing grows.

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use isolate::{Bytes, ContainerBuilder, Limits, Mount, Network};
use testkit::leaks::Snapshot;
use testkit::{is_long, kernel_test};

use crate::common::{NET, OnDisk, SERVER, get, run, slow, until};

/// So many before the first look: what is made once is there then.
const FIRST: u32 = 20;

#[test]
fn ten_thousand_times_created_started_stopped_and_removed_leave_nothing_and_nothing_grows() {
    kernel_test(NET, || {
        let disk = OnDisk::root();
        let network = Network::create("cycles").unwrap();
        let described = |name: &str, port: u16| -> ContainerBuilder {
            let limits = Limits::new().memory(Bytes::mib(64)).pids(20).cpus(1.0);
            disk.sh(SERVER).name(name).network(&network).publish((port, 8080)).limits(limits)
        };
        let cycle = |n: u32| {
            let lasting =
                described("lasting", 9000).mount(Mount::anonymous_volume("/data")).create().unwrap();
            lasting.start().unwrap();
            // One in the hundred serves, so that it is known that they do.
            if n.is_multiple_of(100) {
                let answer = || get((Ipv4Addr::LOCALHOST, 9000).into());
                assert!(until(Duration::from_secs(60), answer).unwrap().ends_with("hello\n"));
                let owned = described("owned", 9001).start().unwrap();
                assert!(owned.exec("true").status().unwrap().success());
                owned.remove().unwrap();
            }
            lasting.stop(Duration::ZERO).unwrap();
            lasting.remove().unwrap();
        };
        (0..FIRST).for_each(cycle);
        let (things, numbers) = (Snapshot::take(), Numbers::take());
        let begun = Instant::now();
        let cycles = if is_long() {
            10_000
        } else if slow() {
            5
        } else {
            200
        };
        (0..cycles).for_each(cycle);
        let took = begun.elapsed();
        let left = things.left();
        assert!(left.is_empty(), "of {cycles} cycles: {}", left.join("\n"));
        let after = Numbers::take();
        println!("{cycles} cycles in {took:?}; before {numbers:?}, after {after:?}");
        assert_eq!((&after.rules, after.sockets), (&numbers.rules, numbers.sockets));
        assert!(after.resident < numbers.resident + (1 << 10), "{numbers:?} {after:?}");
        network.remove().unwrap();
    });
}

/// What no snapshot tells.
#[derive(Debug, PartialEq)]
struct Numbers {
    /// Rules, maps and sets, with what is in them.
    rules: String,
    /// TCP sockets that listen: what claims ports.
    sockets: usize,
    /// KiB.
    resident: u64,
}

impl Numbers {
    fn take() -> Self {
        let rules =
            run("nft --handle list ruleset | sed 's/packets [0-9]* bytes [0-9]*//; s/ # handle [0-9]*//'");
        let listening = |file: &str| {
            let text = fs::read_to_string(file).unwrap();
            text.lines().filter(|line| line.split_whitespace().nth(3) == Some("0A")).count()
        };
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        Self {
            rules,
            sockets: listening("/proc/thread-self/net/tcp") + listening("/proc/thread-self/net/tcp6"),
            resident: resident.split_whitespace().next().unwrap().parse().unwrap(),
        }
    }
}
