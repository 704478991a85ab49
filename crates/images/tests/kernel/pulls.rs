//! Images from a registry that is well, unwell, or lies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use isolate_images::{Credentials, Digest, ErrorKind, Platform, Pull, Stage, Store};
use serde_json::json;
use testkit::{Need, kernel_test, scratch};

use crate::archive::Tar;
use crate::layouts::{architecture, layout, manifest};
use crate::server::{Moods, Server};
use crate::tree::{contents, tree};

/// Where the other process pulls from and to.
const PLACE: &str = "ISOLATE_IMAGES_PULL";

/// Everything in a store but locks.
fn names(store: &Store) -> Vec<PathBuf> {
    let mut names = Vec::new();
    let mut todo = vec![store.directory().to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            match path.is_dir() && !path.parent().unwrap().ends_with("layers") {
                true => todo.push(path),
                false => names.push(path.strip_prefix(store.directory()).unwrap().to_owned()),
            }
        }
    }
    names.retain(|name| !["lock", "names"].contains(&name.file_name().unwrap().to_str().unwrap()));
    names.sort();
    names
}

/// One image of three layers that are not small: a few hundred KiB that cannot be compressed.
fn large() -> PathBuf {
    let place = scratch();
    let noise = |seed: u32| -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..300_000).map(|_| next()).collect()
    };
    let layers: Vec<_> =
        (1..4).map(|n| Tar::new().directory("./", 0o755).file(&format!("f{n}"), &noise(n)).end()).collect();
    let only = manifest(&place, architecture(), &layers);
    fs::write(place.join("index.json"), json!({ "schemaVersion": 2, "manifests": [only] }).to_string())
        .unwrap();
    fs::write(place.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    place
}

fn store() -> Store {
    Store::open(scratch().join("store")).unwrap()
}

#[test]
fn an_image_of_an_index_is_fetched_once_and_is_the_layouts() {
    kernel_test(&[Need::Root], || {
        let place = layout();
        let server = Server::of(&place, Moods::default());
        let (store, told) = (store(), Arc::new(Mutex::new(Vec::new())));
        let sink = Arc::clone(&told);
        let image = Pull::new(server.reference("both"))
            .progress(move |one| {
                sink.lock().unwrap().push((one.number, one.layers, one.stage, one.bytes, one.size))
            })
            .run(&store)
            .unwrap();
        let expected =
            isolate_images::Layout::open(&place).unwrap().image(Some("both"), &Platform::here()).unwrap();
        assert_eq!((image.digest(), image.config()), (expected.digest(), expected.config()));
        let own = store.unpack(&image).unwrap();
        let others = expected.unpack(scratch()).unwrap();
        assert!(
            own.iter().zip(&others).all(|(own, other)| contents(own) == contents(other)) && own.len() == 2
        );
        let told = told.lock().unwrap();
        for number in [1, 2] {
            let of =
                |stage| told.iter().any(|one| (one.0, one.1, one.2) == (number, 2, stage) && one.3 == one.4);
            assert!(of(Stage::Downloading) && of(Stage::Unpacking) && of(Stage::Done), "{told:?}");
        }
        // Again it is one question, and of the other name, which shares its layer, the documents alone.
        let before = server.asked().len();
        Pull::new(server.reference("both")).run(&store).unwrap();
        let asked = server.asked()[before..].to_vec();
        assert!(asked.iter().all(|one| one.starts_with("HEAD") || one.ends_with("/v2/")), "{asked:?}");
        let before = server.asked().len();
        Pull::new(server.reference("single")).run(&store).unwrap();
        let blobs = server.asked()[before..].iter().filter(|one| one.contains("/blobs/")).count();
        assert_eq!(blobs, 1, "its configuration");
        let all: Vec<_> = store.images().unwrap().into_iter().map(|one| one.reference).collect();
        assert_eq!(all, [server.reference("both"), server.reference("single")]);
        assert!(store.verify().unwrap().is_empty());
        let other =
            Pull::new(server.reference("both")).platform("linux/s390x".parse().unwrap()).run(&store).unwrap();
        assert_ne!(other.digest(), image.digest());
        assert_eq!(
            store.image(&server.reference("both")).unwrap().digest(),
            image.digest(),
            "one name, two platforms"
        );
        let by_digest = format!("{}/team/app@{}", server.address, image.digest()).parse().unwrap();
        assert_eq!(Pull::new(by_digest).run(&store).unwrap().digest(), image.digest());
    });
}

