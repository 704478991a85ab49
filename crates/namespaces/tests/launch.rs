//! Starts, ends, and what a failed start says.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use isolate_namespaces::{Child, Command, ErrorKind, Namespace, Stdio};
use testkit::{Need, kernel_test};

fn sh(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

#[test]
fn a_status_is_the_programs_own() {
    assert!(sh("exit 0").status().unwrap().success());
    assert_eq!(sh("exit 7").status().unwrap().code(), Some(7));
    assert_eq!(sh("kill -15 $$").status().unwrap().signal(), Some(15));
    assert_eq!(sh("kill -40 $$").status().unwrap().signal(), Some(40), "a real-time signal");
}

#[test]
fn output_is_collected_from_both_pipes_beyond_their_capacity() {
    let script = "head -c 300000 /dev/zero; head -c 200000 /dev/zero >&2; exit 3";
    let output = sh(script).output().unwrap();
    assert_eq!((output.stdout.len(), output.stderr.len()), (300_000, 200_000));
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_pipe_to_standard_input_is_closed_by_wait() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"through").unwrap();
    let mut stdout = child.stdout.take().unwrap();
    assert!(child.wait().unwrap().success());
    let mut read = String::new();
    stdout.read_to_string(&mut read).unwrap();
    assert_eq!(read, "through");
}

#[test]
fn the_environment_is_the_callers_with_what_was_said() {
    let text = |command: &mut Command| String::from_utf8(command.output().unwrap().stdout).unwrap();
    let all = text(Command::new("/usr/bin/env").env("ADDED", "1").env_remove("HOME"));
    assert!(all.contains("ADDED=1\n") && all.contains("PATH=") && !all.contains("\nHOME="), "{all}");
    assert_eq!(text(Command::new("/usr/bin/env").env_clear().env("A", "b c")), "A=b c\n");
}

#[test]
fn a_program_is_looked_up_in_the_childs_path_not_the_callers() {
    let directory = std::env::temp_dir().join(format!("path-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    std::os::unix::fs::symlink("/bin/true", directory.join("only-here")).unwrap();
    let error = Command::new("only-here").status().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ProgramNotFound);
    assert!(Command::new("only-here").env("PATH", &directory).status().unwrap().success());
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn what_cannot_be_executed_is_an_error_that_names_it_and_gives_a_hint() {
    let error = Command::new("/no/such/program").status().unwrap_err();
    assert_eq!(error.to_string(), "cannot execute /no/such/program: No such file or directory (os error 2)");
    assert_eq!(error.kind(), ErrorKind::ProgramNotFound);
    assert!(format!("{error:?}").contains("\n  hint: "));

    let error = Command::new("/etc/passwd").status().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotExecutable);
    assert!(error.hint().unwrap().contains("not executable"));

    let error = Command::new("true").current_dir("/no/such").status().unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot enter the working directory /no/such: No such file or directory (os error 2)"
    );
}

#[test]
fn a_setting_that_cannot_be_is_refused_before_anything_starts() {
    let invalid = |command: &mut Command| command.plan().unwrap_err();
    for error in [
        invalid(&mut Command::new("")),
        invalid(Command::new("true").env("A=B", "c")),
        invalid(Command::new("true").arg("a\0b")),
        invalid(Command::new("true").hostname("x".repeat(65))),
        invalid(Command::new("true").mount(isolate_namespaces::Mount::tmpfs("relative", 4096))),
        invalid(Command::new("true").mount(isolate_namespaces::Mount::tmpfs("/a/../b", 4096))),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert_eq!(Command::new("true").root("/no/such").plan().unwrap_err().kind(), ErrorKind::NotFound);
    assert!(Command::new("true").root("/etc/passwd").plan().is_err());
}

#[test]
fn dropping_a_child_kills_it_and_detaching_does_not() {
    let child = Command::new("sleep").arg("1000").spawn().unwrap();
    let id = child.id();
    assert!(Path::new(&format!("/proc/{id}")).exists());
    drop(child);
    assert!(!Path::new(&format!("/proc/{id}")).exists());

    let child = Command::new("sleep").arg("1000").spawn().unwrap();
    let pidfd = child.as_fd().try_clone_to_owned().unwrap();
    let id = child.detach().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(Path::new(&format!("/proc/{id}/stat")).exists(), "a detached program goes on");
    rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL).unwrap();
    // The next use reaps the detached monitor.
    testkit_wait(|| {
        Command::new("true").status().unwrap();
        own_children().is_empty()
    });
}

