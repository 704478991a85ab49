//! A container of an image.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use isolate::images::{Digest, Layout, Platform, Reference, Store};
use isolate::{Container, Detached, ErrorKind, Rootfs, UserNamespace};
use serde_json::{Value, json};
use testkit::{Need, busybox_root, kernel_test, scratch};

use crate::common::until;

fn blob(layout: &Path, bytes: &[u8], media_type: &str) -> Value {
    let digest = Digest::of(bytes);
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    fs::write(layout.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
    json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() })
}

/// An image of busybox, and a layer above that takes a file away.
fn layout(config: Value) -> Layout {
    Layout::open(layout_at(config)).unwrap()
}

fn layout_at(config: Value) -> PathBuf {
    let (layout, root) = (scratch(), scratch());
    busybox_root(&root);
    fs::write(root.join("gone"), "below").unwrap();
    let mut base = tar::Builder::new(Vec::new());
    base.follow_symlinks(false);
    base.append_dir_all(".", &root).unwrap();
    let mut top = tar::Builder::new(Vec::new());
    for (name, content) in [(".wh.gone", ""), ("added", "above")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        top.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    let layers = [base.into_inner().unwrap(), top.into_inner().unwrap()];
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let all = json!({
        "architecture": architecture, "os": "linux", "config": config, "rootfs": { "type": "layers", "diff_ids": diff_ids }
    });
    let config = blob(&layout, all.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
    let layers = layers.map(|layer| blob(&layout, &layer, "application/vnd.oci.image.layer.v1.tar"));
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
    let manifest =
        blob(&layout, manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json");
    fs::write(layout.join("index.json"), json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string())
        .unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    layout
}

#[test]
fn an_image_runs_as_it_says_on_its_layers_in_either_user_namespace() {
    kernel_test(&[Need::Root, Need::Overlay, Need::Program("busybox")], || {
        let said = json!({
            "Entrypoint": ["/bin/busybox", "sh", "-c"], "Env": ["WORD=image"], "User": "7:8", "WorkingDir": "/bin",
            "Cmd": ["echo $WORD $PWD $(/bin/busybox id -u):$(/bin/busybox id -g) $(/bin/busybox cat /added) $(/bin/busybox ls / | /bin/busybox grep -c gone)"],
        });
        let image = layout(said).image(None, &Platform::here()).unwrap();
        let layers = image.unpack("/var/lib/isolate/layers").unwrap();
        for user_namespace in [UserNamespace::Auto, UserNamespace::Host] {
            let builder = Container::builder().rootfs(Rootfs::layers(&layers)).user_namespace(user_namespace);
            let output = builder.clone().image_config(image.config()).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), "image /bin 7:8 above 0\n");
            let output = builder.image_config(image.config()).command(["echo mine"]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), "mine\n");
        }
        fs::remove_dir_all("/var/lib/isolate/layers").unwrap();
    });
}

#[test]
fn stop_sends_the_signal_that_the_image_says() {
    kernel_test(&[Need::Root, Need::Overlay, Need::Program("busybox")], || {
        let said = json!({ "Cmd": ["/bin/busybox", "sleep", "100"], "StopSignal": "SIGQUIT" });
        let image = layout(said).image(None, &Platform::here()).unwrap();
        let layers = image.unpack("/var/lib/isolate/layers").unwrap();
        let mut container = Container::builder()
            .rootfs(Rootfs::layers(&layers))
            .image_config(image.config())
            .start()
            .unwrap();
        let status = container.stop(Duration::from_secs(20)).unwrap();
        // An init tells the signal of its command as a shell does.
        assert!(status.signal() == Some(3) || status.code() == Some(128 + 3), "{status}");
        container.remove().unwrap();
        fs::remove_dir_all("/var/lib/isolate/layers").unwrap();
    });
}

/// Everything that a store in memory has, but the directory of this machine's images itself.
fn remove(store: &Store) {
    fs::remove_dir_all(store.directory()).unwrap();
}

#[test]
fn an_image_is_one_line_and_its_layers_stay_as_long_as_a_container_has_them() {
    kernel_test(&[Need::Root, Need::Overlay, Need::Program("busybox")], || {
        let place = layout_at(json!({ "Cmd": ["/bin/busybox", "sleep", "100"], "Env": ["WORD=image"] }));
        let image = format!("oci:{}", place.display());
        let error = Container::builder().rootfs(Rootfs::image(&image)).plan().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.hint().unwrap().contains("pull"), "{error:?}");
        let container = Container::builder().rootfs(Rootfs::image(&image)).start().unwrap();
        let output =
            container.exec("/bin/busybox").args(["sh", "-c", "echo $WORD; ls /gone"]).output().unwrap();
        assert_eq!(output.stdout, b"image\n");
        let store = Store::of_user().unwrap();
        assert_eq!(
            store.prune().unwrap(),
            Default::default(),
            "no name leads to it, but the container has it"
        );
        assert!(Container::builder().rootfs(Rootfs::image(&image)).plan().is_ok());
        assert!(container.exec("/bin/busybox").args(["cat", "/added"]).output().unwrap().status.success());
        container.remove().unwrap();
        assert_eq!(fs::read_dir(store.directory().join("leases")).unwrap().count(), 0);
        assert!(store.prune().unwrap().layers == 2);
        // A store of the caller's, and a start that fails.
        let own = Store::open(scratch().join("own")).unwrap();
        let root = Rootfs::image(&image).store(&own);
        let error = Container::builder().rootfs(root.clone()).command(["/none"]).start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ProgramNotFound);
        assert_eq!(fs::read_dir(own.directory().join("leases")).unwrap().count(), 0);
        assert_eq!(own.prune().unwrap().layers, 2);
        for (source, kind) in [
            ("Not An Image", ErrorKind::InvalidConfig),
            ("oci:/none", ErrorKind::NotFound),
            ("docker-archive:/none", ErrorKind::NotFound),
            ("127.0.0.1:1/none", ErrorKind::Image),
        ] {
            let error = Container::builder().rootfs(Rootfs::image(source)).start().unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(source.trim_start_matches("oci:")), "{error}");
        }
        remove(&store);
    });
}

