//! Pods: containers that share namespaces and a control group above their own.

mod lasting;
mod owner;

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::time::Duration;

use isolate::{
    Attach, Bytes, Container, ContainerBuilder, ErrorKind, Limits, Mount, Namespace, Network, Origin, Pod,
    Signal, State, Stdio, UserNamespace,
};
use testkit::{Need, kernel_test};

use crate::common::{NET, OnDisk, groups_of, printed, slow, tried, until, wait_for};

const NEEDS: &[Need] = &[Need::Root, Need::Overlay, Need::Program("busybox")];
/// Answers `hello` on its loopback alone.
const LOCAL: &str = "mkdir -p /tmp/www; echo hello > /tmp/www/index.html; exec busybox httpd -f -p 127.0.0.1:8080 -h /tmp/www";
const ASK: &str = "busybox wget -q -O - http://127.0.0.1:8080/index.html";
const SHOW: &str = "for n in net ipc uts pid user mnt cgroup; do readlink /proc/self/ns/$n; done";
const PATIENCE: Duration = Duration::from_secs(30);

fn idle_in(disk: &OnDisk, pod: impl AsRef<str>, name: &str) -> ContainerBuilder {
    disk.sh("exec sleep 1000").pod(pod).name(name)
}

/// What it prints for each kind of `SHOW`.
fn namespaces(container: &Container) -> Vec<String> {
    tried(container, SHOW).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn its_containers_reach_one_another_on_loopback_and_nobody_else_does() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let pod = Pod::builder().name("shop").start().unwrap();
        let _web = disk.sh(LOCAL).pod(&pod).start().unwrap();
        let beside = idle_in(&disk, "shop", "beside").start().unwrap();
        assert_eq!(until(PATIENCE, || tried(&beside, ASK)).unwrap(), "hello\n");
        let outside = disk.sh("exec sleep 1000").start().unwrap();
        assert_eq!(tried(&outside, ASK), None);
        let own = idle_in(&disk, &pod, "own").namespace(Namespace::Net, Origin::new()).start().unwrap();
        assert_eq!(tried(&own, ASK), None, "what a container says of itself goes before");
        pod.remove().unwrap();
        drop(outside);
    });
}

#[test]
fn they_share_what_was_said_and_nothing_else() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        for users in [UserNamespace::Required, UserNamespace::Host] {
            let pod = Pod::builder().name("shop").hostname("till").user_namespace(users).start().unwrap();
            let a = idle_in(&disk, &pod, "a").start().unwrap();
            let b = idle_in(&disk, &pod, "b").start().unwrap();
            let same: Vec<_> = namespaces(&a).iter().zip(namespaces(&b)).map(|(a, b)| *a == b).collect();
            assert_eq!(same, [true, true, true, false, true, false, false], "{users:?}");
            assert_eq!(a.root_outside(), b.root_outside());
            assert_eq!(a.root_outside().is_some(), users == UserNamespace::Required);
            // POSIX shared memory and message queues.
            tried(&a, "echo memory > /dev/shm/x; touch /dev/mqueue/queue; echo mine > /tmp/x").unwrap();
            assert_eq!(tried(&b, "cat /dev/shm/x; ls /dev/mqueue").unwrap(), "memory\nqueue\n");
            assert_eq!(tried(&b, "cat /tmp/x 2>/dev/null"), None, "its root is its own");
            let names = "hostname; cat /etc/hostname; echo $HOSTNAME; grep -c till /etc/hosts";
            assert_eq!(tried(&b, names).unwrap(), "till\ntill\ntill\n1\n");
            let options = tried(&b, "grep ' /dev/shm ' /proc/self/mounts").unwrap();
            assert!(["nosuid", "nodev", "noexec"].iter().all(|option| options.contains(option)), "{options}");
            pod.remove().unwrap();

            let pod =
                Pod::builder().name("shop").share([Namespace::Pid]).user_namespace(users).start().unwrap();
            let a = idle_in(&disk, &pod, "a").start().unwrap();
            let b = idle_in(&disk, &pod, "b").start().unwrap();
            let same: Vec<_> = namespaces(&a).iter().zip(namespaces(&b)).map(|(a, b)| *a == b).collect();
            assert_eq!(same, [false, false, false, true, true, false, false], "{users:?}");
            assert_eq!(tried(&b, "hostname").unwrap(), "b\n");
            assert_eq!(tried(&a, "touch /dev/shm/y").and(tried(&b, "ls /dev/shm")).unwrap(), "");
            pod.remove().unwrap();
        }
    });
}

