//! What a keeper takes, and what it does where there is no room.

use std::fs;
use std::path::Path;

use isolate_namespaces::{Command, HealthCheck, KeptEnd, Namespace, Restart, Stdio};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use testkit::{Need, kernel_test};

use super::{Place, lives, no_children_are_left, parent_of, sh, until};

fn private_dirty(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A keeper with all there is to do, at work: itself and its program's monitor.
fn busy(place: &Place) -> [u32; 2] {
    let mut command = sh("while echo out; echo err >&2; do sleep 0.01; done");
    let plan = command.unshare([Namespace::Pid]).init(true).plan().unwrap();
    let check = sh("exit 0").plan().unwrap();
    let check = HealthCheck::new(&check).interval(std::time::Duration::from_millis(20));
    let keeper = place.keeper().log(1 << 20, 2).restart(Restart::Always).replay(&plan).health(check);
    let child = plan.spawn().unwrap();
    let (init, monitor) = (child.id(), parent_of(child.id()));
    child.hand_over(&keeper).unwrap();
    until("healthy", || place.kept().state().unwrap().health == Some(isolate_namespaces::Health::Healthy));
    assert!(lives(init));
    [place.pid(), monitor]
}

#[test]
fn keeper_and_monitor_take_forty_kib_and_their_code_is_there_once() {
    kernel_test(&[Need::Root], || {
        let (place, other) = (Place::new(), Place::new());
        let processes = busy(&place);
        let attachment = place.kept().attach().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        let [keeper, monitor] = processes.map(private_dirty);
        println!("figure keeper {keeper} KiB, monitor {monitor} KiB, the first of their owner");
        assert!(keeper + monitor <= 40 + CODE, "keeper {keeper} KiB, monitor {monitor} KiB");
        busy(&other);
        let [keeper, monitor] = processes.map(private_dirty);
        println!("figure keeper {keeper} KiB, monitor {monitor} KiB, of two");
        assert!(keeper + monitor <= 40, "keeper {keeper} KiB, monitor {monitor} KiB");
        drop(attachment);
        place.end();
        other.end();
        no_children_are_left();
    });
}

/// The keeper's code: a memory file counts as dirty, and as private while one process has it.
const CODE: u64 = 16;

#[test]
fn where_the_disk_is_full_the_program_goes_on_and_what_is_lost_is_counted() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        mount("tmpfs", &place.0, "tmpfs", MountFlags::NOSUID, c"size=128k").unwrap();
        let child = sh("read go; head -c 3000000 /dev/zero | tr '\\0' '\\n'; exit 7")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.hand_over(&place.keeper().log(1 << 20, 3)).unwrap();
        fs::write(place.0.join("filling"), [0; 128 << 10]).unwrap_err();
        let attachment = place.kept().attach().unwrap();
        std::io::Write::write_all(&mut &attachment, b"go\n").unwrap();
        let waiter = place.kept().waiter().unwrap();
        drop(attachment);
        let told = waiter.wait().unwrap();
        assert_eq!(told.end, Some(KeptEnd::Code(7)), "who waits is told all the same");
        assert!(told.dropped > 0, "{told:?}");
        super::log::streams(&fs::read(place.0.join("log")).unwrap());
        no_children_are_left();
        unmount(&place.0, UnmountFlags::DETACH).unwrap();
    });
}

#[test]
fn where_nothing_can_be_written_any_more_the_program_goes_on_and_is_started_again() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        mount("tmpfs", &place.0, "tmpfs", MountFlags::NOSUID, c"size=1m").unwrap();
        let command = sh("echo line; sleep 0.01; exit 1");
        let plan = command.plan().unwrap();
        let keeper = place.keeper().restart(Restart::OnFailure { most: Some(2) }).replay(&plan);
        let child = command.clone().stdin(Stdio::piped()).spawn().unwrap();
        child.hand_over(&keeper).unwrap();
        // While the keeper writes a file that is refused.
        until("it is read-only", || mount_remount(&place.0, MountFlags::RDONLY, c"").is_ok());
        let waiter = place.kept().waiter().unwrap();
        let told = waiter.wait().unwrap();
        assert_eq!((told.end, told.restarts), (Some(KeptEnd::Code(1)), 2));
        no_children_are_left();
        unmount(&place.0, UnmountFlags::DETACH).unwrap();
    });
}

#[test]
fn a_directory_that_is_read_only_is_an_error_and_one_that_is_moved_is_the_same() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        mount("tmpfs", &place.0, "tmpfs", MountFlags::RDONLY, c"size=1m").unwrap();
        let error = sh("exec sleep 1000").spawn().unwrap().hand_over(&place.keeper()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error}");
        unmount(&place.0, UnmountFlags::DETACH).unwrap();

        let mut place = Place::new();
        sh("exec sleep 1000").spawn().unwrap().hand_over(&place.keeper().log(1 << 20, 1)).unwrap();
        let other = place.0.with_extension("moved");
        fs::rename(&place.0, &other).unwrap();
        place.0 = other;
        place.end();
        assert!(place.text("state").starts_with("status exited\n"));
        no_children_are_left();
    });
}

#[test]
fn the_events_are_in_two_files_that_do_not_grow_without_end() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        let old = "2026-01-01T00:00:00.000000000Z started pid 1\n".repeat(1600);
        fs::write(place.0.join("events"), &old).unwrap();
        fs::write(place.0.join("events.1"), "older").unwrap();
        sh("exit 0").spawn().unwrap().hand_over(&place.keeper()).unwrap();
        assert!(place.wait().success());
        assert_eq!(place.text("events.1"), old);
        assert_eq!(place.events(), ["kept", "died", "exited"]);
        no_children_are_left();
    });
}

/// A group of cgroup v2, with or without controllers.
fn group(name: &str) -> std::path::PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let top = mounts.lines().find_map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        (words[2] == "cgroup2").then(|| words[1].to_owned())
    });
    let path =
        Path::new(&top.expect("cgroup v2 is mounted")).join(format!("isolate-{name}-{}", std::process::id()));
    fs::create_dir(&path).unwrap();
    path
}

#[test]
fn keeper_and_monitor_are_born_into_the_group_that_was_said() {
    kernel_test(&[Need::Root], || {
        let (place, group, other) = (Place::new(), group("kept"), group("of-the-program"));
        let directory = || fs::File::open(&group).unwrap();
        let mut command = sh("exec sleep 1000");
        command.monitor_cgroup(directory()).cgroup(fs::File::open(&other).unwrap());
        let child = command.spawn().unwrap();
        let (id, monitor) = (child.id(), parent_of(child.id()));
        child.hand_over(&place.keeper().cgroup(directory())).unwrap();
        let inside = fs::read_to_string(group.join("cgroup.procs")).unwrap();
        let mut inside: Vec<u32> = inside.lines().map(|line| line.parse().unwrap()).collect();
        inside.sort_unstable();
        let mut wanted = vec![place.pid(), monitor];
        wanted.sort_unstable();
        assert_eq!(inside, wanted);
        place.end();
        no_children_are_left();
        until("the group is empty", || fs::remove_dir(&group).is_ok());
        fs::remove_dir(other).unwrap();
        assert!(!lives(id));

        // A file that no number can be written into.
        let child = sh("exec sleep 1000").spawn().unwrap();
        let wrong = fs::File::open("/dev/null").unwrap();
        assert!(child.hand_over(&place.keeper().cgroup_files([wrong])).is_err());
        Command::new("/bin/true").status().unwrap();
        no_children_are_left();
    });
}
