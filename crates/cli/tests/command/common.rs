//! The command, executed.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::Need;

/// What a container without a network needs.
pub(crate) const NEEDS: &[Need] = &[Need::Root, Need::Overlay, Need::Program("busybox")];
/// What one on a bridge needs.
pub(crate) const NET: &[Need] =
    &[Need::Root, Need::Overlay, Need::Veth, Need::NfTables, Need::Program("busybox")];
/// A run of this machine's programs on no network, and nothing stays.
pub(crate) const HERE: [&str; 5] = ["run", "--rm", "--network=none", "--rootfs", "host"];

/// What it said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// What it printed, where that went well.
    #[track_caller]
    pub(crate) fn well(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{self:?}");
        self.out
    }

    /// What it complained of, in one line, with this code.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.starts_with("isolate: ") && self.err.lines().count() == 1, "{self:?}");
        self.err
    }

    /// A JSON object a line.
    #[track_caller]
    pub(crate) fn objects(self) -> Vec<Value> {
        self.well().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub(crate) fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isolate"));
    command.args(words).stdin(Stdio::null());
    command
}

/// Executes it to its end.
pub(crate) fn isolate(words: &[&str]) -> Said {
    said(command(words).output().unwrap())
}

/// The same with something on its standard input.
pub(crate) fn isolate_given(words: &[&str], input: &[u8]) -> Said {
    let mut command = command(words);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    said(child.wait_with_output().unwrap())
}

/// A script in a container of this machine's programs, with these flags.
pub(crate) fn here(flags: &[&str], script: &str) -> Said {
    isolate(&[&HERE[..3], flags, &HERE[3..], &["sh", "-c", script]].concat())
}

/// In a container that lasts: the words of a command line, and a script.
pub(crate) fn lasting(line: &str, script: &str) -> Said {
    let words: Vec<&str> = line.split(' ').collect();
    isolate(&[&words[..], &["--network=none", "--rootfs", "host", "sh", "-c", script]].concat())
}

/// In the background.
pub(crate) fn spawn(words: &[&str]) -> Child {
    command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// How one that was spawned has ended.
pub(crate) fn end(child: Child) -> Said {
    said(child.wait_with_output().unwrap())
}

fn said(output: std::process::Output) -> Said {
    let code = output.status.code().unwrap_or_else(|| -output.status.signal().unwrap());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code, out: text(output.stdout), err: text(output.stderr) }
}

/// Waits until it is so.
#[track_caller]
pub(crate) fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match look() {
            Some(found) => return found,
            None => assert!(Instant::now() < end, "it did not come to that"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a container of this name runs.
#[track_caller]
pub(crate) fn until_running(name: &str) {
    until(|| isolate(&["ps", "-q", "-f", &format!("name={name}")]).out.lines().next().map(str::to_owned));
}