#[test]
fn what_breaks_off_goes_on_where_it_ended_and_who_is_busy_is_asked_again() {
    kernel_test(&[Need::Root], || {
        let place = large();
        for (moods, what) in [
            (Moods { breaks: Some((100_000, 2)), ..Moods::default() }, "breaks"),
            (Moods { breaks: Some((100_000, 2)), whole: true, ..Moods::default() }, "breaks, without ranges"),
            (Moods { busy: 3, ..Moods::default() }, "busy"),
        ] {
            let (server, store) = (Server::of(&place, moods), store());
            let image =
                Pull::new(server.reference("only")).run(&store).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(store.unpack(&image).unwrap().len(), 3);
            assert!(store.verify().unwrap().is_empty());
        }
        // What was fetched in part by somebody who has gone is gone on with.
        let (server, store) = (Server::of(&place, Moods::default()), store());
        let image = isolate_images::Layout::open(&place).unwrap().image(None, &Platform::here()).unwrap();
        let text = fs::read_to_string(place.join("blobs/sha256").join(image.digest().hex())).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        let layers: Vec<Digest> =
            (0..2).map(|n| manifest["layers"][n]["digest"].as_str().unwrap().parse().unwrap()).collect();
        let part = |n: usize| store.directory().join("partial").join(format!("sha256-{}", layers[n].hex()));
        let whole = |n: usize| fs::read(place.join("blobs/sha256").join(layers[n].hex())).unwrap();
        fs::write(part(0), &whole(0)[..150_000]).unwrap();
        fs::write(part(1), [0; 150_000]).unwrap(); // none of it
        Pull::new(server.reference("only")).jobs(1).run(&store).unwrap();
        let asked = |n: usize| server.asked().iter().filter(|one| one.contains(layers[n].hex())).count();
        assert_eq!([asked(0), asked(1)], [1, 2]);
        assert!(store.verify().unwrap().is_empty());
        assert_eq!(fs::read_dir(store.directory().join("partial")).unwrap().count(), 0);
    });
}

#[test]
fn who_lies_is_found_out_and_a_mirror_that_does_is_passed_over() {
    kernel_test(&[Need::Root], || {
        let place = large();
        let liar = Server::of(&place, Moods { lies: true, ..Moods::default() });
        let honest = Server::of(&place, Moods::default());
        let first = store();
        let error = Pull::new(liar.reference("only")).run(&first).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(
            error.to_string().starts_with(&format!("image {}: layer sha256:", liar.reference("only"))),
            "{error}"
        );
        assert!(first.images().unwrap().is_empty() && first.verify().unwrap().is_empty());
        let second = store();
        let gone = "http://127.0.0.1:1";
        Pull::new(honest.reference("only"))
            .mirror(gone)
            .mirror(format!("http://{}", liar.address))
            .run(&second)
            .unwrap();
        assert!(second.verify().unwrap().is_empty());
        let layers = |server: &Server| server.asked().iter().filter(|one| one.contains("/blobs/")).count();
        assert!(layers(&liar) > 3 && layers(&honest) >= 3);
        // One that is well is enough.
        let (third, before) = (store(), honest.asked().len());
        let unreachable = "127.0.0.1:1/team/app:only".parse().unwrap();
        Pull::new(unreachable).mirror(format!("http://{}", honest.address)).run(&third).unwrap();
        assert!(honest.asked().len() > before + 4);
    });
}

