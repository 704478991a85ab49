//! Images without a network.

use std::fs;

use isolate_images::{Digest, ErrorKind, Layout, Platform, Source, Store};
use serde_json::json;
use testkit::{Need, kernel_test, scratch};

use crate::archive::Tar;
use crate::bombs::gzip;
use crate::layouts::{architecture, layout};
use crate::tree::contents;

fn store() -> Store {
    Store::open(scratch().join("store")).unwrap()
}

/// As docker wrote them until its version 25: a layer that is another's is a link.
fn dockers(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let config = json!({
        "architecture": architecture(), "os": "linux", "config": { "Cmd": ["/a"], "Healthcheck": { "Test": ["CMD", "/b"], "Interval": 5_000_000_000_u64 } },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
    .to_string();
    let mut tar = Tar::new();
    let mut paths = Vec::new();
    for (n, layer) in layers.iter().enumerate() {
        let path = format!("{n:064x}/layer.tar");
        tar = tar.directory(&format!("{n:064x}/"), 0o755);
        tar = match layers[..n].iter().position(|other| other == layer) {
            Some(same) => tar.symlink(&path, &format!("../{same:064x}/layer.tar")),
            None => tar.file(&path, layer),
        };
        paths.push(path);
    }
    let name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let list = json!([{ "Config": name, "RepoTags": ["tomcat:10", "localhost:5000/team/tomcat:10"], "Layers": paths }]);
    tar.file(&name, config.as_bytes()).file("manifest.json", list.to_string().as_bytes()).end()
}

#[test]
fn what_docker_saves_is_an_image_by_its_names() {
    kernel_test(&[Need::Root], || {
        let layers = [
            Tar::new().file("a", b"1").end(),
            Tar::new().file("b", b"2").end(),
            Tar::new().file("a", b"1").end(),
        ];
        let archive = dockers(&layers);
        for archive in [archive.clone(), gzip(&archive)] {
            let store = store();
            let file = scratch().join("image.tar");
            fs::write(&file, archive).unwrap();
            let loaded = store.load(&file).unwrap();
            let names: Vec<_> =
                loaded.iter().map(|one| one.reference.as_ref().unwrap().to_string()).collect();
            assert_eq!(names, ["docker.io/library/tomcat:10", "localhost:5000/team/tomcat:10"]);
            let image = store.image(&"tomcat:10".parse().unwrap()).unwrap();
            assert_eq!(image.config().command, ["/a"]);
            let check = image.config().health_check.as_ref().unwrap();
            assert_eq!((check.test.join(" ").as_str(), check.interval.unwrap().as_secs()), ("CMD /b", 5));
            assert_eq!(store.unpack(&image).unwrap().len(), 3);
            assert!(store.verify().unwrap().is_empty());
            assert_eq!(store.prune().unwrap(), Default::default(), "nothing in it was of no use");
            let source: Source = format!("docker-archive:{}", file.display()).parse().unwrap();
            assert_eq!(source.bring(&store).unwrap().digest(), image.digest());
        }
    });
}

#[test]
fn a_layout_is_loaded_as_a_directory_and_as_an_archive() {
    kernel_test(&[Need::Root], || {
        let place = layout();
        let expected = Layout::open(&place).unwrap().image(Some("both"), &Platform::here()).unwrap();
        let mut tar = Tar::new();
        for name in ["oci-layout", "index.json"] {
            tar = tar.file(name, &fs::read(place.join(name)).unwrap());
        }
        for entry in fs::read_dir(place.join("blobs/sha256")).unwrap().flatten() {
            let name = format!("blobs/sha256/{}", entry.file_name().display());
            tar = tar.file(&name, &fs::read(entry.path()).unwrap());
        }
        let (as_archive, as_directory) = (store(), store());
        let loaded = as_archive.load_archive(&gzip(&tar.end())[..]).unwrap();
        assert_eq!(loaded.len(), 2);
        assert_eq!(loaded[0].image.digest(), expected.digest());
        let source: Source = format!("oci:{}:both", place.display()).parse().unwrap();
        let image = source.bring(&as_directory).unwrap();
        assert_eq!(image.digest(), expected.digest());
        let trees = |store: &Store, image| {
            store.unpack(image).unwrap().iter().map(|layer| contents(layer)).collect::<Vec<_>>()
        };
        assert_eq!(trees(&as_archive, &loaded[0].image), trees(&as_directory, &image));
        assert!(as_directory.verify().unwrap().is_empty() && as_directory.images().unwrap().is_empty());
        let foreign = as_directory.image(&"both".parse().unwrap()).unwrap_err();
        assert_eq!(foreign.kind(), ErrorKind::NotFound);
        let source: Source = format!("oci:{}", place.display()).parse().unwrap();
        assert_eq!(
            source.bring(&as_directory).unwrap_err().kind(),
            ErrorKind::NotFound,
            "two, and none is named"
        );
    });
}

#[test]
fn what_is_no_archive_of_images_is_an_error_and_leaves_nothing() {
    kernel_test(&[Need::Root], || {
        let store = store();
        let layer = Tar::new().file("a", b"1").end();
        let list = |text: &str| Tar::new().file("manifest.json", text.as_bytes()).end();
        let index = |text: &str| Tar::new().file("index.json", text.as_bytes()).end();
        let digest = Digest::of(b"none");
        let leads_nowhere = json!({ "schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest.to_string(), "size": 4 }] });
        let cut = dockers(std::slice::from_ref(&layer));
        for (archive, kind) in [
            (Tar::new().file("etc/passwd", b"").end(), ErrorKind::Unsupported),
            (b"no archive".repeat(100), ErrorKind::Corrupt),
            (list("[}"), ErrorKind::Corrupt),
            (list(r#"[{"Config":"c.json","Layers":[]}]"#), ErrorKind::NotFound),
            (list(r#"[{"Config":7}]"#), ErrorKind::Corrupt),
            (list(r#"[{"Config":"../../etc/passwd","Layers":["../../etc/shadow"]}]"#), ErrorKind::NotFound),
            (index("{"), ErrorKind::Corrupt),
            (index(&leads_nowhere.to_string()), ErrorKind::NotFound),
            (cut[..cut.len() / 2 + 100].to_vec(), ErrorKind::Corrupt),
        ] {
            let error = store.load_archive(&archive[..]).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert_eq!(fs::read_dir(store.directory().join("partial")).unwrap().count(), 0, "{error}");
        }
        assert!(store.images().unwrap().is_empty());
        store.prune().unwrap();
        assert_eq!(fs::read_dir(store.directory().join("blobs/sha256")).unwrap().count(), 0);
    });
}
