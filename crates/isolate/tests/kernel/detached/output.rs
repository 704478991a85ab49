//! What a container that lasts writes, and what is told of it.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use isolate::namespaces::Output;
use isolate::{Container, ErrorKind, Outcome, Restart, Signal, WindowSize};
use testkit::kernel_test;

use super::{GRACE, created, patience, touch, wait_for_log};
use crate::common::{NEEDS, OnDisk, until};

#[test]
fn who_is_attached_reads_and_writes_and_detaches() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let cat = created(
            disk.sh("while read line; do echo \"<$line>\"; done; exit 5").name("cat").open_stdin(true),
        );
        assert_eq!(cat.attach().unwrap_err().kind(), ErrorKind::NotFound);
        cat.start().unwrap();
        let say = |text: &str| {
            let attached = cat.attach().unwrap();
            assert!(!attached.is_terminal());
            (&attached).write_all(text.as_bytes()).unwrap();
            match attached.read().unwrap() {
                Some(Output::Stdout(bytes)) => String::from_utf8(bytes).unwrap(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(say("one\n"), "<one>\n");
        assert_eq!(say("two\n"), "<two>\n");
        cat.attach().unwrap().close_stdin().unwrap();
        assert_eq!(cat.wait().unwrap(), Outcome::Exited(5));
        cat.remove().unwrap();

        let shell = Container::builder().rootfs(disk.0.join("root")).command(["sh"]).name("shell");
        let shell = created(shell.terminal(WindowSize { rows: 33, columns: 99 }));
        shell.start().unwrap();
        let attached = shell.attach().unwrap();
        assert!(attached.is_terminal());
        (&attached).write_all(b"stty size; exit 4\n").unwrap();
        let (mut seen, mut end) = (Vec::new(), None);
        while let Some(output) = attached.read().unwrap() {
            match output {
                Output::Stdout(bytes) => seen.extend(bytes),
                Output::Ended(state) => end = state.end,
                other => panic!("{other:?}"),
            }
        }
        assert!(String::from_utf8_lossy(&seen).contains("33 99"), "{:?}", String::from_utf8_lossy(&seen));
        assert_eq!(end, Some(isolate::namespaces::KeptEnd::Code(4)));
        shell.remove().unwrap();
    });
}

#[test]
fn its_log_can_be_followed_and_cut() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let before = SystemTime::now();
        let script =
            "for n in 1 2 3; do echo $n; done; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo 4; printf 5";
        let count = created(disk.sh(script).name("count"));
        assert_eq!(
            count.logs().follow(true).count(),
            0,
            "of one that has never run there is nothing to wait for"
        );
        count.start().unwrap();
        wait_for_log(&count, "3\n");
        let tail: Vec<_> = count.logs().tail(2).map(|line| line.unwrap().bytes).collect();
        assert_eq!(tail, [b"2\n", b"3\n"]);
        assert_eq!(count.logs().since(SystemTime::now()).count(), 0);
        assert_eq!(count.logs().since(before).count(), 3);
        assert_eq!(count.logs().until(before).count(), 0);
        let follower = std::thread::spawn({
            let logs = count.logs().tail(1).follow(true);
            move || logs.map(|line| line.unwrap().bytes).collect::<Vec<_>>()
        });
        std::thread::sleep(Duration::from_millis(100));
        touch(&count, "/tmp/go");
        assert_eq!(follower.join().unwrap(), [&b"3\n"[..], b"4\n", b"5"]);
        count.remove().unwrap();
    });
}

#[test]
fn a_log_that_is_rotated_under_who_follows_loses_nothing() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let script = "n=0; while [ $n -lt 3000 ]; do echo line $n; n=$((n+1)); done";
        let many = created(disk.sh(script).name("many").log(32 << 10, 20));
        many.start().unwrap();
        let lines: Vec<_> = many.logs().follow(true).map(|line| line.unwrap().bytes).collect();
        assert_eq!(lines.len(), 3000);
        assert!(lines.iter().enumerate().all(|(n, line)| *line == format!("line {n}\n").into_bytes()));
        assert!(
            many.logs().count() == 3000 && Path::new("/var/lib/isolate/detached/many/keeper/log.2").exists()
        );
        many.remove().unwrap();
    });
}

#[test]
fn what_happens_to_it_is_told_while_it_does_and_what_runs_in_it() {
    use isolate::EventKind::{Created, Ended, Killed, Removed, Started};
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let quiet = created(disk.sh("exit 0").name("before"));
        let mut events = isolate::Events::new().unwrap();
        let mut seen = isolate::Events::new().unwrap();
        assert_eq!(
            events.next(Some(Duration::from_millis(50))).unwrap(),
            None,
            "what was before is not told"
        );
        let reader = std::thread::spawn(move || {
            let mut told = Vec::new();
            while !told.contains(&("before".to_owned(), Removed)) {
                let event = seen.next(Some(patience())).unwrap().unwrap_or_else(|| panic!("{told:?}"));
                told.push((event.container, event.kind));
            }
            told
        });
        let policy = Restart::OnFailure { most: Some(1) };
        let one = created(disk.sh("sleep 1000 & wait").name("one").restart(policy));
        one.start().unwrap();
        let two = || {
            one.processes().ok().filter(|all| all.iter().any(|process| process.command == ["sleep", "1000"]))
        };
        let processes = until(patience(), two).unwrap();
        let first = processes.iter().find(|process| process.inside == 1).unwrap();
        assert_eq!(Some(first.pid), one.inspect().unwrap().pid);
        one.signal(Signal::KILL).unwrap();
        let again = until(patience(), || (one.inspect().unwrap().detached?.restarts == 1).then_some(()));
        assert!(again.is_some());
        one.stop(GRACE).unwrap();
        one.remove().unwrap();
        let owned = disk.sh("true").name("owned").start().unwrap();
        owned.remove().unwrap();
        quiet.remove().unwrap();
        let told = reader.join().unwrap();
        let of =
            |name: &str| told.iter().filter(|(of, _)| of == name).map(|(_, kind)| *kind).collect::<Vec<_>>();
        let wanted = [Created, Started, Killed(Signal::KILL), Started, Killed(Signal::TERM), Ended, Removed];
        assert_eq!(of("one"), wanted, "{told:?}");
        assert_eq!(of("before"), [Removed]);
        // Who comes late hears of the end.
        let late = events.next(Some(Duration::ZERO)).unwrap().unwrap();
        assert_eq!((late.container.as_str(), late.kind), ("before", Removed));
    });
}
