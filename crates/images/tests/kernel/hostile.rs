//! Archives of an attacker: nothing outside of the directory differs, and what cannot be kept as it is ends the whole.

use std::fs;
use std::path::{Path, PathBuf};

use isolate_images::{Bounds, ErrorKind, Unpack};
use tar::EntryType;
use testkit::{Need, kernel_test, scratch};

use crate::archive::Tar;
use crate::tree::tree;

/// What must happen to it.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Is {
    Refused,
    Corrupt,
    /// By the kernel.
    Failed,
    /// It stays in the directory.
    Harmless,
}
use Is::{Corrupt, Failed, Harmless, Refused};

fn hostile() -> Vec<(&'static str, Vec<u8>, Is)> {
    let long = "x".repeat(5000);
    let many: Vec<u8> = b"a/".repeat(3000);
    let checksum = {
        let mut bytes = Tar::new().file("a", b"").end();
        bytes[0] = b'b';
        bytes
    };
    let map = |map: &str| Tar::new().pax(&[("GNU.sparse.map", map.as_bytes()), ("GNU.sparse.size", b"100")]);
    let stored = |text: &str| {
        let mut content = text.as_bytes().to_vec();
        content.resize(512, 0);
        let version: &[(&str, &[u8])] = &[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"9")];
        Tar::new().pax(version).file("a", &content).end()
    };
    let size = |size: u64| Tar::new().entry(EntryType::Regular, "a", "", b"", |header| header.set_size(size));
    let extension = |kind, size| Tar::new().entry(kind, "x", "", b"", |header| header.set_size(size)).end();
    let xattr = |key: &str| Tar::new().pax(&[(key, b"y")]).directory("a/", 0o755).end();
    vec![
        ("a name that leads up", Tar::new().file("../canary", b"!").end(), Refused),
        (
            "a name that leads up later",
            Tar::new().directory("a/", 0o755).file("a/../../canary", b"!").end(),
            Refused,
        ),
        ("an absolute name", Tar::new().file("/etc/canary", b"!").end(), Harmless),
        (
            "a pax path that leads up",
            Tar::new().pax(&[("path", b"../canary")]).file("a", b"!").end(),
            Refused,
        ),
        (
            "a long name that leads up",
            Tar::new().entry(EntryType::GNULongName, "l", "", b"../canary\0", |_| ()).file("a", b"!").end(),
            Refused,
        ),
        ("a directory that leads up", Tar::new().directory("../", 0o777).end(), Refused),
        ("a deletion above", Tar::new().file("../.wh.canary", b"").end(), Refused),
        ("a deletion of the parent", Tar::new().file(".wh...", b"").end(), Refused),
        ("a deletion of itself", Tar::new().file(".wh..", b"").end(), Refused),
        ("a deletion of nothing", Tar::new().file(".wh.", b"").end(), Refused),
        (
            "a link up, and a file through it",
            Tar::new().symlink("l", "..").file("l/canary", b"!").end(),
            Harmless,
        ),
        (
            "an absolute link, and a file through it",
            Tar::new().symlink("l", "/run/tmp").file("l/canary", b"!").end(),
            Harmless,
        ),
        (
            "a link to the canary, and a file in its place",
            Tar::new().symlink("l", "../canary").file("l", b"!").end(),
            Harmless,
        ),
        (
            "a link to the canary, and a directory in its place",
            Tar::new().symlink("l", "../outside").directory("l/", 0o777).end(),
            Harmless,
        ),
        (
            "links in a row",
            Tar::new().symlink("a", "b/..").symlink("b", "../..").file("a/canary", b"!").end(),
            Harmless,
        ),
        ("a link to itself", Tar::new().symlink("a", "a").file("a/x", b"!").end(), Failed),
        (
            "a magic link",
            Tar::new().symlink("a", "/proc/self/root").file("a/run/tmp/canary", b"!").end(),
            Harmless,
        ),
        (
            "a deletion through a link",
            Tar::new().symlink("l", "..").file("l/.wh.canary", b"").end(),
            Harmless,
        ),
        (
            "an opaque mark through a link",
            Tar::new().symlink("l", "../outside").file("l/.wh..wh..opq", b"").end(),
            Harmless,
        ),
        ("a hard link up", Tar::new().hard_link("h", "../canary").end(), Refused),
        ("an absolute hard link", Tar::new().hard_link("h", "/run/tmp/canary").end(), Refused),
        (
            "a hard link through a link",
            Tar::new().symlink("l", "..").hard_link("h", "l/canary").file("h", b"!").end(),
            Refused,
        ),
        (
            "a hard link to a link, and a file in its place",
            Tar::new().symlink("l", "../canary").hard_link("h", "l").file("h", b"!").end(),
            Harmless,
        ),
        ("a hard link to nothing", Tar::new().hard_link("h", "none").end(), Refused),
        ("a hard link to a directory", Tar::new().directory("d/", 0o755).hard_link("h", "d").end(), Refused),
        ("a hard link to itself", Tar::new().file("h", b"").hard_link("h", "h").end(), Refused),
        ("a hard link to the root", Tar::new().hard_link("h", "/").end(), Refused),
        (
            "a pax link that leads up",
            Tar::new().pax(&[("linkpath", b"../canary")]).hard_link("h", "a").end(),
            Refused,
        ),
        ("a whiteout as a device", Tar::new().device(EntryType::Char, "d", 0, 0).end(), Refused),
        ("overlayfs's redirection", xattr("SCHILY.xattr.trusted.overlay.redirect"), Refused),
        ("overlayfs's opaque mark", xattr("SCHILY.xattr.trusted.overlay.opaque"), Refused),
        ("a name with a NUL", Tar::new().pax(&[("path", b"a\0b")]).file("a", b"").end(), Refused),
        ("an empty name", Tar::new().file("", b"").end(), Refused),
        ("a long path", Tar::new().pax(&[("path", long.as_bytes())]).file("a", b"").end(), Refused),
        ("a deep path", Tar::new().pax(&[("path", &many)]).file("a", b"").end(), Refused),
        (
            "a component longer than any",
            Tar::new().pax(&[("path", &long.as_bytes()[..300])]).file("a", b"").end(),
            Failed,
        ),
        ("a long link", Tar::new().pax(&[("linkpath", long.as_bytes())]).symlink("a", "x").end(), Refused),
        ("a user beyond all", Tar::new().pax(&[("uid", b"4294967295")]).file("a", b"").end(), Refused),
        ("a group beyond all", Tar::new().pax(&[("gid", b"99999999999")]).file("a", b"").end(), Refused),
        ("a user that is no number", Tar::new().pax(&[("uid", b"-1")]).file("a", b"").end(), Corrupt),
        ("a size beyond the archive", size(1 << 30).end(), Corrupt),
        (
            "a size beyond all",
            Tar::new().pax(&[("size", b"18446744073709551615")]).file("a", b"").end(),
            Refused,
        ),
        ("a size that is no number", Tar::new().pax(&[("size", b"1e9")]).file("a", b"").end(), Corrupt),
        ("an extended header beyond all", extension(EntryType::XHeader, 1 << 40), Refused),
        ("a global header beyond all", extension(EntryType::XGlobalHeader, 1 << 40), Refused),
        ("a long name beyond all", extension(EntryType::GNULongName, 1 << 40), Refused),
        (
            "records without an end",
            Tar::new().entry(EntryType::XHeader, "x", "", b"999 path=a\n", |_| ()).file("a", b"").end(),
            Corrupt,
        ),
        (
            "records without a length",
            Tar::new().entry(EntryType::XHeader, "x", "", b"path=a\n", |_| ()).file("a", b"").end(),
            Corrupt,
        ),
        ("records of nothing", Tar::new().pax(&[("path", b"a")]).end(), Corrupt),
        ("a map whose parts overlap", map("0,4,2,4").file("a", b"12345678").end(), Corrupt),
        ("a map beyond its file", map("98,4").file("a", b"1234").end(), Corrupt),
        ("a map beyond all", map("18446744073709551615,4").file("a", b"1234").end(), Corrupt),
        ("a map of half a pair", map("1,2,3").file("a", b"12").end(), Corrupt),
        ("a map of more than is stored", map("0,50").file("a", b"12").end(), Corrupt),
        ("a stored map without an end", stored("99999999\n"), Corrupt),
        ("a stored map of letters", stored("x\n"), Corrupt),
        (
            "a sparse file beyond all",
            Tar::new()
                .pax(&[("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"9223372036854775807")])
                .file("a", b"1")
                .end(),
            Refused,
        ),
        ("a wrong checksum", checksum, Corrupt),
        ("an unknown type", Tar::new().entry(EntryType::new(b'Q'), "a", "", b"", |_| ()).end(), Refused),
        ("an end within a header", Tar::new().file("a", b"").raw(&[1; 100]).unended(), Corrupt),
        ("an end within a file", Tar::new().file("a", &[1; 2000]).unended()[..1500].to_vec(), Corrupt),
        ("the root as a file", Tar::new().file("./", b"").symlink("/", "..").end(), Refused),
        ("a gzip that is none", [&[0x1f, 0x8b][..], &[7; 600]].concat(), Corrupt),
        ("a zstd that is none", [&[0x28, 0xb5, 0x2f, 0xfd][..], &[0xff; 600]].concat(), Corrupt),
        ("a file in a file", Tar::new().file("f", b"").file("f/x", b"").end(), Refused),
    ]
}

/// What a program would do that joins names and writes.
fn naive(archive: &[u8], directory: &Path) {
    for entry in tar::Archive::new(archive).entries().unwrap().flatten() {
        let mut entry = entry;
        let path = directory.join(entry.path().unwrap());
        let link = entry.link_name().ok().flatten().map(PathBuf::from);
        match (entry.header().entry_type(), link) {
            (EntryType::Symlink, Some(target)) => drop(std::os::unix::fs::symlink(target, path)),
            (EntryType::Regular, _) => {
                if let Ok(mut file) = fs::File::create(path) {
                    std::io::copy(&mut entry, &mut file).unwrap();
                }
            }
            _ => {}
        }
    }
}

#[test]
fn nothing_outside_differs_and_each_ends_as_it_must() {
    kernel_test(&[Need::Root], || {
        let world = scratch();
        fs::write(world.join("canary"), "alive").unwrap();
        fs::create_dir(world.join("outside")).unwrap();
        fs::write("/run/tmp/canary", "alive").unwrap();
        let target = world.join("target");
        let mut wrong = Vec::new();
        let cases = hostile();
        assert!(cases.len() >= 40);
        for (name, archive, must) in cases {
            fs::create_dir(&target).unwrap();
            let before = tree(Path::new("/run/tmp"));
            let is = match Unpack::into(&target).read(&archive[..]).map_err(|e| (e.kind(), e.to_string())) {
                Ok(_) => Harmless,
                Err((ErrorKind::Refused, _)) => Refused,
                Err((ErrorKind::Corrupt, _)) => Corrupt,
                Err(_) => Failed,
            };
            if is != must {
                wrong.push(format!("{name}: {is:?}, not {must:?}"));
            }
            let outside = |all: std::collections::BTreeMap<PathBuf, String>| {
                let inside = target.strip_prefix("/run/tmp").unwrap().to_owned();
                all.into_iter().filter(move |(path, _)| !path.starts_with(&inside)).collect::<Vec<_>>()
            };
            if outside(before) != outside(tree(Path::new("/run/tmp"))) {
                wrong.push(format!("{name}: something outside differs"));
            }
            fs::remove_dir_all(&target).unwrap();
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn the_same_archives_lead_a_program_outside_that_joins_names() {
    kernel_test(&[Need::Root], || {
        let escapes = [
            "a name that leads up",
            "a link up, and a file through it",
            "a magic link",
            "an absolute link, and a file through it",
        ];
        for (name, archive, _) in hostile().into_iter().filter(|(name, ..)| escapes.contains(name)) {
            let world = scratch();
            fs::write("/run/tmp/canary", "alive").unwrap();
            fs::write(world.join("canary"), "alive").unwrap();
            fs::create_dir(world.join("target")).unwrap();
            naive(&archive, &world.join("target"));
            let read = |path: &Path| fs::read_to_string(path).unwrap();
            assert!(
                read(&world.join("canary")) == "!" || read(Path::new("/run/tmp/canary")) == "!",
                "{name}"
            );
        }
    });
}

#[test]
fn each_bound_is_kept_and_said() {
    kernel_test(&[Need::Root], || {
        let archive = Tar::new().file("a", &[1; 600]).file("b", &[1; 600]).symlink("c", "somewhere").end();
        let with = |bounds: Bounds| Unpack::into(scratch()).bounds(bounds).read(&archive[..]);
        assert!(with(Bounds::new().bytes(1200).entries(3).path(9)).is_ok());
        for (bounds, said) in [
            (Bounds::new().bytes(1199), "more than 1199 bytes"),
            (Bounds::new().entries(2), "more than 2 entries"),
            (Bounds::new().path(8), "a link of 9 bytes, more than 8"),
        ] {
            let error = with(bounds).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert!(error.to_string().contains(said), "{error}");
        }
    });
}
