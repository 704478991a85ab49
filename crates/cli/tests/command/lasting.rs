//! Containers that last: made, started, told of, asked, ended, started again, removed.

use std::io::{BufRead, BufReader};

use serde_json::Value;
use testkit::{Need, kernel_test};

use crate::common::{NEEDS, NET, command, isolate, isolate_given, lasting, until};

fn state(name: &str) -> String {
    let listed = isolate(&["ps", "-a", "--format", "json", "-f", &format!("name={name}")]).objects();
    listed.first().map_or_else(String::new, |one| one["Status"].as_str().unwrap().to_owned())
}

/// As the user of this command goes: every verb on one container.
#[test]
fn a_container_is_run_for_itself_and_every_verb_finds_it() {
    kernel_test(NET, || {
        let line = "run -d --name web -p 127.0.0.1:9000:8080 --stop-signal TERM -m 64m --rootfs host sh -c";
        let script = "echo hello; echo there >&2; trap 'echo bye; exit 3' TERM; while :; do sleep 0.1; done";
        let id = isolate(&[&line.split(' ').collect::<Vec<_>>()[..], &[script]].concat()).well();
        let id = id.trim_end();
        assert!(id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        assert!(state("web").starts_with("Up "), "{}", state("web"));
        assert_eq!(isolate(&["ps", "-q"]).well(), format!("{id}\n"));
        assert_eq!(isolate(&["port", "web"]).well(), "8080/tcp -> 127.0.0.1:9000\n");
        assert_eq!(isolate(&["publish", "web", "127.0.0.1:9001-9002:80-81"]).well().lines().count(), 2);
        assert_eq!(isolate(&["unpublish", "web", "127.0.0.1:9001:80"]).well(), "");
        assert_eq!(isolate(&["port", "web", "81"]).well(), "127.0.0.1:9002\n");
        assert!(isolate(&["unpublish", "web", "9001:80"]).failed(125).contains("not published"));
        assert_eq!(isolate(&["unpublish", "web", "127.0.0.1:9002:81"]).well(), "");
        until(|| isolate(&["logs", "web"]).err.contains("there").then_some(()));
        let logs = isolate(&["logs", "web"]);
        assert_eq!((logs.out.as_str(), logs.err.as_str()), ("hello\n", "there\n"));
        let stamped = isolate(&["logs", "-t", "-n", "2", "web"]).out;
        let (time, text) = stamped.split_once(' ').unwrap();
        assert!(time.len() == 30 && time.ends_with('Z') && text == "hello\n", "{stamped}");
        let known: Value = serde_json::from_str(&isolate(&["inspect", &id[..6]]).well()).unwrap();
        assert_eq!((&known[0]["name"], &known[0]["state"]), (&"web".into(), &"running".into()), "by its id");
        let exec = ["exec", "-e", "WORD=said", "-w", "/usr", "web", "sh", "-c", "echo $WORD $PWD; exit 6"];
        let exec = isolate(&exec);
        assert_eq!((exec.code, exec.out.as_str()), (6, "said /usr\n"), "{exec:?}");
        assert_eq!(isolate_given(&["exec", "-i", "web", "cat"], b"typed").well(), "typed");
        assert!(isolate(&["exec", "web", "/no/such"]).failed(127).contains("/no/such"));
        let top = isolate(&["top", "web"]).well();
        assert!(top.starts_with("UID") && top.contains("sleep 0.1"), "{top}");
        let stats = isolate(&["stats", "--no-stream"]).well();
        assert!(
            stats.lines().nth(1).is_some_and(|line| line.contains("web") && line.contains("/ 64 MiB")),
            "{stats}"
        );
        assert_eq!(isolate(&["update", "-m", "32m", "web"]).well(), "web\n");
        let stats = isolate(&["stats", "--no-stream", "--format", "json", "web"]).objects();
        assert!(stats[0]["MemUsage"].as_str().unwrap().ends_with("/ 32 MiB"), "{stats:?}");
        assert_eq!(isolate(&["update", "--restart", "on-failure:3", "web"]).well(), "web\n");
        let known: Value = serde_json::from_str(&isolate(&["inspect", "web"]).well()).unwrap();
        assert_eq!(known[0]["detached"]["restart"]["on_failure"]["most"], 3);
        assert_eq!(known[0]["limits"]["memory"], 32 << 20, "what is not said stays");
        assert_eq!(isolate(&["update", "--restart", "no", "web"]).well(), "web\n");
        let shared = ["create", "--name", "beside", "--network", "container:web", "--rootfs", "host", "true"];
        isolate(&shared).well();
        assert_eq!(isolate(&["start", "-a", "beside"]).code, 0);
        assert_eq!(isolate(&["rm", "beside"]).well(), "beside\n");
        assert_eq!(isolate(&["pause", "web"]).well(), "web\n");
        assert!(state("web").ends_with("(Paused)"), "{}", state("web"));
        assert_eq!(isolate(&["unpause", "web"]).well(), "web\n");
        assert_eq!(isolate(&["rename", "web", "other"]).well(), "");
        assert!(state("other").starts_with("Up ") && state("web").is_empty());
        assert_eq!(isolate(&["exec", "other", "hostname"]).well(), "web\n");
        assert_eq!(isolate(&["rename", "other", "web"]).well(), "");
        assert!(isolate(&["rm", "web"]).failed(125).contains("stop it"));
        assert_eq!(isolate(&["stop", "web"]).well(), "web\n");
        assert!(state("web").starts_with("Exited (3) "), "{}", state("web"));
        assert!(isolate(&["logs", "web"]).out.ends_with("bye\n"));
        assert_eq!(isolate(&["start", "web"]).well(), "web\n");
        assert_eq!(isolate(&["restart", "-t", "5", id]).well(), format!("{id}\n"));
        assert_eq!(isolate(&["kill", "web"]).well(), "web\n");
        assert_eq!(isolate(&["wait", "web"]).well(), "137\n");
        assert_eq!(isolate(&["rename", "web", "other"]).well(), "");
        assert!(isolate(&["start", "web", "other"]).err.contains("`web`"));
        assert!(state("other").starts_with("Up "), "the one that is there is started");
        assert_eq!(isolate(&["rm", "-f", "other", "none"]).well(), "other\nnone\n");
        assert_eq!(isolate(&["ps", "-aq"]).well(), "");
    });
}

#[test]
fn one_in_the_foreground_that_is_not_removed_can_be_started_again() {
    kernel_test(NEEDS, || {
        let script = "echo x >> /opt/count; wc -l < /opt/count; echo err >&2; exit 4";
        let first = lasting("run --name again", script);
        assert_eq!((first.code, first.out.as_str(), first.err.as_str()), (4, "1\n", "err\n"));
        assert!(state("again").starts_with("Exited (4) "), "{}", state("again"));
        let second = isolate(&["start", "-a", "again"]);
        assert_eq!(
            (second.code, second.out.as_str(), second.err.as_str()),
            (4, "2\n", "err\n"),
            "its root stays"
        );
        assert_eq!(isolate(&["logs", "-n", "2", "again"]).out, "2\n");
        assert_eq!(isolate(&["rm", "again"]).well(), "again\n");
        let words = ["run", "-i", "--name", "fed", "--network=none", "--rootfs", "host", "cat"];
        assert_eq!(isolate_given(&words, b"one\ntwo\n").well(), "one\ntwo\n");
        assert_eq!(isolate(&["rm", "fed"]).well(), "fed\n");
        assert_eq!(lasting("create --name later", "echo now").code, 0);
        assert_eq!(state("later"), "Created");
        assert_eq!(isolate(&["start", "-a", "later"]).well(), "now\n");
        let pruned = isolate(&["system", "prune", "--force"]).well();
        assert!(pruned.starts_with("later\n"), "{pruned}");
        std::fs::remove_dir_all("/var/lib/isolate/images").unwrap();
    });
}

#[test]
fn what_cannot_be_started_is_told_and_stays_or_goes_as_was_said() {
    kernel_test(NEEDS, || {
        let words = ["run", "--network=none", "--rootfs", "host", "--name", "none"];
        assert!(isolate(&[&words[..], &["/no/such"]].concat()).failed(127).contains("/no/such"));
        assert_eq!(state("none"), "Created");
        assert_eq!(isolate(&["rm", "none"]).well(), "none\n");
        assert!(
            isolate(&[&words[..], &["-d", "--rm", "/etc/passwd"]].concat())
                .failed(126)
                .contains("/etc/passwd")
        );
        assert_eq!(state("none"), "");
        assert!(lasting("run --rm --restart always", "true").failed(125).contains("--restart"));
        assert!(isolate(&["stop", "none"]).failed(125).contains("`none`"));
    });
}

#[test]
fn a_policy_a_health_check_and_an_end_are_seen_as_they_come() {
    kernel_test(&[NEEDS, &[Need::Native]].concat(), || {
        let mut watch = command(&["events", "--format", "json"]);
        let mut watch = watch.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        // It watches from when it has looked once.
        std::thread::sleep(std::time::Duration::from_millis(500));
        let line = "run -d --name well --restart on-failure:1 --health-cmd true --health-interval 100ms";
        lasting(line, "sleep 3; exit 9").well();
        until(|| state("well").contains("(healthy)").then_some(()));
        assert_eq!(isolate(&["wait", "well"]).well(), "9\n");
        assert!(state("well").starts_with("Exited (9)"), "{}", state("well"));
        let mut seen = Vec::new();
        while seen.last() != Some(&Value::from("ended")) {
            let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            assert_eq!(event["container"], "well");
            seen.push(event["event"].clone());
        }
        assert_eq!(seen.first(), Some(&"created".into()), "{seen:?}");
        assert_eq!(
            seen.iter().filter(|event| **event == serde_json::json!({ "exited": 9 })).count(),
            2,
            "{seen:?}"
        );
        assert!(seen.contains(&serde_json::json!({ "health": "healthy" })), "{seen:?}");
        watch.kill().unwrap();
        watch.wait().unwrap();
        assert_eq!(isolate(&["rm", "well"]).well(), "well\n");
        lasting("run -d --rm --name short", "true").well();
        assert_eq!(isolate(&["wait", "short"]).well(), "0\n");
        until(|| (isolate(&["sweep"]).well() == "short\n").then_some(()));
        assert_eq!(isolate(&["ps", "-aq"]).well(), "");
    });
}
