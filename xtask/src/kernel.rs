//! Debian's kernels, as a virtual machine boots them: unpacked, with the modules that a container wants.

use std::fs;
use std::path::{Path, PathBuf};

use crate::shell::{Result, check, command, output, run};
use crate::{cache, packages, rootfs};

/// The script that the virtual machine starts with.
const INIT: &str = include_str!("../guest/init");

/// A kernel in the cache: `vmlinux`, `initramfs`, `modules/RELEASE`.
pub(crate) fn get(version: &str) -> Result<PathBuf> {
    packages::install(&packages::MACHINE)?;
    // A change of the script or of the list makes a new entry.
    let all = INIT.bytes().chain(MODULES.iter().flat_map(|name| name.bytes()));
    let script = all.fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    cache::entry(&format!("kernel-{version}-{script:08x}"), |aside| unpack(version, aside))
}

fn unpack(version: &str, into: &Path) -> Result<()> {
    println!("fetching Linux {version} out of Debian's packages");
    let work = into.join("work");
    fs::create_dir(&work)?;
    let package = download(version, &work)?;
    run(&["dpkg-deb", "-x", &package.to_string_lossy(), &work.join("x").to_string_lossy()])?;
    let image = only(&work.join("x/boot"), "vmlinuz-")?;
    let release =
        image.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("vmlinuz-"));
    let release = release.ok_or("a kernel without a release")?.to_owned();
    fs::write(into.join("vmlinux"), elf(&image, &work)?)?;
    modules(&work.join("x"), &release, into)?;
    initramfs(into, &release)?;
    fs::remove_dir_all(&work)?;
    Ok(())
}

/// By apt, with a configuration of its own: the machine's lists and sources stay as they are.
fn download(version: &str, work: &Path) -> Result<PathBuf> {
    let mirror = rootfs::mirror()?;
    let suite = match version {
        "6.1" => "bookworm",
        "6.12" => "bookworm-backports",
        _ => return Err(format!("Linux {version}: 6.1 or 6.12").into()),
    };
    for directory in ["lists/partial", "cache/archives/partial", "etc/preferences.d", "etc/sources.list.d"] {
        fs::create_dir_all(work.join("apt").join(directory))?;
    }
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let sources = work.join("apt/sources.list");
    fs::write(&sources, format!("deb [signed-by={keys}] {mirror} {suite} main\n"))?;
    fs::write(work.join("apt/status"), "")?;
    let at = |name: &str| work.join("apt").join(name).display().to_string();
    let options = [
        format!("Dir::Etc={}", at("etc")),
        format!("Dir::Etc::sourcelist={}", at("sources.list")),
        format!("Dir::State::lists={}", at("lists")),
        format!("Dir::State::status={}", at("status")),
        format!("Dir::Cache={}", at("cache")),
        "APT::Sandbox::User=root".to_owned(),
    ];
    let apt = |program: &str, args: &[&str]| {
        let mut argv = vec![program.to_owned()];
        argv.extend(options.iter().flat_map(|option| ["-o".to_owned(), option.clone()]));
        argv.extend(args.iter().map(|arg| (*arg).to_owned()));
        argv
    };
    run(&apt("apt-get", &["update", "-qq"]))?;
    // linux-image-amd64 only depends on the package with the kernel.
    let depends = output(&apt("apt-cache", &["depends", "linux-image-amd64"]))?;
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .ok_or("no kernel to depend on")?;
    check(command(&apt("apt-get", &["download", "-q", package])).current_dir(work))?;
    only(work, "linux-image-")
}

/// The kernel inside a bzImage (Documentation/arch/x86/boot.rst): a virtual machine starts it at once, where unpacking it there
/// takes a minute.
fn elf(image: &Path, work: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(image)?;
    let word = |at: usize| -> Result<usize> {
        Ok(u32::from_le_bytes(bytes.get(at..at + 4).ok_or("a short kernel")?.try_into()?) as usize)
    };
    let start = (usize::from(*bytes.get(0x1f1).ok_or("a short kernel")?) + 1) * 512 + word(0x248)?;
    let payload = bytes.get(start..start + word(0x24c)? - 4).ok_or("a short kernel")?;
    let packed = work.join("payload");
    fs::write(&packed, payload)?;
    let unpack = match payload {
        [0xfd, b'7', b'z', ..] => ["xz", "-dc"],
        [0x28, 0xb5, ..] => ["zstd", "-dc"],
        [0x1f, 0x8b, ..] => ["gzip", "-dc"],
        _ => return Err("a kernel packed in an unknown way".into()),
    };
    let unpacked = command(&unpack).stdin(fs::File::open(&packed)?).output()?;
    if unpacked.status.success() {
        Ok(unpacked.stdout)
    } else {
        Err(format!("{}: {}", unpack[0], unpacked.status).into())
    }
}

