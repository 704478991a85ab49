//! `run` in the foreground: output, input, exit codes, and what the flags come to inside.

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;

use testkit::{busybox_root, kernel_test, scratch};

use crate::common::{HERE, NEEDS, command, end, here, isolate, isolate_given, lasting, spawn, until_running};

/// Kept, so that its output comes by way of its keeper.
#[test]
fn output_in_the_foreground_is_byte_for_byte_and_comes_as_it_is_written() {
    kernel_test(NEEDS, || {
        let said = lasting("run --name bytes", "printf 'one\\ntwo'; printf 'wrong' >&2");
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "one\ntwo", "wrong"));
        let logs = isolate(&["logs", "bytes"]);
        assert_eq!((logs.out.as_str(), logs.err.as_str()), ("one\ntwo", "wrong"));
        let script = "printf 'name: '; read name; echo \"<$name>\"";
        let words = ["run", "-i", "--name", "asks", "--network=none", "--rootfs", "host", "sh", "-c", script];
        let mut asks = command(&words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut prompt = [0; 6];
        asks.stdout.as_mut().unwrap().read_exact(&mut prompt).unwrap();
        assert_eq!(&prompt, b"name: ");
        asks.stdin.take().unwrap().write_all(b"me\n").unwrap();
        assert_eq!(asks.wait_with_output().unwrap().stdout, b"<me>\n");
        // More than is kept for who does not read, of any bytes.
        let script = "i=0; while [ $i -lt 40 ]; do head -c 200000 /dev/zero; printf '\\377\\n'; i=$((i+1)); done; printf end";
        let words = ["run", "--name", "much", "--network=none", "--rootfs", "host", "sh", "-c", script];
        let much = spawn(&words);
        std::thread::sleep(std::time::Duration::from_secs(2));
        let output = much.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{:?}", output.stderr);
        let wanted = [[vec![0; 200_000], b"\xff\n".to_vec()].concat().repeat(40), b"end".to_vec()].concat();
        assert!(output.stdout == wanted, "{} bytes of {}", output.stdout.len(), wanted.len());
        assert_eq!(isolate(&["rm", "bytes", "asks", "much"]).code, 0);
    });
}

#[test]
fn exit_codes_are_those_that_users_of_docker_know() {
    kernel_test(NEEDS, || {
        let run = |words: &[&str]| isolate(&[&HERE[..], words].concat());
        assert_eq!(here(&[], "exit 7").code, 7);
        assert_eq!(here(&[], "true").well(), "");
        assert_eq!(here(&[], "kill -TERM $$").code, 128 + 15);
        let missing = run(&["/no/such/program"]).failed(127);
        assert!(missing.contains("/no/such/program") && missing.contains("hint:"), "{missing}");
        assert!(run(&["/etc/passwd"]).failed(126).contains("/etc/passwd"));
        assert!(run(&["--", "no-such-program"]).failed(127).contains("no-such-program"));
        assert!(
            isolate(&["run", "--rm", "--rootfs", "/no/such/root", "true"])
                .failed(125)
                .contains("/no/such/root")
        );
        assert!(isolate(&["run", "--no-such-flag", "x"]).failed(125).contains("--no-such-flag"));
        assert!(
            isolate(&["run", "--rm", "-p", "x", "y"]).failed(125).contains("`x` is not a published port")
        );
        assert!(isolate(&["no-such-verb"]).failed(125).contains("no-such-verb"));
        let late = here(&["--timeout", "1"], "sleep 100");
        assert!(late.failed(137).contains("time"));
    });
}

#[test]
fn output_and_input_are_the_programs() {
    kernel_test(NEEDS, || {
        let both = here(&[], "echo out; echo err >&2; exit 3");
        assert_eq!((both.code, both.out.as_str(), both.err.as_str()), (3, "out\n", "err\n"));
        let given = isolate_given(&[&["run", "-i"], &HERE[1..], &["cat"]].concat(), b"typed\n");
        assert_eq!(given.well(), "typed\n");
        let closed = isolate_given(&[&HERE[..], &["cat"]].concat(), b"typed\n");
        assert_eq!(closed.well(), "", "without -i nothing of it");
        assert_eq!(isolate(&["ps", "-a", "-q"]).well(), "", "nothing stays");
    });
}

