//! Archives of real writers, against what their reader makes of them.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use isolate_images::{Digest, Unpack};
use testkit::{Need, kernel_test, scratch};

use crate::tree::tree;

#[expect(clippy::disallowed_methods, reason = "a test's own world")]
fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Of each kind, with odd names.
fn fill(root: &Path) {
    let shell = r#"
        cd "$1"
        mkdir -p a/b/c 'with space' "$(printf 'new\nline')" "$(printf 'not-utf8-\377')" empty
        long=$(printf 'l%.0s' $(seq 120)); mkdir -p "$long/$long/$long"; echo deep >"$long/$long/$long/file"
        echo one >a/one; ln a/one a/b/two; ln a/one three; ln -s ../one a/b/link; ln -s /absolute/nowhere dangling
        ln -s "$long/$long" long-link
        mknod a/null c 1 3; mknod a/disk b 7 0; mkfifo a/fifo
        echo x >setuid; chmod 4755 setuid; echo x >none; chmod 0 none; mkdir sticky; chmod 3777 sticky
        chown 1234:4321 a/one; chown -h 77:88 dangling; echo big >big-ids; chown 3000000:4000000 big-ids
        head -c 300000 /dev/urandom >large
        truncate -s 5M sparse; printf mid | dd of=sparse bs=1 seek=2M conv=notrunc status=none
        truncate -s 1M hole; for n in $(seq 0 60); do printf data | dd of=many bs=1 seek=$((n * 65536)) conv=notrunc status=none; done
        touch -d '1969-12-31 12:00:00.25 UTC' old; touch -d '2033-01-02 03:04:05.678901234 UTC' a/b
        touch -h -d '2001-01-01 UTC' dangling; touch -d '2002-02-02 UTC' a empty
    "#;
    run("sh", &["-ec", shell, "sh", root.to_str().unwrap()]);
    let value = b"one\ntwo\0\xff=";
    rustix::fs::lsetxattr(root.join("large"), "trusted.test", value, rustix::fs::XattrFlags::empty())
        .unwrap();
    // cap_net_bind_service+ep (capabilities(7), version 2).
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::lsetxattr(
        root.join("large"),
        "security.capability",
        &capability,
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
}

fn blocks(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(&fs::metadata(path).unwrap())
}

#[test]
fn what_tar_writes_is_unpacked_as_tar_unpacks_it() {
    kernel_test(&[Need::Root, Need::Native, Need::Program("tar"), Need::Program("zstd")], || {
        let source = scratch();
        fill(&source);
        let (directory, files) = (source.to_str().unwrap(), scratch());
        let formats: [(&str, &[&str]); 6] = [
            ("gnu", &["--format=gnu"]),
            ("gnu-sparse", &["--format=gnu", "--sparse"]),
            ("pax", &["--format=posix", "--xattrs", "--xattrs-include=*"]),
            ("pax-0.0", &["--format=posix", "--sparse", "--sparse-version=0.0"]),
            ("pax-0.1", &["--format=posix", "--sparse", "--sparse-version=0.1", "--gzip"]),
            ("pax-1.0", &["--format=posix", "--sparse", "--xattrs", "--xattrs-include=*", "--zstd"]),
        ];
        for (name, options) in formats {
            let archive = files.join(name);
            let path = archive.to_str().unwrap();
            run("tar", &[&["-C", directory, "--numeric-owner", "-cf", path], options, &["."]].concat());
            let (theirs, ours) = (scratch(), scratch());
            let to = theirs.to_str().unwrap();
            run(
                "tar",
                &[
                    "-C",
                    to,
                    "--same-owner",
                    "--numeric-owner",
                    "-p",
                    "--xattrs",
                    "--xattrs-include=*",
                    "-xf",
                    path,
                ],
            );
            let unpacked = Unpack::into(&ours).read(fs::File::open(&archive).unwrap()).unwrap();
            let (theirs, seen) = (tree(&theirs), tree(&ours));
            for (path, told) in &theirs {
                let shown = path.as_os_str().as_bytes().escape_ascii();
                assert_eq!(Some(told), seen.get(path), "{name}: {shown}");
            }
            assert_eq!(theirs.len(), seen.len(), "{name}");
            assert_eq!(unpacked.left_out, 0);
            if options.contains(&"--sparse") {
                assert!(
                    blocks(&ours.join("sparse")) <= 16,
                    "{name}: {} blocks",
                    blocks(&ours.join("sparse"))
                );
            }
            if !options.iter().any(|option| ["--gzip", "--zstd"].contains(option)) {
                assert_eq!(unpacked.diff_id, Digest::of(&fs::read(&archive).unwrap()), "{name}");
            }
        }
    });
}
