//! Any path is a layer's: what would end an option, a list or a line, and what is no text.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use isolate_overlay::{ErrorKind, Overlay};
use testkit::{Need, kernel_test, scratch};

use crate::tree::{NEEDS, both_ways, put, read, read_in};

both_ways! {
    any_name_is_one_of_a_layer_an_upper_layer_and_a_place => odd_names;
    a_path_of_more_than_255_bytes_is_a_layers_and_an_upper_layers => long_paths;
}

const ODD: [&[u8]; 22] = [
    b"comma,name",
    b",",
    b"a,upperdir=b",
    b"colon:name",
    b":",
    b"::",
    b"back\\slash",
    b"\\",
    b"\\\\",
    b"end\\",
    b"\\,\\:",
    b"a space",
    b" ",
    b"new\nline",
    b"tab\t",
    b"'",
    b"\"quoted\"",
    b"=",
    b"#hash",
    b"$(x)",
    b"%s%n",
    "snow \u{2603}".as_bytes(),
];

/// An overlay all of whose directories have this name, each in another directory.
fn works_with(name: &[u8]) {
    let place = || -> PathBuf {
        let path = scratch().join(OsStr::from_bytes(name));
        fs::create_dir(&path).unwrap();
        path
    };
    let [base, above, upper, work, target] = [place(), place(), place(), place(), place()];
    put(base.join("low"), "base");
    put(above.join("high"), "above");
    let mounted = Overlay::on(&base).layer(&above).writable(&upper, &work).mount_at(&target).unwrap();
    assert_eq!(mounted.path(), target);
    assert_eq!(read(target.join("low")), "base");
    assert_eq!(read(target.join("high")), "above");
    put(target.join("new"), "mine");
    assert_eq!(read(upper.join("new")), "mine");
    mounted.unmount().unwrap();
    assert!(!target.join("low").exists());
    let mount = Overlay::on(&base).layer(&above).mount().unwrap();
    assert_eq!(read_in(&mount, "low").unwrap(), "base");
}

fn odd_names() {
    for name in ODD {
        works_with(name);
    }
}

#[test]
fn since_linux_6_7_a_path_need_not_be_utf_8() {
    kernel_test(&[Need::Root, Need::Overlay, Need::Kernel(6, 7)], || {
        works_with(b"\xff\xfe");
        works_with(b"caf\xe9,:\\");
    });
}

#[test]
fn mount_2_is_not_given_a_path_that_is_not_utf_8_and_the_error_names_it() {
    kernel_test(NEEDS, || {
        testkit::without_system_call(libc::SYS_fsopen, libc::ENOSYS);
        let (base, place) = (scratch(), scratch());
        let odd = place.join(OsStr::from_bytes(b"caf\xe9"));
        fs::create_dir(&odd).unwrap();
        let (upper, work) = (scratch(), scratch());
        let on = || Overlay::on(&base);
        for overlay in [on().layer(&odd), on().writable(&odd, &work), on().writable(&upper, &odd)] {
            let error = overlay.mount().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&odd.display().to_string()), "{error}");
            assert!(error.to_string().contains("not UTF-8"), "{error}");
        }
        drop(on().writable(&upper, &work).mount().unwrap());
    });
}

fn long_paths() {
    let deep = || {
        let path = (0..3).fold(scratch(), |path, n| path.join(format!("{n}{}", "x".repeat(150))));
        fs::create_dir_all(&path).unwrap();
        path
    };
    let [base, above, upper, work] = [deep(), deep(), deep(), deep()];
    put(base.join("low"), "base");
    put(above.join("high"), "above");
    let target = deep();
    let mounted = Overlay::on(&base).layer(&above).writable(&upper, &work).mount_at(&target).unwrap();
    assert_eq!(read(target.join("low")), "base");
    assert_eq!(read(target.join("high")), "above");
    put(target.join("new"), "mine");
    assert_eq!(read(upper.join("new")), "mine");
    mounted.unmount().unwrap();
}
