//! Groups from their making to their removal.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use isolate_cgroups::{Cgroup, Controller, ErrorKind, Limits};
use testkit::{Need, kernel_test};

use crate::child::{Waiting, eventually, on_either_host, unique};

on_either_host! {
    removing_leaves_no_directory_in_any_hierarchy => removing;
    dropping_kills_and_leaves_no_directory => dropping;
    a_kept_group_outlives_its_value_and_can_be_opened => keeping;
    a_name_in_use_is_an_error_and_its_group_stays => name_in_use;
    a_group_below_a_missing_one_is_not_made => missing_parent;
    a_group_removed_by_another_is_removed => removed_by_another;
    groups_made_inside_go_with_the_group => groups_inside;
    what_is_below_a_limited_group_is_limited_whenever_it_was_made => below_limited;
    a_child_joins_by_writing_to_the_files_it_was_given => joining;
    a_process_that_is_not_there_cannot_be_added => adding_nobody;
    the_descriptor_is_that_of_the_directory => descriptor;
}

fn exist(paths: &[PathBuf]) -> bool {
    assert!(!paths.is_empty());
    paths.iter().any(|path| path.exists())
}

fn removing() {
    let group = Cgroup::create(unique()).unwrap();
    let paths = group.paths();
    assert!(paths.iter().all(|path| path.is_dir()));
    assert_eq!(group.path(), paths[0]);
    let mut sleeper = Waiting::in_group(&group, "exec sleep 300");
    sleeper.go();
    group.remove().unwrap();
    assert!(!exist(&paths), "{paths:?}");
}

fn dropping() {
    let group = Cgroup::create(unique()).unwrap();
    let paths = group.paths();
    let sleeper = Waiting::in_group(&group, "");
    drop(group);
    assert!(!exist(&paths), "{paths:?}");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", sleeper.id())).unwrap();
    assert!(stat.contains(") Z "), "killed and not yet waited for: {stat}");
}

fn keeping() {
    let name = unique();
    let group = Cgroup::create(&name).unwrap();
    let paths = group.paths();
    group.keep();
    assert!(paths.iter().all(|path| path.is_dir()));
    let opened = Cgroup::open(&paths[0]).unwrap();
    assert_eq!(opened.paths(), paths);
    drop(opened);
    assert!(paths.iter().all(|path| path.is_dir()), "an opened group is somebody else's");
    Cgroup::open(&name).unwrap().remove().unwrap();
    assert!(!exist(&paths), "{paths:?}");
    assert_eq!(Cgroup::open(&name).unwrap_err().kind(), ErrorKind::NotFound);
}

fn name_in_use() {
    let name = unique();
    let group = Cgroup::create(&name).unwrap();
    group.apply(&Limits::new().pids(3)).unwrap();
    let error = Cgroup::create(&name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().starts_with(&format!("cgroup {name}: ")), "{error}");
    assert!(error.to_string().ends_with("File exists (os error 17)"), "{error}");
    assert!(error.hint().is_some());
    assert!(group.paths().iter().all(|path| path.is_dir()));
    assert_eq!(group.stats().unwrap().pids.limit, Some(3));
}

fn missing_parent() {
    let name = unique();
    let error = Cgroup::create(format!("{name}/inner")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&name), "{error}");
}

fn removed_by_another() {
    let group = Cgroup::create(unique()).unwrap();
    for path in group.paths() {
        std::fs::remove_dir(path).unwrap();
    }
    assert!(group.pids().unwrap().is_empty());
    assert!(!group.populated().unwrap_or(false));
    group.kill().unwrap();
    group.remove().unwrap();
}

fn groups_inside() {
    let group = Cgroup::create(unique()).unwrap();
    let paths = group.paths();
    for path in &paths {
        std::fs::create_dir_all(path.join("inner/innermost")).unwrap();
    }
    let mut sleeper = Waiting::in_group(
        &group,
        &format!("echo $$ >{}/inner/innermost/cgroup.procs; exec sleep 300", paths[0].display()),
    );
    sleeper.go();
    assert!(eventually(|| paths[0].join("inner/innermost").join("cgroup.procs").metadata().is_ok()));
    group.remove().unwrap();
    assert!(!exist(&paths), "{paths:?}");
}

fn below_limited() {
    let allowed = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let pinned = |pid: u32| allowed(pid).contains("Cpus_allowed_list:\t0\n");
    let name = unique();
    let outer = Cgroup::create(&name).unwrap();
    let before = Cgroup::create(format!("{name}/before")).unwrap();
    let early = Waiting::in_group(&before, "");
    outer.apply(&Limits::new().cpuset([0])).unwrap();
    assert!(eventually(|| pinned(early.id())), "what ran");
    let after = Cgroup::create(format!("{name}/after")).unwrap();
    assert!(pinned(Waiting::in_group(&after, "").id()), "a group that was made then");
    // And who joins the one of before, as soon as somebody has seen to it.
    Cgroup::open(format!("{name}/before")).unwrap().enable(&[Controller::Cpuset]).unwrap();
    assert_eq!(before.hierarchies(), after.hierarchies());
    let late = Waiting::in_group(&before, "");
    assert!(pinned(late.id()) && pinned(early.id()));
    let paths = [before.paths(), after.paths()].concat();
    after.remove().unwrap();
    before.remove().unwrap();
    assert!(!exist(&paths), "{paths:?}");
    outer.remove().unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a test's child")]
fn joining() {
    let group = Cgroup::create(unique()).unwrap();
    let mut files = group.join_files().unwrap();
    assert_eq!(files.len(), group.paths().len() - 1, "one for each hierarchy of cgroup v1");
    files.push(group.procs_file().unwrap());
    for file in files {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "echo 0; read go"]).stdin(Stdio::piped()).stdout(Stdio::from(file));
        let mut child = shell.spawn().unwrap();
        let pid = child.id().to_string();
        let holds = |path: &PathBuf| {
            std::fs::read_to_string(path.join("cgroup.procs")).unwrap().lines().any(|line| line == pid)
        };
        assert!(eventually(|| group.paths().iter().filter(|path| holds(path)).count() == 1));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

fn adding_nobody() {
    let group = Cgroup::create(unique()).unwrap();
    for pid in [0, u32::MAX] {
        assert_eq!(group.add(pid).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    // Above the highest that a kernel gives.
    let error = group.add(4_194_305).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("process 4194305"), "{error}");
    assert!(group.pids().unwrap().is_empty());
}

fn descriptor() {
    let group = Cgroup::create(unique()).unwrap();
    let clone = group.try_clone_fd().unwrap();
    let inode = rustix::fs::fstat(&clone).unwrap().st_ino;
    assert_eq!(inode, rustix::fs::fstat(group.as_fd()).unwrap().st_ino);
    assert_eq!(inode, rustix::fs::stat(group.path()).unwrap().st_ino);
    let flags = rustix::io::fcntl_getfd(&clone).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn a_hundred_groups_leave_no_descriptor_behind() {
    kernel_test(&[Need::Root], || {
        // The leak check that follows looks at descriptors and groups.
        for _ in 0..100 {
            let group = Cgroup::create(unique()).unwrap();
            group.stats().unwrap();
            group.remove().unwrap();
        }
    });
}
