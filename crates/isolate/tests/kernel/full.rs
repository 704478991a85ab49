//! Where nothing can be written any more, on a disk that is full or on one that the kernel made read-only, a container ends and goes all the
//! same, and nothing is half written.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use isolate::{Container, ContainerBuilder, Detached, ErrorKind, Limits, Network, Outcome, Signal, State};
use rustix::mount::{UnmountFlags, unmount};
use testkit::{Need, kernel_test};

use crate::common::{NET, OnDisk, groups_of, run, slow};

const OWN: &str = "/var/lib/isolate";
/// Native, since an ext4 of Linux 6.12 with a journal that was given up cannot be read any more, either.
const LOOP: &[Need] = &[
    Need::Root,
    Need::Overlay,
    Need::Veth,
    Need::NfTables,
    Need::Loop,
    Need::Program("busybox"),
    Need::Native,
];

fn grace() -> Duration {
    Duration::from_secs(if slow() { 120 } else { 20 })
}

fn described(disk: &OnDisk, name: &str, network: &Network, port: u16) -> ContainerBuilder {
    disk.sh("exec sleep 1000")
        .name(name)
        .network(network)
        .publish((port, 8080))
        .limits(Limits::new().pids(20))
}

/// Fills what is left, and then with empty files.
fn fill(place: &str) -> PathBuf {
    let directory = Path::new(place).join("filler");
    fs::create_dir(&directory).unwrap();
    let mut file = File::create(directory.join("bytes")).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
    let mut n = 0;
    while File::create(directory.join(format!("{n}"))).is_ok() {
        n += 1;
    }
    directory
}

/// Each record in the two places is one.
fn nothing_is_torn() {
    let mut found = 0;
    for place in ["/run/isolate/containers", "/run/isolate/networks", "/var/lib/isolate/detached"] {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            if let Ok(text) = fs::read(entry.path().join("record")) {
                serde_json::from_slice::<serde_json::Value>(&text).unwrap();
                found += 1;
            }
        }
    }
    assert!(found > 0);
}

fn nothing_runs(name: &str, port: u16) {
    assert_eq!(groups_of(name), Vec::<PathBuf>::new());
    let rules = run("nft list ruleset");
    assert!(!rules.contains(&format!(" {port}")), "{rules}");
}

#[test]
fn on_a_full_disk_it_stops_and_is_removed_and_a_start_that_fails_leaves_what_was() {
    kernel_test(NET, || {
        let disk = OnDisk::root();
        fs::create_dir("/run/isolate").unwrap();
        let places = [OWN, "/run/isolate"];
        for place in places {
            run(&format!("mount -t tmpfs -o size=4m,nr_inodes=2000,mode=700 tmpfs {place}"));
        }
        let network = Network::create("net").unwrap();
        let lasting = described(&disk, "full-lasting", &network, 9000).create().unwrap();
        lasting.start().unwrap();
        let other = described(&disk, "full-other", &network, 9002).create().unwrap();
        let owned = described(&disk, "full-owned", &network, 9001).start().unwrap();
        let fillers = places.map(fill);

        let full = Some(28);
        let error = lasting.update(&Limits::new().pids(30)).unwrap_err();
        assert_eq!(error.raw_os_error(), full, "{error}");
        assert_eq!(lasting.inspect().unwrap().limits, Limits::new().pids(20));
        let error = other.start().unwrap_err();
        assert_eq!(error.raw_os_error(), full, "{error}");
        assert!(error.to_string().starts_with("container `full-other`: "), "{error}");
        assert_eq!(other.inspect().unwrap().state, State::Created);
        let error = described(&disk, "new", &network, 9003).create().unwrap_err();
        assert_eq!(error.raw_os_error(), full, "{error}");
        let error = described(&disk, "new", &network, 9003).start().unwrap_err();
        assert_eq!(error.raw_os_error(), full, "{error}");
        let error = Network::create("another").unwrap_err();
        assert_eq!(error.raw_os_error(), full, "{error}");
        nothing_is_torn();
        assert_eq!(Container::list().unwrap().len(), 3);

        assert_eq!(lasting.stop(grace()).unwrap(), Some(Outcome::Signaled(Signal::TERM)));
        nothing_is_torn();
        lasting.remove().unwrap();
        nothing_runs("full-lasting", 9000);
        owned.remove().unwrap();
        nothing_runs("full-owned", 9001);
        other.remove().unwrap();
        assert_eq!(Container::list().unwrap(), []);
        network.remove().unwrap();
        for filler in fillers {
            fs::remove_dir_all(filler).unwrap();
        }
        assert_eq!(isolate::sweep().unwrap(), Vec::<String>::new());
        // The name server may still be on its way out.
        places.iter().for_each(|place| unmount(*place, UnmountFlags::DETACH).unwrap());
        fs::remove_dir("/run/isolate").unwrap();
    });
}

/// The kernel does that to an ext4 with `errors=remount-ro` when it finds something wrong: here it is told that there was.
#[test]
fn on_a_disk_that_the_kernel_made_read_only_it_stops_and_is_removed_when_that_is_over() {
    kernel_test(LOOP, || {
        let (disk, image) = (OnDisk::root(), OnDisk::new());
        let file = image.0.join("image");
        File::create(&file).unwrap().set_len(64 << 20).unwrap();
        run(&format!("mke2fs -q -t ext4 {}", file.display()));
        let mount = || run(&format!("mount -o loop,errors=remount-ro {} {OWN}", file.display()));
        mount();
        let device = run(&format!("findmnt -no SOURCE {OWN} | tail -n 1"));
        let device = device.trim().trim_start_matches("/dev/").to_owned();
        let network = Network::create("net").unwrap();
        let lasting = described(&disk, "failed-lasting", &network, 9000).create().unwrap();
        lasting.start().unwrap();
        let owned = described(&disk, "failed-owned", &network, 9001).start().unwrap();

        // What the journal has not got by then is lost.
        run(&format!("sync -f {OWN}"));
        fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").unwrap();
        // EROFS, or EIO where the journal says so.
        let read_only = File::create("/var/lib/isolate/x").unwrap_err().raw_os_error();
        assert!([Some(30), Some(5)].contains(&read_only), "the control: {read_only:?}");
        let error = described(&disk, "new", &network, 9002).create().unwrap_err();
        assert_eq!(error.raw_os_error(), read_only, "{error}");
        assert_eq!(lasting.inspect().unwrap().state, State::Running);
        stopped(&lasting);
        nothing_runs("failed-lasting", 9000);
        let error = Container::open("failed-lasting").unwrap().remove().unwrap_err();
        assert!(error.to_string().starts_with("container `failed-lasting`: "), "{error}");
        let error = owned.remove().unwrap_err();
        assert!(error.to_string().contains(OWN), "{error}");
        nothing_runs("failed-owned", 9001);
        nothing_is_torn();

        unmount(OWN, UnmountFlags::empty()).unwrap();
        run(&format!("e2fsck -fy {} || test $? = 1", file.display()));
        mount();
        assert_eq!(isolate::sweep().unwrap(), ["failed-owned"]);
        let lasting = Container::open("failed-lasting").unwrap();
        lasting.start().unwrap();
        lasting.remove_by_force().unwrap();
        assert_eq!(Container::list().unwrap(), []);
        network.remove().unwrap();
        unmount(OWN, UnmountFlags::empty()).unwrap();
    });
}

/// It ends, whether somebody can write down how or not.
fn stopped(lasting: &Detached) {
    match lasting.stop(grace()) {
        Ok(outcome) => assert_eq!(outcome, Some(Outcome::Signaled(Signal::TERM))),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Lost, "{error}"),
    }
}
