//! The interactive walk: a shell in a container on a terminal, and by exec, typed by a driver.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use isolate::{Mount, Terminal, User, WindowSize};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, tcgetattr};
use testkit::{Need, kernel_test};

use crate::common::{NEEDS, sh};

const BASH: &[Need] =
    &[Need::Root, Need::Overlay, Need::Program("bash"), Need::Program("ps"), Need::Program("busybox")];

/// Types, and reads what comes.
struct Driver {
    terminal: Terminal,
    seen: String,
}

impl Driver {
    fn new(terminal: Terminal) -> Self {
        Self { terminal, seen: String::new() }
    }

    fn send(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads until this is there, and gives what came before it, beyond the last time.
    fn until(&mut self, marker: &str) -> String {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(at) = self.seen.find(marker) {
                let rest = self.seen.split_off(at + marker.len());
                let before = std::mem::replace(&mut self.seen, rest);
                return before[..at].to_owned();
            }
            assert!(Instant::now() < end, "no {marker:?} in {:?}", self.seen);
            let mut poll = [rustix::event::PollFd::new(&self.terminal, rustix::event::PollFlags::IN)];
            let second = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
            if rustix::event::poll(&mut poll, Some(&second)).unwrap() > 0 {
                let mut buffer = [0; 4096];
                let count = self.terminal.read(&mut buffer).unwrap();
                assert!(count > 0, "ended without {marker:?}: {:?}", self.seen);
                self.seen += &String::from_utf8_lossy(&buffer[..count]);
            }
        }
    }

    /// What a command prints. The marker is typed in two parts, so that its echo is none.
    fn run(&mut self, command: &str) -> String {
        self.send(&format!("echo be''gin; {command}; echo e''nd\n"));
        self.until("begin\r\n");
        self.until("end\r\n").replace("\r\n", "\n")
    }
}

fn walk(shell: &mut Driver, first: &[&str]) {
    shell.send("PS1=; stty -echo\n");
    assert!(shell.run("tty").starts_with("/dev/pts/"));
    let processes = shell.run("ps -ef | grep -v grep");
    for name in first {
        assert!(processes.contains(name), "{name} in {processes}");
    }
    assert!(processes.lines().count() <= 8, "only its own: {processes}");
    assert_eq!(shell.run("stty size"), "24 80\n");
    // At each prompt readline reads the size and sets it again (rltty.c, set_winsize): one that comes in between is lost.
    let resized = (0..5).any(|_| {
        shell.terminal.resize(WindowSize::new(50, 132)).unwrap();
        shell.run("stty size") == "50 132\n"
    });
    assert!(resized);
    // Ctrl-C: the job in the foreground, and not the shell.
    shell.send("echo be''gin; sleep 100; echo status $?; echo e''nd\n");
    shell.until("begin\r\n");
    std::thread::sleep(Duration::from_millis(300));
    shell.send("\x03");
    // An interrupted list goes no further in bash.
    assert_eq!(shell.run("echo alive; ps -e | grep -c sleep"), "alive\n0\n");
    shell.send("exit 7\n");
}

#[test]
fn the_interactive_walk_on_its_own_terminal_and_by_exec() {
    kernel_test(BASH, || {
        let mut container = isolate::Container::builder()
            .command(["bash", "--norc", "-i"])
            .terminal(WindowSize::new(24, 80))
            .start()
            .unwrap();
        let mut shell = Driver::new(container.terminal.take().unwrap());
        assert_eq!(
            shell.run("tty; readlink /proc/self/fd/1; echo x > /dev/console"),
            "/dev/pts/0\n/dev/pts/0\nx\n"
        );

        let mut exec =
            container.exec("bash").args(["--norc", "-i"]).terminal(WindowSize::new(24, 80)).spawn().unwrap();
        let mut second = Driver::new(exec.terminal.take().unwrap());
        walk(&mut second, &["init", "bash", "ps"]);
        assert_eq!(exec.wait().unwrap().code(), Some(7));

        walk(&mut shell, &["init", "bash", "ps"]);
        assert_eq!(container.wait().unwrap().code(), Some(7));
        container.remove().unwrap();
    });
}