/// What a container and a virtual machine want of the modules.
const MODULES: [&str; 21] = [
    "net",
    "fs/ext4",
    "fs/jbd2",
    "fs/mbcache.ko",
    "drivers/block/loop.ko",
    "fs/overlayfs",
    "fs/quota",
    "fs/9p",
    "fs/netfs",
    "fs/fscache",
    "fs/fuse",
    "drivers/virtio",
    "drivers/char/virtio_console.ko",
    "drivers/net/veth.ko",
    "drivers/net/dummy.ko",
    "drivers/net/macvlan.ko",
    "drivers/net/tun.ko",
    "drivers/net/ifb.ko",
    "crypto",
    "arch",
    "lib",
];

fn modules(unpacked: &Path, release: &str, into: &Path) -> Result<()> {
    let usr = unpacked.join("usr/lib/modules").join(release);
    let from = if usr.exists() { usr } else { unpacked.join("lib/modules").join(release) };
    let base = into.join("lib/modules").join(release);
    for name in MODULES {
        for path in [from.join("kernel").join(name), from.join("kernel").join(format!("{name}.xz"))] {
            if path.exists() {
                let to = base.join("kernel").join(name);
                let parent = to.parent().ok_or("a module without a directory")?;
                fs::create_dir_all(parent)?;
                run(&["cp", "-a", &path.to_string_lossy(), &format!("{}/", parent.display())])?;
            }
        }
    }
    for file in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        fs::copy(from.join(file), base.join(file))?;
    }
    let script = "find \"$1\" -name '*.ko.xz' -exec xz -d {} +";
    run(&["sh", "-c", script, "sh", &base.to_string_lossy()])?;
    run(&["depmod", "-b", &into.to_string_lossy(), release])?;
    fs::rename(into.join("lib/modules"), into.join("modules"))?;
    fs::remove_dir(into.join("lib"))?;
    Ok(())
}

/// busybox, the modules that the file system of the host comes by, in order, and the script.
fn initramfs(into: &Path, release: &str) -> Result<()> {
    let tree = into.join("work/initramfs");
    for directory in ["bin", "modules", "proc", "sys", "dev", "lower", "upper", "new"] {
        fs::create_dir_all(tree.join(directory))?;
    }
    fs::copy("/bin/busybox", tree.join("bin/busybox")).map_err(|e| format!("/bin/busybox: {e}"))?;
    let base = into.join("modules").join(release);
    let depends = fs::read_to_string(base.join("modules.dep"))?;
    let mut order: Vec<&str> = Vec::new();
    for name in ["virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_console"] {
        let file = format!("/{name}.ko");
        // One that is not there is built in.
        let Some((this, needs)) =
            depends.lines().filter_map(|l| l.split_once(':')).find(|(this, _)| this.ends_with(&file))
        else {
            continue;
        };
        for module in needs.split_whitespace().rev().chain([this]) {
            if !order.contains(&module) {
                order.push(module);
            }
        }
    }
    for (n, module) in order.iter().enumerate() {
        fs::copy(base.join(module), tree.join(format!("modules/{n:02}.ko")))?;
    }
    fs::write(tree.join("init"), INIT)?;
    run(&["chmod", "755", &tree.join("init").to_string_lossy()])?;
    let script = "cd \"$1\" && find . | busybox cpio -o -H newc 2>/dev/null > \"$2\"";
    run(&["sh", "-c", script, "sh", &tree.to_string_lossy(), &into.join("initramfs").to_string_lossy()])
}

fn only(directory: &Path, prefix: &str) -> Result<PathBuf> {
    let found = fs::read_dir(directory)?
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    found.map(|entry| entry.path()).ok_or_else(|| format!("no {prefix}* in {}", directory.display()).into())
}
