//! What is told of a group is what happened in it.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use isolate_cgroups::{Bytes, Cgroup, Controller, ErrorKind, Limits};
use testkit::{Need, kernel_test};

use crate::child::{Waiting, eventually, on_either_host, unique};

on_either_host! {
    memory_is_told_in_three_figures => three_figures;
    a_peak_can_be_counted_anew_or_that_is_an_error => peak;
    a_reader_goes_on_until_the_group_is_gone => until_gone;
    waiting_for_a_processor_is_pressure => pressure;
}

/// A group that counts without a limit.
fn counted() -> Cgroup {
    let group = Cgroup::create(unique()).unwrap();
    group.enable(&[Controller::Memory, Controller::Pids]).unwrap();
    group
}

/// A page cache of its own: a file that was just written.
fn three_figures() {
    let file = Path::new("/var/tmp").join(unique());
    let group = counted();
    let mut reader = group.reader().unwrap();
    let empty = reader.read().unwrap().memory;
    assert!(empty.anonymous.unwrap() < Bytes::mib(1), "{empty:?}");
    // tail(1) holds 9 MiB, and the file's 8 MiB are cache.
    let script = format!(
        "head -c 8m /dev/zero > {}; (head -c 9m /dev/zero; exec sleep 1000) | tail -c 9m > /dev/null",
        file.display()
    );
    let mut waiting = Waiting::in_group(&group, &script);
    waiting.go();
    let told = eventually(|| {
        let memory = reader.read().unwrap().memory;
        let figures = [memory.anonymous, memory.working_set, memory.current].map(|figure| figure.unwrap());
        fs::metadata(&file).is_ok_and(|file| file.len() == 8 << 20)
            && figures[0] >= Bytes::mib(8)
            && figures[0] <= figures[1]
            && figures[1] <= figures[2]
    });
    let memory = reader.read().unwrap().memory;
    assert!(told, "{memory:?}");
    assert!(memory.current.unwrap() >= Bytes::mib(8), "{memory:?}");
    assert!(memory.peak.is_none_or(|peak| peak >= Bytes::mib(8)));
    assert!(
        memory.details.iter().count() > 20 && memory.details.iter().any(|(_, value)| value > 8 << 20),
        "{memory:?}"
    );
    group.remove().unwrap();
    fs::remove_file(&file).unwrap();
}

fn peak() {
    let group = counted();
    let mut reader = group.reader().unwrap();
    assert!(Waiting::in_group(&group, "head -c 24m /dev/zero | tail > /dev/null").run().success());
    let Some(before) = reader.read().unwrap().memory.peak else { return };
    assert!(before >= Bytes::mib(16), "{before}");
    match reader.reset_peak() {
        Ok(()) => assert!(reader.read().unwrap().memory.peak.unwrap() < Bytes::mib(16)),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("6.12")));
        }
    }
    group.remove().unwrap();
}

fn until_gone() {
    let group = counted();
    let mut reader = group.reader().unwrap();
    let (first, second) = (reader.read().unwrap(), reader.read().unwrap());
    assert_eq!(first.pids, second.pids);
    assert_eq!(group.oom_kills().unwrap(), Some(0));
    group.apply(&Limits::new().pids(5)).unwrap();
    assert_eq!(reader.read().unwrap().pids.limit, Some(5), "what changes is seen");
    group.remove().unwrap();
    assert_eq!(reader.read().unwrap_err().kind(), ErrorKind::NotFound);
}

fn pressure() {
    if !Path::new("/proc/pressure/cpu").exists() {
        return;
    }
    let group = counted();
    let mut spinners: Vec<_> =
        (0..4).map(|_| Waiting::in_group(&group, "exec taskset -c 0 sh -c 'while :; do :; done'")).collect();
    let before = group.stats().unwrap().pressure.cpu.unwrap_or_default().some.total;
    spinners.iter_mut().for_each(Waiting::go);
    let after = || group.stats().unwrap().pressure.cpu.unwrap_or_default().some.total;
    assert!(eventually(|| after() > before + Duration::from_millis(100)), "four on one processor wait");
    group.remove().unwrap();
}

#[test]
fn what_is_written_to_a_device_is_counted_for_it() {
    kernel_test(&[Need::Root, Need::Cgroup2], || {
        let group = counted();
        let place = Path::new("/var/tmp").join(unique());
        let mut file = File::create(&place).unwrap();
        file.write_all(b"there").unwrap();
        let Ok((major, minor)) = isolate_cgroups::Device::from(place.as_path()).resolve() else {
            fs::remove_file(&place).unwrap();
            return;
        };
        group.apply(&Limits::new().io_max((major, minor), isolate_cgroups::IoMax::new())).unwrap();
        let script =
            format!("dd if=/dev/zero of={} bs=64k count=32 oflag=direct 2>/dev/null", place.display());
        assert!(Waiting::in_group(&group, &script).run().success());
        let io = group.stats().unwrap().io;
        let device = io.iter().find(|stats| stats.device == (major, minor));
        assert!(device.is_some_and(|stats| stats.written >= Bytes::mib(2) && stats.writes > 0), "{io:?}");
        group.remove().unwrap();
        fs::remove_file(&place).unwrap();
    });
}