#[test]
fn on_the_hosts_network_they_share_the_rest() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        for users in [UserNamespace::Required, UserNamespace::Host] {
            let pod = Pod::builder().network(Attach::host()).user_namespace(users).start().unwrap();
            let (a, b) =
                (idle_in(&disk, &pod, "a").start().unwrap(), idle_in(&disk, &pod, "b").start().unwrap());
            let hosts = std::fs::read_link("/proc/thread-self/ns/net").unwrap().display().to_string();
            for container in [&a, &b] {
                assert_eq!(namespaces(container)[0], hosts, "{users:?}");
            }
            assert_eq!(namespaces(&a)[1..3], namespaces(&b)[1..3], "{users:?}");
            pod.remove().unwrap();
        }
        let error = Pod::builder().network(Attach::path("/proc/self/ns/net")).start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    });
}

#[test]
fn with_one_pid_namespace_they_see_one_another_and_no_zombie_stays() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let kinds = [Namespace::Net, Namespace::Pid];
        // A moment after its start a shell has become the program.
        let seen = |container: &Container, count: &str| {
            let seen =
                || tried(container, "cat /proc/[0-9]*/comm | grep -c ^sleep").filter(|seen| seen == count);
            until(PATIENCE, seen).unwrap_or_else(|| panic!("not {count}"));
        };
        let pod = Pod::builder().share(kinds).start().unwrap();
        let _one = idle_in(&disk, &pod, "one").start().unwrap();
        let two = idle_in(&disk, &pod, "two").start().unwrap();
        seen(&two, "2\n");
        assert_eq!(tried(&two, "cat /proc/1/comm").unwrap(), "idle\n");
        // An orphan is the pod's to reap.
        tried(&two, "(sleep 0.1 &)").unwrap();
        seen(&two, "2\n");
        pod.remove().unwrap();

        let pod = Pod::builder().start().unwrap();
        let _one = idle_in(&disk, &pod, "one").start().unwrap();
        let two = idle_in(&disk, &pod, "two").start().unwrap();
        // Unless that is asked for.
        seen(&two, "1\n");
        pod.remove().unwrap();
    });
}

#[test]
fn its_memory_bounds_them_together_and_each_has_a_bound_of_its_own_below() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let limits = Limits::new().memory(Bytes::mib(64)).pids(100);
        let pod = Pod::builder().name("shop").limits(limits).start().unwrap();
        let held = |container: &Container, mib: u32| {
            tried(container, &format!("dd if=/dev/zero of=/held/{mib} bs=1M count={mib} 2>/dev/null"))
                .is_some()
        };
        let with_memory =
            |name: &str| idle_in(&disk, &pod, name).mount(Mount::tmpfs("/held").size(Bytes::mib(128)));
        let one = with_memory("one").start().unwrap();
        assert!(held(&one, 40));
        let two = with_memory("two").start().unwrap();
        assert!(held(&two, 5), "there is some left");
        assert!(!held(&two, 40), "each is below the limit, both are not");
        let stats = pod.stats().unwrap();
        assert!(stats.memory.current.unwrap() > Bytes::mib(40), "{stats:?}");
        assert_eq!((stats.memory.limit, stats.pids.limit), (Some(Bytes::mib(64)), Some(100)));
        pod.update(&Limits::new().memory(Bytes::mib(192))).unwrap();
        assert_eq!(tried(&two, "echo alive").unwrap(), "alive\n", "what holds the pod together is there");
        assert!(held(&two, 50), "the same is no more than that");

        let small = with_memory("small").limits(Limits::new().memory(Bytes::mib(16)));
        let small = small.start().unwrap();
        assert!(held(&small, 5) && !held(&small, 40));
        assert_eq!(small.stats().unwrap().memory.limit, Some(Bytes::mib(16)));
        pod.remove().unwrap();
    });
}

#[test]
fn its_processors_bound_those_that_run_that_come_and_that_are_executed() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let allowed =
            |container: &Container| tried(container, "grep Cpus_allowed_list /proc/self/status").unwrap();
        let pod = Pod::builder().start().unwrap();
        let first = idle_in(&disk, &pod, "first").start().unwrap();
        pod.update(&Limits::new().cpuset([0])).unwrap();
        let later = idle_in(&disk, &pod, "later").start().unwrap();
        for container in [&first, &later] {
            assert_eq!(allowed(container), "Cpus_allowed_list:\t0\n");
            let status = std::fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
            assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
        }
        later.remove().unwrap();
        drop(first);
        pod.remove().unwrap();
    });
}

