//! `pod`, and `--pod`.

use serde_json::Value;
use testkit::kernel_test;

use crate::common::{NET, isolate};

const ASK: [&str; 6] = ["exec", "beside", "busybox", "wget", "-qO-", "http://127.0.0.1:8080/index.html"];

fn words(line: &str) -> crate::common::Said {
    isolate(&line.split(' ').collect::<Vec<_>>())
}

#[test]
fn a_pod_is_made_filled_stopped_started_told_of_and_removed() {
    kernel_test(NET, || {
        let id = words("pod create --name shop -p 9000:8080 --memory 256m --hostname till").well();
        assert_eq!(id.trim().len(), 12);
        let serve =
            "mkdir -p /tmp/w; echo hello > /tmp/w/index.html; exec busybox httpd -f -p 8080 -h /tmp/w";
        isolate(&["run", "-d", "--pod", "shop", "--name", "web", "--rootfs", "host", "sh", "-c", serve])
            .well();
        words("create --pod shop --name beside --rootfs host sleep 1000").well();
        assert_eq!(words("pod start shop").well(), "shop\n");
        let answer = crate::common::until(|| Some(isolate(&ASK)).filter(|said| said.code == 0));
        assert_eq!(answer.out, "hello\n");
        assert_eq!(words("exec beside hostname").well(), "till\n");
        assert_eq!(words("run --rm --pod shop --rootfs host hostname").well(), "till\n");
        assert_eq!(words("port web").well(), "", "the port is the pod's");

        let table = words("pod ps").well();
        assert!(table.starts_with("NAME") && table.contains("0.0.0.0:9000->8080/tcp"), "{table}");
        assert_eq!(words("pod ls -q").well(), "shop\n");
        let known: Value = serde_json::from_str(&words("pod inspect shop").well()).unwrap();
        assert_eq!(known[0]["containers"], serde_json::json!({ "beside": "running", "web": "running" }));
        assert_eq!(known[0]["shares"], serde_json::json!(["ipc", "net", "uts"]));
        assert_eq!(words("ps --filter pod=shop --format json").objects().len(), 2);
        assert_eq!(words("ps --filter pod=other -q").well(), "");
        let web: Value = serde_json::from_str(&words("inspect web").well()).unwrap();
        assert_eq!(web[0]["pod"], "shop");
        words("run -d --name apart --rootfs host sleep 1000").well();
        for line in ["pod stats --no-stream --format json", "pod stats --no-stream --format json shop"] {
            let stats = words(line).objects();
            let mut names: Vec<_> = stats.iter().filter_map(|one| one["Name"].as_str()).collect();
            names.sort_unstable();
            assert_eq!(names, ["beside", "web"], "{line}");
        }
        let top = words("pod top shop").well();
        assert_eq!(top.matches("sleep 1000").count(), 1, "not of the one apart: {top}");
        assert!(words("pod stats --no-stream nobody").failed(125).contains("nobody"));
        words("rm -f apart").well();

        assert_eq!(words("pod pause shop").well(), "shop\n");
        assert_eq!(words("ps --filter status=paused -q").well().lines().count(), 2);
        assert_eq!(words("pod unpause shop").well(), "shop\n");
        let refused = words("pod rm shop").failed(125);
        assert!(refused.contains("pod `shop`: it has containers: `beside`, `web`"), "{refused}");
        assert_eq!(words("pod stop -t 0 shop").well(), "shop\n");
        assert_eq!(words("ps -q").well(), "");
        let port = words("run --pod shop -p 1:1 --rootfs host true").failed(125);
        assert!(port.contains("pod `shop`"), "{port}");
        let missing = words("run --pod none --rootfs host true").failed(125);
        assert!(missing.contains("pod `none`: there is none of that name"), "{missing}");
        assert_eq!(words("pod rm -f shop none").well(), "shop\nnone\n");
        assert_eq!(words("pod ps -q").well() + &words("ps -aq").well(), "");
        assert!(words("pod start shop").failed(125).contains("pod `shop`"));
    });
}