#[test]
fn the_end_can_be_polled_and_the_status_is_there_then() {
    let mut child = sh("read line; exit 4").stdin(Stdio::piped()).spawn().unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    assert_eq!(child.wait_timeout(Duration::from_millis(20)).unwrap(), None);
    drop(child.stdin.take());
    rustix::event::poll(&mut [rustix::event::PollFd::new(&child, rustix::event::PollFlags::IN)], None)
        .unwrap();
    assert_eq!(child.try_wait().unwrap().and_then(|status| status.code()), Some(4));
    assert_eq!(child.wait().unwrap().code(), Some(4), "and stays");
    assert!(child.usage().is_some());
}

#[test]
fn a_plan_can_be_carried_out_again() {
    kernel_test(&[Need::Root], || {
        let mut command = sh("exit 5");
        let plan = command.unshare([Namespace::Uts, Namespace::Mount]).hostname("again").plan().unwrap();
        for _ in 0..3 {
            assert_eq!(plan.spawn().unwrap().wait().unwrap().code(), Some(5));
        }
    });
}

#[test]
fn a_held_child_waits_in_its_namespaces() {
    kernel_test(&[Need::Root], || {
        let held = sh("hostname").unshare([Namespace::Uts]).stdout(Stdio::piped()).spawn_held().unwrap();
        let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/uts")).unwrap();
        assert_ne!(of(&held.id().to_string()), of("thread-self"));
        let output = held.release().unwrap().wait_with_output().unwrap();
        assert!(output.status.success());

        let held = sh("exit 0").spawn_held().unwrap();
        let id = held.id();
        drop(held);
        assert!(!Path::new(&format!("/proc/{id}")).exists(), "dropping it kills the child");

        let error = Command::new("/no/such").spawn_held().unwrap().release().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ProgramNotFound);
    });
}

#[test]
fn the_caller_stays_as_it_is() {
    kernel_test(&[Need::Root], || {
        let before = caller();
        for _ in 0..3 {
            sh("exit 0").unshare(Namespace::CONTAINER).hostname("other").loopback_up().status().unwrap();
            Command::new("/no/such").unshare(Namespace::CONTAINER).status().unwrap_err();
            drop(Command::new("sleep").arg("100").spawn().unwrap());
        }
        assert_eq!(caller(), before);
    });
}

/// What a start could change of its caller: namespaces, directory, umask, signals, host name, open descriptors.
fn caller() -> Vec<String> {
    // Makes the launcher's file, which a process keeps.
    Command::new("true").status().unwrap();
    let mut all: Vec<String> = std::fs::read_dir("/proc/thread-self/ns")
        .unwrap()
        .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
        .collect();
    all.sort();
    all.push(std::env::current_dir().unwrap().display().to_string());
    all.push(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap());
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    all.extend(
        status
            .lines()
            .filter(|l| l.starts_with("Sig") && !l.starts_with("SigQ") || l.starts_with("Umask"))
            .map(str::to_owned),
    );
    all.push(std::fs::read_dir("/proc/thread-self/fd").unwrap().count().to_string());
    all.push(own_children().join(" "));
    all.extend(std::env::vars_os().map(|(key, value)| format!("{}={}", key.display(), value.display())));
    all
}

fn own_children() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let children =
        tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default());
    children.flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn testkit_wait(mut until: impl FnMut() -> bool) {
    for _ in 0..500 {
        if until() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not within 5 s");
}

#[expect(dead_code, reason = "that a child can be sent to another thread is checked by the compiler")]
fn a_child_is_send(child: Child) -> impl Send {
    child
}
