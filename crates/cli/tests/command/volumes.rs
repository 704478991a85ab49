//! `volume`.

use serde_json::Value;
use testkit::kernel_test;

use crate::common::{NEEDS, here, isolate, isolate_given};

#[test]
fn a_volume_outlives_containers_until_it_is_removed() {
    kernel_test(NEEDS, || {
        assert_eq!(isolate(&["volume", "create", "data"]).well(), "data\n");
        here(&["-v", "data:/data"], "echo kept > /data/file").well();
        assert_eq!(here(&["--mount", "src=data,dst=/other,readonly"], "cat /other/file").well(), "kept\n");
        let table = isolate(&["volume", "ls"]).well();
        assert!(table.starts_with("DRIVER") && table.contains("local     data\n"), "{table}");
        let known: Value = serde_json::from_str(&isolate(&["volume", "inspect", "data"]).well()).unwrap();
        let path = known[0]["path"].as_str().unwrap();
        assert_eq!(std::fs::read_to_string(format!("{path}/file")).unwrap(), "kept\n");
        assert!(isolate(&["volume", "rm", "none"]).failed(125).contains("`none`"));
        assert_eq!(isolate(&["volume", "rm", "-f", "none"]).well(), "none\n");
        let asked = isolate_given(&["volume", "prune", "--all"], b"n\n");
        assert_eq!((asked.code, asked.out.as_str()), (0, ""), "{asked:?}");
        assert!(isolate(&["volume", "prune", "--force"]).failed(125).contains("--all"));
        assert_eq!(isolate(&["volume", "prune", "--all", "--force"]).well(), "data\n");
        assert_eq!(isolate(&["volume", "ls", "-q"]).well(), "");
        std::fs::remove_dir_all("/var/lib/isolate/volumes").unwrap();
    });
}
