//! Containers that nobody owns: from one start to the next, and from one process to another.

mod output;
mod ports;
mod rename;
mod samples;

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use isolate::{
    Bytes, Container, ContainerBuilder, Detached, ErrorKind, Health, HealthCheck, Limits, Mount, Network,
    Outcome, Restart, Signal, State, Stream, UserNamespace,
};
use testkit::kernel_test;

use crate::common::{NEEDS, NET, OnDisk, SERVER, get, sh, slow, until, wait_for};

const GRACE: Duration = Duration::from_secs(20);

/// Longer than anything takes that is to end.
fn patience() -> Duration {
    Duration::from_secs(if slow() { 120 } else { 20 })
}

fn created(builder: ContainerBuilder) -> Detached {
    builder.create().unwrap()
}

fn state(name: &str) -> State {
    Container::find(name).unwrap().state
}

fn log_of(container: &Detached) -> String {
    container.logs().map(|line| String::from_utf8(line.unwrap().bytes).unwrap()).collect()
}

fn wait_for_log(container: &Detached, text: &str) {
    let seen = until(patience(), || log_of(container).contains(text).then_some(()));
    assert!(seen.is_some(), "{text:?} is not in the log: {:?}", log_of(container));
}

fn printed_in(container: &Detached, script: &str) -> String {
    let output = container.exec("/bin/sh").unwrap().args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Makes a file that the container waits for. With what ends then, whoever made it may be killed.
fn touch(container: &Detached, path: &str) {
    container.exec("touch").unwrap().arg(path).status().unwrap();
}

#[test]
fn what_it_wrote_its_name_and_its_id_are_there_at_the_next_start() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let script = "echo run >> /var/runs; wc -l < /var/runs; echo oh >&2; exec sleep 1000";
        let web = created(disk.sh(script).name("web").label("tier", "front"));
        let info = web.inspect().unwrap();
        assert_eq!((info.state, info.pid, info.cgroup), (State::Created, None, None));
        assert_eq!(info.labels["tier"], "front");
        assert!(web.outcome().unwrap().is_none());
        web.start().unwrap();
        wait_for_log(&web, "oh");
        let info = web.inspect().unwrap();
        assert_eq!((info.state, info.id.as_str()), (State::Running, web.id()));
        assert!(info.pid.is_some() && info.detached.unwrap().started.is_some());
        web.start().unwrap();
        assert_eq!(log_of(&web).matches("oh").count(), 1, "one that runs is not started again");

        // As another process finds it.
        let same = Container::open(&web.id()[..6]).unwrap();
        assert_eq!(printed_in(&same, "cat /var/runs; cat /etc/hostname"), "run\nweb\n");
        assert!(same.stats().unwrap().cpu.usage > Duration::ZERO);
        assert_eq!(same.stop(GRACE).unwrap(), Some(Outcome::Signaled(Signal::TERM)));
        assert_eq!(state("web"), State::Exited);
        assert_eq!(same.exec("true").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(fs::read_dir("/run/isolate/containers").unwrap().count(), 0, "of the run nothing is left");

        same.start().unwrap();
        wait_for_log(&web, "oh\n2\noh\n");
        same.kill().unwrap();
        let lines: Vec<_> = web.logs().map(Result::unwrap).map(|line| (line.stream, line.bytes)).collect();
        let out = |text: &str| (Stream::Stdout, text.as_bytes().to_vec());
        let err = |text: &str| (Stream::Stderr, text.as_bytes().to_vec());
        // Two pipes have no order between them.
        for line in [out("1\n"), out("2\n"), err("oh\n")] {
            assert!(lines.contains(&line), "{lines:?}");
        }
        assert_eq!(lines.len(), 4);
        assert!(web.changes().unwrap().iter().any(|change| change.path() == Path::new("var/runs")));
        web.remove().unwrap();
        assert_eq!(Container::open("web").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(
            fs::read_dir("/var/lib/isolate")
                .unwrap()
                .flatten()
                .flat_map(|e| fs::read_dir(e.path()))
                .flatten()
                .count(),
            0
        );
    });
}

