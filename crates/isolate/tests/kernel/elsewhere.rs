//! What containers there are, and who owns them, as another pid namespace sees it that shares the state directory.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use isolate::{Container, State};
use testkit::kernel_test;

use crate::common::{NEEDS, idle, until};

/// Says to this program that it is who a test asks.
const PART: &str = "ISOLATE_TEST_ELSEWHERE";

/// No test: does what it is told in a word, and answers each by a line.
#[test]
#[ignore = "the tests of this file start it as a process of its own"]
fn part() {
    if std::env::var_os(PART).is_none() {
        return;
    }
    println!("\nready");
    let mut owned = Vec::new();
    for word in std::io::stdin().lines().map_while(Result::ok) {
        let answer = match word.as_str() {
            "list" => Container::list().unwrap().iter().map(told).collect(),
            "sweep" => isolate::sweep().unwrap(),
            _ => {
                owned.push(idle("theirs").start().unwrap());
                idle("remains").create().unwrap().start().unwrap();
                Vec::new()
            }
        };
        println!("{}", answer.join(", "));
    }
}

fn told(info: &isolate::ContainerInfo) -> String {
    let pid = info.pid.map_or("-".to_owned(), |pid| pid.to_string());
    format!("{} {} {pid}", info.name, info.state)
}

/// A process of a pid namespace of its own.
struct Elsewhere(Child, Lines<BufReader<ChildStdout>>);

impl Elsewhere {
    fn new() -> Self {
        let mut child = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "elsewhere::part", "--ignored", "--nocapture"])
            .env(PART, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.by_ref().map_while(Result::ok).any(|line| line == "ready"));
        Self(child, lines)
    }

    fn ask(&mut self, word: &str) -> String {
        writeln!(self.0.stdin.as_ref().unwrap(), "{word}").unwrap();
        self.1.next().unwrap().unwrap()
    }

    /// And with it all of its pid namespace.
    fn killed(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The numbers of a process, from this pid namespace to its own.
fn numbers(pid: u32) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
    numbers.split_whitespace().map(ToOwned::to_owned).collect()
}

#[test]
fn another_pid_namespace_knows_what_is_owned_and_sweeps_what_is_not() {
    kernel_test(NEEDS, || {
        let mine = idle("mine").start().unwrap();
        let lasts = idle("lasts").create().unwrap();
        lasts.start().unwrap();
        let (mut owner, mut other) = (Elsewhere::new(), Elsewhere::new());
        // No process of this namespace has a number there.
        assert_eq!(owner.ask("list"), "lasts running -, mine running -");
        assert_eq!(owner.ask("start"), "");
        let seen = owner.ask("list");
        assert_eq!(other.ask("list"), "lasts running -, mine running -, remains running -, theirs running -");
        assert_eq!((other.ask("sweep"), owner.ask("sweep")), (String::new(), String::new()));
        assert_eq!(isolate::sweep().unwrap(), Vec::<String>::new());

        for (name, deep) in [("lasts", 2), ("mine", 2), ("remains", 3), ("theirs", 3)] {
            let pid = Container::find(name).unwrap().pid.unwrap();
            let numbers = numbers(pid);
            assert_eq!((numbers.len(), numbers.last().unwrap().as_str()), (deep, "1"), "{name}");
            let there = if deep == 3 { &numbers[1] } else { "-" };
            assert!(seen.contains(&format!("{name} running {there}")), "{name}: {numbers:?}, {seen}");
        }

        owner.killed();
        let mut swept = Vec::new();
        let all = until(Duration::from_secs(20), || {
            swept.push(other.ask("sweep"));
            (other.ask("list") == "lasts running -, mine running -, remains exited -").then_some(())
        });
        assert!(all.is_some(), "{swept:?}, {}", other.ask("list"));
        assert!(swept.iter().any(|names| names.contains("theirs")), "{swept:?}");
        other.killed();
        let remains = Container::open("remains").unwrap();
        remains.start().unwrap();
        assert_eq!(numbers(remains.inspect().unwrap().pid.unwrap()).len(), 2);
        assert_eq!(mine.inspect().unwrap().state, State::Running);
        mine.remove().unwrap();
        for container in [lasts, remains] {
            container.stop(Duration::ZERO).unwrap();
            container.remove().unwrap();
        }
    });
}
