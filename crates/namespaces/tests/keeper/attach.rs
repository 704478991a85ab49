//! Output and input of others.

use std::io::Write;
use std::thread;

use isolate_namespaces::{
    Attachment, Command, KeptEnd, KeptState, Mount, Namespace, Output, Stdio, WindowSize,
};
use testkit::{Need, busybox_root, kernel_test, scratch};

use super::{Place, no_children_are_left, sh, until};

/// Up to the end: standard output, standard error, bytes lost, the last state.
fn all(attachment: &Attachment) -> (Vec<u8>, Vec<u8>, u64, Option<KeptState>) {
    let (mut stdout, mut stderr, mut lost, mut last) = (Vec::new(), Vec::new(), 0, None);
    while let Some(output) = attachment.read().unwrap() {
        match output {
            Output::Stdout(bytes) => stdout.extend(bytes),
            Output::Stderr(bytes) => stderr.extend(bytes),
            Output::Lost(count) => lost += count,
            Output::Ended(state) => last = Some(*state),
            other => panic!("{other:?}"),
        }
    }
    (stdout, stderr, lost, last)
}

/// Until the output has this in it.
fn read_until(attachment: &Attachment, wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        match attachment.read().unwrap() {
            Some(Output::Stdout(bytes)) => text += &String::from_utf8_lossy(&bytes),
            other => panic!("{other:?} after {text}"),
        }
    }
    text
}

#[test]
fn what_is_written_goes_in_and_what_the_program_writes_comes_out_to_all() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        let child = sh("cat; echo err >&2; exit 6").stdin(Stdio::piped()).spawn().unwrap();
        child.hand_over(&place.keeper().log(8 << 20, 1)).unwrap();
        let (one, other) = (place.kept().attach().unwrap(), place.kept().attach().unwrap());
        assert!(!one.is_terminal());
        assert_eq!(one.try_read().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        let bytes: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        let (first, second) = thread::scope(|scope| {
            let reader = scope.spawn(|| all(&one));
            let reader_too = scope.spawn(|| all(&other));
            (&one).write_all(&bytes).unwrap();
            one.close_stdin().unwrap();
            (reader.join().unwrap(), reader_too.join().unwrap())
        });
        for (stdout, stderr, lost, last) in [first, second] {
            let written = (bytes.len() + b"err\n".len()) as u64;
            assert_eq!((stdout.len() + stderr.len()) as u64 + lost, written, "a reader that is late is told");
            assert!(lost > 0 || stdout == bytes && stderr == b"err\n");
            assert_eq!(last.unwrap().end, Some(KeptEnd::Code(6)));
        }
        let log = std::fs::read(place.0.join("log")).unwrap();
        let mut logged = super::log::streams(&log)["stdout"].clone();
        logged.truncate(bytes.len());
        assert!(logged == bytes, "all of it is in the log");
        no_children_are_left();
    });
}

#[test]
fn who_is_attached_from_the_first_misses_nothing() {
    kernel_test(&[Need::Root], || {
        for _ in 0..20 {
            let place = Place::new();
            // Written, and ended, before there is a keeper.
            let child = sh("printf first; exit 6").stdin(Stdio::piped()).spawn().unwrap();
            thread::sleep(std::time::Duration::from_millis(5));
            let attachment = child.hand_over_attached(&place.keeper().log(1 << 20, 1)).unwrap();
            let (stdout, stderr, lost, last) = all(&attachment);
            assert_eq!((stdout.as_slice(), stderr.as_slice(), lost), (&b"first"[..], &b""[..], 0));
            assert_eq!(last.unwrap().end, Some(KeptEnd::Code(6)));
        }
        no_children_are_left();
    });
}

#[test]
fn a_client_that_does_not_read_holds_nothing_up_and_is_told_what_it_lost() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        let done = place.0.join("done");
        let script =
            format!("read go; head -c 20000000 /dev/zero; touch {}; read go; echo end", done.display());
        let child = sh(&script).stdin(Stdio::piped()).spawn().unwrap();
        child.hand_over(&place.keeper().log(1 << 20, 2)).unwrap();
        let (lazy, mut eager) = (place.kept().attach().unwrap(), place.kept().attach().unwrap());
        eager.write_all(b"go\n").unwrap();
        drop(eager);
        until("all is written", || done.exists());
        // What is in the socket is read, so that there is room for the rest.
        let (mut got, mut lost) = (0, 0);
        while let Ok(Some(Output::Stdout(bytes))) = lazy.try_read() {
            got += bytes.len() as u64;
        }
        assert!(got < 10_000_000, "{got}");
        (&lazy).write_all(b"go\n").unwrap();
        loop {
            match lazy.read().unwrap().unwrap() {
                Output::Lost(count) => lost += count,
                Output::Stdout(bytes) if bytes.ends_with(b"end\n") => break,
                Output::Stdout(bytes) => got += bytes.len() as u64,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(got + lost, 20_000_000);
        assert!(place.wait().success());
        no_children_are_left();
    });
}

