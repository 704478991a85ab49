//! Descriptions that several tests start from.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use isolate::{Container, ContainerBuilder};
use testkit::Need;

/// What a container without a network needs.
pub(crate) const NEEDS: &[Need] = &[Need::Root, Need::Overlay];
/// What one on a bridge needs.
pub(crate) const NET: &[Need] =
    &[Need::Root, Need::Overlay, Need::Veth, Need::NfTables, Need::Program("busybox")];
/// Answers `hello` on port 8080.
pub(crate) const SERVER: &str =
    "mkdir -p /tmp/www; echo hello > /tmp/www/index.html; exec busybox httpd -f -p 8080 -h /tmp/www";

pub(crate) fn sh(script: &str) -> ContainerBuilder {
    Container::builder().command(["/bin/sh", "-c", script])
}

/// A directory on a disk: of the world's own places none is on a file system that can be id-mapped everywhere.
pub(crate) struct OnDisk(pub(crate) PathBuf);

impl OnDisk {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("isolate-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new("/var/tmp").join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// With a root of busybox in it.
    pub(crate) fn root() -> Self {
        let disk = Self::new();
        testkit::busybox_root(disk.0.join("root"));
        disk
    }

    /// A script on that root.
    pub(crate) fn sh(&self, script: &str) -> ContainerBuilder {
        sh(script).rootfs(self.0.join("root"))
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// What a script prints in a container of this description.
pub(crate) fn printed(container: ContainerBuilder) -> String {
    let output = container.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The first line and the body of what a web server at that address answers.
pub(crate) fn get(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text).filter(|text| !text.is_empty())
}

/// Asks until there is an answer: a server takes a moment to start.
pub(crate) fn wait_for(address: SocketAddr) -> String {
    until(Duration::from_secs(30), || get(address)).unwrap_or_else(|| panic!("no answer from {address}"))
}

pub(crate) fn until<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        match look() {
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
            found => return found,
        }
    }
}

/// Whether this is an emulated machine, on which less often must do.
pub(crate) fn slow() -> bool {
    std::env::var_os("ISOLATE_VM").is_some()
}

/// The control groups of containers of this name, in every hierarchy.
pub(crate) fn groups_of(name: &str) -> Vec<PathBuf> {
    let begin = format!("isolate-{name}-");
    let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap();
    let words = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let tops = words.filter(|words| words[2].starts_with("cgroup")).map(|words| Path::new(words[1]));
    let groups = tops.flat_map(|top| fs::read_dir(top).into_iter().flatten().flatten());
    let groups = groups.filter(|group| group.file_name().to_string_lossy().starts_with(&begin));
    groups.map(|group| group.path()).collect()
}

/// Whether the calling thread's network namespace has a link of this name.
pub(crate) fn link_is_there(name: &str) -> bool {
    let links = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    links.lines().any(|line| line.trim_start().starts_with(&format!("{name}:")))
}

/// One that does nothing.
pub(crate) fn idle(name: &str) -> ContainerBuilder {
    sh("exec sleep 1000").name(name)
}

/// What a script prints in a container, if it ends well.
pub(crate) fn tried(container: &Container, script: &str) -> Option<String> {
    let output = container.exec("/bin/sh").args(["-c", script]).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// Whether somebody answers it.
pub(crate) fn pings(container: &Container, whom: &str) -> bool {
    tried(container, &format!("ping -c 1 -W 2 {whom}")).is_some()
}

/// What a shell prints that must end well.
pub(crate) fn run(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
