//! Both ways at once, to the end of either.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

use isolate_namespaces::{Terminal, WindowSize};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{OptionalActions, SpecialCodeIndex, isatty, tcgetattr, tcsetattr};

use crate::{alone, is_raw, modes, pair, raw, shared, until};

#[test]
fn a_person_types_and_sees_and_the_mode_is_back_at_the_end() {
    let _binary = shared();
    let (mut person, desk) = pair();
    let (mut terminal, program) = pair();
    person.resize(WindowSize::new(50, 200)).unwrap();
    let before = modes(&desk);
    thread::scope(|scope| {
        let interaction = scope.spawn(|| terminal.interact_with(&desk, &desk));
        until("raw", || is_raw(&desk));
        person.write_all(b"a line\n\x04").unwrap();
        assert!(run_on(program, "cat; stty size").success());
        interaction.join().unwrap().unwrap();
    });
    assert_eq!(modes(&desk), before);
    drop(desk);
    let mut seen = String::new();
    person.read_to_string(&mut seen).unwrap();
    assert!(seen.starts_with("a line\r\na line\r\n"), "the program's echo, then cat: {seen:?}");
    assert!(seen.ends_with("50 200\r\n"), "{seen:?}");
}

#[expect(clippy::disallowed_methods, reason = "programs of the tests")]
fn run_on(terminal: File, script: &str) -> ExitStatus {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).stdin(terminal.try_clone().unwrap()).stdout(terminal);
    command.status().unwrap()
}

const MEBIBYTE: usize = 1 << 20;

/// 1 MiB each way at once, of programs that read and write at their own pace.
fn flood(
    mut terminal: Terminal,
    program: File,
    near: BorrowedFd<'_>,
    far: (impl Read + Send, impl Write + Send),
) {
    raw(&program);
    let pattern: Vec<u8> = (0..MEBIBYTE).map(|n| (n % 251) as u8).collect();
    let read = |mut from: Box<dyn Read + Send + '_>| {
        let mut all = vec![0; MEBIBYTE];
        from.read_exact(&mut all).unwrap();
        assert!(all == pattern);
    };
    let (mut typing, seeing) = (far.1, far.0);
    thread::scope(|scope| {
        let interaction = scope.spawn(move || terminal.interact_with(near, near));
        let mut printing = program.try_clone().unwrap();
        let printer = scope.spawn(move || {
            printing.write_all(&(0..MEBIBYTE).map(|n| (n % 251) as u8).collect::<Vec<_>>()).unwrap();
        });
        let typist = scope.spawn(|| {
            // Until the input is raw the terminal would echo it.
            until("raw", || !isatty(near) || is_raw(near));
            typing.write_all(&pattern).unwrap();
        });
        let viewer = scope.spawn(|| read(Box::new(seeing)));
        read(Box::new(&program));
        printer.join().unwrap();
        typist.join().unwrap();
        drop(program);
        viewer.join().unwrap();
        interaction.join().unwrap().unwrap();
    });
}

#[test]
fn a_mebibyte_each_way_at_once_through_a_socket() {
    let (near, far) = UnixStream::pair().unwrap();
    let (terminal, program) = pair();
    flood(terminal, program, near.as_fd(), (far.try_clone().unwrap(), &far));
    assert!(!fcntl_getfl(&near).unwrap().contains(OFlags::NONBLOCK));
}

#[test]
fn a_mebibyte_each_way_at_once_through_a_terminal() {
    let _binary = shared();
    let (person, desk) = pair();
    let (terminal, program) = pair();
    flood(terminal, program, desk.as_fd(), (&person, &person));
    assert!(!fcntl_getfl(&desk).unwrap().contains(OFlags::NONBLOCK));
}

#[test]
fn descriptors_that_do_not_wait_will_do_and_stay_so() {
    let _binary = shared();
    let (person, desk) = pair();
    let (terminal, program) = pair();
    fcntl_setfl(&desk, fcntl_getfl(&desk).unwrap() | OFlags::NONBLOCK).unwrap();
    flood(terminal, program, desk.as_fd(), (&person, &person));
    assert!(fcntl_getfl(&desk).unwrap().contains(OFlags::NONBLOCK));
}

