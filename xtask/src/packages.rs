//! Debian's packages that tests need.

use std::path::Path;

use crate::shell::{Result, is_root, run};

/// For the tests here: a file that a package brings, and its name.
pub(crate) const TESTS: [(&str, &str); 12] = [
    ("/bin/busybox", "busybox-static"),
    ("/bin/ping", "iputils-ping"),
    ("/usr/sbin/iptables-restore", "iptables"),
    ("/usr/sbin/nft", "nftables"),
    ("/sbin/ip", "iproute2"),
    ("/bin/ps", "procps"),
    ("/usr/bin/newuidmap", "uidmap"),
    ("/usr/bin/pasta", "passt"),
    ("/usr/bin/objdump", "binutils"),
    ("/bin/bash", "bash"),
    ("/usr/bin/zstd", "zstd"),
    ("/usr/bin/openssl", "openssl"),
];
/// For the virtual machines.
pub(crate) const MACHINE: [(&str, &str); 5] = [
    ("/sbin/mkfs.ext4", "e2fsprogs"),
    ("/usr/bin/qemu-system-x86_64", "qemu-system-x86"),
    ("/usr/bin/xz", "xz-utils"),
    ("/sbin/depmod", "kmod"),
    ("/bin/busybox", "busybox-static"),
];
/// For fuzzing: libFuzzer is compiled.
pub(crate) const FUZZ: [(&str, &str); 1] = [("/usr/bin/c++", "g++")];
/// For images, and a registry that holds them.
pub(crate) const IMAGES: [(&str, &str); 3] = [
    ("/usr/bin/docker-registry", "docker-registry"),
    ("/usr/bin/skopeo", "skopeo"),
    ("/usr/bin/umoci", "umoci"),
];
/// For root file systems.
pub(crate) const ROOTFS: [(&str, &str); 1] = [("/usr/bin/mmdebstrap", "mmdebstrap")];

/// Installs what is missing, as root; else says what is.
pub(crate) fn install(wanted: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> =
        wanted.iter().filter(|(file, _)| !Path::new(file).exists()).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() {
        return Err(format!("missing: apt-get install {}", missing.join(" ")).into());
    }
    println!("installing {}", missing.join(" "));
    let install = |update: bool| {
        if update {
            run(&["apt-get", "update", "-qq"])?;
        }
        let mut argv =
            vec!["apt-get", "install", "-qq", "-y", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0"];
        argv.extend(&missing);
        let mut command = crate::shell::command(&argv);
        crate::shell::check(
            command.env("DEBIAN_FRONTEND", "noninteractive").stdout(std::process::Stdio::null()),
        )
    };
    install(false).or_else(|_| install(true))
}
