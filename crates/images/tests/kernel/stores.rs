//! What a store keeps, and what it lets go.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use isolate_images::{Config, Digest, ErrorKind, Reference, Store};
use testkit::{Need, kernel_test, scratch};

use crate::archive::Tar;
use crate::layouts::layout;

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn count(store: &Store, below: &str) -> usize {
    fs::read_dir(store.directory().join(below))
        .unwrap()
        .filter(|entry| entry.as_ref().is_ok_and(|e| e.file_name() != "lock"))
        .count()
}

#[test]
fn what_no_name_and_no_lease_leads_to_goes_and_nothing_else() {
    kernel_test(&[Need::Root], || {
        let store = Store::open(scratch().join("store")).unwrap();
        let layer = |name: &str| Tar::new().file(name, name.as_bytes()).end();
        let [a, b] = ["a", "b"].map(|name| store.import(&layer(name)[..], &Config::default()).unwrap());
        store.tag(&a, &reference("a")).unwrap();
        let (of_a, of_b) = (store.unpack(&a).unwrap(), store.unpack(&b).unwrap());
        let user = scratch().join("container");
        fs::create_dir(&user).unwrap();
        let lease = store.lease(&b, &user).unwrap();
        assert_eq!(store.prune().unwrap(), Default::default(), "one has a name, one a lease");
        assert!(of_a[0].join("a").exists() && of_b[0].join("b").exists());
        fs::remove_dir(&user).unwrap();
        let pruned = store.prune().unwrap();
        assert_eq!((pruned.blobs, pruned.layers), (3, 1), "manifest, configuration, layer");
        assert!(pruned.bytes > 1024 && !lease.exists() && !of_b[0].exists() && of_a[0].join("a").exists());
        store.remove(&reference("a")).unwrap();
        assert_eq!(store.remove(&reference("a")).unwrap_err().kind(), ErrorKind::NotFound);
        fs::write(
            store.directory().join("partial").join(format!("sha256-{}", Digest::of(b"").hex())),
            "part",
        )
        .unwrap();
        store.prune().unwrap();
        assert_eq!(
            [count(&store, "blobs/sha256"), count(&store, "layers"), count(&store, "partial")],
            [0; 3]
        );
    });
}

#[test]
fn what_is_damaged_or_missing_is_told() {
    kernel_test(&[Need::Root], || {
        let store = Store::open(scratch().join("store")).unwrap();
        let image = store.import(&Tar::new().file("a", b"a").end()[..], &Config::default()).unwrap();
        store.tag(&image, &reference("a")).unwrap();
        assert!(store.verify().unwrap().is_empty());
        let blobs: Vec<_> = fs::read_dir(store.directory().join("blobs/sha256"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        for blob in &blobs {
            let whole = fs::read(blob).unwrap();
            fs::write(blob, "other").unwrap();
            assert!(
                store.verify().unwrap().iter().any(|e| e.kind() == ErrorKind::Corrupt),
                "{}",
                blob.display()
            );
            fs::remove_file(blob).unwrap();
            assert!(
                store.verify().unwrap().iter().any(|e| e.kind() == ErrorKind::NotFound),
                "{}",
                blob.display()
            );
            fs::write(blob, whole).unwrap();
        }
        assert!(store.verify().unwrap().is_empty());
    });
}

#[test]
fn a_commit_is_the_image_below_and_a_layer_on_top() {
    kernel_test(&[Need::Root], || {
        let store = Store::open(scratch().join("store")).unwrap();
        store.load(layout()).unwrap();
        let below = isolate_images::Layout::open(store.directory()).unwrap();
        assert!(below.names().unwrap().is_empty(), "tags alone are no names");
        let below = store.import(&Tar::new().file("a", b"a").end()[..], &Config::default()).unwrap();
        let mut config = Config::default();
        config.command = vec!["/a".into()];
        let layer = Tar::new().file("b", b"b").file(".wh.a", b"").end();
        let image = store
            .commit::<isolate_images::Error>(&below, &config, |writer| {
                writer.write_all(&layer).map_err(|_| unreachable!())
            })
            .unwrap();
        assert_eq!(image.config(), &config);
        let layers = store.unpack(&image).unwrap();
        assert_eq!(layers[..1], store.unpack(&below).unwrap());
        assert!(layers[1].join("b").exists() && layers.len() == 2);
        store.tag(&image, &reference("local/app:2")).unwrap();
        assert_eq!(store.image(&reference("local/app:2")).unwrap().digest(), image.digest());
        assert!(store.verify().unwrap().is_empty());
    });
}

#[test]
fn a_store_that_others_may_write_is_none() {
    kernel_test(&[Need::Root], || {
        let place = scratch().join("store");
        Store::open(&place).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(Store::open(&place).unwrap_err().kind(), ErrorKind::PermissionDenied);
        std::os::unix::fs::chown(&place, Some(1), Some(1)).unwrap();
        assert_eq!(Store::open(&place).unwrap_err().kind(), ErrorKind::PermissionDenied);
    });
}

#[test]
fn threads_that_name_and_prune_at_once_lose_no_name() {
    kernel_test(&[Need::Root], || {
        let store = Store::open(scratch().join("store")).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let store = &store;
                scope.spawn(move || {
                    for round in 0..10 {
                        let name = format!("t{thread}-{round}");
                        let image =
                            store.import(&Tar::new().file(&name, b"").end()[..], &Config::default()).unwrap();
                        // Between the two it has no name; a lease keeps it.
                        match store.tag(&image, &reference(&name)) {
                            Ok(()) => drop(store.unpack(&image).unwrap()),
                            Err(e) => assert_eq!(e.kind(), ErrorKind::NotFound, "{e}"),
                        }
                        if round % 3 == 0 {
                            store.prune().unwrap();
                        }
                    }
                });
            }
        });
        assert!(store.images().unwrap().len() > 8);
        assert!(store.verify().unwrap().is_empty());
        for named in store.images().unwrap() {
            assert_eq!(store.unpack(&store.image(&named.reference).unwrap()).unwrap().len(), 1);
        }
    });
}
