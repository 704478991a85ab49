//! What enters a container, and what it could bring along.

use std::fs;
use std::os::fd::AsRawFd;
use std::process::Command;

use isolate::{Capabilities, Stdio, UserNamespace};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use testkit::{Need, kernel_test, scratch};

use crate::common::{OnDisk, printed, slow};

const NEEDS: &[Need] = &[Need::Root, Need::Overlay, Need::Program("busybox")];

/// Tries to open every program that runs for writing, all the time, and says what it got.
const WRITER: &str = "echo looks; while :; do for p in /proc/[0-9]*; do ( : >> $p/exe ) 2>/dev/null && readlink $p/exe; done; done";

#[test]
fn no_program_that_enters_can_be_written_to() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        fs::copy(disk.0.join("root/bin/busybox"), disk.0.join("root/bin/cp2")).unwrap();
        let own = fs::read(std::env::current_exe().unwrap()).unwrap().len();
        assert_eq!(printed(disk.sh("( : >> /bin/cp2 ) && echo written")), "written\n", "the control");
        let mut container = disk
            .sh(WRITER)
            .capabilities(Capabilities::all())
            .user_namespace(UserNamespace::Required)
            .stdout(Stdio::piped())
            .start()
            .unwrap();
        for _ in 0..if slow() { 20 } else { 200 } {
            assert!(container.exec("true").status().unwrap().success());
        }
        container.kill().unwrap();
        let output = container.wait_with_output().unwrap();
        let got = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(got.starts_with("looks\n"), "{got}");
        // Of what runs only the root's own might be had.
        assert!(got.lines().skip(1).all(|line| line.starts_with("/bin/")), "{got}");
        assert_eq!(fs::read(std::env::current_exe().unwrap()).unwrap().len(), own);
        container.remove().unwrap();
    });
}

#[test]
fn directories_that_the_caller_holds_open_lead_nowhere() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        let outside = scratch();
        fs::write(outside.join("secret"), "of the caller").unwrap();
        let held: Vec<_> = (0..64)
            .map(|_| {
                let directory = fs::File::open(&outside).unwrap();
                rustix::io::fcntl_setfd(&directory, rustix::io::FdFlags::empty()).unwrap();
                directory
            })
            .collect();
        let list = "cd /proc/self/fd; for f in *; do [ -e $f ] && echo $f; done; cat /proc/self/fd/*/secret 2>/dev/null; true";
        for (n, directory) in held.iter().enumerate() {
            let there = format!("/proc/self/fd/{}", directory.as_raw_fd());
            let error = disk.sh("cat secret").workdir(&there).start().map(drop).unwrap_err();
            assert!(error.to_string().contains("working directory"), "{there}: {error}");
            if n > 8 && slow() {
                break;
            }
        }
        let shown = printed(disk.sh(list));
        let numbers: Vec<u32> = shown.lines().map(|line| line.parse().unwrap()).collect();
        assert!(numbers.iter().all(|fd| *fd <= 3), "0 to 2, and the one that lists: {shown}");
        let container = disk.sh("exec sleep 100").start().unwrap();
        let output = container.exec("sh").args(["-c", list]).output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(shown.lines().all(|line| line.parse::<u32>().unwrap() <= 3), "{shown}");
        for directory in &held {
            let there = format!("/proc/self/fd/{}", directory.as_raw_fd());
            container.exec("true").current_dir(&there).status().map(drop).unwrap_err();
        }
        container.remove().unwrap();

        // The control: who changes the root and keeps the descriptor has the directory.
        let root = disk.0.join("root");
        mount("proc", root.join("proc"), "proc", MountFlags::empty(), None).unwrap();
        let enter = format!("cd /proc/self/fd/{} && cat secret", held[0].as_raw_fd());
        #[expect(clippy::disallowed_methods, reason = "no container")]
        let naive = Command::new("chroot").arg(&root).args(["/bin/sh", "-c", &enter]).output().unwrap();
        assert_eq!(naive.stdout, b"of the caller", "{naive:?}");
        unmount(root.join("proc"), UnmountFlags::DETACH).unwrap();
    });
}

/// Looks at every process that comes: its program, descriptors, memory, environment, maps.
const SCANNER: &str = "echo ready; while [ ! -e /tmp/stop ]; do for p in /proc/[0-9]*; do \
     [ $p = /proc/1 ] || readlink $p/exe $p/fd/* 2>/dev/null; \
     cut -c74- $p/maps 2>/dev/null; head -c 64 $p/mem 2>/dev/null; cat $p/environ 2>/dev/null | tr '\\0' '\\n'; done | grep -vxE '/bin/busybox|/dev/null|pipe:.*|/|/proc/.*'; done";

#[test]
fn nothing_of_the_caller_is_seen_of_those_who_enter() {
    kernel_test(NEEDS, || {
        let disk = OnDisk::root();
        // What a debugger could, in its own user namespace.
        let mut container = disk
            .sh(SCANNER)
            .capabilities(Capabilities::all())
            .seccomp_unconfined()
            .stdout(Stdio::piped())
            .start()
            .unwrap();
        let pipe = container.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut seen = String::new();
            std::io::Read::read_to_string(&mut std::io::BufReader::new(pipe), &mut seen).unwrap();
            seen
        });
        for _ in 0..if slow() { 50 } else { 2_000 } {
            assert!(
                container
                    .exec("true")
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()
                    .unwrap()
                    .success()
            );
        }
        // The control: what may be seen is.
        let marked = container
            .exec("sleep")
            .arg(if slow() { "15" } else { "1" })
            .env("MARKED", "seen")
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        assert!(marked.status.success());
        container.exec("touch").arg("/tmp/stop").status().unwrap();
        container.wait().unwrap();
        container.remove().unwrap();
        let seen = reader.join().unwrap();
        assert!(seen.contains("MARKED=seen"), "it looks: {seen}");
        for own in ["launcher", "memfd", "socket:", "anon_inode", "CARGO", "target/debug", "isolate-"] {
            let lines: Vec<_> = seen.lines().filter(|line| line.contains(own)).collect();
            assert!(lines.is_empty(), "{own}: {lines:?}");
        }
    });
}
