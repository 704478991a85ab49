//! A plan: what a start would do, without doing it.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;

use isolate::{Bytes, ContainerBuilder, ErrorKind, Limits, Mount};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use testkit::kernel_test;
use testkit::leaks::Snapshot;

use crate::common::{NET, groups_of, printed, sh};

fn described(script: &str) -> ContainerBuilder {
    let limits = Limits::new().memory(Bytes::mib(64)).pids(50);
    sh(script).name("planned").limits(limits).publish((9000, 8080)).mount(Mount::tmpfs("/srv/extra"))
}

#[test]
fn a_plan_makes_nothing_and_needs_no_privilege() {
    kernel_test(NET, || {
        let before = Snapshot::take();
        // Of this thread alone.
        let without_privileges = || {
            let mut sets = capabilities(None).unwrap();
            sets.effective = CapabilitySet::empty();
            set_capabilities(None, sets).unwrap();
            (described("true").plan().unwrap(), described("true").start().unwrap_err())
        };
        let (plan, error) = std::thread::spawn(without_privileges).join().unwrap();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "a start needs some");
        drop(TcpListener::bind("0.0.0.0:9000").unwrap());
        drop(plan);
        assert_eq!(before.left(), Vec::<String>::new());
        assert!(!Path::new("/run/isolate").exists());
        assert_eq!(fs::read_dir("/var/lib/isolate").unwrap().count(), 0);
        assert_eq!(groups_of("planned"), Vec::<std::path::PathBuf>::new());
    });
}

#[test]
fn a_plan_names_each_kind_of_step_in_its_order() {
    kernel_test(NET, || {
        let plan = described("true").plan().unwrap();
        let mut steps = plan.steps();
        for part in [
            "lock /run/isolate/containers/planned",
            "reserve the host port of 9000:8080/tcp",
            "make bridge isolate0 unless it is there, with NAT to the outside",
            "lease an address on it",
            "copy what everybody may read of /etc",
            "write hosts, hostname and resolv.conf to /run/isolate/containers/planned",
            "make control group isolate-planned-",
            "limit its memory to 64 MiB",
            "limit its tasks to 50",
            "allow it no devices but its own",
            "clone the child with new namespaces: ",
            "connect the container's network namespace to the bridge",
            "publish 9000:8080/tcp",
            "bring the loopback device up",
            "set the host name planned",
            "make every mount private",
            "move the root over /",
            "mount proc on /proc",
            "move the mount over /srv/extra",
            "pivot into the root",
            "unmount the old root",
            "set the umask 022",
            "close every other descriptor",
            "execute /bin/sh",
        ] {
            assert!(
                steps.any(|step| step.starts_with(part)),
                "{part}, or not after the one before, in\n{plan}"
            );
        }
        // The group and the directory of the upper layers have one name.
        let ids: BTreeSet<_> = plan
            .steps()
            .filter_map(|step| step.split("isolate-planned-").nth(1).map(str::to_owned))
            .collect();
        let ids: BTreeSet<_> = ids.iter().map(|rest| rest.split('/').next().unwrap()).collect();
        assert_eq!(ids.len(), 1, "{plan}");
    });
}

#[test]
fn what_is_mounted_is_what_was_planned() {
    kernel_test(NET, || {
        let planned = |container: &ContainerBuilder| {
            let plan = container.plan().unwrap();
            let place = |step: &str| {
                let moved = step.starts_with("move the ").then(|| step.split_once(" over "));
                let mounted = step.starts_with("mount ").then(|| step.split_once(" on "));
                let bound = || step.strip_prefix("bind ")?.strip_suffix(" to itself").map(str::to_owned);
                moved.flatten().or(mounted.flatten()).map(|(_, place)| place.to_owned()).or_else(bound)
            };
            let mut places: Vec<_> = plan.steps().filter_map(|step| place(&step)).collect();
            places.sort();
            places
        };
        let container = described("while read _ _ _ _ place _; do echo $place; done < /proc/self/mountinfo");
        let expected = planned(&container);
        let hidden: BTreeSet<String> = container
            .plan()
            .unwrap()
            .steps()
            .filter_map(|step| step.strip_prefix("hide ").map(str::to_owned))
            .collect();
        let shown = printed(container);
        let mut places: Vec<_> = shown.lines().map(str::to_owned).collect();
        places.sort();
        // What is to be hidden need not be there.
        assert!(places.iter().any(|place| hidden.contains(place)), "{places:?}");
        places.retain(|place| !hidden.contains(place));
        let mut expected = expected;
        expected.retain(|place| !place.starts_with("/proc/") || Path::new(place).exists());
        assert_eq!(places, expected);
        for own in ["/", "/proc", "/dev", "/sys", "/etc/hosts", "/srv/extra"] {
            assert!(places.iter().any(|place| place == own), "{own} in {places:?}");
        }
        let more = planned(&described("true").mount(Mount::tmpfs("/srv/more")));
        assert!(more.iter().any(|place| place == "/srv/more"), "{more:?}");
    });
}
