//! The log: lines, pieces, files.

use std::collections::BTreeMap;
use std::fs;

use isolate_namespaces::ErrorKind;
use testkit::{Need, kernel_test};

use super::{Place, no_children_are_left, sh};

/// Each stream as it was written, put together from the lines of a log; checks the form of each.
pub(crate) fn streams(log: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut all: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let log = log.strip_suffix(b"\n").unwrap_or(log);
    for line in log.split(|byte| *byte == b'\n').filter(|_| !log.is_empty()) {
        let mut words = line.splitn(4, |byte| *byte == b' ');
        let mut word = || words.next().expect("four words");
        let (time, stream, tag, text) = (word(), word(), word(), word());
        let form: Vec<u8> =
            time.iter().map(|byte| if byte.is_ascii_digit() { b'0' } else { *byte }).collect();
        assert_eq!(form, b"0000-00-00T00:00:00.000000000Z", "{}", String::from_utf8_lossy(line));
        let into = all.entry(String::from_utf8(stream.to_vec()).unwrap()).or_default();
        into.extend_from_slice(text);
        match tag {
            b"F" => into.push(b'\n'),
            b"P" => {}
            other => panic!("a tag {}", String::from_utf8_lossy(other)),
        }
    }
    all
}

#[test]
fn both_streams_are_in_the_log_with_the_time_of_each_line() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        let child = sh("echo one; echo two >&2; echo; printf three").spawn().unwrap();
        child.hand_over(&place.keeper().log(1 << 20, 2)).unwrap();
        assert!(place.wait().success());
        let streams = streams(&fs::read(place.0.join("log")).unwrap());
        assert_eq!(streams["stdout"], b"one\n\nthree", "a line that is not ended stays so");
        assert_eq!(streams["stderr"], b"two\n");
        let log = place.text("log");
        let date = sh("date -u +%Y-%m-%d").output().unwrap().stdout;
        assert!(
            log.starts_with(&date.escape_ascii().to_string()[..10]),
            "{log}, today's; fails once if midnight is now"
        );
        no_children_are_left();
    });
}

#[test]
fn long_lines_are_in_pieces_and_bytes_are_the_programs() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        let script = "i=0; while [ $i -lt 3000 ]; do printf 0123456789; i=$((i+1)); done; echo; printf '\\377\\000\\r\\nx\\n'";
        sh(script).spawn().unwrap().hand_over(&place.keeper().log(1 << 20, 2)).unwrap();
        assert!(place.wait().success());
        let log = fs::read(place.0.join("log")).unwrap();
        let mut wanted = b"0123456789".repeat(3000);
        wanted.extend_from_slice(b"\n\xff\0\r\nx\n");
        assert_eq!(streams(&log)["stdout"], wanted);
        let pieces = log
            .split(|byte| *byte == b'\n')
            .filter(|line| line.get(30..).is_some_and(|rest| rest.starts_with(b" stdout P ")))
            .count();
        assert!(pieces >= 7, "{pieces} pieces of 4 KiB");
        no_children_are_left();
    });
}

#[test]
fn a_hundred_mib_go_through_rotation_and_the_disk_holds_what_was_said() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        // An emulated machine takes a second for each.
        let mib = if std::env::var_os("ISOLATE_VM").is_some() { 10 } else { 100 };
        let line = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde";
        let script = format!("yes {line} | head -c {}; echo last", mib << 20);
        let begin = std::time::Instant::now();
        sh(&script).spawn().unwrap().hand_over(&place.keeper().log(1 << 20, 3)).unwrap();
        assert!(place.wait().success());
        println!("{mib} MiB in {:?}", begin.elapsed());
        for name in ["log", "log.1", "log.2"] {
            let log = fs::read(place.0.join(name)).unwrap();
            assert!(log.len() <= 1 << 20, "{name}: {}", log.len());
            assert!(name == "log" || log.len() > 1_000_000, "{name}: {}", log.len());
            streams(&log);
        }
        assert!(!place.0.join("log.3").exists());
        assert!(place.text("log").ends_with(" stdout F last\n"));
        assert_eq!(place.kept().state().unwrap().dropped, 0);
        no_children_are_left();
    });
}

#[test]
fn without_a_log_the_output_is_thrown_away_and_nobody_waits() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        sh("head -c 10000000 /dev/zero; head -c 10000000 /dev/zero >&2")
            .spawn()
            .unwrap()
            .hand_over(&place.keeper())
            .unwrap();
        assert!(place.wait().success());
        assert!(!place.0.join("log").exists());
        no_children_are_left();
    });
}

#[test]
fn a_log_of_nothing_is_refused_and_the_program_is_killed() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        for (bytes, files) in [(100, 2), (1 << 20, 0), (1 << 20, 101)] {
            let child = sh("exec sleep 1000").spawn().unwrap();
            let id = child.id();
            let error = child.hand_over(&place.keeper().log(bytes, files)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(!super::lives(id));
        }
        no_children_are_left();
    });
}