#[test]
fn credentials_are_told_to_the_token_server_alone_and_the_lack_of_them_is_said() {
    kernel_test(&[Need::Root], || {
        let place = large();
        let server =
            Server::of(&place, Moods { login: Some(("ci".into(), "pa:ss".into())), ..Moods::default() });
        let (store, reference) = (store(), server.reference("only"));
        let error = Pull::new(reference.clone()).run(&store).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
        assert!(error.hint().unwrap().contains("no credentials"), "{error:?}");
        let pull = |password: &str| {
            Pull::new(reference.clone()).credentials(Credentials::password("ci", password)).run(&store)
        };
        assert_eq!(pull("wrong").unwrap_err().kind(), ErrorKind::Unauthorized);
        pull("pa:ss").unwrap();
    });
}

#[test]
fn what_is_not_there_and_who_does_not_answer_are_told_apart() {
    kernel_test(&[Need::Root], || {
        let server = Server::of(&layout(), Moods::default());
        let store = store();
        let error = Pull::new(server.reference("none")).run(&store).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("no such thing"), "{error}");
        let begun = Instant::now();
        let error = Pull::new("127.0.0.1:1/a".parse().unwrap()).run(&store).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Registry, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(20));
        let error = Pull::new(server.reference("both"))
            .platform("linux/riscv64".parse().unwrap())
            .run(&store)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.hint().unwrap().contains("linux/s390x"), "{error:?}");
        let error = Pull::new(server.reference("both")).mirror("m").run(&store).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(store.images().unwrap().is_empty());
    });
}

/// Not a test by itself: it is killed, or one of two.
#[test]
fn pull_in_a_process_of_its_own() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let (reference, store) = place.split_once(' ').unwrap();
    Pull::new(reference.parse().unwrap()).run(&Store::open(store).unwrap()).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a test's own world")]
fn pull_elsewhere(server: &Server, store: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "pulls::pull_in_a_process_of_its_own"])
        .env(PLACE, format!("{} {}", server.reference("only"), store.display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn two_processes_that_pull_the_same_image_share_one_download() {
    kernel_test(&[Need::Root], || {
        let place = large();
        let server = Server::of(&place, Moods { pace: Some(1 << 20), ..Moods::default() });
        let directory = store().directory().to_owned();
        let mut all: Vec<_> = (0..3).map(|_| pull_elsewhere(&server, &directory)).collect();
        assert!(all.iter_mut().all(|child| child.wait().unwrap().success()));
        let mut blobs: Vec<_> = server.asked().into_iter().filter(|one| one.contains("/blobs/")).collect();
        let asked = blobs.len();
        blobs.sort();
        blobs.dedup();
        assert_eq!((asked, blobs.len()), (4, 4), "a configuration and three layers");
        assert!(Store::open(&directory).unwrap().verify().unwrap().is_empty());
    });
}

#[test]
fn after_kills_at_any_moment_the_next_pull_succeeds_and_nothing_is_left_over() {
    kernel_test(&[Need::Root, Need::Native], || {
        let place = large();
        let server = Server::of(&place, Moods { pace: Some(16 << 20), ..Moods::default() });
        let fresh = store();
        let image = Pull::new(server.reference("only")).run(&fresh).unwrap();
        let (whole, expected) = (
            names(&fresh),
            fresh.unpack(&image).unwrap().iter().map(|layer| tree(layer)).collect::<Vec<_>>(),
        );
        let mut killed = 0;
        for round in 0..200_u64 {
            let store = store();
            // Some are killed twice.
            for _ in 0..=round % 2 {
                let mut child = pull_elsewhere(&server, store.directory());
                std::thread::sleep(Duration::from_micros(round * 7919 % 120_000));
                child.kill().unwrap();
                killed += u32::from(!child.wait().unwrap().success());
            }
            let image = Pull::new(server.reference("only")).run(&store).unwrap();
            assert_eq!(names(&store), whole, "round {round}");
            assert!(store.verify().unwrap().is_empty(), "round {round}");
            let seen: Vec<_> = store.unpack(&image).unwrap().iter().map(|layer| tree(layer)).collect();
            assert!(seen == expected, "round {round}");
            fs::remove_dir_all(store.directory()).unwrap();
        }
        assert!(killed > 100, "{killed} were killed before their end");
    });
}