#[test]
fn a_terminal_belongs_to_the_user_who_sits_at_it() {
    kernel_test(BASH, || {
        let mut container = sh("stat -c %u $(tty); id -u; read x")
            .user(User::id_and_group(1000, 1000))
            .terminal(WindowSize::default())
            .start()
            .unwrap();
        let mut driver = Driver::new(container.terminal.take().unwrap());
        driver.until("1000\r\n1000\r\n");
        drop(driver);
        container.remove().unwrap();
    });
}

#[test]
fn a_terminal_comes_from_the_containers_own_devpts_or_not_at_all() {
    kernel_test(NEEDS, || {
        let on = |mount: Option<Mount>| {
            let container = sh("tty").terminal(WindowSize::default());
            mount.into_iter().fold(container, isolate::ContainerBuilder::mount).start()
        };
        let error = on(Some(Mount::tmpfs("/dev/pts"))).unwrap_err();
        assert!(error.to_string().contains("open a terminal on /dev/pts"), "{error}");
        // A multiplexer of the right number that is no devpts's.
        let fake = testkit::scratch();
        let device = fake.join("ptmx");
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            &device,
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::from_raw_mode(0o666),
            rustix::fs::makedev(5, 2),
        );
        made.unwrap();
        let error = on(Some(Mount::bind(&fake, "/dev/pts"))).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("open a terminal on /dev/pts") || text.contains("unlock the terminal"),
            "{text}"
        );
        on(None).unwrap().remove().unwrap();
    });
}

/// A terminal of the test's: what a person would sit at.
fn outer() -> (OwnedFd, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let slave = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty()).unwrap();
    (master, slave)
}

fn settings(terminal: impl AsFd) -> String {
    let Termios { input_modes, output_modes, control_modes, local_modes, .. } = tcgetattr(terminal).unwrap();
    format!("{input_modes:?} {output_modes:?} {control_modes:?} {local_modes:?}")
}

/// The program below, when this is set: what it does while it sits at a container's terminal.
const INTERACT: &str = "ISOLATE_TEST_INTERACT";

#[test]
fn the_callers_terminal_is_as_before_also_after_a_panic() {
    if let Ok(what) = std::env::var(INTERACT) {
        return interact(&what);
    }
    kernel_test(BASH, || {
        for (what, keys, code) in
            [("leave", "exit 3\n", 3), ("panic", "exit 4\n", 101), ("killed", "kill -9 $$\n", 9)]
        {
            let (master, slave) = outer();
            let before = settings(&slave);
            let copy = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "terminal::the_callers_terminal_is_as_before_also_after_a_panic",
                    "--nocapture",
                ])
                .env(INTERACT, what)
                .stdin(copy(&slave))
                .stdout(copy(&slave))
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut driver = Driver::new(Terminal::try_from(master.try_clone().unwrap()).unwrap());
            driver.until("inside");
            assert_ne!(settings(&slave), before, "raw while it sits there");
            driver.send(keys);
            let status = child.wait().unwrap();
            assert_eq!(status.code().or(status.signal()), Some(code), "{what}");
            assert_eq!(settings(&slave), before, "{what}");
        }
    });
}

fn interact(what: &str) {
    let mut container = isolate::Container::builder()
        .command(["bash", "--norc", "-i"])
        .terminal(WindowSize::of_stdin().unwrap_or_default())
        .env("PS1", "inside ")
        .start()
        .unwrap();
    let mut terminal = container.terminal.take().unwrap();
    terminal.interact().unwrap();
    let status = container.wait().unwrap();
    container.remove().unwrap();
    assert_ne!(what, "panic", "as it was told");
    std::process::exit(status.code().or(status.signal()).unwrap_or(0));
}