#[test]
fn on_a_network_it_has_its_address_and_its_port_again() {
    kernel_test(NET, || {
        let disk = OnDisk::root();
        let network = Network::create("back").unwrap();
        let first = disk.sh("exec sleep 1000").name("first").network(&network).start().unwrap();
        let web = created(disk.sh(SERVER).name("web").network(&network).publish((9000, 8080)));
        web.start().unwrap();
        wait_for((Ipv4Addr::LOCALHOST, 9000).into());
        let address = web.inspect().unwrap().networks["back"].addresses[0];
        web.stop(GRACE).unwrap();
        assert_eq!(get((Ipv4Addr::LOCALHOST, 9000).into()), None);
        // The lowest that is free is another one now.
        first.remove().unwrap();
        web.start().unwrap();
        wait_for((Ipv4Addr::LOCALHOST, 9000).into());
        assert_eq!(web.inspect().unwrap().networks["back"].addresses[0], address);
        assert_eq!(network.resolve("web").unwrap(), [address]);
        web.stop(GRACE).unwrap();
        // Where somebody else has it, it gets another.
        let taken = disk
            .sh("exec sleep 1000")
            .network(isolate::Attach::to(&network).address(address))
            .start()
            .unwrap();
        web.start().unwrap();
        assert_ne!(web.inspect().unwrap().networks["back"].addresses[0], address);
        taken.remove().unwrap();
        web.remove_by_force().unwrap();
        network.remove().unwrap();
    });
}

#[test]
fn its_networks_change_while_it_runs_and_stay_so() {
    kernel_test(NET, || {
        let disk = OnDisk::root();
        let (front, back) = (Network::create("front").unwrap(), Network::create("back").unwrap());
        let web = created(disk.sh(SERVER).name("web").network(&front).publish((9000, 8080)));
        web.start().unwrap();
        wait_for((Ipv4Addr::LOCALHOST, 9000).into());
        let names = |web: &Detached| web.inspect().unwrap().networks.into_keys().collect::<Vec<_>>();
        let address =
            Container::open("web").unwrap().connect(isolate::Attach::to(&back).alias("www")).unwrap()[0];
        assert_eq!(names(&web), ["back", "front"]);
        assert_eq!(back.resolve("www").unwrap(), [address]);
        let error = web.connect(&back).unwrap_err().to_string();
        assert_eq!(error, "container `web`: it is on network `back` already");
        assert_eq!(web.network_stats().unwrap().len(), 2);
        assert_eq!(web.check_network().unwrap(), []);
        web.limit_network("back", isolate::Bandwidth::new().down(1_000_000)).unwrap();
        // What is published goes along.
        web.disconnect("front").unwrap();
        assert_eq!(names(&web), ["back"]);
        wait_for((Ipv4Addr::LOCALHOST, 9000).into());
        web.restart(GRACE).unwrap();
        assert_eq!(names(&web), ["back"]);
        assert_eq!(web.inspect().unwrap().networks["back"].addresses[0], address);
        web.stop(GRACE).unwrap();
        assert_eq!(web.connect(&front).unwrap(), Vec::<std::net::IpAddr>::new());
        assert_eq!(web.connect(isolate::Attach::named("none")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(web.disconnect("none").unwrap_err().kind(), ErrorKind::NotFound);
        web.start().unwrap();
        assert_eq!(names(&web), ["back", "front"]);
        web.remove_by_force().unwrap();
        front.remove().unwrap();
        back.remove().unwrap();
    });
}

/// Set for the process that makes a container and goes.
const MAKER: &str = "ISOLATE_TEST_MAKER";

#[test]
fn it_goes_on_when_who_started_it_is_gone() {
    if std::env::var_os(MAKER).is_some() {
        created(sh("while [ ! -e /tmp/end ]; do sleep 0.05; done; exit 7").name("left")).start().unwrap();
        std::process::exit(0);
    }
    kernel_test(NEEDS, || {
        let test = "detached::it_goes_on_when_who_started_it_is_gone";
        let maker = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(MAKER, "1")
            .stdin(Stdio::null())
            .status()
            .unwrap();
        assert!(maker.success());
        let left = Container::open("left").unwrap();
        let (oom, other) = (left.waiter().unwrap(), Container::open("left").unwrap());
        assert_eq!(left.wait_timeout(Duration::from_millis(100)).unwrap(), None);
        assert_eq!(isolate::sweep().unwrap(), Vec::<String>::new(), "it is owned: by its keeper");
        assert_eq!(state("left"), State::Running);
        touch(&left, "/tmp/end");
        assert_eq!(other.wait().unwrap(), Outcome::Exited(7));
        assert!(oom.wait().is_ok());
        let (outcome, usage) = left.outcome().unwrap().unwrap();
        assert_eq!(outcome, Outcome::Exited(7));
        assert!(usage.wall >= Duration::from_millis(100));
        left.remove().unwrap();
    });
}

#[test]
fn its_keeper_starts_it_again_in_the_same_network_and_user_namespaces() {
    kernel_test(NET, || {
        let disk = OnDisk::root();
        let script = format!("echo $(readlink /proc/self/ns/net) $(readlink /proc/self/ns/user); {SERVER}");
        let web = created(disk.sh(&script).name("web").publish((9000, 8080)).restart(Restart::Always));
        web.start().unwrap();
        wait_for((Ipv4Addr::LOCALHOST, 9000).into());
        let first = web.inspect().unwrap();
        web.signal(Signal::KILL).unwrap();
        let again = until(patience(), || (web.inspect().unwrap().detached?.restarts == 1).then_some(()));
        assert!(again.is_some());
        wait_for((Ipv4Addr::LOCALHOST, 9000).into());
        let second = web.inspect().unwrap();
        assert_eq!((second.state, &second.networks), (State::Running, &first.networks));
        assert_ne!(second.pid, first.pid);
        let log = log_of(&web);
        let namespaces: Vec<_> = log.lines().collect();
        assert_eq!(namespaces.len(), 2, "{log}");
        assert_eq!(namespaces[0], namespaces[1]);
        // In its control group, with its limits: what is executed there is.
        assert_eq!(web.stats().unwrap().pids.limit, Some(4096));
        assert!(matches!(web.stop(GRACE).unwrap(), Some(Outcome::Signaled(Signal::TERM))));
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(state("web"), State::Exited, "what was stopped stays so");
        web.remove().unwrap();
    });
}

#[test]
fn on_failure_it_is_started_so_often_and_no_more() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let policy = Restart::OnFailure { most: Some(2) };
        let bad = created(disk.sh("echo once; exit 3").name("bad").restart(policy));
        bad.start().unwrap();
        assert_eq!(bad.wait().unwrap(), Outcome::Exited(3));
        assert_eq!(bad.inspect().unwrap().detached.unwrap().restarts, 2);
        assert_eq!(log_of(&bad), "once\n".repeat(3));
        bad.remove().unwrap();
        let good = created(disk.sh("echo once").name("good").restart(policy));
        good.start().unwrap();
        assert_eq!(good.wait().unwrap(), Outcome::Exited(0));
        assert_eq!(log_of(&good), "once\n");
        good.remove().unwrap();
    });
}