#[test]
fn flags_come_to_what_they_say_inside() {
    kernel_test(NEEDS, || {
        let flags = ["-e", "WORD=said", "-w", "/tmp", "-h", "box", "-u", "7:8"];
        let script = "echo $WORD; pwd; hostname; id -u; id -g";
        assert_eq!(here(&flags, script).well(), "said\n/tmp\nbox\n7\n8\n");
        let host = scratch();
        fs::write(host.join("file"), "of the host\n").unwrap();
        let volume = format!("{}:/data:ro", host.display());
        let mounts = ["-v", &volume, "--tmpfs", "/small:size=64k", "--shm-size", "128k"];
        let script = "cat /data/file; touch /data/new 2>/dev/null || echo refused; df -k /small /dev/shm | awk 'NR > 1 { print $2 }'";
        assert_eq!(here(&mounts, script).well(), "of the host\nrefused\n64\n128\n");
        let root = scratch();
        busybox_root(&root);
        let script = "touch /new 2>/dev/null || echo refused; touch /tmp/new && echo done";
        let words = [
            "run",
            "--rm",
            "--network=none",
            "--read-only",
            "--tmpfs",
            "/tmp",
            "--rootfs",
            root.to_str().unwrap(),
        ];
        assert_eq!(isolate(&[&words[..], &["sh", "-c", script]].concat()).well(), "refused\ndone\n");
        let script = "grep -E 'CapBnd|NoNewPrivs|^Seccomp:|SigBlk' /proc/self/status | tr -d ' \\t\\n'";
        let rights = ["--cap-drop", "ALL", "--cap-add", "CHOWN", "--security-opt", "no-new-privileges=false"];
        assert_eq!(
            here(&rights, script).well(),
            "SigBlk:0000000000000000CapBnd:0000000000000001NoNewPrivs:0Seccomp:2"
        );
        assert_eq!(here(&["--ulimit", "nofile=99:99"], "ulimit -n").well(), "99\n");
        assert_eq!(here(&["--init"], "cat /proc/1/comm").well(), here(&[], "cat /proc/1/comm").well());
        assert_ne!(here(&["--init=false"], "cat /proc/1/comm").well(), here(&[], "cat /proc/1/comm").well());
    });
}

#[test]
fn a_signal_goes_to_the_program_and_what_it_makes_of_it_is_the_end() {
    kernel_test(NEEDS, || {
        let script = "trap 'echo heard; exit 5' TERM; touch /tmp/ready; while :; do sleep 0.1; done";
        let child = spawn(&[&["run", "--name", "heard"], &HERE[1..], &["sh", "-c", script]].concat());
        until_running("heard");
        // The trap is set a moment after the start.
        std::thread::sleep(std::time::Duration::from_millis(500));
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let said = end(child);
        assert_eq!((said.code, said.out.as_str()), (5, "heard\n"), "{said:?}");
    });
}

#[test]
fn a_plan_is_told_and_nothing_is_done() {
    kernel_test(NEEDS, || {
        let words =
            ["run", "--explain", "--name", "box", "-v", "data:/data", "--rootfs", "host", "touch", "/x"];
        let plan = isolate(&words).well();
        assert!(plan.contains("set the host name box"), "{plan}");
        assert!(
            plan.lines().all(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit())),
            "{plan}"
        );
        assert_eq!(isolate(&["ps", "-aq"]).well(), "");
        assert_eq!(isolate(&["volume", "ls", "-q"]).well(), "");
        let missing = isolate(&["run", "--explain", "localhost:1/no/image"]).failed(125);
        assert!(missing.contains("localhost:1/no/image") && missing.contains("pull"), "{missing}");
        // The store itself was made to look into it.
        fs::remove_dir_all("/var/lib/isolate/images").unwrap();
    });
}
