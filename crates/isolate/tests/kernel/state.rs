//! The state directory: whose it is, and what is in nobody's power to take back.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::Path;

use isolate::{Attach, ErrorKind};
use rustix::fs::Mode;
use rustix::process::umask;
use testkit::kernel_test;

use crate::common::{NEEDS, NET, link_is_there, sh};

const STATE: &str = "/run/isolate";

#[test]
fn the_state_is_its_owners_only_whatever_the_umask_is() {
    kernel_test(NET, || {
        umask(Mode::empty());
        let container = sh("sleep 100").name("x").publish((9000, 8080)).start().unwrap();
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o7777;
        for directory in ["", "containers", "containers/x", "networks", "networks/isolate0"] {
            assert_eq!(mode(&Path::new(STATE).join(directory)), 0o700, "{directory}");
        }
        for file in ["lock", "containers/x/lock", "containers/x/record"] {
            assert_eq!(mode(&Path::new(STATE).join(file)), 0o600, "{file}");
        }
        for directory in fs::read_dir("/var/lib/isolate").unwrap() {
            assert_eq!(mode(&directory.unwrap().path()), 0o700);
        }
        container.remove().unwrap();
    });
}

#[test]
fn a_state_directory_that_is_another_users_is_refused() {
    kernel_test(NEEDS, || {
        let start = || sh("true").name("x").start().map(drop);
        start().unwrap();
        for place in [STATE, "/run/isolate/containers", "/run/isolate/networks"].map(Path::new) {
            chown(place, Some(1000), Some(1000)).unwrap();
            let expected = format!("state directory {}: it is another user's", place.display());
            let error = start().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            assert_eq!(error.to_string(), format!("container `x`: {expected}"));
            assert!(error.hint().is_some());
            assert_eq!(isolate::sweep().unwrap_err().to_string(), expected);
            chown(place, Some(0), Some(0)).unwrap();
            start().unwrap();
        }
        // Nor is a link followed to one that somebody has made.
        fs::rename(STATE, "/run/elsewhere").unwrap();
        symlink("/run/elsewhere", STATE).unwrap();
        assert_eq!(start().unwrap_err().kind(), ErrorKind::PermissionDenied);
        fs::remove_file(STATE).unwrap();
        fs::rename("/run/elsewhere", STATE).unwrap();
        start().unwrap();
    });
}

/// A record as it is written, of a container that has nothing.
fn record(name: &str, version: u32) -> String {
    format!(
        r#"{{"version": {version}, "name": "{name}", "owner": 1, "cgroup": "isolate-{name}-x", "scratch": null, "work": null, "places": []}}"#
    )
}

#[test]
fn a_record_that_cannot_be_read_stays_and_so_does_what_is_its_containers() {
    kernel_test(NET, || {
        sh("true").network(Attach::bridge()).status().unwrap();
        let damaged =
            [("empty", String::new()), ("cut", "{\"version\": 2, \"na".into()), ("new", record("new", 3))];
        let place = |name: &str| Path::new(STATE).join("containers").join(name);
        let write = |name: &str, text: &str| {
            fs::create_dir(place(name)).unwrap();
            fs::write(place(name).join("record"), text).unwrap();
        };
        damaged.iter().for_each(|(name, text)| write(name, text));
        write("old", &record("old", 2));
        // The bridge is there, as long as somebody has an address on it.
        let leases = Path::new(STATE).join("networks/isolate0/leases");
        fs::create_dir_all(&leases).unwrap();
        let lease = leases.join(Ipv4Addr::new(10, 213, 7, 7).to_string());
        symlink("new", &lease).unwrap();

        assert_eq!(isolate::sweep().unwrap(), ["old"], "what can be read is swept");
        sh("true").name("other").network(Attach::bridge()).status().unwrap();
        for (name, text) in &damaged {
            let error = sh("true").name(*name).start().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
            assert_eq!(fs::read_to_string(place(name).join("record")).unwrap(), *text);
        }
        assert!(fs::symlink_metadata(&lease).is_ok() && link_is_there("isolate0"));

        // By hand, as its owner's version would.
        damaged.iter().for_each(|(name, _)| fs::remove_dir_all(place(name)).unwrap());
        assert_eq!(isolate::sweep().unwrap(), Vec::<String>::new());
        assert!(!leases.exists() && !link_is_there("isolate0"), "then the lease has no container");
        sh("true").name("new").status().unwrap();
    });
}
