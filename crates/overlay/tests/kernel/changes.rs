//! What was changed is told, and the layer of it gives the same again: for random operations.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use isolate_overlay::{ErrorKind, Overlay};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, chownat, getxattr, lsetxattr, makedev,
    mknodat, setxattr, utimensat,
};
use tar::EntryType;
use testkit::{kernel_test, scratch};

use crate::tree::NEEDS;

const NOTE: &str = "trusted.note";

fn directories(base: &Path, names: &[&str]) {
    names.iter().for_each(|name| fs::create_dir_all(base.join(name)).unwrap());
}

#[test]
fn what_is_added_changed_and_deleted_is_told_in_order() {
    kernel_test(NEEDS, || {
        let base = scratch();
        directories(&base, &["one/etc/old", "one/home", "two/usr", "upper", "work", "at"]);
        fs::write(base.join("one/etc/passwd"), "root").unwrap();
        fs::write(base.join("one/etc/old/file"), "").unwrap();
        fs::write(base.join("two/usr/tool"), "").unwrap();
        let overlay = Overlay::on(base.join("one"))
            .layer(base.join("two"))
            .writable(base.join("upper"), base.join("work"))
            .redirect_dir(false)
            .metacopy(false);
        let mounted = overlay.mount_at(base.join("at")).unwrap();
        assert_eq!(overlay.changes().unwrap().count(), 0);
        let at = |name: &str| base.join("at").join(name);
        fs::write(at("etc/passwd"), "root and more").unwrap();
        fs::write(at("etc/new"), "").unwrap();
        fs::remove_dir_all(at("etc/old")).unwrap();
        fs::remove_file(at("usr/tool")).unwrap();
        fs::create_dir(at("usr/tool")).unwrap();
        fs::remove_dir_all(at("home")).unwrap();
        fs::create_dir(at("home")).unwrap();
        let told: Vec<_> = overlay.changes().unwrap().map(|change| change.unwrap().to_string()).collect();
        let expected =
            ["C /etc", "A /etc/new", "D /etc/old", "C /etc/passwd", "C /home", "C /usr", "C /usr/tool"];
        assert_eq!(told, expected);
        mounted.unmount().unwrap();

        // Replaced by a directory that hides what was in it.
        let again = overlay.mount_at(base.join("at")).unwrap();
        fs::remove_dir_all(at("etc")).unwrap();
        fs::create_dir(at("etc")).unwrap();
        fs::write(at("etc/passwd"), "").unwrap();
        let told: Vec<_> = overlay.changes().unwrap().map(|change| change.unwrap().to_string()).collect();
        assert_eq!(told[..3], ["C /etc", "D /etc/old", "C /etc/passwd"]);
        again.unmount().unwrap();
    });
}

