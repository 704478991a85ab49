//! Job control: a shell starts this binary again, for one test, in the foreground or background of a terminal.

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::{Pid, getpgid, getpgrp, getppid};
use rustix::pty::ptsname;
use rustix::termios::{tcgetpgrp, tcsetpgrp};

use crate::{is_raw, modes, pair, until};

/// Set in a process that a shell with job control has started.
const JOB: &str = "ISOLATE_TEST_JOB";

/// This test in a job, which a failure there fails here.
fn job(test: &str, how: &str) {
    let (terminal, other) = pair();
    let path = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    // The leader of a session without a terminal gets the first one that it opens.
    let script = format!("exec <>{path} >&0 2>&0; set -m; \"$@\" {how}");
    let binary = env::current_exe().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a shell with job control")]
    let mut command = Command::new("setsid");
    command.args(["--wait", "/bin/sh", "-c", &script, "sh"]).arg(binary).args([test, "--exact"]);
    let mut shell = command.env(JOB, "1").stdin(Stdio::null()).spawn().unwrap();
    // Read at once, since what is not read could hold it up; and to the end, which comes when we have closed ours.
    let reader = thread::spawn(move || {
        let mut printed = String::new();
        (&terminal).read_to_string(&mut printed).unwrap();
        printed
    });
    let ok = shell.wait().unwrap().success();
    drop(other);
    let printed = reader.join().unwrap();
    assert!(ok && printed.contains("1 passed"), "{printed}");
}

#[test]
fn in_the_background_it_is_an_error_and_nobody_is_stopped() {
    if env::var_os(JOB).is_none() {
        let name = "background::in_the_background_it_is_an_error_and_nobody_is_stopped";
        return job(name, "& wait $!");
    }
    let desk = io::stdin();
    assert_ne!(tcgetpgrp(&desk).unwrap(), getpgrp(), "in the background");
    let (mut inside, _program) = pair();
    let error = inside.interact().unwrap_err();
    assert!(error.to_string().contains("in its background"), "{error}");
}

#[test]
fn one_that_gets_to_the_background_meanwhile_is_not_stopped_and_the_mode_is_back() {
    if env::var_os(JOB).is_none() {
        let name =
            "background::one_that_gets_to_the_background_meanwhile_is_not_stopped_and_the_mode_is_back";
        return job(name, "; exit $?");
    }
    let desk = File::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
    assert_eq!(tcgetpgrp(&desk).unwrap(), getpgrp(), "in the foreground");
    let before = modes(&desk);
    let (mut inside, program) = pair();
    thread::scope(|scope| {
        let interaction = scope.spawn(move || inside.interact());
        until("raw", || is_raw(&desk));
        let shell: Pid = getpgid(getppid()).unwrap();
        tcsetpgrp(&desk, shell).unwrap();
        drop(program);
        interaction.join().unwrap().unwrap();
    });
    assert_ne!(tcgetpgrp(&desk).unwrap(), getpgrp(), "in the background");
    assert_eq!(modes(&desk), before);
}