#[test]
fn its_policy_is_changed_while_it_runs_and_for_its_later_starts() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let script = "while [ ! -e /tmp/end ]; do sleep 0.02; done; rm /tmp/end; exit 3";
        let one = created(disk.sh(script).name("one"));
        let policy = |one: &Detached| one.inspect().unwrap().detached.unwrap().restart;
        let restarts = || one.inspect().unwrap().detached.unwrap().restarts;
        let (always, twice) = (Restart::Always, Restart::OnFailure { most: Some(2) });
        one.update_restart(always).unwrap();
        one.start().unwrap();
        one.signal(Signal::KILL).unwrap();
        assert!(until(patience(), || (restarts() == 1).then_some(())).is_some());
        assert!(until(patience(), || (state("one") == State::Running).then_some(())).is_some());
        one.update_restart(twice).unwrap();
        assert_eq!(policy(&Container::open("one").unwrap()), twice);
        one.signal(Signal::KILL).unwrap();
        assert!(until(patience(), || (restarts() == 2).then_some(())).is_some());
        assert!(until(patience(), || one.exec("touch").ok()?.arg("/tmp/end").status().ok()).is_some());
        assert_eq!(one.wait().unwrap(), Outcome::Exited(3), "that was the last one");
        one.start().unwrap();
        one.update_restart(Restart::Never).unwrap();
        one.signal(Signal::KILL).unwrap();
        assert_eq!(one.wait().unwrap(), Outcome::Signaled(Signal::KILL));
        assert_eq!((restarts(), policy(&one)), (0, Restart::Never));
        one.remove().unwrap();
    });
}