#[test]
fn all_stand_still_and_go_on_with_it() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let pod = Pod::builder().name("shop").start().unwrap();
        let count = |name: &str| {
            disk.sh(&format!("while :; do echo >> /dev/shm/{name}; sleep 0.01; done")).pod(&pod).name(name)
        };
        let (_a, _b) = (count("a").start().unwrap(), count("b").start().unwrap());
        let watch = idle_in(&disk, &pod, "watch").namespace(Namespace::Uts, Origin::new()).start().unwrap();
        let states = || pod.containers().unwrap().into_iter().map(|one| one.state).collect::<Vec<_>>();
        let lines = || {
            let files = format!("/proc/{}/root/dev/shm", watch.pid());
            ["a", "b"].map(|name| std::fs::read(format!("{files}/{name}")).map_or(0, |text| text.len()))
        };
        until(PATIENCE, || lines().iter().all(|lines| *lines > 3).then_some(())).unwrap();
        pod.pause().unwrap();
        assert_eq!(states(), [State::Paused; 3]);
        assert_eq!(pod.inspect().unwrap().state, State::Paused);
        let before = lines();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(lines(), before);
        let late = disk.sh("true").pod(&pod).name("late").start().unwrap_err();
        assert!(late.to_string().contains("pod `shop`: it is paused"), "{late}");
        pod.resume().unwrap();
        assert_eq!(states(), [State::Running; 3]);
        until(PATIENCE, || lines().iter().zip(before).all(|(now, then)| *now > then).then_some(())).unwrap();
        pod.pause().unwrap();
        pod.remove().unwrap();
    });
}

#[test]
fn its_port_and_its_names_are_those_of_its_containers() {
    kernel_test(NET, || {
        let disk = OnDisk::root();
        let network = Network::create("back").unwrap();
        its_network(&disk, &network);
        // Of a place that was ready.
        network.warm(1).unwrap();
        let pools = || {
            let leases = std::fs::read_dir("/run/isolate/ids").unwrap().flatten();
            let mut holders = leases.filter_map(|lease| std::fs::read_link(lease.path()).ok());
            holders.any(|holder| holder.to_string_lossy().starts_with("pool:")).then_some(())
        };
        until(PATIENCE, pools).unwrap();
        its_network(&disk, &network);
        network.warm(0).unwrap();
        network.remove().unwrap();
    });
}

fn its_network(disk: &OnDisk, network: &Network) {
    let pod = Pod::builder().name("shop").network(network).publish((9000, 8080)).start().unwrap();
    let web = disk.sh(crate::common::SERVER).pod(&pod).name("web").start().unwrap();
    assert!(wait_for((Ipv4Addr::LOCALHOST, 9000).into()).contains("hello"));
    assert_eq!(web.address(), pod.address());
    assert_eq!(pod.inspect().unwrap().networks["back"].addresses, pod.addresses());
    let _other = disk.sh("exec sleep 1000").name("other").network(network).start().unwrap();
    assert_eq!(network.resolve("shop").unwrap(), pod.addresses());
    let hosts = tried(&web, "cat /etc/hosts").unwrap();
    assert!(hosts.contains(" other"), "also of who came later: {hosts}");
    let taken = Pod::builder().name("late").publish((9000, 8080)).start().unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::InUse);
    assert!(taken.to_string().starts_with("pod `late`: "), "{taken}");
    pod.remove().unwrap();
}

#[test]
fn it_tells_its_containers_and_they_tell_their_pod() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let limits = Limits::new().memory(Bytes::mib(64));
        let pod = Pod::builder().name("shop").label("tier", "front").limits(limits.clone()).start().unwrap();
        let web = idle_in(&disk, &pod, "web").start().unwrap();
        let alone = disk.sh("exec sleep 1000").name("alone").start().unwrap();
        assert_eq!(web.inspect().unwrap().pod.as_deref(), Some("shop"));
        assert_eq!(alone.inspect().unwrap().pod, None);
        let info = pod.inspect().unwrap();
        assert_eq!((info.name.as_str(), info.state, info.detached), ("shop", State::Running, false));
        assert_eq!((&info.limits, info.labels["tier"].as_str()), (&limits, "front"));
        assert_eq!(info.containers, [("web".to_owned(), State::Running)].into());
        assert_eq!(Pod::list().unwrap(), std::slice::from_ref(&info));
        let group = web.inspect().unwrap().cgroup.unwrap();
        assert_eq!(group.split_once('/').unwrap().0, info.cgroup.unwrap());
        let names: Vec<_> = Container::list().unwrap().into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["alone", "web"], "a pod is no container");
        assert_eq!(Container::find("shop").unwrap_err().to_string(), "container `shop`: it is a pod");
        assert_eq!(Pod::find("web").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(Pod::open("shop").unwrap_err().kind(), ErrorKind::NotFound, "somebody owns it");
        web.remove().unwrap();
        assert!(pod.containers().unwrap().is_empty());
        drop(alone);
    });
}

