//! Whatever else the caller does, somebody does to its group or its monitor, or a filter refuses: no hang, no status lost,
//! nothing left.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use isolate_namespaces::{Command, ErrorKind, IdMap, Namespace, Stdio};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open};
use testkit::{Need, kernel_test};

fn sh(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

/// A control group of cgroup v2, with or without controllers; removed on drop.
struct Group(PathBuf);

impl Group {
    fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let top = mounts.lines().find_map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            (words[2] == "cgroup2").then(|| words[1].to_owned())
        });
        let path = Path::new(&top.expect("cgroup v2 is mounted"))
            .join(format!("isolate-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn freeze(&self, frozen: bool) {
        fs::write(self.0.join("cgroup.freeze"), if frozen { "1" } else { "0" }).unwrap();
    }

    fn start(&self, command: &mut Command) -> isolate_namespaces::Result<isolate_namespaces::Child> {
        command.cgroup(File::open(&self.0).unwrap()).spawn()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..500 {
            match fs::remove_dir(&self.0) {
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) => thread::sleep(Duration::from_millis(10)),
                other => return other.unwrap(),
            }
        }
        panic!("{} stays busy", self.0.display());
    }
}

#[test]
fn into_a_frozen_group_nothing_is_started_and_the_error_says_why() {
    kernel_test(&[Need::Root], || {
        let (group, below) = (Group::new("frozen"), "below");
        let inner = group.0.join(below);
        fs::create_dir(&inner).unwrap();
        group.freeze(true);
        for path in [&group.0, &inner] {
            let error = sh("exit 0").cgroup(File::open(path).unwrap()).status().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), "cannot start a program in a frozen cgroup");
        }
        let of_the_child = Group::new("not-frozen");
        let mut command = sh("exit 0");
        command.cgroup(File::open(&of_the_child.0).unwrap()).monitor_cgroup(File::open(&inner).unwrap());
        let error = command.spawn().unwrap_err();
        assert_eq!(error.to_string(), "cannot start a launcher in a frozen cgroup");
        group.freeze(false);
        assert!(sh("exit 0").cgroup(File::open(&inner).unwrap()).status().unwrap().success(), "thawed");
        fs::remove_dir(inner).unwrap();
    });
}

#[test]
fn a_group_that_is_frozen_and_thawed_all_the_time_delays_starts_and_hangs_none() {
    kernel_test(&[Need::Root], || {
        let group = Group::new("toggled");
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    group.freeze(true);
                    thread::sleep(Duration::from_micros(300));
                    group.freeze(false);
                    thread::sleep(Duration::from_micros(700));
                }
            });
            let (mut started, mut refused) = (0, 0);
            while started < 40 {
                match group.start(sh("exit 6").unshare([Namespace::Pid, Namespace::Mount])) {
                    Ok(mut child) => {
                        assert_eq!(child.wait().unwrap().code(), Some(6));
                        started += 1;
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
                        refused += 1;
                        assert!(refused < 10_000, "never thawed");
                    }
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn an_ignored_sigchld_and_a_thread_that_waits_for_every_child_lose_no_status() {
    kernel_test(&[Need::Root], || {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    rustix::process::wait(WaitOptions::NOHANG).ok();
                    thread::sleep(Duration::from_micros(100));
                }
            });
            for _ in 0..20 {
                assert_eq!(sh("exit 9").status().unwrap().code(), Some(9));
                let output = sh("echo out; kill -9 $$").output().unwrap();
                assert_eq!(output.stdout, b"out\n");
                assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(9));
            }
            done.store(true, Ordering::Relaxed);
        });
        // SAFETY: of this process, which has no other use of it; no handler runs.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        for _ in 0..20 {
            assert_eq!(sh("exit 9").status().unwrap().code(), Some(9));
            let mut child = sh("exit 3").spawn().unwrap();
            assert_eq!(child.wait_timeout(Duration::from_secs(20)).unwrap().and_then(|s| s.code()), Some(3));
            drop(Command::new("sleep").arg("1000").spawn().unwrap());
        }
    });
}

#[test]
fn a_program_outlives_the_thread_that_started_it() {
    kernel_test(&[Need::Root], || {
        let start =
            || sh("read line; echo $line").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut child = thread::spawn(start).join().unwrap();
        // PR_SET_PDEATHSIG of the caller's thread would have killed it here.
        thread::sleep(Duration::from_millis(50));
        assert_eq!(child.try_wait().unwrap(), None);
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"alive\n").unwrap();
        assert_eq!(child.wait_with_output().unwrap().stdout, b"alive\n");
    });
}

