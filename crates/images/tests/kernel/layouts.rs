//! Images of a layout, made by hand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use isolate_images::{Digest, ErrorKind, Layout, Platform};
use serde_json::{Value, json};
use testkit::{Need, kernel_test, scratch};

use crate::archive::Tar;
use crate::bombs::gzip;
use crate::tree::tree;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Where the killed one works.
const PLACE: &str = "ISOLATE_IMAGES_PLACE";

pub(crate) fn blob(layout: &Path, bytes: &[u8], media_type: &str) -> Value {
    let digest = Digest::of(bytes);
    let directory = layout.join("blobs/sha256");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(digest.hex()), bytes).unwrap();
    json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() })
}

pub(crate) fn manifest(layout: &Path, architecture: &str, layers: &[Vec<u8>]) -> Value {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let config = json!({
        "architecture": architecture, "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "config": {
            "Entrypoint": ["catalina.sh"], "Cmd": ["run"], "Env": ["PATH=/bin", "OPTS=-a=b"], "User": "tomcat:tomcat",
            "WorkingDir": "/srv", "ExposedPorts": { "8080/tcp": {} }, "Volumes": { "/data": {} }, "StopSignal": "SIGINT",
            "Labels": { "a": "b" }
        }
    });
    let config = blob(layout, config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| blob(layout, &gzip(layer), "application/vnd.oci.image.layer.v1.tar+gzip"))
        .collect();
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
    blob(layout, manifest.to_string().as_bytes(), MANIFEST)
}

/// Of two images: one for this machine and another one by an index, and one alone.
pub(crate) fn layout() -> PathBuf {
    let layout = scratch();
    let base = Tar::new().directory("etc/", 0o755).file("etc/a", b"1").file("etc/b", b"1").end();
    let top = Tar::new().file("etc/.wh.a", b"").file("etc/c", b"2").end();
    let foreign = manifest(&layout, "s390x", std::slice::from_ref(&top));
    let own = manifest(&layout, architecture(), &[base.clone(), top]);
    let at = |mut what: Value, architecture: &str| {
        what["platform"] = json!({ "os": "linux", "architecture": architecture });
        what
    };
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [at(foreign, "s390x"), at(own, architecture())] });
    let named = |mut what: Value, name: &str| {
        what["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        what
    };
    let both = named(blob(&layout, index.to_string().as_bytes(), INDEX), "both");
    let single = named(manifest(&layout, architecture(), &[base]), "single");
    fs::write(
        layout.join("index.json"),
        json!({ "schemaVersion": 2, "manifests": [both, single] }).to_string(),
    )
    .unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    layout
}

pub(crate) fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

#[test]
fn an_image_is_found_by_name_and_platform_and_says_what_is_to_run() {
    kernel_test(&[Need::Root], || {
        let layout = Layout::open(layout()).unwrap();
        assert_eq!(layout.names().unwrap(), ["both", "single"]);
        let image = layout.image(Some("both"), &Platform::here()).unwrap();
        let config = image.config();
        assert_eq!(config.argv().collect::<Vec<_>>(), ["catalina.sh", "run"]);
        assert_eq!(config.env, [("PATH".into(), "/bin".into()), ("OPTS".into(), "-a=b".into())]);
        assert_eq!([&config.user, &config.workdir], ["tomcat:tomcat", "/srv"]);
        assert_eq!([&config.exposed_ports, &config.volumes], [&["8080/tcp"], &["/data"]]);
        assert_eq!((config.stop_signal.as_deref(), config.labels["a"].as_str()), (Some("SIGINT"), "b"));
        let other = layout.image(Some("both"), &"linux/s390x".parse().unwrap()).unwrap();
        assert_ne!(other.digest(), image.digest());
        for (name, platform, said) in [
            (Some("none"), "linux/amd64", "no image none"),
            (None, "linux/amd64", "several images"),
            (Some("both"), "linux/riscv64", "no image for linux/riscv64"),
        ] {
            let error = layout.image(name, &platform.parse().unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.to_string().contains(said), "{error}");
        }
        assert_eq!(Layout::open(scratch()).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn layers_are_unpacked_once_and_shared_and_what_is_not_what_its_digest_says_is_an_error() {
    kernel_test(&[Need::Root], || {
        let (place, store) = (layout(), scratch());
        let layout = Layout::open(&place).unwrap();
        let image = |name| layout.image(Some(name), &Platform::here()).unwrap();
        let layers = image("both").unpack(&store).unwrap();
        assert_eq!(layers.len(), 2);
        assert!(layers[0].join("etc/a").exists() && layers[1].join("etc/c").exists());
        fs::write(layers[0].join("mark"), "not again").unwrap();
        assert_eq!(image("single").unpack(&store).unwrap(), layers[..1]);
        assert!(layers[0].join("mark").exists());
        // Each blob in turn is another.
        let names: Vec<_> =
            fs::read_dir(place.join("blobs/sha256")).unwrap().map(|e| e.unwrap().path()).collect();
        for name in names {
            let whole = fs::read(&name).unwrap();
            let mut changed = whole.clone();
            *changed.last_mut().unwrap() ^= 1;
            fs::write(&name, changed).unwrap();
            let fresh = scratch();
            let all = ["both", "single"].map(|name| {
                layout.image(Some(name), &Platform::here()).and_then(|image| image.unpack(&fresh))
            });
            let kinds: Vec<_> = all.iter().filter_map(|one| one.as_ref().err()).map(|e| e.kind()).collect();
            assert!(kinds.iter().all(|kind| *kind == ErrorKind::Corrupt), "{}: {kinds:?}", name.display());
            assert!(!fresh.join("unfinished").exists());
            fs::write(&name, whole).unwrap();
        }
    });
}

/// Not a test by itself: it is killed.
#[test]
fn unpack_in_a_process_of_its_own() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let (layout, store) = place.split_once(' ').unwrap();
    let image = Layout::open(layout).unwrap().image(None, &Platform::here()).unwrap();
    image.unpack(store).unwrap();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test's own world")]
fn who_is_killed_leaves_nothing_that_the_next_takes_for_a_layer() {
    kernel_test(&[Need::Root, Need::Native], || {
        let place = scratch();
        let many = (0..400)
            .fold(Tar::new().directory("./", 0o755), |tar, n| tar.file(&format!("f{n}"), &[n as u8; 3000]));
        let layers = [many.end(), Tar::new().file("top", b"").end()];
        let only = manifest(&place, architecture(), &layers);
        fs::write(place.join("index.json"), json!({ "schemaVersion": 2, "manifests": [only] }).to_string())
            .unwrap();
        fs::write(place.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let image = Layout::open(&place).unwrap().image(None, &Platform::here()).unwrap();
        let whole = image.unpack(scratch()).unwrap().iter().map(|layer| tree(layer)).collect::<Vec<_>>();
        let mut killed = 0;
        for round in 0..200_u64 {
            let store = scratch();
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "layouts::unpack_in_a_process_of_its_own"])
                .env(PLACE, format!("{} {}", place.display(), store.display()))
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_micros(round * 7919 % 40_000));
            child.kill().unwrap();
            let status = child.wait().unwrap();
            killed += u32::from(!status.success());
            let layers = image.unpack(&store).unwrap();
            let left: Vec<_> = fs::read_dir(&store).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(left.len(), 3, "two layers and the lock: {left:?}");
            let seen = layers.iter().map(|layer| tree(layer)).collect::<Vec<_>>();
            assert!(seen == whole, "round {round}");
            fs::remove_dir_all(&store).unwrap();
        }
        assert!(killed > 20, "{killed} were killed before their end");
    });
}
