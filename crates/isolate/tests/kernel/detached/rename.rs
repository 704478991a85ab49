//! Another name for a container that lasts, while it runs.

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::Duration;

use isolate::{Attach, Container, ErrorKind, EventKind, Network, Restart, Signal, State, UserNamespace};
use testkit::kernel_test;

use super::{GRACE, created, patience, printed_in, state, wait_for_log};
use crate::common::{NET, OnDisk, SERVER, idle, tried, until, wait_for};

#[test]
fn while_it_runs_its_neighbours_find_it_by_its_new_name_and_its_keeper_starts_it_again() {
    kernel_test(NET, || {
        let disk = OnDisk::root();
        let net = Network::create("back").unwrap();
        let near = idle("near").network(&net).start().unwrap();
        let script = format!("hostname; cat /etc/hosts > /was; {SERVER}");
        let old = disk.sh(&script).name("old").network(Attach::to(&net).alias("www")).publish((9000, 8080));
        let old = created(old.restart(Restart::Always).user_namespace(UserNamespace::Auto));
        old.start().unwrap();
        wait_for((Ipv4Addr::LOCALHOST, 9000).into());
        let address = old.inspect().unwrap().networks["back"].addresses[0];
        let mut logs = old.logs().follow(true);
        assert_eq!(logs.next().unwrap().unwrap().bytes, b"old\n");
        let follower = std::thread::spawn(move || logs.map(|line| line.unwrap().bytes).collect::<Vec<_>>());
        let mut events = isolate::Events::new().unwrap();
        let id = old.id().to_owned();
        let new = old.rename("new").unwrap();
        let event = events.next(Some(patience())).unwrap().unwrap();
        assert_eq!((event.container.as_str(), event.kind), ("new", EventKind::Renamed));

        assert_eq!((new.name(), new.id(), state("new")), ("new", id.as_str(), State::Running));
        assert_eq!(Container::open(&id).unwrap().name(), "new");
        assert_eq!(Container::find("old").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(Container::find(&id).unwrap_err().kind(), ErrorKind::NotFound, "it is no name");
        let names: Vec<_> = Container::list().unwrap().into_iter().map(|info| info.name).collect();
        assert_eq!(names, ["near", "new"]);
        assert_eq!(
            (net.resolve("new").unwrap(), net.resolve("www").unwrap()),
            (vec![address], vec![address])
        );
        assert!(net.resolve("old").unwrap().is_empty());
        assert_eq!(net.inspect().unwrap().containers["new"], [address]);
        let hosts = tried(&near, "cat /etc/hosts").unwrap();
        assert!(hosts.contains(&format!("{address} new ")) && !hosts.contains("old"), "{hosts}");
        assert!(tried(&near, "busybox nslookup new").is_some());
        // Its own host name stays.
        assert_eq!(printed_in(&new, "hostname"), "old\n");
        assert!(printed_in(&new, "cat /etc/hosts").contains(&format!("{address} old new\n")));
        // Its name is free, its address and its port are not.
        let error = idle("other").network(Attach::to(&net).address(address)).start().unwrap_err();
        assert!(error.to_string().contains("container `new` has it"), "{error}");
        let error = idle("other").publish((9000, 1)).start().unwrap_err();
        assert!(error.to_string().contains("container `new` has published it"), "{error}");
        idle("old").start().unwrap().remove().unwrap();
        assert_eq!(isolate::sweep().unwrap(), Vec::<String>::new());

        // What is bound into it is found by its keeper, too.
        new.signal(Signal::KILL).unwrap();
        let again = until(patience(), || (new.inspect().unwrap().detached?.restarts == 1).then_some(()));
        assert!(again.is_some());
        wait_for((Ipv4Addr::LOCALHOST, 9000).into());
        assert!(printed_in(&new, "cat /was").contains(&format!("{address} old new\n")));
        wait_for_log(&new, "old\nold\n");
        new.stop(GRACE).unwrap();
        assert_eq!(follower.join().unwrap(), [b"old\n"], "who follows its log goes on");
        new.start().unwrap();
        wait_for_log(&new, "old\nold\nold\n");
        assert_eq!(net.resolve("new").unwrap(), [address]);
        new.remove_by_force().unwrap();
        near.remove().unwrap();
        net.remove().unwrap();
        assert_eq!(fs::read_dir("/run/isolate/ids").unwrap().count(), 0);
    });
}

/// Set for the process that renames it to and fro until it is killed.
const RENAMER: &str = "ISOLATE_TEST_RENAMER";

#[test]
fn whoever_is_killed_that_renames_it_it_has_one_name_and_all_else_follows() {
    if std::env::var_os(RENAMER).is_some() {
        loop {
            let all = Container::list().unwrap().into_iter().find(|info| info.detached.is_some()).unwrap();
            let other = if all.name == "one" { "two" } else { "one" };
            Container::open(&all.name).unwrap().rename(other).unwrap();
        }
    }
    kernel_test(NET, || {
        let disk = OnDisk::root();
        let net = Network::create("back").unwrap();
        let one = disk.sh("exec sleep 1000").name("one").network(&net).user_namespace(UserNamespace::Auto);
        let one = created(one);
        one.start().unwrap();
        let address = one.inspect().unwrap().networks["back"].addresses[0];
        let test = "detached::rename::whoever_is_killed_that_renames_it_it_has_one_name_and_all_else_follows";
        let name = || {
            let names: Vec<_> = Container::list().unwrap().into_iter().map(|info| info.name).collect();
            <[String; 1]>::try_from(names).unwrap().concat()
        };
        for n in 0..40 {
            let before = name();
            let mut renamer = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", test])
                .env(RENAMER, "1")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let at_work = until(patience(), || (name() != before).then_some(()));
            assert!(at_work.is_some());
            std::thread::sleep(Duration::from_micros(317 * n));
            renamer.kill().unwrap();
            let end = renamer.wait().unwrap();
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&end), Some(9), "{end}");
            let name = name();
            let now = Container::open(&name).unwrap();
            assert_eq!((now.id(), state(&name)), (one.id(), State::Running));
            assert_eq!(printed_in(&now, "hostname"), "one\n", "before any sweep");
            isolate::sweep().unwrap();
            let other = if name == "one" { "two" } else { "one" };
            assert_eq!((net.resolve(&name).unwrap(), net.resolve(other).unwrap()), (vec![address], vec![]));
            let hosts = printed_in(&now, "cat /etc/hosts");
            let wanted =
                if name == "one" { format!("{address} one\n") } else { format!("{address} one two\n") };
            assert!(hosts.contains(&wanted), "{hosts}");
            let ids = fs::read_dir("/run/isolate/ids").unwrap().flatten();
            let ids: Vec<_> = ids.map(|lease| fs::read_link(lease.path()).unwrap()).collect();
            assert_eq!(ids, [std::path::Path::new(&name)]);
        }
        Container::open(one.id()).unwrap().remove_by_force().unwrap();
        net.remove().unwrap();
        assert_eq!(fs::read_dir("/run/isolate/ids").unwrap().count(), 0);
    });
}
