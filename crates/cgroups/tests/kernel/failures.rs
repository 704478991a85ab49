//! What fails half-way: every error names its file and its value, and the limits of before are in force.

use std::fs;
use std::path::{Path, PathBuf};

use isolate_cgroups::{Bytes, Cgroup, Error, ErrorKind, Limits, Resource, Share};
use rustix::mount::{MountFlags, mount_bind, mount_remount};
use testkit::without_writes_of;

use crate::child::{on_either_host, unique};

on_either_host! {
    a_value_that_is_refused_leaves_all_as_it_was => refused;
    what_cannot_be_put_back_is_named => not_put_back;
    a_file_that_is_read_only_leaves_all_as_it_was => read_only;
    a_file_that_is_missing_leaves_all_as_it_was => missing;
    a_value_that_the_kernel_made_another_is_an_error => made_another;
    a_group_that_has_vanished_is_named => vanished;
}

const FILES: [&str; 9] = [
    "memory.max",
    "memory.swap.max",
    "cpu.max",
    "pids.max",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "cpu.shares",
];

/// Every file of a limit, with what it holds.
fn held(group: &Cgroup) -> Vec<(PathBuf, String)> {
    let all = group.paths().into_iter().flat_map(|path| FILES.map(|file| path.join(file)));
    all.filter_map(|path| fs::read_to_string(&path).ok().map(|text| (path, text))).collect()
}

/// The first of these files that the group has, in the hierarchy that has it.
fn file(group: &Cgroup, names: [&str; 2]) -> PathBuf {
    let all = group.paths().into_iter().flat_map(|path| names.map(|name| path.join(name)));
    all.into_iter().find(|path| path.exists()).unwrap()
}

fn before() -> Cgroup {
    let group = Cgroup::create(unique()).unwrap();
    group.apply(&Limits::new().memory(Bytes::mib(128)).cpus(0.5).pids(40)).unwrap();
    group
}

/// None of the values is as long as what it replaces, nor as another.
fn other() -> Limits {
    Limits::new().memory(Bytes::mib(32)).cpus(1.5).pids(7777)
}

/// Applies them while the kernel refuses each write of so many bytes.
fn apply_without(group: &Cgroup, limits: &Limits, bytes: usize, errno: i32) -> Error {
    let refused = || {
        without_writes_of(bytes as u32, errno);
        group.apply(limits)
    };
    std::thread::scope(|scope| scope.spawn(refused).join()).unwrap().unwrap_err()
}

fn refused() {
    let group = before();
    let was = held(&group);
    assert!(was.len() >= 4, "{was:?}");
    let cpu = if file(&group, ["cpu.max", "cpu.cfs_quota_us"]).ends_with("cpu.max") {
        "150000 100000"
    } else {
        "150000"
    };
    let values = [
        (["memory.max", "memory.limit_in_bytes"], "33554432"),
        (["cpu.max", "cpu.cfs_quota_us"], cpu),
        (["pids.max", "pids.max"], "7777"),
    ];
    let errors = [
        (libc::EINVAL, ErrorKind::Kernel),
        (libc::ERANGE, ErrorKind::Kernel),
        (libc::EIO, ErrorKind::Kernel),
        (libc::EBUSY, ErrorKind::Busy),
        (libc::EACCES, ErrorKind::PermissionDenied),
        (libc::ENODEV, ErrorKind::NotFound),
    ];
    for (names, value) in values {
        for (errno, kind) in errors {
            let error = apply_without(&group, &other(), value.len(), errno);
            assert_eq!((error.kind(), error.raw_os_error()), (kind, Some(errno)), "{error}");
            let said = format!("cannot write {value} to {}", file(&group, names).display());
            assert!(error.to_string().contains(&said), "{error}");
            assert!(!error.hint().is_some_and(|hint| hint.contains("not as before")), "{error:?}");
            assert_eq!(held(&group), was, "{error}");
        }
    }
    group.apply(&other()).unwrap();
    assert_ne!(held(&group), was, "the control");
    group.remove().unwrap();
}

fn not_put_back() {
    let group = before();
    let was = held(&group);
    // As long as what it replaces: neither is written.
    let error = apply_without(&group, &Limits::new().pids(77), 2, libc::EIO);
    let said = format!("not as before: cannot write 40 to {}", file(&group, ["pids.max"; 2]).display());
    assert!(error.hint().is_some_and(|hint| hint.contains(&said)), "{error:?}");
    assert_eq!(held(&group), was);
    group.remove().unwrap();
}

