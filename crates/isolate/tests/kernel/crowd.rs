//! Many processes of many threads on one state directory: nothing is given twice, nobody waits for ever, each record can be read at each
//! instant.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind as Io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use isolate::{Attach, Container, ContainerBuilder, Detached, Error, ErrorKind, Limits, Network, State};
use testkit::{is_long, kernel_test};

use crate::common::{NET, OnDisk, sh, slow, until};

/// The root of their containers. Says to this program that it is one of the processes, too.
const ROOT: &str = "ISOLATE_TEST_CROWD_ROOT";
/// For how many seconds, with how many threads.
const SIZE: &str = "ISOLATE_TEST_CROWD_SIZE";
/// A file for each thing that somebody has to himself.
const GIVEN: &str = "/run/tmp/given";
const NETWORK: &str = "crowd";

/// Processes, threads of each, seconds.
fn size() -> (usize, usize, u64) {
    match (is_long(), slow()) {
        (true, _) => (16, 64, 60),
        (_, false) => (6, 16, 8),
        (_, true) => (3, 4, 20),
    }
}

#[test]
fn sixteen_processes_get_nothing_twice_and_all_come_to_an_end() {
    kernel_test(NET, || {
        let disk = OnDisk::root();
        let network = Network::create(NETWORK).unwrap();
        fs::create_dir(GIVEN).unwrap();
        let (processes, threads, seconds) = size();
        let begun = Instant::now();
        let members: Vec<(Child, PathBuf)> =
            (0..processes).map(|n| start_member(&disk, n, threads, seconds)).collect();
        let patience = Duration::from_secs(seconds + if slow() { 200 } else { 120 });
        let mut operations = 0;
        for (mut member, printed) in members {
            let ended = until(patience.saturating_sub(begun.elapsed()), || member.try_wait().unwrap());
            let printed = fs::read_to_string(printed).unwrap();
            let Some(status) = ended else {
                member.kill().unwrap();
                member.wait().unwrap();
                panic!("it has not come to an end: {printed}");
            };
            assert!(status.success(), "{status}: {printed}");
            let done = printed.lines().find_map(|line| line.strip_prefix("operations ")).unwrap();
            operations += done.parse::<usize>().unwrap();
        }
        println!(
            "{operations} operations of {processes} processes with {threads} threads each, in {seconds} s"
        );
        assert!(operations >= processes * threads, "{operations}");
        for info in Container::list().unwrap() {
            Container::open(info.name).unwrap().remove_by_force().unwrap();
        }
        network.remove().unwrap();
        for name in network_names() {
            Network::open(name).and_then(Network::remove).ok();
        }
        assert_eq!(isolate::sweep().unwrap(), Vec::<String>::new());
    });
}

fn start_member(disk: &OnDisk, n: usize, threads: usize, seconds: u64) -> (Child, PathBuf) {
    let printed = PathBuf::from(format!("/run/tmp/member-{n}"));
    let to = File::create(&printed).unwrap();
    let member = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crowd::member", "--ignored", "--nocapture"])
        .env(ROOT, disk.0.join("root"))
        .env(SIZE, format!("{threads} {seconds}"))
        .stdin(Stdio::null())
        .stdout(to.try_clone().unwrap())
        .stderr(to)
        .spawn()
        .unwrap();
    (member, printed)
}