#[test]
fn a_commit_is_the_image_with_what_a_container_changed() {
    kernel_test(&[Need::Root, Need::Overlay, Need::Program("busybox")], || {
        let place = layout_at(json!({ "Cmd": ["/bin/busybox", "cat", "/added"], "User": "7:8" }));
        let store = Store::of_user().unwrap();
        let name: Reference = "local/app:2".parse().unwrap();
        for user_namespace in [UserNamespace::Auto, UserNamespace::Host] {
            let mut container = Container::builder()
                .rootfs(Rootfs::image(format!("oci:{}", place.display())))
                .user_namespace(user_namespace)
                .user(isolate::User::id(0))
                .command([
                    "/bin/busybox",
                    "sh",
                    "-c",
                    "echo new > /added; /bin/busybox chown 7:8 /added; /bin/busybox rm /bin/ls",
                ])
                .start()
                .unwrap();
            assert!(container.wait().unwrap().success());
            let image = container.commit(&name).unwrap();
            container.remove().unwrap();
            assert_eq!(image.config().user, "7:8");
            let run = || Container::builder().rootfs(Rootfs::image(&name)).user_namespace(user_namespace);
            assert_eq!(run().output().unwrap().stdout, b"new\n");
            let script = "/bin/busybox stat -c %u:%g /added; test -e /bin/ls || echo gone";
            let told = run().command(["/bin/busybox", "sh", "-c", script]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&told.stdout), "7:8\ngone\n");
        }
        let other = Container::builder().command(["/bin/true"]).start().unwrap();
        assert_eq!(other.commit(&name).unwrap_err().kind(), ErrorKind::Unsupported);
        other.remove().unwrap();
        assert!(store.verify().unwrap().is_empty());
        remove(&store);
    });
}

#[test]
fn a_commit_of_one_that_lasts_has_what_all_its_runs_changed_whether_it_runs_or_not() {
    kernel_test(&[Need::Root, Need::Overlay, Need::Program("busybox")], || {
        let place = layout_at(json!({ "Cmd": ["/bin/busybox", "cat", "/runs"], "User": "7:8" }));
        let store = Store::of_user().unwrap();
        let script =
            "echo run >> /runs; test -e /bin/ls && /bin/busybox rm /bin/ls; exec /bin/busybox sleep 1000";
        let source = format!("oci:{}", place.display());
        let web = Container::builder()
            .name("web")
            .rootfs(Rootfs::image(&source))
            .user(isolate::User::id(0))
            .command(["/bin/busybox", "sh", "-c", script])
            .create()
            .unwrap();
        let base = web.image().unwrap().unwrap();
        let (first, second): (Reference, Reference) =
            ("local/app:1".parse().unwrap(), "local/app:2".parse().unwrap());
        let print = |name: &Reference| Container::builder().rootfs(Rootfs::image(name)).output().unwrap();
        let wait = |web: &Detached, runs: &[u8]| {
            let there = || Some(()).filter(|()| read(web) == runs && gone(web));
            assert!(until(Duration::from_secs(60), there).is_some(), "{:?}", web.changes());
        };
        web.start().unwrap();
        wait(&web, b"run\n");
        let image = web.commit(&first).unwrap();
        let info = web.inspect().unwrap();
        assert_eq!((info.image_digest, info.image), (Some(base.digest().to_string()), Some(source)));
        assert!(image.size() > base.size() && image.created() > base.created());
        assert_eq!((image.config().user.as_str(), image.digest() == base.digest()), ("7:8", false));
        assert_eq!(store.image(&first).unwrap().digest(), image.digest());
        assert_eq!(print(&first).stdout, b"run\n");
        let web = web.rename("other").unwrap();
        store.remove(&first).unwrap();
        store.prune().unwrap();
        web.restart(Duration::ZERO).unwrap();
        wait(&web, b"run\nrun\n");
        web.kill().unwrap();
        let mut config = image.config().clone();
        config.command = ["/bin/busybox", "sh", "-c", "cat /runs; test -e /bin/ls || echo gone"]
            .map(str::to_owned)
            .to_vec();
        config.user = String::new();
        // What its own image is called does not matter: its lease is what keeps it.
        fs::remove_dir_all(&place).unwrap();
        assert_eq!(web.commit_with(&second, &config).unwrap().config().user, "");
        assert_eq!(String::from_utf8_lossy(&print(&second).stdout), "run\nrun\ngone\n");
        web.remove().unwrap();
        let other = Container::builder().name("other").command(["/bin/true"]).create().unwrap();
        assert!(other.image().unwrap().is_none());
        let error = other.commit(&first).unwrap_err();
        assert_eq!((error.kind(), error.to_string().matches("`other`").count()), (ErrorKind::Unsupported, 1));
        other.remove().unwrap();
        assert!(store.verify().unwrap().is_empty());
        remove(&store);
    });
}

fn read(container: &Detached) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = container.open_file("/runs").map(|mut file| file.read_to_end(&mut bytes));
    bytes
}

/// Whether it has taken away a file of its image.
fn gone(container: &Detached) -> bool {
    container.changes().unwrap().iter().any(|change| change.to_string() == "D /bin/ls")
}