/// What a program that reads lines gets of an input that ends: each read, up to the end and one beyond.
fn lines_of(input: &[u8]) -> Vec<Vec<u8>> {
    let (mut terminal, mut program) = pair();
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(input).unwrap();
    drop(writer);
    let null = File::options().write(true).open("/dev/null").unwrap();
    thread::scope(|scope| {
        let interaction = scope.spawn(move || terminal.interact_with(&reader, &null));
        let mut reads: Vec<Vec<u8>> = Vec::new();
        while reads.last().is_none_or(|last| !last.is_empty()) {
            let mut line = vec![0; 80];
            let count = program.read(&mut line).unwrap();
            line.truncate(count);
            reads.push(line);
        }
        assert!(!interaction.is_finished(), "the program's output still counts");
        fcntl_setfl(&program, fcntl_getfl(&program).unwrap() | OFlags::NONBLOCK).unwrap();
        thread::sleep(Duration::from_millis(20));
        let beyond = program.read(&mut [0; 8]).unwrap_err().kind();
        assert_eq!(beyond, io::ErrorKind::WouldBlock, "no end of file is left for the next reader");
        drop(program);
        interaction.join().unwrap().unwrap();
        reads
    })
}

#[test]
fn an_input_that_ends_is_one_end_of_file_for_a_program_that_reads_lines() {
    assert_eq!(lines_of(b"one\ntwo\n"), [&b"one\n"[..], b"two\n", b""]);
    assert_eq!(lines_of(b"no newline"), [&b"no newline"[..], b""]);
    assert_eq!(lines_of(b""), [&b""[..]]);
}

#[test]
fn a_program_without_that_character_is_typed_none() {
    let (mut terminal, program) = pair();
    let mut mode = tcgetattr(&program).unwrap();
    mode.make_raw();
    mode.special_codes[SpecialCodeIndex::VEOF] = 0;
    tcsetattr(&program, OptionalActions::Now, &mode).unwrap();
    let null = File::open("/dev/null").unwrap();
    let (mut seen, output) = io::pipe().unwrap();
    thread::scope(|scope| {
        let interaction = scope.spawn(move || terminal.interact_with(&null, &output));
        (&program).write_all(b"still here").unwrap();
        seen.read_exact(&mut [0; 10]).unwrap();
        fcntl_setfl(&program, fcntl_getfl(&program).unwrap() | OFlags::NONBLOCK).unwrap();
        thread::sleep(Duration::from_millis(20));
        assert_eq!((&program).read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(program);
        interaction.join().unwrap().unwrap();
    });
}

#[test]
fn after_an_error_the_mode_is_back_and_the_program_goes_on() {
    let _binary = shared();
    let (_person, desk) = pair();
    let (mut terminal, mut program) = pair();
    let before = modes(&desk);
    let (reader, writer) = io::pipe().unwrap();
    thread::scope(|scope| {
        let interaction = scope.spawn(|| terminal.interact_with(&desk, &writer));
        until("raw", || is_raw(&desk));
        drop(reader);
        program.write_all(b"for nobody").unwrap();
        let error = interaction.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert!(error.to_string().starts_with("cannot write the terminal's output: "), "{error}");
    });
    assert_eq!(modes(&desk), before);
    let (mut reader, writer) = io::pipe().unwrap();
    program.write_all(b"again").unwrap();
    drop(program);
    terminal.interact_with(&desk, &writer).unwrap();
    drop(writer);
    let mut seen = String::new();
    reader.read_to_string(&mut seen).unwrap();
    assert!(seen.ends_with("again"), "{seen:?}");
}

#[test]
fn an_output_that_nobody_reads_holds_up_neither_the_input_nor_the_window() {
    let _binary = alone();
    let (person, desk) = pair();
    let (mut terminal, program) = pair();
    let clone = terminal.try_clone().unwrap();
    raw(&program);
    let (mut reader, writer) = io::pipe().unwrap();
    thread::scope(|scope| {
        let interaction = scope.spawn(|| {
            let done = terminal.interact_with(&desk, &writer);
            drop(writer);
            done
        });
        until("raw", || is_raw(&desk));
        let mut printing = program.try_clone().unwrap();
        let printer = scope.spawn(move || printing.write_all(&vec![b'x'; 300_000]).unwrap());
        thread::sleep(Duration::from_millis(100));
        assert!(!printer.is_finished(), "more than all buffers hold");
        (&person).write_all(b"typed").unwrap();
        (&program).read_exact(&mut [0; 5]).unwrap();
        person.resize(WindowSize::new(11, 22)).unwrap();
        kill_process(getpid(), Signal::WINCH).unwrap();
        until("the size is followed", || clone.size().unwrap() == WindowSize::new(11, 22));
        let seen = scope.spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all.len()
        });
        printer.join().unwrap();
        drop(program);
        interaction.join().unwrap().unwrap();
        assert_eq!(seen.join().unwrap(), 300_000);
    });
}