/// No test: one of the processes, in the world of the test that starts it.
#[test]
#[ignore = "the test of this file starts it as a process of its own"]
fn member() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let size = std::env::var(SIZE).unwrap();
    let (threads, seconds) = size.split_once(' ').unwrap();
    let end = Instant::now() + Duration::from_secs(seconds.parse().unwrap());
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads.parse::<usize>().unwrap() {
            scope.spawn(|| {
                let mut one = Member { root: root.clone().into(), state: RandomState::new().hash_one(0) };
                while Instant::now() < end {
                    one.operation();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    println!("\noperations {}", done.into_inner());
}

/// A thread.
struct Member {
    root: PathBuf,
    state: u64,
}

impl Member {
    /// xorshift64.
    fn random(&mut self, below: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % below
    }

    fn operation(&mut self) {
        match self.random(12) {
            0..4 => self.own(),
            4 => self.create(),
            5 => drop(self.lasting(|one| one.start())),
            6 => drop(self.lasting(|one| one.stop(Duration::from_millis(100)))),
            7 => self.remove(),
            8 => self.rename(),
            9 => drop(self.lasting(|one| one.update(&Limits::new().pids(30)))),
            10 => self.network(),
            _ => look(),
        }
    }

    fn described(&self, name: &str) -> ContainerBuilder {
        sh("exec sleep 1000").name(name).rootfs(self.root.as_path()).limits(Limits::new().pids(20))
    }

    /// One that is this thread's, on a network and with a port.
    fn own(&mut self) {
        let (name, port) = (format!("own-{}", self.random(24)), 20_000 + self.random(16) as u16);
        let started = self.described(&name).network(Attach::named(NETWORK)).publish((port, 80)).start();
        let Some(container) = expected(started, &[ErrorKind::AlreadyExists, ErrorKind::InUse]) else {
            return;
        };
        let info = container.inspect().unwrap();
        assert_eq!((info.name.as_str(), info.state), (name.as_str(), State::Running));
        let addresses = info.networks[NETWORK].addresses.iter().map(ToString::to_string);
        let what = addresses.chain([name, port.to_string()]).map(Given::take).collect::<Vec<_>>();
        if self.random(4) == 0 {
            assert!(container.exec("true").status().unwrap().success());
        }
        drop(what);
        container.remove().unwrap();
    }

    fn lasting_name(&mut self) -> String {
        format!("last-{}", self.random(16))
    }

    fn create(&mut self) {
        let name = self.lasting_name();
        let port = 30_000 + self.random(16) as u16;
        let described = self.described(&name).network(Attach::named(NETWORK)).publish((port, 80));
        if expected(described.create(), &[ErrorKind::AlreadyExists]).is_some() {
            Given::take(name).keep();
        }
    }

    /// Something with one that anybody may do something with.
    fn lasting<T>(&mut self, what: impl FnOnce(Detached) -> isolate::Result<T>) -> Option<T> {
        let opened = Container::open(self.lasting_name());
        let one = expected(opened, &[ErrorKind::NotFound])?;
        // Removed or stopped by another; or its port is another's.
        expected(what(one), &[ErrorKind::NotFound, ErrorKind::InUse, ErrorKind::AlreadyExists])
    }

    fn remove(&mut self) {
        let by_force = self.random(2) == 0;
        let removed = self.lasting(|one| {
            let name = one.name().to_owned();
            if by_force {
                one.remove_by_force()?
            } else {
                one.remove()?
            }
            Ok(name)
        });
        drop(removed.map(Given::of));
    }

    fn rename(&mut self) {
        let new = self.lasting_name();
        let renamed = self.lasting(|one| {
            let old = one.name().to_owned();
            one.rename(&new).map(|_| old)
        });
        if let Some(old) = renamed {
            Given::take(new).keep();
            drop(Given::of(old));
        }
    }

    fn network(&mut self) {
        let names = network_names();
        let name = &names[self.random(names.len() as u64) as usize];
        if let Some(network) = expected(Network::create(name), &[ErrorKind::AlreadyExists]) {
            let given = Given::take(name.clone());
            let attached = self.described(&format!("on-{name}")).network(&network).start().unwrap();
            attached.remove().unwrap();
            drop(given);
            network.remove().unwrap();
        }
    }
}

fn network_names() -> [String; 6] {
    std::array::from_fn(|n| format!("net-{n}"))
}

/// What came of it, unless it is one of these errors.
fn expected<T>(result: isolate::Result<T>, kinds: &[ErrorKind]) -> Option<T> {
    let wrong = |e: Error| assert!(kinds.contains(&e.kind()), "{:?}: {e}", e.kind());
    result.map_err(wrong).ok()
}

/// Something that one alone has. Who had it before says so a moment after it is free.
struct Given(PathBuf);

impl Given {
    fn of(what: String) -> Self {
        Self(Path::new(GIVEN).join(what))
    }

    fn take(what: String) -> Self {
        let given = Self::of(what);
        let take = || OpenOptions::new().write(true).create_new(true).open(&given.0).ok();
        assert!(until(Duration::from_secs(60), take).is_some(), "{} was given twice", given.0.display());
        given
    }

    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // Who was given it may be about to say so: by then others can have found it, and renamed or removed it.
            let removed = until(Duration::from_secs(60), || fs::remove_file(&self.0).ok());
            assert!(removed.is_some(), "nobody was given {}", self.0.display());
        }
    }
}

fn look() {
    let all = Container::list().unwrap();
    let names: BTreeSet<_> = all.iter().map(|info| &info.name).collect();
    assert_eq!(names.len(), all.len());
    let running = all.iter().filter(|info| info.state == State::Running);
    let addresses: Vec<_> =
        running.flat_map(|info| info.networks.values()).flat_map(|place| &place.addresses).collect();
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), addresses.len(), "{all:?}");
    for place in ["/run/isolate/containers", "/run/isolate/networks", "/var/lib/isolate/detached"] {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let path = entry.path().join("record");
            match fs::read(&path) {
                Ok(text) => drop(serde_json::from_slice::<serde_json::Value>(&text).unwrap()),
                // Not written yet, or gone.
                Err(e) => {
                    assert!([Io::NotFound, Io::NotADirectory].contains(&e.kind()), "{}: {e}", path.display())
                }
            }
        }
    }
}
