//! Images, without a network.

use testkit::{busybox_root, kernel_test, scratch};

use crate::common::{NEEDS, isolate, until};

#[test]
fn an_image_is_imported_listed_run_and_removed() {
    kernel_test(NEEDS, || {
        let root = scratch();
        busybox_root(root.join("root"));
        let archive = root.join("root.tar");
        let mut tar = tar::Builder::new(std::fs::File::create(&archive).unwrap());
        tar.follow_symlinks(false);
        tar.append_dir_all(".", root.join("root")).unwrap();
        tar.finish().unwrap();
        let digest = isolate(&["import", archive.to_str().unwrap(), "local.test/busy:1"]).well();
        assert_eq!(isolate(&["tag", "local.test/busy:1", "busy"]).well(), "");
        let table = isolate(&["images"]).well();
        assert!(table.starts_with("REPOSITORY"), "{table}");
        assert!(
            table.contains("local.test/busy   1 ") && table.contains("busy              latest "),
            "{table}"
        );
        let listed = isolate(&["images", "--format", "json", "busy"]).objects();
        let (size, created) =
            (listed[0]["Size"].as_str().unwrap(), listed[0]["CreatedSince"].as_str().unwrap());
        assert!(size.ends_with("iB") && created.ends_with(" ago"), "{listed:?}");
        assert_eq!(isolate(&["images", "--no-trunc", "-q", "busy"]).well(), digest);
        let run = ["run", "--rm", "--network", "none"];
        assert_eq!(
            isolate(&[&run[..], &["busy", "echo", "-n", "from inside"]].concat()).well(),
            "from inside"
        );
        let by_entry = [&run[..], &["--pull", "never", "--entrypoint", "/bin/ls", "busy", "/"]].concat();
        assert!(isolate(&by_entry).well().contains("bin\n"));
        let plan = isolate(&["run", "--explain", "busy", "true"]).well();
        assert!(plan.contains("overlay"), "{plan}");
        let absent = isolate(&["run", "--rm", "--pull", "never", "absent", "true"]).failed(125);
        assert!(absent.contains("--pull missing"), "{absent}");
        let script = "echo kept > /kept; exec sleep 1000";
        isolate(&["run", "-d", "--name", "web", "--network=none", "busy", "sh", "-c", script]).well();
        until(|| (isolate(&["diff", "web"]).out.contains("A /kept\n")).then_some(()));
        let committed = isolate(&["commit", "web", "busy:2"]).well();
        assert!(committed.starts_with("sha256:") && committed.lines().count() == 1, "{committed}");
        assert_eq!(isolate(&["exec", "web", "cat", "/kept"]).well(), "kept\n", "it goes on");
        isolate(&["kill", "web"]).well();
        assert_ne!(isolate(&["commit", "web", "busy:2"]).well(), "");
        assert_eq!(isolate(&["rm", "web"]).well(), "web\n");
        assert_eq!(isolate(&[&run[..], &["busy:2", "cat", "/kept"]].concat()).well(), "kept\n");
        isolate(&["rmi", "busy:2"]).well();
        assert!(isolate(&["commit", "web", "busy:3"]).failed(125).contains("`web`"));
        assert!(isolate(&["pull", "127.0.0.1:1/none"]).failed(125).contains("127.0.0.1:1/none"));
        assert!(isolate(&["rmi", "absent"]).failed(125).contains("absent"));
        let removed = isolate(&["rmi", "busy", "local.test/busy:1"]).well();
        assert!(removed.contains("Untagged: docker.io/library/busy:latest\n"), "{removed}");
        assert!(removed.contains("Deleted: 1 layers"), "{removed}");
        assert_eq!(isolate(&["images", "-q"]).well(), "");
        std::fs::remove_dir_all("/var/lib/isolate/images").unwrap();
    });
}