fn read_only() {
    let group = before();
    let was = held(&group);
    for (names, value) in [
        (["pids.max", "pids.max"], "7777"),
        (["cpu.max", "cpu.cfs_quota_us"], "150000"),
        (["memory.max", "memory.limit_in_bytes"], "33554432"),
    ] {
        let file = file(&group, names);
        mount_bind(&file, &file).unwrap();
        mount_remount(&file, MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
        let error = group.apply(&other()).unwrap_err();
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::PermissionDenied, Some(libc::EROFS)));
        let text = error.to_string();
        assert!(text.contains(&format!("cannot write {value}")), "{text}");
        assert!(text.contains(&format!("to {}: Read-only", file.display())), "{text}");
        assert_eq!(error.hint(), Some("it is mounted read-only here"));
        assert_eq!(held(&group), was, "{error}");
        rustix::mount::unmount(&file, rustix::mount::UnmountFlags::empty()).unwrap();
    }
    group.apply(&other()).unwrap();
    group.remove().unwrap();
}

fn missing() {
    let group = before();
    let was = held(&group);
    let error = group.apply(&other().huge_pages(Bytes::kib(4), Bytes::mib(4))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let said = "hugetlb limit: cannot write 4194304 to ";
    assert!(error.to_string().contains(said), "{error}");
    assert!(error.to_string().ends_with("hugetlb.4KB.max: the kernel has no such file"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("/sys/kernel/mm/hugepages")), "{error:?}");
    assert_eq!(held(&group), was);
    group.remove().unwrap();
}

fn made_another() {
    let group = before();
    let was = held(&group);
    let file = file(&group, ["pids.max"; 2]);
    // A write changes its beginning alone.
    let stand_in = testkit::scratch().join("pids.max");
    fs::write(&stand_in, "99999\n").unwrap();
    mount_bind(&stand_in, &file).unwrap();
    let error = group.apply(&other()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotApplied, "{error}");
    assert!(
        error.to_string().ends_with(&format!("wrote 7777 to {}, which now holds 77779", file.display())),
        "{error}"
    );
    rustix::mount::unmount(&file, rustix::mount::UnmountFlags::empty()).unwrap();
    assert_eq!(held(&group), was);
    group.remove().unwrap();
}

fn vanished() {
    // In one of its hierarchies.
    let group = before();
    let memory = file(&group, ["memory.max", "memory.limit_in_bytes"]);
    let others =
        || held(&group).into_iter().filter(|(path, _)| path.parent() != memory.parent()).collect::<Vec<_>>();
    let was = others();
    fs::remove_dir(memory.parent().unwrap()).unwrap();
    let error = group.apply(&other()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains(memory.parent().unwrap().to_str().unwrap()), "{error}");
    assert_eq!(others(), was, "{error}");

    // In all.
    let mut reader = before_reader(&group);
    group.paths().iter().filter(|path| path.exists()).for_each(|path| fs::remove_dir(path).unwrap());
    let stall = std::time::Duration::from_millis(150);
    let window = std::time::Duration::from_secs(2);
    type Call<'g> = &'g dyn Fn() -> Result<(), Error>;
    let calls: [(&str, Call<'_>); 10] = [
        ("apply", &|| group.apply(&other())),
        ("stats", &|| group.stats().map(drop)),
        ("oom_kills", &|| group.oom_kills().map(drop)),
        ("freeze", &|| group.freeze()),
        ("thaw", &|| group.thaw()),
        ("add", &|| group.add(std::process::id())),
        ("populated", &|| group.populated().map(drop)),
        ("watch_state", &|| group.watch_state().map(drop)),
        ("watch_pressure", &|| group.watch_pressure(Resource::Cpu, Share::Some, stall, window).map(drop)),
        ("procs_file", &|| group.procs_file().map(drop)),
    ];
    for (name, call) in calls {
        let error = call().expect_err(name);
        assert_eq!(error.kind(), ErrorKind::NotFound, "{name}: {error}");
        let leaf = Path::new(group.path()).file_name().unwrap().to_str().unwrap();
        assert!(error.to_string().contains(leaf), "{name}: {error}");
    }
    if let Some(reader) = &mut reader {
        assert_eq!(reader.read().unwrap_err().kind(), ErrorKind::NotFound);
    }
    // What is to be no more is no more.
    group.kill().unwrap();
    assert!(group.pids().unwrap().is_empty());
    group.remove().unwrap();
}

fn before_reader(group: &Cgroup) -> Option<isolate_cgroups::StatsReader> {
    group.path().exists().then(|| group.reader().unwrap())
}