#[test]
fn input_that_nobody_reads_waits_and_holds_nothing_up() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        let script = format!("while [ ! -e {}/go ]; do sleep 0.05; done; wc -c", place.0.display());
        let child = sh(&script).stdin(Stdio::piped()).spawn().unwrap();
        child.hand_over(&place.keeper().log(1 << 20, 1)).unwrap();
        let attachment = place.kept().attach().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                (&attachment).write_all(&[b'x'; 2_000_000]).unwrap();
                attachment.close_stdin().unwrap();
            });
            thread::sleep(std::time::Duration::from_millis(300));
            assert!(place.kept().state().unwrap().pid.is_some(), "it answers");
            std::fs::write(place.0.join("go"), "").unwrap();
            assert!(place.wait().success());
        });
        assert!(place.text("log").ends_with("2000000\n"), "{}", place.text("log"));
        no_children_are_left();
    });
}

#[test]
fn input_that_waits_while_another_client_closes_it_goes_nowhere_and_nobody_hangs() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        sh("exec sleep 1000").stdin(Stdio::piped()).spawn().unwrap().hand_over(&place.keeper()).unwrap();
        let (one, other) = (place.kept().attach().unwrap(), place.kept().attach().unwrap());
        thread::scope(|scope| {
            let writer = scope.spawn(|| (&one).write_all(&[b'x'; 5_000_000]).unwrap());
            thread::sleep(std::time::Duration::from_millis(200));
            assert!(!writer.is_finished(), "the pipe and the socket are full");
            other.close_stdin().unwrap();
        });
        place.end();
        no_children_are_left();
    });
}

fn on_terminal(script: &str) -> Command {
    let root = scratch().join("root");
    std::fs::create_dir(&root).unwrap();
    busybox_root(&root);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).unshare(Namespace::CONTAINER).root(root.as_path());
    command.mount(Mount::proc()).mount(Mount::dev()).mount(Mount::devpts());
    command.init(true).terminal(WindowSize::new(33, 77));
    command
}

#[test]
fn a_terminal_is_typed_at_resized_and_logged_and_there_again_after_a_restart() {
    kernel_test(&[Need::Root, Need::Program("busybox")], || {
        let place = Place::new();
        let command = on_terminal(
            "echo ready; while read line; do [ $line = die ] && exit 3; echo got $line $(stty size); done; exit 0",
        );
        let plan = command.plan().unwrap();
        let restart = isolate_namespaces::Restart::OnFailure { most: None };
        let keeper = place.keeper().log(1 << 20, 1).restart(restart).replay(&plan);
        plan.spawn().unwrap().hand_over(&keeper).unwrap();
        let attachment = place.kept().attach().unwrap();
        assert!(attachment.is_terminal() && place.kept().state().unwrap().terminal);
        (&attachment).write_all(b"one\n").unwrap();
        read_until(&attachment, "got one 33 77\r\n");
        attachment.resize(WindowSize::new(50, 100)).unwrap();
        (&attachment).write_all(b"two\n").unwrap();
        read_until(&attachment, "got two 50 100\r\n");
        (&attachment).write_all(b"die\n").unwrap();
        // Its own echo, and then the next one's greeting.
        read_until(&attachment, "ready\r\n");
        (&attachment).write_all(b"three\n").unwrap();
        read_until(&attachment, "got three 33 77\r\n");
        (&attachment).write_all(b"\x04").unwrap();
        let (.., last) = all(&attachment);
        let last = last.unwrap();
        assert_eq!((last.end, last.restarts), (Some(KeptEnd::Code(0)), 1));
        assert!(place.text("log").contains(" stdout F got two 50 100\r\n"), "{}", place.text("log"));
        no_children_are_left();
    });
}

#[test]
fn a_terminal_that_nobody_has_open_costs_nothing() {
    kernel_test(&[Need::Root, Need::Program("busybox")], || {
        let place = Place::new();
        let child = on_terminal("exec <&- >&- 2>&-; sleep 2; exit 4").init(false).spawn().unwrap();
        child.hand_over(&place.keeper().log(1 << 20, 1)).unwrap();
        let attachment = place.kept().attach().unwrap();
        (&attachment).write_all(&[b'x'; 100_000]).unwrap();
        let keeper = place.pid();
        let ticks = || {
            let stat = std::fs::read_to_string(format!("/proc/{keeper}/stat")).unwrap();
            let words: Vec<u64> =
                stat.rsplit_once(") ").unwrap().1.split(' ').filter_map(|word| word.parse().ok()).collect();
            words[10] + words[11]
        };
        let before = ticks();
        thread::sleep(std::time::Duration::from_millis(1000));
        assert!(ticks() - before < 50, "of 100 in a second");
        assert_eq!(place.wait().end, Some(KeptEnd::Code(4)));
        no_children_are_left();
    });
}