#[test]
fn its_health_is_what_its_check_says_also_after_a_restart() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let check =
            HealthCheck::new(["test", "-e", "/tmp/well"]).interval(Duration::from_millis(50)).retries(2);
        let one = created(
            disk.sh("touch /tmp/well; exec sleep 1000").name("one").health(check).restart(Restart::Always),
        );
        one.start().unwrap();
        let health = || Container::find("one").unwrap().detached.unwrap().health;
        let is = |wanted: Health| {
            assert!(
                until(patience(), || (health() == Some(wanted)).then_some(())).is_some(),
                "{:?}",
                health()
            );
        };
        is(Health::Healthy);
        printed_in(&one, "rm /tmp/well");
        is(Health::Unhealthy);
        one.signal(Signal::KILL).unwrap();
        is(Health::Healthy);
        one.remove_by_force().unwrap();
    });
}

#[test]
fn what_the_kernel_killed_for_memory_is_told_apart() {
    kernel_test(NEEDS, || {
        let eater =
            created(sh("exec tail /dev/zero").name("eater").limits(Limits::new().memory(Bytes::mib(16))));
        eater.start().unwrap();
        assert_eq!(eater.wait().unwrap(), Outcome::OutOfMemory);
        // Of its second run, too, whose counter begins anew.
        eater.update(&Limits::new().memory(Bytes::mib(24))).unwrap();
        eater.start().unwrap();
        assert_eq!(eater.wait().unwrap(), Outcome::OutOfMemory);
        assert_eq!(eater.inspect().unwrap().limits.get_memory(), Some(Bytes::mib(24)));
        eater.remove().unwrap();
    });
}

#[test]
fn a_name_has_one_container_and_can_be_changed() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let one = created(disk.sh("hostname; cat /kept; exec sleep 1000").name("one"));
        let taken = |builder: ContainerBuilder| {
            let name = builder.clone().create().unwrap_err();
            assert_eq!(name.kind(), ErrorKind::AlreadyExists);
            assert!(name.to_string().contains("`one`"), "{name}");
            assert_eq!(builder.start().unwrap_err().kind(), ErrorKind::AlreadyExists);
        };
        taken(disk.sh("true").name("one"));
        let owned = disk.sh("exec sleep 1000").name("two").start().unwrap();
        assert_eq!(disk.sh("true").name("two").create().unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(Container::open("two").unwrap_err().kind(), ErrorKind::NotFound);
        let error = Container::open("one").unwrap().rename("two").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        owned.remove().unwrap();
        one.start().unwrap();
        printed_in(&one, "echo still > /kept");
        assert_eq!(Container::open("one").unwrap().remove().unwrap_err().kind(), ErrorKind::InUse);
        one.stop(GRACE).unwrap();
        let two = Container::open("one").unwrap().rename("two").unwrap();
        assert_eq!(Container::list().unwrap().iter().map(|info| &info.name).collect::<Vec<_>>(), ["two"]);
        two.start().unwrap();
        wait_for_log(&two, "one\nstill\n");
        assert_eq!(one.start().unwrap_err().kind(), ErrorKind::NotFound, "a handle that is old does nothing");
        two.remove_by_force().unwrap();
    });
}

#[test]
fn what_was_to_be_removed_at_its_end_is_gone_with_the_next_use() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let once = created(
            disk.sh("echo done").name("once").remove_at_end(true).mount(Mount::anonymous_volume("/data")),
        );
        isolate::sweep().unwrap();
        assert_eq!(state("once"), State::Created);
        once.start().unwrap();
        assert_eq!(once.wait().unwrap(), Outcome::Exited(0));
        let gone = until(patience(), || {
            isolate::sweep().unwrap();
            Container::open("once").is_err().then_some(())
        });
        assert!(gone.is_some());
        assert_eq!(isolate::Volume::list().unwrap(), []);
    });
}