#[test]
fn a_monitor_that_is_killed_takes_the_program_along_and_the_caller_is_told() {
    kernel_test(&[Need::Root], || {
        let mut child = sh("sleep 1000").unshare([Namespace::Pid]).spawn().unwrap();
        let program =
            pidfd_open(Pid::from_raw(child.id().cast_signed()).unwrap(), PidfdFlags::empty()).unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap();
        kill_process(Pid::from_raw(parent.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
        let error = child.wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost);
        assert_eq!(error.to_string(), "nobody knows how the program ended: its monitor was killed");
        let mut ended =
            [rustix::event::PollFd::from_borrowed_fd(program.as_fd(), rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut ended, Some(&limit)).unwrap(), 1, "the program ends with it");
    });
}

#[test]
fn where_a_filter_refuses_clone3_a_program_starts_in_its_namespaces_and_its_group_all_the_same() {
    kernel_test(&[Need::Root], || {
        let group = Group::new("old-clone");
        let script = "cat /proc/self/cgroup; readlink /proc/self/ns/uts";
        let start = || {
            let mut command = sh(script);
            let file = File::open(&group.0).unwrap();
            let output = command.unshare([Namespace::Uts, Namespace::Pid]).cgroup(file).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let own = fs::read_link("/proc/thread-self/ns/uts").unwrap();
        let name = group.0.file_name().unwrap().to_string_lossy();
        let is_in = |text: &str| text.contains(&*name) && !text.contains(&*own.to_string_lossy());
        assert!(is_in(&start()), "the positive control");
        let without = || {
            testkit::without_system_call(libc::SYS_clone3, libc::ENOSYS);
            start()
        };
        let text = thread::scope(|scope| scope.spawn(without).join()).unwrap();
        assert!(is_in(&text), "{text}");
    });
}

#[test]
fn a_monitor_has_the_group_that_was_said_also_where_a_filter_refuses_clone3() {
    kernel_test(&[Need::Root], || {
        let (own, other) = (Group::new("of-the-monitor"), Group::new("of-the-child"));
        let start = |own: Option<&Group>| {
            let mut command = sh("cat /proc/self/cgroup; echo; cat /proc/$PPID/cgroup");
            own.map(|group| command.monitor_cgroup(File::open(&group.0).unwrap()));
            let output = command.cgroup(File::open(&other.0).unwrap()).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let is_in = |part: &str, name: &str| part.contains(&format!("/isolate-{name}-"));
            let (child, monitor) = text.split_once("\n\n").unwrap();
            assert!(is_in(child, "of-the-child") && !is_in(monitor, "of-the-child"), "{text}");
            is_in(monitor, "of-the-monitor")
        };
        assert!(!start(None), "the positive control: in the caller's");
        assert!(start(Some(&own)));
        let without = || {
            testkit::without_system_call(libc::SYS_clone3, libc::ENOSYS);
            start(Some(&own))
        };
        assert!(thread::scope(|scope| scope.spawn(without).join()).unwrap());
    });
}

#[test]
fn a_monitor_whose_group_is_frozen_and_thawed_all_the_time_hangs_no_start() {
    kernel_test(&[Need::Root], || {
        let (group, other, stop) = (Group::new("froze"), Group::new("of-the-child"), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    group.freeze(true);
                    thread::sleep(Duration::from_millis(45));
                    group.freeze(false);
                    thread::sleep(Duration::from_millis(20));
                }
            });
            let (mut well, mut refused) = (0, 0);
            while well < 20 || refused < 20 {
                let mut command = sh("exit 7");
                command.monitor_cgroup(File::open(&group.0).unwrap());
                match command.cgroup(File::open(&other.0).unwrap()).spawn() {
                    Ok(child) => {
                        well += 1;
                        drop(child);
                    }
                    Err(error) => {
                        refused += 1;
                        assert_eq!(error.to_string(), "cannot start a launcher in a frozen cgroup");
                    }
                }
                thread::sleep(Duration::from_millis(1));
            }
            stop.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn a_monitor_for_which_there_is_no_memory_is_an_error_and_the_caller_goes_on() {
    kernel_test(&[Need::Root, Need::Cgroup2], || {
        let (group, other) = (Group::new("no-memory"), Group::new("of-the-child"));
        fs::write(group.0.join("../cgroup.subtree_control"), "+memory").unwrap();
        let start = || {
            let mut command = sh("exit 7");
            command.monitor_cgroup(File::open(&group.0).unwrap());
            command.cgroup(File::open(&other.0).unwrap()).status()
        };
        assert_eq!(start().unwrap().code(), Some(7), "the positive control");
        for as_one in ["0", "1"] {
            fs::write(group.0.join("memory.oom.group"), as_one).unwrap();
            fs::write(group.0.join("memory.max"), "0").unwrap();
            for _ in 0..20 {
                let error = start().unwrap_err();
                println!("{as_one}: {error}");
            }
            fs::write(group.0.join("memory.max"), "max").unwrap();
            assert_eq!(start().unwrap().code(), Some(7), "{as_one}");
        }
    });
}

#[test]
fn into_namespaces_that_are_there_a_child_is_born_in_the_callers_group() {
    kernel_test(&[Need::Root], || {
        let map = || IdMap::range(0, 0x7000_0000, 65_536);
        let maker =
            sh("exit 0").unshare([Namespace::Net]).uid_map(map()).gid_map(map()).spawn_held().unwrap();
        let open = |kind: &str| OwnedFd::from(File::open(format!("/proc/{}/ns/{kind}", maker.id())).unwrap());
        let (user, network) = (open("user"), open("net"));
        drop(maker);
        let group = Group::new("there");
        let script = "cat /proc/self/cgroup; for n in user net uts; do readlink /proc/self/ns/$n; done; \
                      id -u; readlink /proc/$PPID/ns/user /proc/$PPID/ns/net || true";
        let start = || {
            let mut command = sh(script);
            command.join_user(user.try_clone().unwrap(), [0x7000_0000; 2]);
            command.join_network(network.try_clone().unwrap()).unshare([Namespace::Uts]).loopback_up();
            let output = command.cgroup(File::open(&group.0).unwrap()).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let is_there = |text: &str| {
            let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
            let own = fs::read_link("/proc/thread-self/ns/uts").unwrap();
            let [user, network] = [inode(&user), inode(&network)];
            assert!(text.contains(&*group.0.file_name().unwrap().to_string_lossy()), "{text}");
            assert!(text.contains("\n0\n"), "root inside: {text}");
            // The monitor cannot be read from there, whoever is root.
            assert_eq!(text.matches(&format!("user:[{user}]")).count(), 1, "{text}");
            assert_eq!(text.matches(&format!("net:[{network}]")).count(), 1, "{text}");
            assert!(!text.contains(&*own.to_string_lossy()), "{text}");
        };
        is_there(&start());
        let without = || {
            testkit::without_system_call(libc::SYS_clone3, libc::ENOSYS);
            start()
        };
        is_there(&thread::scope(|scope| scope.spawn(without).join()).unwrap());
        let error = sh("").join_network(network).unshare([Namespace::Net]).plan().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn where_no_memory_file_may_be_executed_the_launcher_lies_on_a_tmpfs_of_its_own() {
    kernel_test(&[Need::Root], || {
        let start = || {
            // As vm.memfd_noexec=2 answers.
            testkit::without_system_call(libc::SYS_memfd_create, libc::EACCES);
            sh("exit 8").unshare([Namespace::Pid]).status().unwrap().code()
        };
        assert_eq!(thread::spawn(start).join().unwrap(), Some(8));
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains("launcher"), "it is mounted nowhere: {mounts}");
    });
}

#[test]
fn a_launcher_that_may_not_be_executed_is_an_error_that_says_so_however_it_is_waited_for() {
    kernel_test(&[Need::Root], || {
        let start = || {
            testkit::without_system_call(libc::SYS_execveat, libc::EACCES);
            let held = sh("exit 8").spawn_held().map(drop).unwrap_err();
            [sh("exit 8").status().unwrap_err(), sh("exit 8").spawn().map(drop).unwrap_err(), held]
        };
        for error in thread::spawn(start).join().unwrap() {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            assert_eq!(error.to_string(), "cannot execute the launcher: Permission denied (os error 13)");
        }
    });
}

#[test]
fn a_plan_longer_than_a_message_goes_by_a_file() {
    kernel_test(&[Need::Root], || {
        let mut command = sh("echo ${#LONG0} ${#LONG9}");
        for n in 0..10 {
            command.env(format!("LONG{n}"), "x".repeat(20_000));
        }
        assert_eq!(command.output().unwrap().stdout, b"20000 20000\n");
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a world of its own has a directory of its own")]
fn once_a_program_runs_its_monitor_keeps_no_directory_of_the_callers_and_none_of_its_pipes() {
    kernel_test(&[Need::Root], || {
        let directory = testkit::scratch();
        std::env::set_current_dir(&directory).unwrap();
        let mut child =
            sh("exec >&- 2>&-; read line").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let monitor =
            format!("/proc/{}", status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap());
        // The end of the pipe comes while the program lives: nobody else holds it.
        let mut text = String::new();
        std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut text).unwrap();
        assert_eq!(child.try_wait().unwrap(), None);
        let keeps = fs::read_dir(format!("{monitor}/fd")).unwrap().count();
        assert!(keeps <= 3, "control socket, pidfd, go pipe; it has {keeps}");
        assert_eq!(fs::read_link(format!("{monitor}/cwd")).unwrap(), Path::new("/"));
        drop(child.stdin.take());
        assert!(child.wait().unwrap().code().is_some());
    });
}