#[test]
fn what_a_container_left_in_the_way_is_an_error_or_not_followed() {
    kernel_test(NEEDS, || {
        let base = scratch();
        directories(&base, &["lower/d", "upper/d", "work", "secret"]);
        fs::write(base.join("secret/file"), "").unwrap();
        symlink(base.join("secret"), base.join("upper/link")).unwrap();
        let overlay = Overlay::on(base.join("lower")).writable(base.join("upper"), base.join("work"));
        let told: Vec<_> = overlay.changes().unwrap().map(|change| change.unwrap().to_string()).collect();
        assert_eq!(told, ["C /d", "A /link"]);
        fs::write(base.join("upper/.wh.d"), "").unwrap();
        let error = overlay.diff().write_to(Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("upper/.wh.d"), "{error}");
        fs::remove_file(base.join("upper/.wh.d")).unwrap();
        let error = overlay.diff().owners_from(1000).write_to(Vec::new()).unwrap_err();
        assert!(error.to_string().contains("owner 0 is below the first, 1000"), "{error}");
        setxattr(base.join("upper/d"), "trusted.overlay.redirect", b"/other", XattrFlags::empty()).unwrap();
        let errors: Vec<_> = overlay.changes().unwrap().filter_map(Result::err).collect();
        assert!(errors.len() == 1 && errors[0].hint().unwrap().contains("redirect_dir"), "{errors:?}");
        let error = Overlay::on(base.join("lower")).changes().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

/// One thing that a program does; what cannot be is not done.
#[derive(Clone, Debug)]
enum Operation {
    Write(String, Vec<u8>),
    Directory(String),
    Remove(String),
    Rename(String, String),
    Attributes(String, u32, u32),
    Link(String, String),
    Symlink(String, String),
    Node(String, u8),
    Note(String, Vec<u8>),
    Time(String, i64, u32),
}

fn operations(most: usize) -> impl Strategy<Value = Vec<Operation>> {
    use Operation::{Attributes, Directory, Link, Node, Note, Remove, Rename, Symlink, Time, Write};
    // Few names, so that they meet.
    let path = || "[abc](/[abc]){0,2}";
    let one = prop_oneof![
        3 => (path(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(path, text)| Write(path, text)),
        4 => path().prop_map(Directory),
        3 => path().prop_map(Remove),
        3 => (path(), path()).prop_map(|(from, to)| Rename(from, to)),
        1 => (path(), 0u32..0o10000, 0u32..5).prop_map(|(path, mode, owner)| Attributes(path, mode, owner)),
        1 => (path(), path()).prop_map(|(from, to)| Link(from, to)),
        1 => (path(), "[abc./]{1,5}").prop_map(|(path, to)| Symlink(path, to)),
        1 => (path(), 0u8..3).prop_map(|(path, kind)| Node(path, kind)),
        1 => (path(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(path, text)| Note(path, text)),
        1 => (path(), -5i64..2_000_000_000, 0u32..1_000_000_000).prop_map(|(path, s, ns)| Time(path, s, ns)),
    ];
    prop::collection::vec(one, 0..most)
}

fn carry_out(root: &Path, operations: &[Operation]) {
    use Operation::{Attributes, Directory, Link, Node, Note, Remove, Rename, Symlink, Time, Write};
    let at = |name: &str| root.join(name);
    let kind = |name: &str| fs::symlink_metadata(at(name)).ok().map(|found| found.file_type());
    // No name leads through a symbolic link out of the root.
    let real = |name: &str| {
        let parent = Path::new(name).parent().unwrap();
        parent.ancestors().all(|part| fs::symlink_metadata(root.join(part)).is_ok_and(|found| found.is_dir()))
    };
    for operation in operations {
        match operation {
            Write(path, text) if real(path) && kind(path).is_none_or(|kind| kind.is_file()) => {
                fs::write(at(path), text).ok();
            }
            Directory(path) if real(path) => drop(fs::create_dir(at(path))),
            Remove(path) if real(path) => {
                fs::remove_file(at(path)).or_else(|_| fs::remove_dir_all(at(path))).ok();
            }
            // Directories as programs do it that are told EXDEV.
            Rename(from, to) if real(from) && real(to) => drop(fs::rename(at(from), at(to))),
            Attributes(path, mode, owner)
                if real(path) && kind(path).is_some_and(|kind| !kind.is_symlink()) =>
            {
                let ids = (rustix::fs::Uid::from_raw(*owner), rustix::fs::Gid::from_raw(owner + 7));
                chownat(CWD, at(path), Some(ids.0), Some(ids.1), AtFlags::SYMLINK_NOFOLLOW).unwrap();
                fs::set_permissions(at(path), fs::Permissions::from_mode(*mode)).unwrap();
            }
            Link(from, to) if real(from) && real(to) => drop(fs::hard_link(at(from), at(to))),
            Symlink(path, to) if real(path) => drop(symlink(to, at(path))),
            Node(path, kind) if real(path) => {
                let (kind, device) = [
                    (FileType::Fifo, 0),
                    (FileType::CharacterDevice, makedev(1, 3)),
                    (FileType::BlockDevice, makedev(7, 300)),
                ][usize::from(*kind)];
                mknodat(CWD, at(path), kind, Mode::from_raw_mode(0o640), device).ok();
            }
            Note(path, text) if real(path) => drop(lsetxattr(at(path), NOTE, text, XattrFlags::empty())),
            Time(path, seconds, nanoseconds) if real(path) => {
                let time = Timespec { tv_sec: *seconds, tv_nsec: i64::from(*nanoseconds) };
                let times = Timestamps { last_access: time, last_modification: time };
                utimensat(CWD, at(path), &times, AtFlags::SYMLINK_NOFOLLOW).ok();
            }
            _ => {}
        }
    }
}

/// Everything that is to be the same.
fn view(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut left = vec![PathBuf::new()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(root.join(&directory)).unwrap() {
            let path = directory.join(entry.unwrap().file_name());
            let full = root.join(&path);
            let found = fs::symlink_metadata(&full).unwrap();
            let mut note = [0; 16];
            let noted = match found.is_symlink() {
                true => 0,
                false => getxattr(&full, NOTE, &mut note).unwrap_or(0),
            };
            let content = match found.file_type() {
                kind if kind.is_file() => format!("{:?}", fs::read(&full).unwrap()),
                kind if kind.is_symlink() => fs::read_link(&full).unwrap().display().to_string(),
                _ => String::new(),
            };
            if found.is_dir() {
                left.push(path.clone());
            }
            let (mode, owner, time) =
                (found.mode(), (found.uid(), found.gid()), (found.mtime(), found.mtime_nsec()));
            let said = format!("{mode:o} {owner:?} {time:?} {} {:?} {content}", found.rdev(), &note[..noted]);
            seen.insert(path, said);
        }
    }
    seen
}

/// As an unpacker does it that knows of no overlay.
fn apply(layer: &[u8], root: &Path) {
    let (mut directories, mut extended) = (Vec::new(), Vec::new());
    let mut archive = tar::Archive::new(layer);
    // Raw: the crate takes a newline in the value of a record for its end.
    for entry in archive.entries().unwrap().raw(true) {
        let mut entry = entry.unwrap();
        if entry.header().entry_type() == EntryType::XHeader {
            entry.read_to_end(&mut extended).unwrap();
            continue;
        }
        let records = records(&std::mem::take(&mut extended));
        let path = entry.path().unwrap().into_owned();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if let Some(deleted) = name.strip_prefix(".wh.") {
            let deleted = root.join(path.with_file_name(deleted));
            fs::remove_file(&deleted).or_else(|_| fs::remove_dir_all(&deleted)).unwrap();
            continue;
        }
        let full = root.join(&path);
        let kind = entry.header().entry_type();
        match fs::symlink_metadata(&full) {
            Ok(there) if there.is_dir() && kind == EntryType::Directory => {}
            Ok(there) if there.is_dir() => fs::remove_dir_all(&full).unwrap(),
            Ok(_) => fs::remove_file(&full).unwrap(),
            Err(_) => {}
        }
        let header = entry.header().clone();
        let device =
            || makedev(header.device_major().unwrap().unwrap(), header.device_minor().unwrap().unwrap());
        let link = entry.link_name().unwrap().map(|link| link.into_owned());
        let node = |kind, device| mknodat(CWD, &full, kind, Mode::empty(), device).unwrap();
        match kind {
            EntryType::Directory => drop(fs::create_dir(&full)),
            EntryType::Regular => {
                let mut text = Vec::new();
                entry.read_to_end(&mut text).unwrap();
                fs::write(&full, text).unwrap();
            }
            EntryType::Symlink => symlink(link.unwrap(), &full).unwrap(),
            EntryType::Link => {
                fs::hard_link(root.join(link.unwrap()), &full).unwrap();
                continue;
            }
            EntryType::Fifo => node(FileType::Fifo, 0),
            EntryType::Char => node(FileType::CharacterDevice, device()),
            EntryType::Block => node(FileType::BlockDevice, device()),
            other => panic!("{other:?}"),
        }
        let (uid, gid) = (header.uid().unwrap() as u32, header.gid().unwrap() as u32);
        let ids = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        chownat(CWD, &full, Some(ids.0), Some(ids.1), AtFlags::SYMLINK_NOFOLLOW).unwrap();
        if kind != EntryType::Symlink {
            fs::set_permissions(&full, fs::Permissions::from_mode(header.mode().unwrap())).unwrap();
            rustix::fs::removexattr(&full, NOTE).ok();
        }
        let mut time = (header.mtime().unwrap() as i64, 0);
        for (key, value) in records {
            match key.strip_prefix("SCHILY.xattr.") {
                Some(name) => lsetxattr(&full, name, &value, XattrFlags::empty()).unwrap(),
                None if key == "mtime" => time = exact(&String::from_utf8(value).unwrap()),
                None => panic!("{key}"),
            }
        }
        directories.push((full, time));
    }
    // What is in a directory changes its time.
    for (path, (seconds, nanoseconds)) in directories.into_iter().rev() {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// `LENGTH KEY=VALUE`, with a newline behind it.
fn records(mut text: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut records = Vec::new();
    while !text.is_empty() {
        let space = text.iter().position(|byte| *byte == b' ').unwrap();
        let length: usize = std::str::from_utf8(&text[..space]).unwrap().parse().unwrap();
        let (record, rest) = text.split_at(length);
        let record = record[space + 1..].strip_suffix(b"\n").unwrap();
        let equals = record.iter().position(|byte| *byte == b'=').unwrap();
        records.push((String::from_utf8(record[..equals].to_vec()).unwrap(), record[equals + 1..].to_vec()));
        text = rest;
    }
    records
}

/// `-1.5` is half a second before -1, as the kernel counts (-2, 500000000).
fn exact(text: &str) -> (i64, i64) {
    let (whole, part) = text.split_once('.').unwrap();
    let nanoseconds = whole.trim_start_matches('-').parse::<i128>().unwrap() * 1_000_000_000
        + part.parse::<i128>().unwrap();
    let nanoseconds = if text.starts_with('-') { -nanoseconds } else { nanoseconds };
    let (seconds, rest) = (nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000));
    (seconds.try_into().unwrap(), rest.try_into().unwrap())
}

#[test]
fn the_layer_of_what_was_changed_gives_the_same_again() {
    kernel_test(NEEDS, || {
        let cases = if std::env::var_os("ISOLATE_VM").is_some() { 40 } else { 500 };
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let all = (operations(15), operations(15), operations(25));
        let base = scratch();
        let done = runner.run(&all, |(first, second, third)| {
            fs::remove_dir_all(&base).unwrap();
            directories(&base, &["one", "two", "upper", "again", "w1", "w2", "w3", "at", "other"]);
            let on = |layers: &[&str], upper: &str, work: &str| {
                let mut layers = layers.iter().map(|name| base.join(name));
                Overlay::on(layers.next().unwrap())
                    .layers(layers)
                    .writable(base.join(upper), base.join(work))
                    .redirect_dir(false)
                    .metacopy(false)
            };
            carry_out(&base.join("one"), &first);
            let made = on(&["one"], "two", "w1").mount_at(base.join("at")).unwrap();
            carry_out(&base.join("at"), &second);
            made.unmount().unwrap();
            // The second has whiteouts and opaque directories of its own.
            let overlay = on(&["one", "two"], "upper", "w2");
            let changed = overlay.mount_at(base.join("at")).unwrap();
            carry_out(&base.join("at"), &third);
            let mut layer = Vec::new();
            overlay.diff().write_to(&mut layer).unwrap();
            let again = on(&["one", "two"], "again", "w3").mount_at(base.join("other")).unwrap();
            apply(&layer, &base.join("other"));
            let (expected, found) = (view(&base.join("at")), view(&base.join("other")));
            changed.unmount().unwrap();
            again.unmount().unwrap();
            prop_assert_eq!(found, expected);
            Ok(())
        });
        done.unwrap();
    });
}