#[test]
fn what_cannot_be_is_refused_with_the_name_and_leaves_nothing() {
    kernel_test(NET, || {
        let disk = OnDisk::root();
        let pod = Pod::builder().name("shop").start().unwrap();
        let member = || disk.sh("true").pod("shop").name("web");
        let said = |builder: ContainerBuilder| builder.start().unwrap_err();
        for error in [
            said(member().network(Attach::bridge())),
            said(member().publish((9000, 8080))),
            said(member().hostname("other")),
            said(member().user_namespace(UserNamespace::Host)),
            member().create().unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
            assert!(error.to_string().starts_with("container `web`: "), "{error}");
            assert!(error.to_string().contains("pod `shop`"), "{error}");
            assert!(error.hint().is_some());
        }
        let none = said(disk.sh("true").name("web").pod("none"));
        assert_eq!(none.to_string(), "container `web`: pod `none`: there is none of that name");
        assert_eq!(said(disk.sh("true").pod("../x")).kind(), ErrorKind::InvalidConfig);
        let no_pod = disk.sh("exec sleep 1000").name("alone").start().unwrap();
        assert_eq!(said(disk.sh("true").pod("alone")).kind(), ErrorKind::NotFound);
        assert!(said(member().command(["/no/such"])).to_string().contains("/no/such"));

        for (builder, kind) in [
            (Pod::builder().name("alone"), ErrorKind::AlreadyExists),
            (Pod::builder().name("shop"), ErrorKind::AlreadyExists),
            (Pod::builder().name("a/b"), ErrorKind::InvalidConfig),
            (Pod::builder().share([Namespace::Mount]), ErrorKind::InvalidConfig),
            (Pod::builder().share([]).publish((9000, 8080)), ErrorKind::InvalidConfig),
            (Pod::builder().share([]).hostname("x"), ErrorKind::InvalidConfig),
            (Pod::builder().network(Attach::named("none")), ErrorKind::NotFound),
            // Of a controller that is not there, or of a resource that the one that is does not know.
            (
                Pod::builder().limits(Limits::new().misc("isolate-none", 1)),
                if std::path::Path::new("/sys/fs/cgroup/misc.capacity").exists() {
                    ErrorKind::Kernel
                } else {
                    ErrorKind::Unsupported
                },
            ),
        ] {
            let error = builder.clone().start().unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().starts_with("pod `"), "{error}");
        }
        assert_eq!(disk.sh("true").name("shop").start().unwrap_err().kind(), ErrorKind::AlreadyExists);
        // It is as it was.
        assert_eq!(printed(disk.sh("hostname").pod(&pod)), "shop\n");
        drop(no_pod);
    });
}

#[test]
fn a_stop_asks_each_by_its_signal_and_kills_who_does_not_hear() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let pod = Pod::builder().name("stopped").start().unwrap();
        let started = |name: &str, script: &str| {
            let builder = disk.sh(script).pod(&pod).name(name).stop_signal(Signal::rt(3).unwrap());
            let mut container = builder.stdout(Stdio::piped()).start().unwrap();
            BufReader::new(container.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
            container
        };
        let mut polite = started("polite", "trap 'exit 5' 37; echo up; while :; do sleep 0.01; done");
        let mut deaf = started("deaf", "trap '' 37; echo up; while :; do sleep 0.01; done");
        pod.stop(Duration::from_secs(if slow() { 20 } else { 2 })).unwrap();
        assert_eq!(polite.wait().unwrap().code(), Some(5));
        assert_eq!(deaf.outcome().unwrap(), isolate::Outcome::Signaled(Signal::KILL));
        assert_eq!(pod.inspect().unwrap().state, State::Running, "its namespaces stay");
        assert_eq!(printed(disk.sh("hostname").pod(&pod)), "stopped\n");
        let mut third = started("third", "echo up; exec sleep 1000");
        pod.kill().unwrap();
        assert_eq!(third.outcome().unwrap(), isolate::Outcome::Signaled(Signal::KILL));
        pod.remove().unwrap();
        assert!(groups_of("stopped").is_empty());
    });
}