#[test]
fn it_can_be_started_after_the_machine_was_off() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let user = UserNamespace::Auto;
        let one = created(disk.sh("cat /kept; exec sleep 1000").name("one").user_namespace(user));
        one.start().unwrap();
        let owner = |container: &Detached| printed_in(container, "cat /proc/self/uid_map");
        let map = owner(&one);
        printed_in(&one, "echo here > /kept");
        one.stop(GRACE).unwrap();
        // /run is memory.
        fs::remove_dir_all("/run/isolate").unwrap();
        let one = Container::open("one").unwrap();
        one.start().unwrap();
        wait_for_log(&one, "here\n");
        assert_eq!(owner(&one), map, "what is in its root belongs to those ids");
        one.remove_by_force().unwrap();
    });
}

#[test]
fn with_its_keeper_it_ends_and_can_be_started_again() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let one = created(disk.sh("exec sleep 1000").name("keeper-dies").restart(Restart::Always));
        one.start().unwrap();
        let keeper = fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let line = fs::read_to_string(entry.path().join("cmdline")).ok()?;
            line.contains("isolate-keeper keeper-dies")
                .then(|| entry.file_name().into_string().ok()?.parse().ok())?
        });
        let keeper = rustix::process::Pid::from_raw(keeper.unwrap()).unwrap();
        rustix::process::kill_process(keeper, rustix::process::Signal::KILL).unwrap();
        assert_eq!(one.wait().unwrap_err().kind(), ErrorKind::Lost);
        let ended = until(patience(), || (state("keeper-dies") == State::Exited).then_some(()));
        assert!(ended.is_some());
        assert_eq!(one.outcome().unwrap_err().kind(), ErrorKind::Lost);
        one.start().unwrap();
        assert_eq!(state("keeper-dies"), State::Running);
        one.remove_by_force().unwrap();
    });
}

#[test]
fn of_many_who_start_it_at_once_one_does() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let one = created(disk.sh("echo up; exec sleep 1000").name("one"));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| Container::open("one").unwrap().start().unwrap());
            }
        });
        wait_for_log(&one, "up");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| Container::open("one").unwrap().stop(GRACE).unwrap());
            }
        });
        assert_eq!((state("one"), log_of(&one).as_str()), (State::Exited, "up\n"));
        one.remove().unwrap();
    });
}

#[test]
fn what_would_be_this_process_s_is_refused() {
    kernel_test(NEEDS, || {
        let kind = |builder: ContainerBuilder| builder.create().unwrap_err().kind();
        assert_eq!(kind(sh("true").stdout(isolate::Stdio::piped())), ErrorKind::InvalidConfig);
        assert_eq!(kind(Container::builder()), ErrorKind::InvalidConfig);
        let owned = sh("exec sleep 100").start().unwrap();
        assert_eq!(kind(sh("true").network(isolate::Attach::container(&owned))), ErrorKind::InvalidConfig);
        owned.remove().unwrap();
        let error = sh("true").restart(Restart::Always).start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains("a restart policy"), "{error}");
        assert_eq!(fs::read_dir("/var/lib/isolate/detached").map_or(0, Iterator::count), 0);
    });
}

#[test]
fn pausing_copying_and_limits_are_those_of_any_container() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let one = created(disk.sh("exec sleep 1000").name("one"));
        assert_eq!(one.pause().unwrap_err().kind(), ErrorKind::NotFound);
        one.start().unwrap();
        one.pause().unwrap();
        assert_eq!(state("one"), State::Paused);
        one.resume().unwrap();
        one.write_file("/tmp/in", &b"text"[..], 0o644).unwrap();
        assert_eq!(printed_in(&one, "cat /tmp/in"), "text");
        one.update(&Limits::new().pids(77)).unwrap();
        assert_eq!(one.stats().unwrap().pids.limit, Some(77));
        // Paused, it is stopped all the same.
        one.pause().unwrap();
        assert_eq!(one.stop(Duration::from_millis(100)).unwrap(), Some(Outcome::Signaled(Signal::KILL)));
        one.copy_out("/tmp/in", disk.0.join("out")).unwrap();
        assert_eq!(fs::read_to_string(disk.0.join("out")).unwrap(), "text");
        one.start().unwrap();
        assert_eq!(one.stats().unwrap().pids.limit, Some(77));
        one.remove_by_force().unwrap();
    });
}
