//! A root file system of one program.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

const DIRECTORIES: [&str; 9] = ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var"];
const APPLETS: &str = "awk basename cat chmod chown cp cut date dd df dirname echo env expr false find grep head hostname \
    httpd id ifconfig ip kill ln ls mkdir mknod mount mv nc netstat nproc ping ps pwd readlink rm rmdir sed seq sh sleep sort stat \
    sync tail test timeout touch tr true tty umount uname vi wc wget which whoami yes";

/// Fills `directory` with the host's busybox (Debian's busybox-static) under the names of its applets.
///
/// # Panics
/// Without busybox: ask for `Need::Program("busybox")`.
pub fn busybox_root(directory: impl AsRef<Path>) {
    let directory = directory.as_ref();
    for name in DIRECTORIES {
        fs::create_dir_all(directory.join(name)).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    }
    let places = ["/bin/busybox", "/usr/bin/busybox"];
    let busybox = places.iter().find(|path| Path::new(path).exists()).expect("busybox is installed");
    fs::copy(busybox, directory.join("bin/busybox")).expect("a copy of busybox");
    for applet in APPLETS.split_whitespace() {
        symlink("busybox", directory.join("bin").join(applet)).expect("a link to busybox");
    }
    fs::write(directory.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("etc/passwd");
    fs::write(directory.join("etc/group"), "root:x:0:\n").expect("etc/group");
}
