//! Real images, made by umoci, in a real registry, pushed by skopeo.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use isolate_images::{Image, Platform, Pull, Reference, Source, Stage, Store};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};
use testkit::{Need, kernel_test, scratch};

use crate::archive::Tar;
use crate::layouts::{INDEX, architecture, blob, manifest};
use crate::tree::tree;

const REGISTRY: &str = "localhost:5000";

/// Debian's registry, until it is dropped.
struct Registry(Child);

impl Registry {
    fn start() -> Self {
        Self::with("")
    }

    /// With more lines on how it speaks HTTP.
    #[expect(clippy::disallowed_methods, reason = "a test's own world")]
    fn with(http: &str) -> Self {
        let place = scratch();
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {REGISTRY}\n{http}",
            place.display()
        );
        fs::write(place.join("config.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(place.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let up = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            TcpStream::connect(REGISTRY).is_ok()
        });
        assert!(up, "the registry listens");
        Self(child)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own world")]
fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn skopeo(options: &[&str], from: &str, to: &str) {
    // What skopeo asks for by itself: who signs what.
    let common = ["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"];
    run("skopeo", &[&common, options, &[from, to]].concat());
}

/// The image's view: its layers as an overlay.
fn view(store: &Store, image: &Image) -> PathBuf {
    let layers = store.unpack(image).unwrap();
    let lower: Vec<_> = layers.iter().rev().map(|layer| layer.display().to_string()).collect();
    let target = scratch();
    // Paths by names that are short, relative to nothing: a page holds some forty.
    let data = std::ffi::CString::new(format!("lowerdir={}", lower.join(":"))).unwrap();
    mount("overlay", &target, "overlay", MountFlags::RDONLY, data.as_c_str()).unwrap();
    target
}

fn unpacked_by_umoci(layout: &Path) -> BTreeMap<PathBuf, String> {
    let bundle = scratch().join("bundle");
    run("umoci", &["unpack", "--image", &format!("{}:10", layout.display()), bundle.to_str().unwrap()]);
    tree(&bundle.join("rootfs"))
}

fn same(ours: &Path, theirs: &BTreeMap<PathBuf, String>) -> usize {
    let ours = tree(ours);
    let all: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let differ: Vec<_> = all
        .into_iter()
        .filter(|path| ours.get(*path) != theirs.get(*path))
        .map(|path| format!("{}: {:?} and {:?}", path.display(), ours.get(path), theirs.get(path)))
        .collect();
    assert!(differ.is_empty(), "{} differ: {:#?}", differ.len(), &differ[..differ.len().min(12)]);
    ours.len()
}

fn needs(image: &'static str) -> [Need; 7] {
    let programs = ["docker-registry", "skopeo", "umoci"].map(Need::Program);
    let [registry, skopeo, umoci] = programs;
    [Need::Root, Need::Native, Need::Overlay, registry, skopeo, umoci, Need::Image(image)]
}

/// A layout like this one whose image is an index: of this machine, and of another.
fn of_two_platforms(layout: &Path) -> PathBuf {
    let both = scratch().join("both");
    run("cp", &["-a", layout.to_str().unwrap(), both.to_str().unwrap()]);
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let mut own = index["manifests"][0].clone();
    own.as_object_mut().unwrap().remove("annotations");
    own["platform"] = json!({ "os": "linux", "architecture": architecture() });
    let mut foreign = manifest(&both, "s390x", &[Tar::new().file("foreign", b"").end()]);
    foreign["platform"] = json!({ "os": "linux", "architecture": "s390x" });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [foreign, own] });
    let mut top = blob(&both, index.to_string().as_bytes(), INDEX);
    top["annotations"] = json!({ "org.opencontainers.image.ref.name": "10" });
    fs::write(both.join("index.json"), json!({ "schemaVersion": 2, "manifests": [top] }).to_string())
        .unwrap();
    both
}

#[test]
fn what_skopeo_pushes_in_any_form_is_pulled_and_is_what_umoci_unpacks() {
    kernel_test(&needs("tomcat"), || {
        let layout = testkit::image("tomcat").unwrap();
        let _registry = Registry::start();
        let from = format!("oci:{}:10", layout.display());
        let to = |tag: &str| format!("docker://{REGISTRY}/tomcat:{tag}");
        skopeo(&["--format=oci"], &from, &to("oci"));
        skopeo(&["--format=v2s2"], &from, &to("docker"));
        skopeo(&["--format=oci", "--dest-compress-format=zstd"], &from, &to("zstd"));
        skopeo(&["--multi-arch=all"], &format!("oci:{}:10", of_two_platforms(&layout).display()), &to("10"));
        let theirs = unpacked_by_umoci(&layout);
        for tag in ["oci", "docker", "zstd", "10"] {
            let store = Store::open(scratch().join("store")).unwrap();
            let reference: Reference = format!("{REGISTRY}/tomcat:{tag}").parse().unwrap();
            let told = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
            let sink = Arc::clone(&told);
            let image = Pull::new(reference.clone())
                .progress(move |one| {
                    let which = usize::from(one.stage == Stage::Unpacking);
                    sink[which].fetch_max(one.bytes, Ordering::Relaxed);
                })
                .run(&store)
                .unwrap();
            assert!(told.iter().all(|bytes| bytes.load(Ordering::Relaxed) > 1 << 20), "{tag}: {told:?}");
            let config = image.config();
            assert_eq!(config.argv().collect::<Vec<_>>(), ["/usr/share/tomcat10/bin/catalina.sh", "run"]);
            assert_eq!(
                (config.user.as_str(), config.exposed_ports.as_slice()),
                ("tomcat", &["8080/tcp".to_owned()][..])
            );
            let ours = view(&store, &image);
            assert!(same(&ours, &theirs) > 5000, "{tag}");
            unmount(&ours, UnmountFlags::empty()).unwrap();
            assert!(store.verify().unwrap().is_empty());
            fs::remove_dir_all(store.directory()).unwrap();
        }
        let store = Store::open(scratch().join("store")).unwrap();
        let foreign = Pull::new(format!("{REGISTRY}/tomcat:10").parse().unwrap())
            .platform("linux/s390x".parse::<Platform>().unwrap());
        let layers = store.unpack(&foreign.run(&store).unwrap()).unwrap();
        assert!(layers[0].join("foreign").exists());
    });
}

