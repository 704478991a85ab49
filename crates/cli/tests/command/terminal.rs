//! `run -it`, at a terminal of the test's.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use isolate::Terminal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use testkit::kernel_test;

use crate::common::{HERE, NEEDS, command, isolate};

/// What a person sits at: both sides.
pub(crate) fn terminal() -> (Terminal, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let slave = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty()).unwrap();
    tcsetwinsize(&slave, Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    (Terminal::try_from(master).unwrap(), slave)
}

fn settings(slave: &OwnedFd) -> String {
    let all = tcgetattr(slave).unwrap();
    format!("{:?} {:?} {:?}", all.input_modes, all.output_modes, all.local_modes)
}

/// Reads until this is there.
pub(crate) fn until(master: &mut Terminal, marker: &str) -> String {
    let (end, mut seen) = (Instant::now() + Duration::from_secs(60), String::new());
    while !seen.contains(marker) {
        assert!(Instant::now() < end, "no {marker:?} in {seen:?}");
        let mut poll = [rustix::event::PollFd::new(master, rustix::event::PollFlags::IN)];
        let second = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
        if rustix::event::poll(&mut poll, Some(&second)).unwrap() > 0 {
            let mut buffer = [0; 4096];
            let count = master.read(&mut buffer).unwrap();
            seen += &String::from_utf8_lossy(&buffer[..count]);
        }
    }
    seen
}

#[test]
fn a_shell_at_a_terminal_is_typed_at_and_the_terminal_is_as_before() {
    kernel_test(NEEDS, || {
        let (mut master, slave) = terminal();
        let before = settings(&slave);
        let side = || Stdio::from(slave.try_clone().unwrap());
        let words = [&["run", "-it", "-e", "PS1=inside> "], &HERE[1..], &["sh", "-i"]].concat();
        let mut child = command(&words).stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        until(&mut master, "inside> ");
        assert_ne!(settings(&slave), before, "raw while somebody sits there");
        master.write_all(b"echo at $(tty) $(stty size)\n").unwrap();
        until(&mut master, "at /dev/pts/0 33 99\r\n");
        master.write_all(b"sleep 100\n").unwrap();
        std::thread::sleep(Duration::from_millis(300));
        master.write_all(b"\x03").unwrap();
        until(&mut master, "inside> ");
        master.write_all(b"exit 3\n").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(3));
        assert_eq!(settings(&slave), before);
    });
}

#[test]
fn colour_is_for_terminals_alone() {
    kernel_test(NEEDS, || {
        let (mut master, slave) = terminal();
        let side = || Stdio::from(slave.try_clone().unwrap());
        let mut child = command(&["check"]).stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        until(&mut master, "\x1b[32myes");
        assert!(child.wait().unwrap().code().is_some_and(|code| code <= 1));
        let (mut master, slave) = terminal();
        let side = || Stdio::from(slave.try_clone().unwrap());
        let mut plain = command(&["run", "--no-such-flag", "x"]);
        assert_eq!(plain.env("NO_COLOR", "1").stderr(side()).status().unwrap().code(), Some(125));
        let said = until(&mut master, "--no-such-flag");
        assert!(said.contains("isolate: ") && !said.contains("\x1b[31m"), "{said}");
        assert!(!isolate(&["check"]).out.contains('\x1b'));
    });
}

#[test]
fn who_leaves_a_container_by_keys_finds_it_again() {
    kernel_test(NEEDS, || {
        let (mut master, slave) = terminal();
        let before = settings(&slave);
        let side = || Stdio::from(slave.try_clone().unwrap());
        let at = |words: &[&str]| command(words).stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        let words = [
            "run",
            "-it",
            "--name",
            "desk",
            "--network=none",
            "-e",
            "PS1=inside> ",
            "--rootfs",
            "host",
            "sh",
            "-i",
        ];
        let mut first = at(&words);
        until(&mut master, "inside> ");
        master.write_all(b"x=5; echo at $(stty size)\n").unwrap();
        until(&mut master, "at 33 99\r\n");
        assert_ne!(settings(&slave), before);
        master.write_all(b"\x10\x11").unwrap();
        assert_eq!(first.wait().unwrap().code(), Some(0), "he has left");
        assert_eq!(settings(&slave), before);
        let mut second = at(&["attach", "desk"]);
        master.write_all(b"echo still $x; exit 3\n").unwrap();
        until(&mut master, "still 5\r\n");
        assert_eq!(second.wait().unwrap().code(), Some(3));
        assert_eq!(settings(&slave), before);
        let mut third = at(&["start", "-ai", "desk"]);
        master.write_all(b"echo again $((6 * 7)); exit 4\n").unwrap();
        until(&mut master, "again 42\r\n");
        assert_eq!(third.wait().unwrap().code(), Some(4));
        let mut exec = {
            assert_eq!(isolate(&["start", "desk"]).well(), "desk\n");
            at(&["exec", "-it", "desk", "sh", "-c", "tty; exit 5"])
        };
        until(&mut master, "/dev/pts/");
        assert_eq!(exec.wait().unwrap().code(), Some(5));
        assert_eq!(isolate(&["rm", "-f", "desk"]).well(), "desk\n");
    });
}