/// A certificate for this machine that a CA of the test's own vouches for.
fn certificates() -> PathBuf {
    let place = scratch();
    let at = |name: &str| place.join(name).display().to_string();
    let new = ["-newkey", "rsa:2048", "-nodes"];
    let openssl = |args: &[&str]| run("openssl", args);
    for (name, subject) in [("ca", "/CN=ca"), ("other", "/CN=other")] {
        let (key, pem) = (at(&format!("{name}.key")), at(&format!("{name}.pem")));
        openssl(
            &[&["req", "-x509", "-days", "3", "-subj", subject, "-keyout", &key, "-out", &pem], &new[..]]
                .concat(),
        );
    }
    openssl(
        &[&["req", "-subj", "/CN=localhost", "-keyout", &at("key"), "-out", &at("csr")], &new[..]].concat(),
    );
    fs::write(place.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    let (csr, out, names, ca, key) = (at("csr"), at("pem"), at("names"), at("ca.pem"), at("ca.key"));
    openssl(&[
        "x509",
        "-req",
        "-days",
        "3",
        "-in",
        &csr,
        "-out",
        &out,
        "-extfile",
        &names,
        "-CA",
        &ca,
        "-CAkey",
        &key,
        "-CAcreateserial",
    ]);
    place
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test's own world")]
fn https_is_spoken_and_a_certificate_that_nobody_vouches_for_is_refused() {
    let programs = ["docker-registry", "skopeo", "openssl"].map(Need::Program);
    kernel_test(&[&[Need::Root, Need::Native, Need::Image("base")], &programs[..]].concat(), || {
        let keys = certificates();
        let tls = format!("  tls:\n    certificate: {0}/pem\n    key: {0}/key\n", keys.display());
        let _registry = Registry::with(&tls);
        let from = format!("oci:{}:10", testkit::image("base").unwrap().display());
        skopeo(&[], &from, &format!("docker://{REGISTRY}/base:only"));
        // What a program trusts is read once: each in one of its own.
        let pull = |ca: &str| {
            let store = scratch().join("store");
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "pulls::pull_in_a_process_of_its_own", "--nocapture"])
                .env("ISOLATE_IMAGES_PULL", format!("{REGISTRY}/base:only {}", store.display()))
                .env("SSL_CERT_FILE", keys.join(ca))
                .env_remove("SSL_CERT_DIR")
                .output()
                .unwrap();
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (refused, said) = pull("other.pem");
        assert!(!refused && said.contains("invalid peer certificate"), "{said}");
        let (pulled, said) = pull("ca.pem");
        assert!(pulled, "{said}");
    });
}

fn without_a_network(name: &'static str) {
    let layout = testkit::image(name).unwrap();
    let theirs = unpacked_by_umoci(&layout);
    let from = format!("oci:{}:10", layout.display());
    let place = scratch();
    let directory = format!("oci:{}:ten", place.join("layout").display());
    let archives =
        ["docker-archive", "oci-archive"].map(|kind| format!("{kind}:{}", place.join(kind).display()));
    skopeo(&[], &from, &directory);
    archives.iter().for_each(|archive| skopeo(&[], &from, archive));
    for source in archives.iter().chain([&directory, &from]) {
        let store = Store::open(scratch().join("store")).unwrap();
        let image = source.parse::<Source>().unwrap().bring(&store).unwrap();
        let ours = view(&store, &image);
        assert!(store.unpack(&image).unwrap().len() >= 3);
        assert!(same(&ours, &theirs) > 1000, "{source}");
        unmount(&ours, UnmountFlags::empty()).unwrap();
        assert!(store.verify().unwrap().is_empty());
        fs::remove_dir_all(store.directory()).unwrap();
    }
}

#[test]
fn what_skopeo_copies_to_files_is_what_umoci_unpacks_tomcat() {
    kernel_test(&needs("tomcat"), || without_a_network("tomcat"));
}

#[test]
fn what_skopeo_copies_to_files_is_what_umoci_unpacks_python() {
    kernel_test(&needs("python"), || without_a_network("python"));
}

#[test]
fn what_skopeo_copies_to_files_is_what_umoci_unpacks_base() {
    kernel_test(&needs("base"), || without_a_network("base"));
}
